"""Reading of a CT series, beside other readers: seconds, and whether what they read is right."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from monai import data

from benchmarks.dicom_series import SERIES, Truth, write_series
from benchmarks.timing import Ratio, interleaved, ratio, write_rows
from readme import header, row, when_and_where, write_section
from volseg.geometry import Affine
from volseg.io import read_image

# Values (x, y, z) and the RAS+ affine.
Volume = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]
_FARTHEST_MM = 0.05


@dataclass(frozen=True)
class Reader:
    """A program that reads a series.

    Attributes:
        name: of the program.
        needs: module it needs.
        read: What is timed.
        volume: Turns what that gave into values and affine.
    """

    name: str
    needs: str
    read: Callable[[Path], Any]
    volume: Callable[[Any], Volume]


@dataclass(frozen=True)
class DicomRow:
    """Seconds of one reader for one series.

    Attributes:
        times: Its seconds to volseg's, turn by turn.
        verdict: "right", or what is wrong with what it reads.
    """

    series: str
    reader: str
    seconds: float
    times: Ratio
    verdict: str


def verdict(found: Volume, truth: Truth) -> str:
    """Return "right", or how a volume differs from the true one, in any order of its axes."""
    ours = nib.as_closest_canonical(nib.Nifti1Image(truth.values, truth.affine.matrix))
    values, affine = found
    theirs = nib.as_closest_canonical(nib.Nifti1Image(values.astype(np.int16), affine))
    if theirs.shape != ours.shape:
        return f"shape {' x '.join(map(str, theirs.shape))}"
    apart = Affine(theirs.affine).displacement(Affine(ours.affine), ours.shape)
    if apart > _FARTHEST_MM:
        return f"up to {apart:.1f} mm off"
    same = np.array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
    return "right" if same else "other values"


def readers(folder: Path) -> list[Reader]:
    """Return volseg and all others that are installed.

    Args:
        folder: Where those that convert files write.
    """
    known = [
        Reader(
            "volseg", "pydicom", read_image, lambda image: (image[0].numpy(), image.affine.numpy())
        ),
        Reader("SimpleITK", "SimpleITK", _simpleitk, _of_simpleitk),
        Reader("MONAI ITKReader", "itk", partial(_monai, "ITKReader"), _of_monai),
        Reader("MONAI PydicomReader", "pydicom", partial(_monai, "PydicomReader"), _of_monai),
        Reader("dcm2niix, to .nii", "dcm2niix", partial(_dcm2niix, folder), _of_dcm2niix),
    ]
    return [reader for reader in known if find_spec(reader.needs) is not None]


def stored_row(values: dict[str, Any]) -> DicomRow:
    """Return a row that was written as JSON."""
    return DicomRow(**{**values, "times": Ratio(**values["times"])})


def measure(names: Sequence[str], size: int, slices: int, repeats: int) -> Iterator[DicomRow]:
    """Yield a row for every one of the series and reader."""
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            series = Path(temporary) / name.replace(" ", "_")
            truth = write_series(series, name, size, slices)
            candidates = readers(Path(temporary) / "converted")
            verdicts = [verdict(one.volume(one.read(series)), truth) for one in candidates]
            runs = [partial(one.read, series) for one in candidates]
            own, *others = interleaved(runs, repeats)
            for one, seconds, found in zip(candidates, [own, *others], verdicts, strict=True):
                times = ratio(seconds, own)
                yield DicomRow(name, one.name, statistics.median(seconds), times, found)


def table(rows: Sequence[DicomRow]) -> list[str]:
    """Return the table, a line for each series and reader."""
    lines = header(["series", "reader", "seconds", "times", "what it reads"])
    for one in rows:
        times = "-" if one.reader == "volseg" else str(one.times)
        lines.append(row([one.series, one.reader, f"{one.seconds:.2f}", times, one.verdict]))
    return lines


def run(arguments: argparse.Namespace) -> None:
    """Measure, and print, store or publish the table."""
    if arguments.resume and arguments.json is None:
        raise SystemExit("--resume needs --json: the file of the rows that are there already.")
    rows: list[DicomRow] = []
    if arguments.resume and arguments.json.exists():
        rows = [stored_row(values) for values in json.loads(arguments.json.read_text())]
    wanted = [name for name in arguments.series if name not in {one.series for one in rows}]
    for one in measure(wanted, arguments.size, arguments.slices, arguments.repeats):
        rows.append(one)
        print(f"{one.series}: {one.reader} {one.seconds:.2f} s, {one.verdict}", flush=True)
        if arguments.json:
            write_rows(arguments.json, rows)
    lines = [
        *table(rows),
        "",
        f"A CT of {arguments.size} x {arguments.size} x {arguments.slices} voxels, a file a slice; "
        f"medians of {arguments.repeats} turns taken one after the other, files in the cache of "
        "the system; times is theirs to ours turn by turn, with its quartiles. volseg, as MONAI, "
        "gives an array in memory, SimpleITK its own image, dcm2niix a file. On "
        f"{when_and_where('all')}{_versions()}, by `python scripts/benchmark.py dicom`.",
    ]
    print("\n".join(lines))
    if arguments.readme:
        write_section("dicom", "scripts/benchmark.py dicom", lines)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the arguments of ``dicom``."""
    parser = commands.add_parser("dicom", help="reading of a CT series, beside other readers")
    parser.add_argument("--series", nargs="+", default=list(SERIES), choices=SERIES)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5, help="turns each reader is timed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument(
        "--resume", action="store_true", help="keep the series that the file of --json has already"
    )
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.set_defaults(run=run)


def _simpleitk(series: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    return reader.Execute()


def _of_simpleitk(image: Any) -> Volume:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, Affine.from_lps(matrix).matrix


def _monai(name: str, series: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MONAI's, on values that pydicom finds odd
        reader = getattr(data, name)()
        return reader.get_data(reader.read(str(series)))


def _of_monai(found: Any) -> Volume:
    values, meta = found
    return np.asarray(values), np.asarray(meta["affine"])


def _dcm2niix(folder: Path, series: Path) -> Path:
    import dcm2niix  # noqa: PLC0415 - not installed everywhere

    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "image", "-o", folder, series]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)  # noqa: S603
    return folder


def _of_dcm2niix(folder: Path) -> Volume:
    # Of a tilted series there is a second file, in which it is resampled upright.
    image = nib.load(min(folder.glob("*.nii"), key=lambda file: len(file.name)))
    return np.asarray(image.dataobj).copy(), image.affine


def _versions() -> str:
    found = ""
    for package in ("pydicom", "SimpleITK", "monai", "itk", "dcm2niix"):
        try:
            found += f", {package} {version(package)}"
        except PackageNotFoundError:
            continue
    return found
