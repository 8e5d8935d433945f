"""Choosing how a bundle infers by what that costs and gives on its own held-out cases."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from volseg.atomic import write_text
from volseg.bundle import (
    Bundle,
    BundleParts,
    build_parts,
    composition_of,
    open_bundle,
    recompose,
)
from volseg.choosing.held_out import held_out_cases
from volseg.choosing.json_rows import json_by_rows
from volseg.choosing.measuring_settings import MeasurementFile, TuningProgress, measure_settings
from volseg.choosing.settings import (
    Setting,
    cut_alike,
    grown_tiles,
    propose_settings,
    setting_of,
    takes_tiles,
)
from volseg.choosing.tuning_table import TuningRow, TuningTable, choose_row
from volseg.data import hash_files
from volseg.errors import BundleError, InputError, UnknownNameError
from volseg.inference import Preparation
from volseg.io import ImageSource, open_volume
from volseg.predictors import PRECISIONS
from volseg.quality import QUALITY_FILE
from volseg.segmenter import Segmenter, choose_device
from volseg.training.machine import describe_machine, today

OVERLAPS = (0.0, 0.125, 0.25, 0.5)
_TABLE = "configs/tuning.json"


def tune_bundle(
    bundle: str | Path,
    data: str | Path,
    *,
    fold: int = 0,
    cases: int | None = None,
    overlaps: Sequence[float] = OVERLAPS,
    tiles: Sequence[Sequence[int]] | None = None,
    precisions: Sequence[str] | None = None,
    mirror: bool = False,
    tolerance: float = 0.001,
    device: str = "auto",
    resume: bool = False,
    progress: TuningProgress | None = None,
) -> TuningTable:
    """Measure Dice and seconds of settings on held-out cases, and choose one.

    The bundle is left as it is (`record_tuning` stores the choice), but for what was measured so
    far, in ``runs/tuning.jsonl``, and for networks converted on the way.

    Args:
        bundle: Name of a shipped bundle or a bundle folder, with ``configs/datalist.json``.
        data: The folder the paths in the datalist are relative to.
        fold: The held-out fold.
        cases: How many of its cases; all without it.
        overlaps: Overlaps to try.
        tiles: Tiles to try; without it the patch of training and, where cases are larger, larger
            ones (`grown_tiles`).
        precisions: Precisions to try; without it f32 and bf16 on a CPU, f16 and bf16 on a GPU.
        mirror: Also show tiles mirrored, along the axes that training mirrors, or else all.
        tolerance: Dice that may be lost against the best for speed.
        device: As for `Segmenter`.
        resume: Go on with what was measured before a stop.
        progress: Called before each measurement.

    Raises:
        InputError: The bundle or the data are unusable, an option is out of range, or no setting
            could be measured.
        OutputError: What is measured cannot be written into the bundle's folder.
    """
    if not tolerance >= 0:
        raise InputError(f"the tolerance is {tolerance}; expected a Dice of at least 0.")
    opened, where = open_bundle(bundle), choose_device(device)
    if precisions is None:
        precisions = ("f32", "bf16") if where.type == "cpu" else ("f16", "bf16")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
    held_out = held_out_cases(opened, data, fold=fold, number=cases)
    parts = build_parts(opened)
    present = setting_of(parts.inferer, parts.network, opened.in_channels, where, opened.name)
    shapes = [_shape(parts, case.image) for case in held_out]
    if tiles is None:
        takes = takes_tiles(parts.network, opened.in_channels)
        largest = [max(sides) for sides in zip(*shapes, strict=True)]
        tiles = grown_tiles(_patch(opened, present), largest, takes)
    mirrorings = dict.fromkeys([(), present.mirror_axes])
    if mirror:
        mirrorings |= {_trained_mirroring(opened): None}
    settings = propose_settings(
        present, tiles=tiles, overlaps=overlaps, mirrorings=mirrorings, precisions=precisions
    )
    doubles = cut_alike(settings, shapes, present)
    del parts  # one network in memory at a time
    tried = [setting for setting in settings if setting not in doubles]
    about = {
        "bundle_version": opened.metadata.get("version"),
        "weights_sha256": hash_files([opened.weights]),
        "fold": fold,
        "machine": describe_machine(where),
    }
    plan = {
        **about,
        "cases": [case.name for case in held_out],
        "settings": [setting.to_json() for setting in tried],
    }
    measurements = MeasurementFile(_measurements(opened), plan, resume=resume)

    def making(setting: Setting) -> Segmenter:
        return Segmenter(opened.folder, device=str(where), settings=setting.options())

    measure_settings(making, tried, held_out, measurements, progress=progress)
    rows = [_row(setting, doubles, measurements) for setting in settings]
    return TuningTable(
        rows=tuple(rows),
        present=present,
        chosen=choose_row(rows, present, tolerance=tolerance).setting,
        cases=tuple(case.name for case in held_out),
        tolerance=tolerance,
        about={"date": today(), **about},
    )


def record_tuning(bundle: str | Path, table: TuningTable) -> Bundle:
    """Make the chosen setting the bundle's default, and keep the table in it.

    The bundle is composed again with the setting, its version raised and its changelog extended;
    the table is ``configs/tuning.json``. What is usual for cases, such as their entropy, is another
    where tiles are shown mirrored: with other axes ``configs/quality.json`` is taken away.

    Raises:
        BundleError: The bundle was not composed, or its inference was edited: only the table is
            written.
        OutputError: A file cannot be written.
    """
    opened = open_bundle(bundle)
    try:
        composition = composition_of(opened.metadata, opened.name)
        values = {**composition.values, **_changed_values(table)}
        opened = recompose(
            opened,
            replace(composition, values=values),
            _changelog(table),
            files={_TABLE: _text(table, stored=True)},
        )
    except BundleError as error:
        write_text(opened.folder / _TABLE, _text(table, stored=False))
        _forget(opened)
        raise BundleError(
            f"the setting ({table.chosen.describe()}) is not stored, only the table, in "
            f"{opened.folder / _TABLE}: {error}"
        ) from error
    if table.chosen.mirror_axes != table.present.mirror_axes:
        (opened.folder / "configs" / QUALITY_FILE).unlink(missing_ok=True)
    _forget(opened)
    return opened


def _row(
    setting: Setting, doubles: dict[Setting, Setting], measurements: MeasurementFile
) -> TuningRow:
    if setting in doubles:
        same = f"cuts every case as overlap {doubles[setting].overlap:g} does"
        return TuningRow(setting, reason=same)
    if setting in measurements.failed:
        return TuningRow(setting, reason=measurements.failed[setting])
    return TuningRow.of(setting, measurements.measured[setting])


def _shape(parts: BundleParts, image: ImageSource) -> tuple[int, ...]:
    """Return the size of a volume on the network's grid; from its header where that is enough."""
    preparation = Preparation.of(parts.preprocessing)
    if preparation is None:
        return tuple(parts.preprocessing({"image": image})["image"].shape[1:])
    with open_volume(image) as volume:
        return preparation.grid(volume.grid).shape


