"""Gaussian diffusion over vectors: schedules, the process, step sampling for training, samplers for inference.

Tensors only: nothing here knows an item, a user, a file or a model.
"""

from seqdiffrec.diffusion.process import GaussianDiffusion, Variance
from seqdiffrec.diffusion.samplers import Denoise, Noise, sample_ancestral, sample_ddim, sample_direct
from seqdiffrec.diffusion.schedules import MAX_STEPS, SCHEDULES, ScheduleName, make_alpha_bar
from seqdiffrec.diffusion.step_sampling import ImportanceStepSampler, StepSampler, UniformStepSampler

__all__ = [
    "MAX_STEPS",
    "SCHEDULES",
    "Denoise",
    "GaussianDiffusion",
    "ImportanceStepSampler",
    "Noise",
    "ScheduleName",
    "StepSampler",
    "UniformStepSampler",
    "Variance",
    "make_alpha_bar",
    "sample_ancestral",
    "sample_ddim",
    "sample_direct",
]
