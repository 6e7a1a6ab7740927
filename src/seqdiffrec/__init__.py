"""SeqDiffRec: what each user takes next, learned from a log of (user, item, time) with diffusion models.

Each model is a class here, called as in `seqdiffrec.models`: ``seqdiffrec.SASRec(hidden_size=64).fit(data)``.
"""

from seqdiffrec.data import DataError, Dataset, Interactions, load_dataset
from seqdiffrec.evaluation.frames import metrics
from seqdiffrec.inference import (
    Recommender,
    evaluate_calibration,
    evaluate_lists,
    evaluate_segments,
    export_onnx,
    fit_temperature,
    load,
    recommender_class,
)
from seqdiffrec.models import MODELS
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError, TrainingDiverged, TrainingInterrupted

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "Dataset",
    "Interactions",
    "Recommender",
    "RunError",
    "SettingError",
    "TrainingDiverged",
    "TrainingInterrupted",
    "evaluate_calibration",
    "evaluate_lists",
    "evaluate_segments",
    "export_onnx",
    "fit_temperature",
    "load",
    "load_dataset",
    "metrics",
]
__all__ += [model.__name__ for model in MODELS.values()]


def __getattr__(name: str) -> type[Recommender]:
    """The recommender of a model, so that a new one is here without a line of its own."""
    for model in MODELS.values():
        if model.__name__ == name:
            return recommender_class(model.name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(model.__name__ for model in MODELS.values())})
