"""Recommendations from a fitted model, and how good they are."""

from seqdiffrec.inference.judging import (
    evaluate_calibration,
    evaluate_lists,
    evaluate_segments,
    fit_temperature,
)
from seqdiffrec.inference.recommender import Recommender, load, recommender_class

__all__ = [
    "Recommender",
    "evaluate_calibration",
    "evaluate_lists",
    "evaluate_segments",
    "fit_temperature",
    "load",
    "recommender_class",
]
