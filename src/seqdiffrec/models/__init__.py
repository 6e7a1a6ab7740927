"""Models, one paper a file, and the table of their names."""

from seqdiffrec.models.base import Loss, SequenceModel
from seqdiffrec.models.diffrec import DiffRec, DiffRecConfig
from seqdiffrec.models.popularity import Popularity
from seqdiffrec.models.sasrec import SASRec, SASRecConfig

MODELS: dict[str, type[SequenceModel]] = {model.name: model for model in (DiffRec, SASRec, Popularity)}

__all__ = ["MODELS", "DiffRec", "DiffRecConfig", "Loss", "Popularity", "SASRec", "SASRecConfig", "SequenceModel"]
