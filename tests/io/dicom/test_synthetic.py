"""Hundreds of synthetic series: voxels and geometry are those they were made with."""

from __future__ import annotations

import itertools
import random
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.eulerangles import euler2mat

from volseg.geometry import Affine, StackError
from volseg.io import grid_of, read_image

# Axial, head first and feet first; sagittal; coronal; oblique; and left-handed in every axis pair.
TURNS: dict[str, Any] = {
    "axial": np.eye(3),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique": euler2mat(0.3, -0.2, 0.5),
    "strongly oblique": euler2mat(0.9, 0.8, -2.0),
}
SHEARS = {"upright": (0.0, 0.0), "gantry tilt": (0.0, -0.8), "tilted both ways": (0.5, 1.1)}
GAPS = {"even": None, "one missing": (0, 1, 2, 4, 5, 6), "coarser above": (0, 1, 2, 3, 5, 7)}
LAYOUTS = ("single", "multi-frame", "three times", "multi-frame, three times")
SYNTAXES = (
    "explicit",
    "implicit",
    "big endian",
    "deflated",
    "RLE",
    "JPEG lossless",
    "JPEG-LS",
    "JPEG 2000",
)
KINDS = (("uint8", None), ("int16", None), ("uint16", None), ("uint16", 12), ("int16", 12))
SCALES = {
    "as stored": lambda number: (1.0, 0.0),
    "CT": lambda number: (1.0, -1024.0),
    "each its own": lambda number: (0.25 * (number + 1), -3.5 * number),
}
CASES = list(itertools.product(TURNS, SHEARS, GAPS, LAYOUTS, SYNTAXES, KINDS, SCALES))
# Every tenth of a thousand or so; each value of each axis comes many times with every other.
CHOSEN = random.Random(6).sample(CASES, 400)


def echo_time(time: int, number: int) -> dict[str, Any]:
    return {"EchoTime": 4.5 * (time + 1)}


def made(synthetic: Any, case: tuple[Any, ...], seed: int = 0) -> Any:
    turn, shear, gaps, layout, syntax, (kind, bits), scale = case
    return synthetic(
        shape=(37, 33, 6) if syntax == "JPEG 2000" else (5, 4, 6),  # five halvings are usual
        turn=TURNS[turn],
        shear=SHEARS[shear],
        places=GAPS[gaps],
        is_multi_frame=layout.startswith("multi"),
        times=3 if layout.endswith("times") else 1,
        vary=echo_time,
        syntax=syntax,
        kind=kind,
        bits=bits,
        scale=SCALES[scale],
        seed=seed,
    )


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: "-".join(map(str, case)))
def test_series_are_read_as_they_were_made(synthetic: Any, tmp_path: Path, case: Any) -> None:
    series = made(synthetic, case)
    truth = series.write(tmp_path / "series")
    if series.places is not None:
        with pytest.raises(StackError, match="equal gaps"):
            read_image(tmp_path)
        image = read_image(tmp_path, irregular="resample")
        kept = [round(place) for place in series.places]
        assert image.shape[3] == kept[-1] + 1
    else:
        image = read_image(tmp_path)
        kept = list(range(image.shape[3]))
    assert grid_of(image).affine.is_close(truth.affine, 1e-4, image.shape[1:])
    np.testing.assert_allclose(image.numpy()[..., kept], truth.values, rtol=1e-6, atol=1e-3)
    if case[-1] != "each its own":
        assert not image.is_floating_point()
        np.testing.assert_array_equal(image.numpy()[..., kept], truth.values)


PLAIN = [
    case
    for case in CASES
    # SimpleITK fails on the tiny RLE frames, and on files of the other kinds left out.
    if case[1:4] == ("upright", "even", "single")
    and case[4] not in ("deflated", "big endian", "RLE")
]


@pytest.mark.parametrize(
    "case", random.Random(7).sample(PLAIN, 60), ids=lambda case: "-".join(map(str, case))
)
def test_plain_series_are_as_simpleitk_reads_them(
    synthetic: Any, tmp_path: Path, case: Any
) -> None:
    made(synthetic, case).write(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = reader.Execute()
    image = read_image(tmp_path)
    direction = np.array(theirs.GetDirection()).reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = direction * theirs.GetSpacing()
    matrix[:3, 3] = theirs.GetOrigin()
    assert grid_of(image).affine.is_close(Affine.from_lps(matrix), 1e-4, image.shape[1:])
    np.testing.assert_allclose(image.numpy()[0], sitk.GetArrayFromImage(theirs).T, atol=1e-3)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("layout", ["single", "three times"])
def test_series_are_as_dcm2niix_reads_them(
    synthetic: Any, tmp_path: Path, turn: str, layout: str
) -> None:
    case = (turn, "upright", "even", layout, "explicit", ("int16", 12), "CT")
    series = made(synthetic, case)
    series.tags = {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}
    series.write(tmp_path / "in")
    (tmp_path / "out").mkdir()
    import dcm2niix

    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-o", tmp_path / "out", tmp_path / "in"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    volumes = [nib.as_closest_canonical(nib.load(file)) for file in (tmp_path / "out").iterdir()]
    image = read_image(tmp_path / "in")
    by_brightness = sorted(volumes, key=lambda volume: float(volume.get_fdata().mean()))
    ours = [
        nib.as_closest_canonical(nib.Nifti1Image(volume, image.affine.numpy()))
        for volume in sorted(image.numpy(), key=lambda volume: float(volume.mean()))
    ]
    assert len(by_brightness) == len(ours)  # of several echoes it writes a file each
    for mine, theirs in zip(ours, by_brightness, strict=True):
        np.testing.assert_allclose(mine.affine, theirs.affine, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(mine.dataobj), theirs.get_fdata())
