"""One page that shows a case: planes, 3D, what stands out, statistics, how it was made."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import volseg
from volseg.atomic import write_text
from volseg.geometry import Grid
from volseg.io import StoredVolume
from volseg.label_colors import html_color, label_color
from volseg.metrics import LabelStatistics
from volseg.report.planes import telling_planes
from volseg.report.preview import draw_preview
from volseg.report.shown_volume import MOST_VOXELS, ShownVolume, as_base64, shown_volume
from volseg.report.templates import render, template_text
from volseg.report.viewer import VERSION, read_viewer
from volseg.segmenter import CaseRecord

_GREYS = (0, 255)


def write_case_page(
    record: CaseRecord,
    image: StoredVolume,
    labels: StoredVolume,
    path: str | Path,
    *,
    viewer: Path | None = None,
    cohort: str | None = None,
    most_voxels: int = MOST_VOXELS,
) -> None:
    """Write a page that needs nothing beside it, and no network.

    Args:
        record: Of the case.
        image: What was segmented.
        labels: Its label map.
        path: The `.html` file to write; it appears whole or not at all.
        viewer: Script of NiiVue, see `fetch_viewer`; without it the page shows pictures of planes.
        cohort: Address of the page of all cases, relative to this one.
        most_voxels: Voxels that the page holds at most; a larger volume is thinned out.

    Raises:
        InputError: A file is damaged, or the viewer is none.
        GeometryError: Image and label map lie on different grids.
        OutputError: The page cannot be written.
    """
    first = record.statistics.image[0] if record.statistics.image else None
    ends = (0.0, 1.0) if first is None else (first.percentiles[1], first.percentiles[99])
    if first is not None and ends[0] == ends[1]:  # nearly constant: show the whole range
        ends = (first.minimum, first.maximum)
    shown = shown_volume(image, labels, ends, most_voxels=most_voxels)
    rows = record.statistics.labels
    solid = len(shown.grid.shape) == 3
    script = None if viewer is None or not solid else read_viewer(viewer)
    text = render(
        "case.html",
        record=record,
        bundle=", ".join(f"{one.title} {one.version}" for one in record.bundles),
        rows=rows,
        colors={row.label: html_color(row.label) for row in rows},
        columns=_columns(solid),
        cells={row.label: _cells(row, solid) for row in rows},
        made=_made(record),
        preview=_preview(shown, rows),
        notes=_notes(shown, solid=solid, has_viewer=script is not None),
        cohort=cohort,
        volseg=volseg.__version__,
        viewer=script,
        viewer_version=VERSION,
        script=template_text("case.js"),
        data=_data(shown, rows) if script else None,
    )
    write_text(path, text)


def _data(shown: ShownVolume, rows: Sequence[LabelStatistics]) -> dict[str, Any]:
    """Return what the script of the page shows."""
    present = [row for row in rows if row.centroid_mm is not None]
    largest = max(present, key=lambda row: row.voxels, default=None)
    labels = [
        {"value": row.label, "name": row.name, "color": label_color(row.label)} for row in present
    ]
    return {
        "image": as_base64(shown.image, shown.grid),
        "label_map": as_base64(_smallest(shown.labels), shown.grid),
        "labels": labels,
        "centre": shown.grid.centre if largest is None else largest.centroid_mm,
    }


def _smallest(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint8) if labels.max(initial=0) < 256 else labels


def _preview(shown: ShownVolume, rows: Sequence[LabelStatistics]) -> str:
    planes = telling_planes(shown.image[np.newaxis], shown.labels, shown.grid.affine)
    stream = io.BytesIO()
    draw_preview(planes, rows, window=_GREYS).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _notes(shown: ShownVolume, *, solid: bool, has_viewer: bool) -> list[str]:
    low, high = shown.window
    found = [f"Grey values from {low:.6g} to {high:.6g} are shown."]
    if max(shown.steps) > 1:
        every = " x ".join(map(str, shown.steps))
        found.append(
            f"The volume is large: of every {every} voxels this page shows one. The statistics are "
            "of all of them."
        )
    if solid and not has_viewer:
        found.append(
            "To turn it in 3D and to scroll through it, fetch the viewer once with "
            "volseg report --fetch-viewer and make this page again."
        )
    return found


def _columns(solid: bool) -> list[str]:
    intensities = ["mean", "SD", "5 %", "median", "95 %"]
    if solid:
        return ["volume, mL", "surface, cm²", *intensities, "box, mm", "centre, mm (R, A, S)"]
    return ["area, pixels", "outline, pixels", *intensities, "box, pixels", "centre, pixels (x, y)"]


def _cells(row: LabelStatistics, solid: bool) -> list[str]:
    size = (
        (row.volume_ml, (row.surface_mm2 or 0) / 100) if solid else (row.area_mm2, row.perimeter_mm)
    )
    one = row.intensities[0] if row.intensities else None
    found = [_number(value) for value in size]
    if one is None:
        found += ["-"] * 5
    else:
        p = one.percentiles
        found += map(_number, (one.mean, one.standard_deviation, p[5], p[50], p[95]))
    if row.low_mm is None or row.high_mm is None or row.centroid_mm is None:
        return [*found, "-", "-"]
    lengths = (high - low for low, high in zip(row.low_mm, row.high_mm, strict=True))
    found.append(" x ".join(f"{length:.1f}" for length in lengths))
    found.append(", ".join(f"{value:.1f}" for value in row.centroid_mm))
    return found


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _made(record: CaseRecord) -> list[tuple[str, str]]:
    """Return what there is to say of how a result came about."""
    bundles = [f"{one.name} {one.version} (SHA-256 {one.sha256[:16]})" for one in record.bundles]
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    return [
        *([*record.channels.items()] or [("image", record.image)]),
        ("grid", _grid(record.grid)),
        *([("modality", record.modality)] if record.modality else []),
        ("bundle", ", ".join(bundles)),
        ("settings", settings),
        ("results", ", ".join(path.name for path in record.files.values())),
        ("time", f"{record.seconds:.1f} s"),
        ("memory", f"{record.peak_memory_bytes / 1e9:.2f} GB at most"),
        ("volseg", record.volseg),
    ]


def _grid(grid: Grid) -> str:
    size = " x ".join(map(str, grid.shape))
    if len(grid.shape) == 2:
        return f"{size} pixels"
    spacing = " x ".join(f"{value:.4g}" for value in grid.spacing)
    return f"{size} voxels of {spacing} mm, axes {''.join(grid.affine.orientation)}"
