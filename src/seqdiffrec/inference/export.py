"""A model as one ONNX file, which a program without torch can ask; checked against the model before it is put in place.

Inputs: ``history``, int64 (batch, length), item indices with 0 as padding wherever it stands, oldest first; for models
that draw noise ``noise``, float32 (draws, d), standard normal. Outputs: ``items``, int64 (batch, k), and
``probabilities``, float32 (batch, k), best first; both 0 where there are no more items. The file's metadata has the
rest that a program needs (`METADATA`), each as JSON.
"""

import copy
import json
import logging
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from seqdiffrec.data.corpus import Sequences
from seqdiffrec.data.storage import replace_with
from seqdiffrec.evaluation import Progress
from seqdiffrec.inference.recommender import Recommender, check_k
from seqdiffrec.models.padded import PaddedModel, padded
from seqdiffrec.models.settings import SettingError

METADATA = {
    "item_ids": "the user's own id of each item index, from 1 on",
    "titles": "their titles, null where unknown",
    "noise": "the noise that the model itself draws; null where it draws none",
    "model": "the model's name",
    "filter_viewed": "whether what the history holds is left out",
    "max_length": "T: the last T - 1 items of a history are read",
}
# How far a probability may be from torch's, and how close two items' have to be to stand in either order, relatively.
TOLERANCE, TIE = 1e-4, 2e-5
BLOCK = 64
# What one ONNX file may hold.
MOST_BYTES = 2**31 - 2**20

NEEDS = "export needs onnx, onnxscript and onnxruntime: pip install 'seqdiffrec[onnx]'"


