"""Losses over the whole catalogue, and within a batch."""

from seqdiffrec.losses.contrastive import nt_xent, supervised_contrastive
from seqdiffrec.losses.full import Added, catalogue_cross_entropy
from seqdiffrec.losses.sampled import NegativeSampler, sampled_cross_entropy

__all__ = [
    "Added",
    "NegativeSampler",
    "catalogue_cross_entropy",
    "nt_xent",
    "sampled_cross_entropy",
    "supervised_contrastive",
]
