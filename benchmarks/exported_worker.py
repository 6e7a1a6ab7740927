"""The exported file of a model answers requests in a process of its own (`benchmarks.protocol`), by ONNX Runtime."""

import time
from typing import Any

import onnxruntime
import torch

from benchmarks.protocol import Channel, Pace
from benchmarks.request_worker import Server, made
from seqdiffrec.inference.export import compared, left_padded, traced
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.padded import padded

MODULE = "benchmarks.exported_worker"
COMPARED = 100


class ExportedServer(Server):
    """As `Server`, by the exported file of its model; the first rows of its noise are so many seeds."""

    def __init__(self, model: SequenceModel, length: int, top: int):
        super().__init__(model, length, top)
        self.network = padded(model, top, filter_viewed=True)
        assert self.network.noise is not None
        self.noise = self.network.noise.numpy()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(traced(self.network).SerializeToString(), options)

    def request(self, number: int, seeds: int, users: int = 1, kind: str | None = None) -> dict[str, Any]:
        """Seconds that the lists of so many users took; number: which histories."""
        history = left_padded(self.histories(number, users))
        started = time.perf_counter()
        self.session.run(None, {"history": history, "noise": self.noise[:seeds]})
        return {"seconds": time.perf_counter() - started}

    def compare(self) -> dict[str, Any]:
        """How its lists differ from those of the model itself, all seeds averaged."""
        return compared(self.session, self.network, self.histories(0, COMPARED))


def main() -> None:
    """Answer until the benchmark has had enough."""
    channel = Channel.open()
    spec = channel.spec
    server = ExportedServer(made(spec), spec["size"]["max_length"] - 1, spec["top"])
    Pace(channel, {}, {"request": server.request, "compare": server.compare}).begin()


if __name__ == "__main__":
    main()
