"""Spatial augmentation of an image and its label, beside other libraries and beside a copy."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.augmentation import (
    Candidate,
    Scene,
    copy_of,
    ours,
    ours_alone,
    peers,
    tasks_of,
)
from benchmarks.first_use import first_use
from benchmarks.timing import Ratio, interleaved, ratio, use_threads, write_rows
from readme import header, row, when_and_where, write_section

SIZES = ("128x128x128", "192x192x48", "256x256x256:64x64x64", "512x512")
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class TransformRow:
    """One of our transforms, and one of another library that does the same.

    Attributes:
        to_copy: Our seconds to those of a copy of what comes out.
        beside: The other transform; "-" where there is none.
        beside_seconds: None where it is not installed.
        times: Its seconds to ours.
        differs: What it does otherwise.
    """

    task: str
    transform: str
    size: str
    threads: int
    seconds: float
    copy_seconds: float
    to_copy: Ratio
    beside: str = "-"
    beside_seconds: float | None = None
    times: Ratio | None = None
    differs: tuple[str, ...] = ()


def measure(
    scene: Scene,
    task: str,
    own: Candidate,
    others: Sequence[Candidate],
    *,
    threads: int,
    repeats: int,
) -> Iterator[TransformRow]:
    """Yield a row for each other transform, or one row without."""
    use_threads(threads)
    runs = [one.run for one in (own, *others) if one.run is not None]
    own_seconds, copy_seconds, *beside_seconds = interleaved(
        [runs[0], copy_of(scene), *runs[1:]], repeats
    )
    alone = TransformRow(
        task=task,
        transform=own.name,
        size=str(scene),
        threads=threads,
        seconds=statistics.median(own_seconds),
        copy_seconds=statistics.median(copy_seconds),
        to_copy=ratio(own_seconds, copy_seconds),
    )
    if not others:
        yield alone
    timed = iter(beside_seconds)
    for other in others:
        beside = replace(alone, beside=other.name, differs=other.differs)
        if other.run is not None:
            seconds = next(timed)
            beside = replace(
                beside,
                beside_seconds=statistics.median(seconds),
                times=ratio(seconds, own_seconds),
            )
        yield beside


def measure_scene(scene: Scene, *, threads: Iterable[int], repeats: int) -> Iterator[TransformRow]:
    """Yield the rows of everything that is compared, and of ours alone, on one scene."""
    torch.manual_seed(0)  # what TorchIO and batchgeneratorsv2 draw from
    for count in threads:
        settings = {"threads": count, "repeats": repeats}
        for task in tasks_of(scene):
            yield from measure(scene, task.name, ours(scene, task), peers(scene, task), **settings)
        for task_name, own in ours_alone(scene).items():
            yield from measure(scene, task_name, own, [], **settings)


def beside_table(rows: Sequence[TransformRow]) -> list[str]:
    """Return the table of ours beside theirs, a line a peer."""
    threads = sorted({one.threads for one in rows})
    lines = header(["what", "size", "beside", *_columns(threads, "theirs, ms", "times")])
    found: dict[tuple[str, str, str], dict[int, TransformRow]] = {}
    for one in rows:
        if one.beside != "-":
            found.setdefault((one.task, one.size, one.beside), {})[one.threads] = one
    for key, by_threads in found.items():
        cells = [cell for count in threads for cell in _beside_cells(by_threads[count])]
        lines.append(row([*key, *cells]))
    return lines


def copy_table(rows: Sequence[TransformRow]) -> list[str]:
    """Return the table of ours beside a copy, a line a transform."""
    threads = sorted({one.threads for one in rows})
    lines = header(["what", "size", "ours", *_columns(threads, "a copy, ms", "times")])
    found: dict[tuple[str, str, str], dict[int, TransformRow]] = {}
    for one in rows:
        key = (one.task, one.size, f"`{one.transform}`")
        found.setdefault(key, {}).setdefault(one.threads, one)
    for key, by_threads in found.items():
        cells = []
        for count in threads:
            one = by_threads[count]
            cells += [_ms(one.seconds), _ms(one.copy_seconds), f"{one.to_copy.median:.1f}"]
        lines.append(row([*key, *cells]))
    return lines


def section(rows: Sequence[TransformRow], *, repeats: int, first: tuple[float, float]) -> list[str]:
    """Return the lines of the README's section; `first` is what `first_use` gave."""
    threads = " and ".join(str(count) for count in sorted({one.threads for one in rows}))
    differs: dict[str, dict[str, None]] = {}
    for one in rows:
        differs.setdefault(one.beside, {}).update(dict.fromkeys(one.differs))
    return [
        *beside_table(rows),
        "",
        f"Milliseconds of image and label together, medians of {repeats} turns taken one after the "
        "other; times is theirs to ours turn by turn, above 1 where ours is faster, with its "
        "quartiles. TorchIO moves volumes as a whole and is not in the rows of patches and "
        "pictures. What theirs do otherwise:",
        "",
        *(f"- {name}: {'; '.join(texts)}" for name, texts in differs.items() if texts),
        "",
        "How many times longer ours take than the least there is to do, a read and a write of each "
        "voxel of the output (torch's copy, with as many threads):",
        "",
        *copy_table(rows),
        "",
        f"The first call on a machine compiles its loops: {first[0]:.2f} s for 128x128x128, linear "
        f"and nearest, one thread. They are kept: the first call of later processes takes "
        f"{first[1]:.2f} s.",
        "",
        f"On {when_and_where(threads)}{_versions()}, by `python scripts/benchmark.py transforms`.",
    ]


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print, store or publish the tables."""
    rows: list[TransformRow] = []
    for scene in arguments.sizes:
        for one in measure_scene(scene, threads=arguments.threads, repeats=arguments.repeats):
            rows.append(one)
            print(_progress(one), flush=True)
            if arguments.json:
                write_rows(arguments.json, rows)
    lines = section(rows, repeats=arguments.repeats, first=first_use())
    print("\n".join(lines))
    if arguments.readme:
        write_section("transforms", "scripts/benchmark.py transforms", lines)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the arguments of ``transforms``."""
    parser = commands.add_parser(
        "transforms", help="rotation, scaling and elastic deformation, beside other libraries"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=Scene.parse,
        default=[Scene.parse(size) for size in SIZES],
        metavar="SIZE",
        help="2D or 3D, with :PATCH for a patch of a volume; default: " + " ".join(SIZES),
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--repeats", type=int, default=7, help="turns each transform is timed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    parser.set_defaults(run=run)


def _beside_cells(one: TransformRow) -> list[str]:
    if one.beside_seconds is None or one.times is None:
        return [_ms(one.seconds), NOT_INSTALLED, "-"]
    return [_ms(one.seconds), _ms(one.beside_seconds), str(one.times)]


def _columns(threads: Sequence[int], *others: str) -> list[str]:
    return [name for n in threads for name in (f"{n} thread(s): ours, ms", *others)]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds >= 0.01 else f"{1000 * seconds:.2f}"


def _progress(one: TransformRow) -> str:
    done = f"{one.task}, {one.size}, {one.threads} thread(s): {one.transform} {one.seconds:.4f} s"
    if one.beside == "-":
        return done
    return f"{done}; {one.beside} " + (
        NOT_INSTALLED if one.times is None else f"{one.times} times that"
    )


def _versions() -> str:
    found = ""
    for package in ("monai", "torchio", "batchgeneratorsv2"):
        try:
            found += f", {package} {version(package)}"
        except PackageNotFoundError:
            continue
    return found
