"""Models, one paper a file, and the table of their names."""

from seqdiffrec.models.base import Loss, SequenceModel
from seqdiffrec.models.cl4srec import CL4SRec, CL4SRecConfig
from seqdiffrec.models.diffrec import DiffRec, DiffRecConfig
from seqdiffrec.models.duorec import DuoRec, DuoRecConfig
from seqdiffrec.models.popularity import Popularity
from seqdiffrec.models.sasrec import SASRec, SASRecConfig

MODELS: dict[str, type[SequenceModel]] = {model.name: model for model in (DiffRec, SASRec, DuoRec, CL4SRec, Popularity)}

__all__ = [
    "MODELS",
    "CL4SRec",
    "CL4SRecConfig",
    "DiffRec",
    "DiffRecConfig",
    "DuoRec",
    "DuoRecConfig",
    "Loss",
    "Popularity",
    "SASRec",
    "SASRecConfig",
    "SequenceModel",
]
