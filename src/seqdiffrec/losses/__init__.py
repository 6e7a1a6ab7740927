"""Losses over the whole catalogue, over drawn items, and within a batch."""

from seqdiffrec.losses.binary import binary_cross_entropy, calibrating_power, own_scores
from seqdiffrec.losses.contrastive import nt_xent, supervised_contrastive
from seqdiffrec.losses.full import Added, catalogue_cross_entropy
from seqdiffrec.losses.negatives import NegativeSampler, draw_others, draw_unseen
from seqdiffrec.losses.ranking import bpr_max, top1_max
from seqdiffrec.losses.sampled import sampled_cross_entropy, shared_scores

__all__ = [
    "Added",
    "NegativeSampler",
    "binary_cross_entropy",
    "bpr_max",
    "calibrating_power",
    "catalogue_cross_entropy",
    "draw_others",
    "draw_unseen",
    "nt_xent",
    "own_scores",
    "sampled_cross_entropy",
    "shared_scores",
    "supervised_contrastive",
    "top1_max",
]
