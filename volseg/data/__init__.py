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
from volseg.data.draws import Draw, PreparedDraws, RandomDraws, SharedBatches
from volseg.data.fingerprint import file_stamps, hash_files
from volseg.data.folds import grouped_folds
from volseg.data.listing import LABELS, list_cases
from volseg.data.prepared import PreparedCases
from volseg.data.strata import label_sizes, label_strata

__all__ = [
    "LABELS",
    "Case",
    "Draw",
    "PreparedCases",
    "PreparedDraws",
    "RandomDraws",
    "SharedBatches",
    "datalist_text",
    "file_stamps",
    "fold_cases",
    "grouped_folds",
    "hash_files",
    "label_sizes",
    "label_strata",
    "list_cases",
    "list_images",
    "paired_cases",
    "read_datalist",
    "write_datalist",
]
