"""One bundle of the folds of a cross-validation, with what was chosen and found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.bundle import Bundle, make_ensemble, open_bundle
from volseg.choosing.decisions import (
    DECISION_FILE,
    TemperatureChoice,
    ThresholdChoice,
    decision_values,
    decisions_text,
)
from volseg.choosing.origin import labels_origin

# What is said of its figures: no case is left to measure the ensemble itself on.
_MEASURED_ON = "single networks of the folds, each on cases it was not trained on"


def combine_folds(
    target: Path,
    members: Mapping[int, Path],
    figures: Mapping[str, Any],
    threshold: ThresholdChoice | None,
    temperature: TemperatureChoice | None,
) -> Bundle:
    """Make one bundle of those of the folds, unless it is there of the same ones.

    Args:
        target: Its folder; a bundle of other folds, weights or choices is replaced.
        members: The folder of the bundle of each fold.
        figures: What the cross-validation found, for the metadata.
        threshold: Chosen on the held-out cases of all folds, if one was.
        temperature: Likewise.

    Raises:
        InputError: The folds differ in what they must share.
        OutputError: The bundle cannot be written; one that was there stays.
    """
    values = decision_values(threshold, temperature)
    found = {
        "folds": list(members),
        "made_of": {
            str(fold): labels_origin(open_bundle(folder)) for fold, folder in members.items()
        },
        "values": values,
        "measured_on": _MEASURED_ON,
        **figures,
    }
    if (target / "configs" / "metadata.json").is_file():
        present = open_bundle(target)
        if present.metadata.get("cross_validation") == found:
            return present
    texts = {}
    if values:
        texts[DECISION_FILE] = decisions_text(threshold, temperature, measured_on=_MEASURED_ON)
    return make_ensemble(
        target,
        list(members.values()),
        values=values,
        about={"cross_validation": found},
        files=texts,
        replacing=True,
    )
