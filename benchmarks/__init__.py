"""Timings of this project beside what a user would write without it: `python -m benchmarks [NAME]`."""

import os

# As the command line does, and before torch: threads that spin while they wait starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
