"""Recommendations from a fitted model."""

from seqdiffrec.inference.recommender import (
    RECOMMENDERS,
    CL4SRec,
    DiffRec,
    DuoRec,
    Popularity,
    Recommender,
    SASRec,
    load,
)

__all__ = ["RECOMMENDERS", "CL4SRec", "DiffRec", "DuoRec", "Popularity", "Recommender", "SASRec", "load"]
