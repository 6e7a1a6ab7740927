"""From a log of (user, item, time) to ragged arrays: reading, preparing, splitting, named datasets."""

from seqdiffrec.data.corpus import Corpus, Sequences, statistics
from seqdiffrec.data.dataset import Dataset, load_dataset
from seqdiffrec.data.datasets import DATASETS, NamedDataset, load_corpus, prepare_file
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.prepare import prepare
from seqdiffrec.data.split import Cases, Split, leave_one_out, split_at_time, split_by_parts

__all__ = [
    "DATASETS",
    "Cases",
    "Corpus",
    "DataError",
    "Dataset",
    "Interactions",
    "NamedDataset",
    "Sequences",
    "Split",
    "leave_one_out",
    "load_corpus",
    "load_dataset",
    "prepare",
    "prepare_file",
    "split_at_time",
    "split_by_parts",
    "statistics",
]
