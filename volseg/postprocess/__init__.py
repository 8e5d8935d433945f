"""Cleaning label maps in physical units: holes, small components, largest components.

Arrays in, new arrays out; the dictionary forms are thin. The functions work on all classes in a
few passes over the volume.
"""

from __future__ import annotations

from volseg.postprocess.dictionary import FillHolesd, KeepLargestd, RemoveSmallComponentsd
from volseg.postprocess.holes import fill_holes
from volseg.postprocess.largest_components import keep_largest
from volseg.postprocess.small_components import remove_small_components

__all__ = [
    "FillHolesd",
    "KeepLargestd",
    "RemoveSmallComponentsd",
    "fill_holes",
    "keep_largest",
    "remove_small_components",
]
