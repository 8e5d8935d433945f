"""Inference beside MONAI, with the same weights in the same run: seconds, memory and labels."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.costs import NotMeasuredError
from benchmarks.inference_rows import (
    MEMORY,
    NETWORK_MM,
    ROWS,
    SOURCE_MM,
    InferenceRow,
    Settings,
    stored_row,
)
from benchmarks.scans import ORIENTATION, PHANTOM_CLASSES, TILE, basic_unet, by
from benchmarks.timing import write_rows
from readme import header, row, when_and_where, write_section
from volseg.errors import VolsegError
from volseg.networks import count_multiply_accumulates

# Larger tiles that overlap less: the network sees each voxel fewer times.
TUNED_TILE, TUNED_OVERLAP = (128, 128, 192), 0.125


def table(rows: Sequence[InferenceRow]) -> list[str]:
    """Return the lines of the README's table."""
    names = ["what", "size", "beside", "ours", "theirs", "times", "aim", "labels"]
    lines = header(names)
    for one in rows:
        start = [one.what, one.size, one.beside]
        if one.ours is None or one.theirs is None:
            lines.append(row([*start, "not measured", "-", "-", one.bar, one.why_not]))
            continue
        theirs = f"{'more than ' if one.exceeded else ''}{_number(one.theirs, one.unit)}"
        times = f"{'more than ' if one.exceeded else ''}{_times(one)}"
        ours = _number(one.ours, one.unit)
        lines.append(row([*start, ours, theirs, times, one.bar, one.labels]))
    return lines


def section(rows: Sequence[InferenceRow], settings: Settings) -> list[str]:
    """Return the lines of the README's section."""
    with torch.device("meta"):
        network = basic_unet().eval()
    macs = count_multiply_accumulates(network, 1, TILE) / 1e9
    return [
        *table(rows),
        "",
        f"Each measurement in a process of its own, in turns ({_turns(rows)}), compiled loops and "
        "converted networks there already. Times is theirs to "
        "ours, of rates ours to theirs: above 1 where ours is better; the median of the turns "
        "with its quartiles. Memory is the highest that was resident (VmHWM), files mapped into "
        "memory among it, less what was there before the job began: imports, weights, and what a "
        "row starts from. All of it, and in brackets what the job needed without mapped files: "
        f"{_memory_in_all(rows)}.",
        "",
        f"End to end is from the file of an image (`.npy`, axes {ORIENTATION}; the network's are "
        "RAS) to the file of its labels. f32, bf16, tuned and gpu: a volume filled with phantoms "
        "(`volseg.phantom`), voxels called 1 mm, to the network at 1.04 to 1.07 mm at full size, "
        f"where both libraries cut the same tiles; MONAI's BasicUNet of its default widths, "
        f"{PHANTOM_CLASSES} classes, {macs:.0f} GMAC a tile of {by(TILE)}, trained for some "
        "minutes on other phantoms (at half the widths, each channel then doubled). Overlap "
        "0.5 unless the row says otherwise; in f32 and bf16 ours gets two tiles at once. "
        "MONAI: Orientationd and Spacingd, "
        "sliding_window_inference (gaussian), Activationsd (softmax), Invertd "
        "(nearest_interp=False), AsDiscreted (argmax), in float32, the same weights in torch; its "
        "Gaussian has a floor of 0.001, which is taken away, for with it labels differ near the "
        "faces of the volume. "
        f"Memory: noise of {SOURCE_MM} mm, {NETWORK_MM} mm for a small network of random weights.",
        "",
        "MONAI's RemoveSmallObjects takes each value of a label map for one object, so it gets a "
        "mask a class; its FillHoles also fills what a class encloses of another one, and those "
        "voxels are left out of the comparison.",
        "",
        f"On {when_and_where(settings.threads)}, monai {version('monai')}, by `python "
        "scripts/benchmark.py inference`.",
    ]


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print, store or publish the table."""
    if arguments.resume and arguments.json is None:
        raise SystemExit("--resume needs --json: the file of the rows that are there already.")
    rows: list[InferenceRow] = []
    if arguments.resume:
        rows = [stored_row(values) for values in json.loads(arguments.json.read_text())]
    wanted = [name for name in arguments.rows if name not in {one.row for one in rows}]
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        settings = Settings(
            scale=arguments.scale,
            repeats=arguments.repeats,
            threads=arguments.threads,
            folder=Path(folder),
            tuned_tile=tuple(arguments.tuned_tile),
            tuned_overlap=arguments.tuned_overlap,
            tuned_precision=arguments.tuned_precision,
        )
        # Rows of one measurement are measured together.
        for measurement in dict.fromkeys(ROWS[name] for name in wanted):
            chosen = [name for name in wanted if ROWS[name] is measurement]
            print(", ".join(chosen), flush=True)
            try:
                rows += measurement(settings, chosen)
            except (NotMeasuredError, VolsegError) as error:
                rows += [_not_measured(name, str(error)) for name in chosen]
            if arguments.json:
                write_rows(arguments.json, rows)
    lines = section(rows, settings)
    print("\n".join(lines))
    if arguments.readme:
        write_section("inference", "scripts/benchmark.py inference", lines)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the arguments of ``inference``."""
    parser = commands.add_parser("inference", help="from an image to its labels, beside MONAI")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sides, for a quick look")
    parser.add_argument("--repeats", type=int, default=2, help="turns where seconds are compared")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tuned-tile", nargs=3, type=int, default=TUNED_TILE, metavar="VOXELS")
    parser.add_argument("--tuned-overlap", type=float, default=TUNED_OVERLAP)
    parser.add_argument(
        "--tuned-precision", default="auto", help="bf16 where the processor has it, else f32"
    )
    parser.add_argument("--scratch", type=Path, metavar="FOLDER", help="for volumes of some GB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that the file of --json has already"
    )
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.set_defaults(run=run)


def _not_measured(name: str, why: str) -> InferenceRow:
    return InferenceRow(name, name, "-", "-", "-", "-", why_not=why)


def _turns(rows: Sequence[InferenceRow]) -> str:
    """Return in words how often the rows were measured."""
    names: dict[int, list[str]] = {}
    for one in rows:
        if one.costs:
            names.setdefault(len(one.costs["ours"]), []).append(one.row)
    return "; ".join(
        f"{count} of {', '.join(dict.fromkeys(found))}" for count, found in sorted(names.items())
    )


def _memory_in_all(rows: Sequence[InferenceRow]) -> str:
    """Return the peaks of the rows of memory in words."""
    found = []
    for one in rows:
        if one.unit != MEMORY or not one.costs:
            continue
        ours, theirs = (
            f"{max(cost.peak for cost in costs) >> 20:,} MiB "
            f"({max(cost.anonymous_memory for cost in costs) >> 20:,})"
            for costs in (one.costs["ours"], one.costs["theirs"])
        )
        found.append(f"{one.row} {ours} to {one.beside}'s {theirs}")
    return "; ".join(found) or "not measured"


def _number(value: float, unit: str) -> str:
    if unit == MEMORY:
        return f"{value / (1 << 20):,.0f} {unit}"
    return f"{value:.1f} {unit}" if value >= 1 else f"{value:.2f} {unit}"


def _times(one: InferenceRow) -> str:
    """Return a ratio in words, with quartiles where there are turns to tell them."""
    if one.times is None:
        return "-"
    alone = one.times.lower == one.times.upper
    return f"{one.times.median:.2f}" if alone else str(one.times)
