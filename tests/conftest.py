"""Settings for all tests: one torch thread for each process, and the same hypothesis examples on every run."""

import torch
from hypothesis import settings

torch.set_num_threads(1)

# No deadline, since the first call of a torch operation is slow; `derandomize` so that a failure comes back.
settings.register_profile("seqdiffrec", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("seqdiffrec")
