"""Taking back what was chosen for a bundle, so that it decides as the one it was copied from."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from volseg.bundle import Bundle, composition_of, open_bundle, recompose
from volseg.choosing.cleaning import CLEANING_TABLE
from volseg.choosing.decisions import DECISION_FILE, read_decisions


def withdraw_choices(bundle: str | Path, source: Bundle, choices: Collection[str]) -> Bundle:
    """Make some choices of a bundle those of its source again; what is alike stays untouched.

    Args:
        bundle: Its folder.
        source: What it is a copy of.
        choices: Some of ``threshold``, ``temperature`` and ``cleaning``.

    Raises:
        BundleError: One of them was not composed, or the inference of the bundle was edited.
        OutputError: A file cannot be written.
    """
    opened = open_bundle(bundle)
    own, other = (composition_of(one.metadata, one.name) for one in (opened, source))
    kept = {name: value for name, value in own.values.items() if name not in choices}
    changed = replace(own, values={**other.values, **kept})
    texts = {DECISION_FILE: _without(opened, choices)}
    if "cleaning" in choices:
        changed = replace(changed, cleaning=other.cleaning)
        texts[CLEANING_TABLE] = _text(source.folder / CLEANING_TABLE)
    opened = recompose(
        opened,
        changed,
        f"{' and '.join(sorted(choices))} as before; weights as before",
        files={name: text for name, text in texts.items() if text},
    )
    for name, text in texts.items():
        if not text:
            (opened.folder / name).unlink(missing_ok=True)
    return opened


def _without(bundle: Bundle, choices: Collection[str]) -> str:
    """Return what is to be left of how a bundle came to decide as it does; nothing if none is."""
    told = read_decisions(bundle)
    kept = {name: entry for name, entry in told.items() if name not in choices}
    if kept == told:
        return _text(bundle.folder / DECISION_FILE)
    return json.dumps(kept, indent=2, allow_nan=False) + "\n" if kept else ""


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
