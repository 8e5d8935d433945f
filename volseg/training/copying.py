"""The copy of a bundle that is trained: made once, and known again by what it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from volseg.atomic import write_text, writing_to
from volseg.bundle import Bundle, copy_bundle, open_bundle, require_own_name, write_metadata
from volseg.data import hash_files
from volseg.errors import InputError, OutputError

# In the copy: which bundle it is of, the digest of that, and whether all of it is there.
_NOTE = Path("runs", "copied_from.json")
# Folders of a bundle that hold its results, or the data that its configurations look for there.
_LEFT_OUT = ("runs", "models", "predictions", "evaluation", "data", "images")
#: What metadata and files of ``configs`` tell of the weights before, which are not these; values
#: that were chosen for them are in the configurations, and stay.
TOLD = ("training", "eval_metrics", "cross_validation")
TABLES = ("quality.json", "decision.json", "tuning.json", "training.json")


def copy_to_train(bundle: Bundle, output: Path) -> Bundle:
    """Return the copy of a bundle in a folder, which is made if nothing is there.

    Weights, runs and data are not copied, nor what was measured with the weights. A copy that is
    there is left as it is; one that was not made to its end is made again.

    Args:
        bundle: The bundle.
        output: The folder of its copy.

    Raises:
        InputError: The folder is the bundle itself.
        OutputError: It would get the name of a bundle that comes with volseg; something else is
            there, such as the copy of another bundle or of this one before it was changed; or it
            cannot be written.
    """
    if output.resolve() == bundle.folder:
        raise InputError(f"{output} is the bundle itself: choose another folder for the result.")
    known = begun_from(bundle)
    now = {"bundle": str(bundle.folder), "sha256": known[0], "whole": True}
    found = _note_in(output)
    if found is None:
        found = {**now, "whole": _is_without_note(bundle, output)}
    if found["sha256"] not in known:
        raise OutputError(_other(output, found["bundle"], str(bundle.folder)))
    if not found["whole"]:
        require_own_name(output)  # what is there goes on under its name
        _write(output, found)
        _copy(bundle, output)
    _write(output, now)
    return open_bundle(output.resolve())


def forget_measurements(bundle: Bundle) -> None:
    """Take out of a bundle what was measured with weights that are not its own, or not for long.

    Raises:
        OutputError: A file cannot be removed, or the metadata cannot be written.
    """
    for name in TABLES:
        path = bundle.folder / "configs" / name
        with writing_to(path):
            path.unlink(missing_ok=True)
    metadata = {name: one for name, one in bundle.metadata.items() if name not in TOLD}
    if metadata != bundle.metadata:
        write_metadata(bundle, metadata)


def _copy(bundle: Bundle, output: Path) -> None:
    try:
        copy_bundle(bundle, output, without=_LEFT_OUT)
    except OSError as error:
        raise OutputError(f"the bundle could not be copied to {output}: {error}.") from error
    forget_measurements(open_bundle(output.resolve()))


def begun_from(bundle: Bundle) -> tuple[str, str]:
    """Return one digest of what a training is begun from, and the one of earlier versions.

    These left out what the training names besides its list of cases, such as a standardisation.
    """
    files = {
        bundle.config("train"),
        bundle.config("inference"),
        bundle.folder / "configs" / "datalist.json",
    }
    return hash_files(files | set(bundle.named_files("train"))), hash_files(files)


def _note_in(output: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((output / _NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _write(output: Path, note: dict[str, Any]) -> None:
    write_text(output / _NOTE, json.dumps(note, indent=2) + "\n")


def _is_without_note(bundle: Bundle, output: Path) -> bool:
    """Return whether a folder is the copy that an earlier version of volseg made, or else empty."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    if not (output / "configs" / "metadata.json").is_file():
        raise OutputError(f"{output} exists and is not a bundle: choose another folder.")
    own, theirs = (one.config("train").read_bytes() for one in (open_bundle(output), bundle))
    if own != theirs:
        raise OutputError(
            f"{output} is a bundle whose configs/train.yaml is not that of {bundle.folder}, so its "
            "training was not begun from there: choose another folder for the result."
        )
    return True


def _other(output: Path, before: str, now: str) -> str:
    if before == now:
        return (
            f"{output} was begun from {now} before its train.yaml, a file that this names or its "
            "inference.yaml was changed: put that back to go on, or choose another folder for the "
            "result."
        )
    return (
        f"{output} was begun from {before}, not from {now}: give that bundle to go on, or choose "
        "another folder for the result."
    )
