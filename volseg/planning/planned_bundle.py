"""The bundle of a plan: composed, with its cases listed and their fingerprint."""

from __future__ import annotations

from pathlib import Path

from volseg.bundle import Bundle, new_bundle
from volseg.data import datalist_text
from volseg.planning.dataset import Dataset
from volseg.planning.fingerprint import Fingerprint, Progress
from volseg.planning.plan import FITTED_RECIPE, Plan
from volseg.transforms import fit_standardization, standardization_text


def write_planned_bundle(
    folder: str | Path,
    plan: Plan,
    dataset: Dataset,
    fingerprint: Fingerprint,
    *,
    progress: Progress | None = None,
) -> Bundle:
    """Write the bundle of a plan, ready to be trained, and return it.

    Cases that cannot be used are not listed in it; ``configs/fingerprint.json`` says why.

    Args:
        folder: Where to make it; its name is the bundle's. Must not exist, or be empty.
        plan: What it is composed of.
        dataset: What it is for.
        fingerprint: What that looks like.
        progress: Called with the number of images done and of all, where the standardisation of CT
            is fitted.

    Raises:
        InputError: There are fewer patients than folds.
        OutputError: The folder is not free or cannot be written.
    """
    names = [case.case for case in fingerprint.cases]
    cases, about = dataset.dealt(fingerprint.label_voxels)
    files = {
        "configs/datalist.json": datalist_text(cases, about=about),
        "configs/fingerprint.json": fingerprint.text(),
    }
    if plan.composition.recipe == FITTED_RECIPE:
        fitted = fit_standardization(
            [dataset.files[name][0] for name in names],
            method="foreground",
            labels=[dataset.files[name][1] for name in names],
            ignore=dataset.scheme.ignore,
            progress=progress,
        )
        files["configs/standardization.json"] = standardization_text(fitted)
    return new_bundle(folder, plan.composition, files=files)
