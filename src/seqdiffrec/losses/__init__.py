"""Losses over the whole catalogue."""

from seqdiffrec.losses.full import Added, catalogue_cross_entropy

__all__ = ["Added", "catalogue_cross_entropy"]
