"""``volseg inspect``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.console import output, print_json, progress_bar
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.io.dicom import FolderDescription, ObjectDescription, SeriesDescription

_COLOURS = {"readable": "green", "after a choice": "yellow", "refused": "red"}
_MOST_NAMED = 3
_MOST_PARTS = 20


def inspect(
    path: Annotated[Path, typer.Argument(help="An image file, or a folder of DICOM series.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show what an image is and what is odd about it; of DICOM every series, and if it is usable.

    Of DICOM only headers are read.
    """
    from volseg.io.formats import ImageFormat, format_of_input

    is_dicom = format_of_input(path) is ImageFormat.DICOM
    if is_dicom and not _is_seg(path):
        from volseg.io.dicom import describe_dicom

        with progress_bar() as bar:
            task = bar.add_task("files", total=None)
            folder = describe_dicom(
                path, lambda done, total: bar.update(task, completed=done, total=total)
            )
        if not (folder.series or folder.objects):
            _require_no_other_images(path, folder)
        if as_json:
            print_json(asdict(folder))
        else:
            _show_folder(folder)
        return
    from volseg.io import describe_image

    description = describe_image(path)
    if as_json:
        print_json(asdict(description))
        return
    for name, value in asdict(description).items():
        if name == "remarks":
            continue
        _print(f"{name.replace('_', ' ')}: {_readable(value)}")
    for remark in description.remarks:
        _print(f"note: {remark}", "yellow")


def _require_no_other_images(path: Path, folder: FolderDescription) -> None:
    """Refuse what is no folder of DICOM: there is more to say of what lies in it.

    Raises:
        InputError: if it holds images of other formats alone.
    """
    from volseg.io.dicom.files import where_images_lie
    from volseg.io.folders import holds_dicom

    advice = where_images_lie(Path(file["path"]) for file in folder.unused)
    if advice and path.is_dir() and not holds_dicom(path, at_any_depth=True):
        raise InputError(f"{path} holds no DICOM image; {advice}.")


def _is_seg(path: Path) -> bool:
    """Whether it is a label map, which is described by its values and not by its frames."""
    from volseg.io.dicom.segmentations import kind_of_segmentation

    return path.is_file() and kind_of_segmentation(path) == "seg"


def _show_folder(folder: FolderDescription) -> None:
    for number, series in enumerate(folder.series, start=1):
        _show_series(number, series)
    names = {series.uid: series.description for series in folder.series}
    for found in folder.objects:
        _show_object(found, names)
    reasons: dict[str, list[str]] = defaultdict(list)
    for file in folder.unused:
        reasons[file["reason"]].append(file["path"])
    for reason, paths in reasons.items():
        more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
        _print(f"not used, {reason}: {', '.join(paths[:_MOST_NAMED])}{more}", "dim")
    counts = [
        f"{sum(series.verdict == verdict for series in folder.series)} {verdict}"
        for verdict in _COLOURS
        if any(series.verdict == verdict for series in folder.series)
    ]
    _print(f"{len(folder.series)} series" + (f": {', '.join(counts)}" if counts else ""), "bold")
    if len(folder.series) > 1:
        _print("choose one by its UID: --series UID, read_image(..., series=UID)")


def _show_series(number: int, series: SeriesDescription) -> None:
    title = " ".join(word for word in (series.modality, series.description) if word)
    _print(f"{number}. {series.verdict.upper()}  {title or 'without description'}", "bold")
    style = _COLOURS[series.verdict]
    _print(f"   {_volume(series)}")
    files = f"{series.files} file{'' if series.files == 1 else 's'}"
    copies = f", {series.duplicates} copies not used" if series.duplicates else ""
    _print(f"   {files}{copies}, {', '.join(series.transfer_syntaxes)}")
    _print(f"   {series.uid or 'no series UID'}")
    if series.reason:
        _print(f"   {series.reason}", style)
    if series.choice:
        option = series.choice.replace("='", " ").rstrip("'")
        _print(f"   to read it: {series.choice}, volseg segment --{option}", style)
    for note in series.notes:
        _print(f"   note: {note.replace('orthogonal=True', '--orthogonal')}", "yellow")


def _show_object(found: ObjectDescription, names: dict[str, str]) -> None:
    files = "" if found.files == 1 else f", {found.files} files"
    description = f" {found.description}" if found.description else ""
    _print(f"-  {found.kind}{description}{files}: {found.path}", "bold")
    if found.parts:
        more = len(found.parts) - _MOST_PARTS
        listed = ", ".join(found.parts[:_MOST_PARTS]) + (f" and {more} more" if more > 0 else "")
        _print(f"   {listed}")
    for uid in found.refers_to:
        where = names.get(uid, "not in this folder") or "without description"
        _print(f"   refers to the series {uid} ({where})")
    _print(f"   {found.uid or 'no series UID'}")


def _volume(series: SeriesDescription) -> str:
    """Return size, spacing and orientation of a series in one phrase."""
    columns, rows = series.matrix
    count = f"{series.slices} slice{'' if series.slices == 1 else 's'}"
    parts = [f"{count} of {columns} x {rows}"]
    if series.time_points > 1:
        parts.append(f"{series.time_points} volumes by {series.told_apart_by}")
    if series.channels > 1:
        parts.append("colour")
    if series.spacing is not None:
        parts.append(" x ".join(f"{step:.4g}" for step in series.spacing) + " mm")
    if series.gaps is not None and series.verdict != "readable":
        parts.append(f"gaps of {series.gaps[0]:.4g} to {series.gaps[1]:.4g} mm")
    if series.orientation is not None:
        parts.append(f"axes {series.orientation}")
    if series.tilt_degrees is not None and series.tilt_degrees > 0.05:
        parts.append(f"tilted by {series.tilt_degrees:.1f} degrees")
    return ", ".join(parts)


def _print(text: str, style: str | None = None) -> None:
    output.print(text, soft_wrap=True, markup=False, highlight=False, style=style)


def _readable(value: object) -> str:
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], list | tuple):
            return "".join(f"\n  {_readable(row)}" for row in value)
        return " ".join(_readable(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)
