"""Many runs at once: a study's queue, a search for settings, and a recorded run made again."""

from seqdiffrec.studies.queue import Job, make_queue, queue_rows
from seqdiffrec.studies.reproduce import Comparison, Reproduction, make_again
from seqdiffrec.studies.runs import source_of
from seqdiffrec.studies.search import Search, read_search
from seqdiffrec.studies.sweep import run_sweep
from seqdiffrec.studies.tune import Found, run_search

__all__ = [
    "Comparison",
    "Found",
    "Job",
    "Reproduction",
    "Search",
    "make_again",
    "make_queue",
    "queue_rows",
    "read_search",
    "run_search",
    "run_sweep",
    "source_of",
]
