"""Timings of this project beside what a user would write without it: `python -m benchmarks [NAME]`."""
