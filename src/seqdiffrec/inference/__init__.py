"""Recommendations from a fitted model."""

from seqdiffrec.inference.recommender import Recommender, load, recommender_class

__all__ = ["Recommender", "load", "recommender_class"]
