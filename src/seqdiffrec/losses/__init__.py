"""Losses over the whole catalogue."""

from seqdiffrec.losses.full import catalogue_cross_entropy

__all__ = ["catalogue_cross_entropy"]
