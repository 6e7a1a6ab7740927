"""Recommendations from a fitted model."""

from seqdiffrec.inference.recommender import RECOMMENDERS, DiffRec, Popularity, Recommender, SASRec, load

__all__ = ["RECOMMENDERS", "DiffRec", "Popularity", "Recommender", "SASRec", "load"]