def export_onnx(
    recommender: Recommender,
    path: str | Path,
    k: int = 10,
    *,
    filter_viewed: bool = True,
    int8: bool = False,
    histories: int = 1000,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a fitted model to ``path``, whole or not at all; returns what was measured.

    k: length of the lists. filter_viewed: leave out what the history holds.
    int8: weights of matrix products as 8-bit numbers, activations as they come (onnxruntime's dynamic quantisation).
    histories: so many users' histories, or, without the run's corpus, random ones, are asked of the file and of the
        model. Without int8 the answers have to be the same.
    Raises SettingError for a model that cannot be exported, a path that is taken, a k as in `recommend`, or without
    onnx; RuntimeError where the answers differ.
    """
    path, model = Path(path), recommender.model
    check_k(k, model.num_items)
    if path.suffix != ".onnx":
        raise SettingError(f"{path}: the name of an ONNX file ends in .onnx")
    if path.exists():
        raise SettingError(f"{path} exists already; name another file, or delete it first")
    if model.item_counts.device.type != "cpu":
        model = copy.deepcopy(model).cpu()
    network = padded(model, k, filter_viewed=filter_viewed)
    asked, whose = _histories(recommender, histories)
    found = _export(network, recommender.vocabulary, asked, path, int8=int8, progress=progress)
    return {"bytes": path.stat().st_size, "k": network.num_best, "int8": int8, "histories_of": whose, **found}


def _histories(recommender: Recommender, count: int) -> tuple[Sequences, str]:
    """Histories to compare by, and whose they are; always the same ones."""
    rng = np.random.default_rng(0)
    if recommender.run is None or (recommender.run.path / "corpus").exists():
        users = recommender.corpus.sequences()
        return users.select(np.sort(rng.permutation(len(users))[:count])), "users of the log"
    lengths = rng.integers(1, 2 * recommender.model.max_length, count)
    items = rng.integers(1, recommender.model.num_items + 1, int(lengths.sum())).astype(np.int32)
    ends = lengths.cumsum()
    return Sequences(items, ends - lengths, ends), "nobody: drawn at random"


def _export(
    network: PaddedModel,
    vocabulary: pl.DataFrame,
    histories: Sequences,
    path: Path,
    *,
    int8: bool,
    progress: Progress | None,
) -> dict[str, Any]:
    onnx, runtime = _libraries()
    tensors = [*network.state_dict().values(), network.weight]
    size = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())  # some stand there under two names
    if size > MOST_BYTES:
        raise SettingError(f"the weights take {size / 2**30:.1f} GiB, one ONNX file can hold 2: use fewer dimensions")
    proto = traced(network)
    if int8:
        proto = _quantised(proto, onnx)
    facts: dict[str, Any] = {
        "item_ids": vocabulary["item_id"].to_list(),
        "titles": vocabulary["title"].to_list(),
        "noise": None if network.noise is None else network.noise.tolist(),
        "model": network.model.name,
        "filter_viewed": network.filter_viewed,
        "max_length": network.model.max_length,
    }
    for name in METADATA:
        proto.metadata_props.add(key=name, value=json.dumps(facts[name], default=str, ensure_ascii=False))
    content: bytes = proto.SerializeToString()
    session = runtime.InferenceSession(content)
    found = compared(session, network, histories, progress)
    if not int8 and (found["largest_difference"] > TOLERANCE or found["out_of_order"]):
        raise RuntimeError(f"onnxruntime and torch differ, so nothing is written: {found}; please report it")
    replace_with(path, lambda partial: partial.write_bytes(content))
    return found


def left_padded(histories: Sequences) -> NDArray[np.int64]:
    """Item indices (B, longest), 0 before the oldest."""
    rows, items = histories.flat()
    ends = histories.lengths.cumsum()  # where each ends among all items
    width = int(histories.lengths.max(initial=1))
    result = np.zeros((len(histories), width), np.int64)
    result[rows, width - ends[rows] + np.arange(len(rows))] = items
    return result


def compared(
    session: Any, network: PaddedModel, histories: Sequences, progress: Progress | None = None
) -> dict[str, Any]:
    """How a file's answers differ from those of the model itself, the ragged one, over all histories.

    largest_difference: of a probability. out_of_order: histories in which an item stands where another belongs whose
    probability is not the same. overlap: share of the model's first k that the file has too.
    """
    noise = {} if network.noise is None else {"noise": network.noise.numpy()}
    largest, out_of_order, common = 0.0, 0, 0
    for start in range(0, len(histories), BLOCK):
        block = histories.select(slice(start, min(start + BLOCK, len(histories))))
        items, probabilities = (
            torch.from_numpy(part) for part in session.run(None, {"history": left_padded(block), **noise})
        )
        own = network.model.predict_histories(block).clone()
        if network.filter_viewed:
            rows, seen = block.flat()
            own[torch.from_numpy(rows), torch.from_numpy(seen.astype(np.int64)) - 1] = 0
        best = own.topk(items.shape[1])
        there = items > 0
        of_items = own.gather(1, (items - 1).clamp(min=0)) * there
        largest = max(largest, float((of_items - probabilities).abs().max()))
        out_of_order += int(((of_items - best.values).abs() > TIE * best.values).any(1).sum())
        common += int(((best.indices + 1)[:, :, None] == items[:, None, :]).any(2).sum())
        if progress is not None:
            progress(start + len(block), len(histories))
    k = network.num_best
    share = common / max(1, len(histories) * k)
    return {"histories": len(histories), "largest_difference": largest, "out_of_order": out_of_order, "overlap": share}


def traced(network: PaddedModel) -> Any:
    """The network's graph for any number of histories, of places and of draws."""
    batch, length, draws = (torch.export.Dim(name) for name in ("batch", "length", "draws"))
    example: list[torch.Tensor] = [torch.ones(3, 5, dtype=torch.int64)]
    shapes = [{0: batch, 1: length}]
    if network.noise is not None:
        example.append(torch.zeros(4, network.noise.shape[1]))
        shapes.append({0: draws})
    names = ["history", "noise"][: len(example)]
    with torch.no_grad(), _quiet():
        program = torch.export.export(network, tuple(example), dynamic_shapes=tuple(shapes), strict=False)
        written = torch.onnx.export(
            program,
            dynamo=True,
            dynamic_shapes=tuple(shapes),
            input_names=names,
            output_names=["items", "probabilities"],
            verbose=False,
        )
    assert written is not None
    proto = cast(Any, written.model_proto)
    for part in (*proto.graph.node, *proto.graph.value_info):  # where in the code each comes from: most of a small file
        del part.metadata_props[:]
    return proto


def _quantised(proto: Any, onnx: Any) -> Any:
    from onnxruntime import quantization  # pyright: ignore[reportMissingTypeStubs]

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        cast(Any, quantization).quantize_dynamic(
            proto, path, per_channel=True, weight_type=quantization.QuantType.QInt8
        )
        return onnx.load(path)


def _libraries() -> tuple[Any, Any]:
    try:
        import onnx  # pyright: ignore[reportMissingTypeStubs]
        import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
        import onnxscript  # noqa: F401  # pyright: ignore
    except ImportError as error:
        raise SettingError(NEEDS) from error
    return cast(Any, onnx), cast(Any, onnxruntime)


@contextmanager
def _quiet() -> Generator[None]:
    """Without what the exporters say about themselves: packages that are absent, functions that are old."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
