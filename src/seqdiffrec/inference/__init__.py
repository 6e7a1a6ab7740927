"""Recommendations from a fitted model."""

from seqdiffrec.inference.export import export_onnx
from seqdiffrec.inference.recommender import Recommender, load, recommender_class

__all__ = ["Recommender", "export_onnx", "load", "recommender_class"]
