"""SeqDiffRec: what each user takes next, learned from a log of (user, item, time) with diffusion models."""

from seqdiffrec.data import DataError, Dataset, Interactions, load_dataset
from seqdiffrec.inference import CL4SRec, DiffRec, DuoRec, Popularity, Recommender, SASRec, load
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunError, TrainingDiverged, TrainingInterrupted

__version__ = "0.1.0"

__all__ = [
    "CL4SRec",
    "DataError",
    "Dataset",
    "DiffRec",
    "DuoRec",
    "Interactions",
    "Popularity",
    "Recommender",
    "RunError",
    "SASRec",
    "SettingError",
    "TrainingDiverged",
    "TrainingInterrupted",
    "load",
    "load_dataset",
]
