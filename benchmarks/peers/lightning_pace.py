"""`Pace` as a callback of Lightning's trainer, which RecTools and RePlay train with."""

from collections.abc import Callable
from typing import Any

from benchmarks.protocol import Pace


def pacing(callback_class: type, pace: Pace, targets: Callable[[Any], int]) -> Any:
    """The callback. callback_class: `Callback` of the Lightning package that the library has. targets: of a batch."""

    class PaceCallback(callback_class):
        def __deepcopy__(self, memo: dict[int, Any]) -> "PaceCallback":
            return self  # RecTools copies its trainer, callbacks and all

        def on_train_start(self, trainer: Any, module: Any) -> None:
            pace.begin()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            pace.step(targets(batch))

    return PaceCallback()
