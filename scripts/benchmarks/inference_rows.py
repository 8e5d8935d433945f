"""The rows of the comparison with MONAI: what is run for each, in turns, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import cleaning
from benchmarks.cleaning import Cleaning
from benchmarks.costs import Cost, Job, in_turns, median_seconds
from benchmarks.restoring import Restoring
from benchmarks.scans import (
    PHANTOM_CLASSES,
    Sides,
    by,
    noise_scan,
    phantom_network,
    phantom_scan,
    random_network,
    source_grid,
    spacing_for,
)
from benchmarks.segmenting import WithMonai, WithVolseg
from benchmarks.timing import Ratio, ratio
from volseg.errors import VolsegError
from volseg.geometry import parallel_grid
from volseg.metrics import dice
from volseg.predictors import Precision, openvino_backend

END_TO_END = (256, 256, 200)
MANY_CLASSES = 25
LARGE = (512, 512, 400)
LONG = (256, 256, 400)
TIMES_AS_LONG = 4
SOURCE_MM, NETWORK_MM = 0.8, 1.5
SECONDS, MEMORY, RATE = "s", "MiB", "tiles/s"


@dataclass(frozen=True)
class InferenceRow:
    """Something volseg does, and what does the same.

    Attributes:
        unit: Of the two numbers.
        ours: None where it was not measured.
        theirs: None where it was not measured; of memory, what was reached till the machine had
            no more if `exceeded`.
        times: Theirs to ours; of rates, ours to theirs.
        bar: What times should be at least, in words.
        labels: How the labels compare.
        costs: Everything measured, by who.
    """

    row: str
    what: str
    size: str
    beside: str
    unit: str
    bar: str
    ours: float | None = None
    theirs: float | None = None
    times: Ratio | None = None
    exceeded: bool = False
    labels: str = "-"
    why_not: str = ""
    costs: dict[str, list[Cost]] = field(default_factory=dict)


def stored_row(values: Mapping[str, Any]) -> InferenceRow:
    """Return a row from what JSON keeps of it."""
    times = values["times"]
    costs = {who: [Cost(**cost) for cost in found] for who, found in values["costs"].items()}
    return InferenceRow(
        **{**values, "times": None if times is None else Ratio(**times), "costs": costs}
    )


@dataclass(frozen=True)
class Settings:
    """How rows are measured.

    Attributes:
        scale: Of all sides, for a quick look.
        repeats: Turns of what is compared in seconds.
        folder: For files that are not kept.
        tuned: Tile, overlap and precision of the tuned row.
    """

    scale: float
    repeats: int
    threads: int
    folder: Path
    tuned_tile: Sides
    tuned_overlap: float
    tuned_precision: str

    def sides(self, full: Sequence[int]) -> Sides:
        """Return sides scaled down, even ones."""
        return tuple(2 * max(8, round(side * self.scale / 2)) for side in full)

    def in_turns(
        self, jobs: Mapping[str, Job], *, repeats: int | None = None
    ) -> dict[str, list[Cost]]:
        """Return the costs of jobs."""
        return in_turns(jobs, repeats=repeats or self.repeats, threads=self.threads)


def end_to_end(settings: Settings, chosen: Sequence[str]) -> Iterator[InferenceRow]:
    """Yield the rows of one job on a CPU: f32, bf16 and tuned, in the same turns as MONAI."""
    shape = settings.sides(END_TO_END)
    scan, reference = phantom_scan(settings.folder, shape)
    weights = phantom_network(settings.folder)
    precision = settings.tuned_precision
    if precision == "auto":
        precision = "f32" if _lacks("bf16") else "bf16"
    rows = {
        "f32": InferenceRow(
            "f32", "end to end, f32", by(shape), "MONAI", SECONDS, "3 times, labels equal"
        ),
        "bf16": InferenceRow(
            "bf16", "end to end, bf16", by(shape), "MONAI, f32", SECONDS, "6 times, Dice 0.999"
        ),
        "tuned": InferenceRow(
            "tuned",
            f"end to end, tuned: tiles of {by(settings.tuned_tile)}, overlap "
            f"{settings.tuned_overlap:g}, {precision}",
            by(shape),
            "MONAI, f32",
            SECONDS,
            "15 times, Dice within 0.001",
        ),
    }
    file = {name: settings.folder / f"labels_{name}.npy" for name in (*rows, "MONAI")}
    why_not = _lacks("bf16")
    ours = {
        "f32": WithVolseg(scan, weights, file["f32"], tile_batch=2),
        "bf16": WithVolseg(scan, weights, file["bf16"], precision="bf16", tile_batch=2),
        "tuned": WithVolseg(
            scan,
            weights,
            file["tuned"],
            precision=precision,
            tile=settings.tuned_tile,
            overlap=settings.tuned_overlap,
        ),
    }
    wanted = {name for name in chosen if name != "bf16" or not why_not}
    if "bf16" in wanted:
        wanted.add("f32")  # which its labels are compared with
    jobs = {name: job for name, job in ours.items() if name in wanted}
    for job in jobs.values():
        job.convert()
    costs: dict[str, list[Cost]] = {}
    if jobs:
        costs = settings.in_turns({**jobs, "MONAI": WithMonai(scan, weights, file["MONAI"])})
    for name in chosen:
        if name not in jobs:
            yield replace(rows[name], why_not=why_not)
            continue
        labels = {
            "f32": lambda: _foreground(file["f32"], file["MONAI"]),
            "bf16": lambda: f"Dice to f32 {_dice(file['bf16'], file['f32']):.5f}",
            "tuned": lambda: (
                f"Dice {_dice(file['tuned'], reference):.4f}, "
                f"MONAI {_dice(file['MONAI'], reference):.4f}"
            ),
        }[name]()
        yield _compared(rows[name], costs[name], costs["MONAI"], labels=labels)


def on_gpu(settings: Settings, _: Sequence[str]) -> Iterator[InferenceRow]:
    """Yield the row of the same job on a GPU."""
    shape = settings.sides(END_TO_END)
    blank = InferenceRow("gpu", "end to end on a GPU, f16", by(shape), "MONAI, f16", RATE, "none")
    if not torch.cuda.is_available():
        yield replace(blank, why_not="there is no GPU")
        return
    scan, _reference = phantom_scan(settings.folder, shape)
    weights = phantom_network(settings.folder)
    ours, theirs = settings.folder / "gpu_volseg.npy", settings.folder / "gpu_monai.npy"
    costs = settings.in_turns(
        {
            "volseg": WithVolseg(scan, weights, ours, precision="f16", tile_batch=4, device="cuda"),
            "MONAI": WithMonai(scan, weights, theirs, tile_batch=4, device="cuda"),
        }
    )
    found = _compared(blank, costs["volseg"], costs["MONAI"], labels=_foreground(ours, theirs))
    tiles = [costs[name][0].figures["tiles"] for name in ("volseg", "MONAI")]
    share = costs["volseg"][0].figures["network_share"]
    yield replace(
        found,
        what=f"{found.what}; the network is {share:.0%} of ours",
        ours=tiles[0] / median_seconds(costs["volseg"]),
        theirs=tiles[1] / median_seconds(costs["MONAI"]),
    )


def peak_memory(settings: Settings, _: Sequence[str]) -> Iterator[InferenceRow]:
    """Yield the row of the memory of a large volume with many classes."""
    shape = settings.sides(LARGE)
    scan = noise_scan(settings.folder, shape, spacing=SOURCE_MM, network=NETWORK_MM)
    weights = random_network(settings.folder, MANY_CLASSES)
    ours = WithVolseg(scan, weights, settings.folder / "memory_volseg.npy")
    ours.convert()
    theirs = WithMonai(scan, weights, settings.folder / "memory_monai.npy")
    costs = settings.in_turns({"volseg": ours, "MONAI": theirs}, repeats=1)
    blank = InferenceRow(
        "memory",
        f"memory, end to end, {MANY_CLASSES} classes",
        by(shape),
        "MONAI",
        MEMORY,
        "8 times",
    )
    yield _compared(blank, costs["volseg"], costs["MONAI"])


def growth(settings: Settings, _: Sequence[str]) -> Iterator[InferenceRow]:
    """Yield the row of the memory of a volume that becomes longer."""
    short = settings.sides(LONG)
    long = (*short[:2], TIMES_AS_LONG * short[2])
    weights = random_network(settings.folder, MANY_CLASSES)
    jobs = {
        str(shape[2]): WithVolseg(
            noise_scan(settings.folder, shape, spacing=SOURCE_MM, network=NETWORK_MM),
            weights,
            settings.folder / f"length_{shape[2]}.npy",
        )
        for shape in (short, long)
    }
    jobs[str(short[2])].convert()
    costs = settings.in_turns(jobs, repeats=1)
    blank = InferenceRow(
        "length",
        f"memory, {long[2]} slices, {MANY_CLASSES} classes",
        by(long),
        f"itself, {short[2]} slices",
        MEMORY,
        "0.87: at most 15 % more",
    )
    yield _compared(blank, costs[str(long[2])], costs[str(short[2])])


def way_back(settings: Settings, _: Sequence[str]) -> Iterator[InferenceRow]:
    """Yield the rows of the way from logits to labels on the grid of the file."""
    shape = settings.sides(LARGE)
    source = source_grid(shape, SOURCE_MM)
    sides = [1 + round((side - 1) * SOURCE_MM / NETWORK_MM) for side in shape]
    # Of the file's orientation, so that torch, which knows none, can take part.
    network = parallel_grid(source, spacing=spacing_for(source, sides))
    file = {name: settings.folder / f"restored_{name}.npy" for name in ("volseg", "torch", "monai")}
    costs = settings.in_turns(
        {
            name: Restoring(MANY_CLASSES, network, source, labels, name)
            for name, labels in file.items()
        }
    )
    blank = InferenceRow(
        "restoring",
        f"logits of {MANY_CLASSES} classes to labels, {NETWORK_MM} mm to {SOURCE_MM} mm",
        by(shape),
        "",
        SECONDS,
        "10 times",
    )
    beside = {"torch": "softmax, torch interpolate, argmax", "monai": "the same, SpatialResample"}
    for name, title in beside.items():
        labels = _foreground(file["volseg"], file[name])
        one = replace(blank, beside=title)
        yield _compared(one, costs["volseg"], costs[name], labels=labels)
        one = replace(one, unit=MEMORY, bar="8 times")
        yield _compared(one, costs["volseg"], costs[name], labels=labels)


def post_processing(settings: Settings, _: Sequence[str]) -> Iterator[InferenceRow]:
    """Yield the row of a label map that is cleaned."""
    shape = settings.sides(LARGE)
    found = cleaning.disturbed_labels(settings.folder / "disturbed.npy", shape)
    file = {name: settings.folder / f"cleaned_{name}.npy" for name in ("volseg", "monai")}
    costs = settings.in_turns({name: Cleaning(found, file[name], name) for name in file})
    share, others = cleaning.agreement(found, file["volseg"], file["monai"])
    blank = InferenceRow(
        "postprocessing",
        f"holes, small and largest components, {cleaning.CLASSES} classes",
        by(shape),
        "MONAI",
        SECONDS,
        "5 times, labels equal",
    )
    labels = f"{share:.6%} of voxels equal, without {others} of classes that MONAI's filling takes"
    yield _compared(blank, costs["volseg"], costs["monai"], labels=labels)


Measurement = Callable[[Settings, Sequence[str]], Iterator[InferenceRow]]

ROWS: dict[str, Measurement] = {
    "f32": end_to_end,
    "bf16": end_to_end,
    "tuned": end_to_end,
    "gpu": on_gpu,
    "memory": peak_memory,
    "length": growth,
    "restoring": way_back,
    "postprocessing": post_processing,
}


def _compared(
    blank: InferenceRow, ours: Sequence[Cost], theirs: Sequence[Cost], *, labels: str = "-"
) -> InferenceRow:
    """Return a row with its numbers."""
    if blank.unit == MEMORY:
        numbers = [float(max(cost.memory for cost in costs)) for costs in (ours, theirs)]
        times = ratio([numbers[1]], [numbers[0]])
    else:
        numbers = [median_seconds(costs) for costs in (ours, theirs)]
        times = ratio([cost.seconds for cost in theirs], [cost.seconds for cost in ours])
    return replace(
        blank,
        ours=numbers[0],
        theirs=numbers[1],
        times=times,
        exceeded=any(cost.exceeded for cost in theirs),
        labels=labels,
        costs={"ours": list(ours), "theirs": list(theirs)},
    )


def _lacks(precision: Precision) -> str:
    """Return why a precision cannot be measured on this processor; nothing if it can."""
    try:
        openvino_backend.require(precision)
    except VolsegError as error:
        return str(error).split(":", maxsplit=1)[0]
    return ""


def _foreground(ours: Path, theirs: Path) -> str:
    """Return the share of the foreground voxels of either that have one label in both."""
    if not theirs.is_file():
        return "-"
    first, second = (np.load(file, mmap_mode="r") for file in (ours, theirs))
    foreground = (first > 0) | (second > 0)
    equal = np.count_nonzero((first == second) & foreground) / np.count_nonzero(foreground)
    return f"{equal:.4%} of foreground equal"


def _dice(found: Path, reference: Path) -> float:
    """Return the mean Dice of the classes of the phantoms."""
    first, second = (np.load(file) for file in (found, reference))
    classes = range(1, PHANTOM_CLASSES)
    return sum(dice(first, second, label=label) for label in classes) / len(classes)
