"""Recommendations from a fitted model, and how good they are."""

from seqdiffrec.inference.export import export_onnx
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
    "export_onnx",
    "fit_temperature",
    "load",
    "recommender_class",
]