def _patch(bundle: Bundle, present: Setting) -> tuple[int, ...]:
    """Return what the network was trained on, where the metadata say so in numbers."""
    sides = bundle.metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    return tuple(sides) if all(isinstance(side, int) for side in sides) else present.tile


def _trained_mirroring(bundle: Bundle) -> tuple[int, ...]:
    try:
        axes = composition_of(bundle.metadata, bundle.name).values.get("mirror_axes")
    except BundleError:
        axes = None
    return tuple(axes or range(bundle.spatial_dims))


def _changed_values(table: TuningTable) -> dict[str, Any]:
    """Return the values of the pieces that the choice changes."""
    called = {"mirror_axes": "mirrored"}
    before, after = table.present.to_json(), table.chosen.to_json()
    return {called.get(name, name): after[name] for name in after if after[name] != before[name]}


def _changelog(table: TuningTable) -> str:
    chosen, before = table.row(table.chosen), table.row(table.present)
    changes = (
        f"tuned on {len(table.cases)} cases: {table.chosen.describe()} "
        f"(Dice {chosen.dice:.4f}, {chosen.seconds:.3g} s a case"
    )
    if before.dice is not None and before.seconds is not None and before != chosen:
        changes += f"; before {before.dice:.4f}, {before.seconds:.3g} s"
    return f"{changes}); weights as before"


def _text(table: TuningTable, *, stored: bool) -> str:
    """Return the table as JSON, a row a line."""
    return json_by_rows({**table.to_json(), "stored": stored}, "rows")


def _forget(bundle: Bundle) -> None:
    """Remove the measurements, which are in the table now."""
    path = _measurements(bundle)
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other runs are in the folder, or there is none
        path.parent.rmdir()


def _measurements(bundle: Bundle) -> Path:
    return bundle.folder / "runs" / "tuning.jsonl"
