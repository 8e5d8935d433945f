"""What a result on a held-out case was made of, as a digest, so that no result outlives it.

A bundle's part is taken at three points: what its network says, before that is decided; the label
map, before it is cleaned; and the label map it writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace

from volseg.bundle import Bundle, composition_of, with_cleaning
from volseg.choosing.cleaning import CLEANING_PIECE, CLEANING_TABLE
from volseg.choosing.held_out import LabelledCase
from volseg.data import hash_files

_DECIDING = ("threshold", "temperature")


def probabilities_origin(bundle: Bundle) -> str:
    """Return a digest of what makes the probabilities of a bundle, as its network gives them."""
    return _composed(bundle, without=_DECIDING)


def uncleaned_origin(bundles: Iterable[Bundle]) -> str:
    """Return a digest of what makes the label maps of bundles, before these are cleaned."""
    return _joined(_composed(bundle) for bundle in bundles)


def labels_origin(bundle: Bundle) -> str:
    """Return a digest of what makes the label maps of a bundle."""
    decides = [bundle.weights, bundle.config("inference")]
    return hash_files([*decides, *bundle.named_files("inference")])


def case_origin(case: LabelledCase) -> str:
    """Return a digest of the files of a case, its label among them."""
    return hash_files(case.files)


def _composed(bundle: Bundle, without: Iterable[str] = ()) -> str:
    """Return a digest of the weights and of all a bundle is composed of, but for its cleaning.

    Files that its inference names, such as a standardisation, are a part of that.
    """
    composition = with_cleaning(composition_of(bundle.metadata, bundle.name), CLEANING_PIECE)
    left_out = set(without)
    values = {name: own for name, own in composition.values.items() if name not in left_out}
    text = json.dumps(replace(composition, values=values).as_metadata(), sort_keys=True)
    rules = bundle.folder / CLEANING_TABLE
    named = [path for path in bundle.named_files("inference") if path != rules]
    return _joined([hash_files([bundle.weights, *named]), text])


def _joined(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
