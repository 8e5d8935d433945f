"""Data: lists of cases, folds, fingerprints of data sets."""

from volseg.data.datalist import (
    Case,
    datalist_text,
    fold_cases,
    list_images,
    paired_cases,
    read_datalist,
    write_datalist,
)
from volseg.data.draws import CachedDraws, Draw, RandomDraws, SharedBatches
from volseg.data.fingerprint import hash_files
from volseg.data.folds import grouped_folds
from volseg.data.listing import list_cases

__all__ = [
    "CachedDraws",
    "Case",
    "Draw",
    "RandomDraws",
    "SharedBatches",
    "datalist_text",
    "fold_cases",
    "grouped_folds",
    "hash_files",
    "list_cases",
    "list_images",
    "paired_cases",
    "read_datalist",
    "write_datalist",
]
