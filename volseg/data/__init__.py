"""Data: lists of cases, folds, fingerprints of data sets, phantoms."""

from volseg.data.datalist import (
    Case,
    fold_cases,
    list_images,
    paired_cases,
    read_datalist,
    write_datalist,
)
from volseg.data.fingerprint import hash_files
from volseg.data.folds import grouped_folds
from volseg.data.phantom import Phantom, make_phantom

__all__ = [
    "Case",
    "Phantom",
    "fold_cases",
    "grouped_folds",
    "hash_files",
    "list_images",
    "make_phantom",
    "paired_cases",
    "read_datalist",
    "write_datalist",
]
