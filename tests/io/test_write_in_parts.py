"""Label maps on disk: written as the same array in memory is, whatever its chunks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from volseg.errors import InputError, OutputError, ShapeError, VolsegError
from volseg.geometry import Affine, Grid
from volseg.io import array_on_disk, as_image, open_volume, read_image, write_segmentation

AFFINE = np.array([[0, 0, -2.0, 5], [1.5, 0, 0, 6], [0, 1.25, 0, 7], [0, 0, 0, 1]])
SHAPE = (70, 19, 45)


@pytest.fixture(params=[1 << 24, 70 * 19 * 7], ids=["one slab", "many slabs"])
def _slabs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_on_disk, "_SLAB_BYTES", request.param)


def on_disk(folder: Path, values: np.ndarray, chunks: tuple[int, ...]) -> Any:
    array = zarr.create_array(folder, shape=values.shape, dtype=values.dtype, chunks=chunks)
    array[:] = values
    return array


def labels_up_to(highest: int, dtype: type) -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, highest, SHAPE, endpoint=True)
    labels.flat[-1] = highest
    return labels.astype(dtype)


@pytest.mark.usefixtures("_slabs")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("chunks", [(70, 19, 3), (8, 19, 45), (16, 16, 16)])
@pytest.mark.parametrize(
    ("highest", "dtype"),
    [
        (3, np.uint8),
        (1, np.bool_),
        (255, np.uint16),
        (256, np.uint16),
        (7, np.int64),
        (9, np.float32),
    ],
)
def test_bytes_are_those_of_the_array_in_memory(
    tmp_path: Path, highest: int, dtype: type, chunks: tuple[int, ...], suffix: str
) -> None:
    labels = labels_up_to(highest, dtype)
    like = as_image(np.zeros(SHAPE, np.uint8), AFFINE)
    write_segmentation(on_disk(tmp_path / "z", labels, chunks), tmp_path / f"a{suffix}", like=like)
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(array_on_disk, "_SLAB_BYTES", 1 << 30)
        write_segmentation(labels, tmp_path / f"b{suffix}", like=like)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    again = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again[0].numpy(), labels)
    np.testing.assert_array_equal(again.affine.numpy(), AFFINE)


def test_an_axis_of_one_channel_may_come_first(tmp_path: Path) -> None:
    labels = labels_up_to(3, np.uint8)
    like = as_image(np.zeros(SHAPE, np.uint8), AFFINE)
    stored = on_disk(tmp_path / "z", labels[None], (1, 16, 16, 16))
    write_segmentation(stored, tmp_path / "a.nii", like=like)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii")[0].numpy(), labels)


def test_formats_that_are_made_in_memory(tmp_path: Path) -> None:
    labels = labels_up_to(300, np.uint16)
    like = as_image(np.zeros(SHAPE, np.uint8), AFFINE)
    stored = on_disk(tmp_path / "z", labels, (16, 16, 16))
    for name in ("a.nrrd", "a.mha"):
        write_segmentation(stored, tmp_path / name, like=like)
        np.testing.assert_array_equal(read_image(tmp_path / name)[0].numpy(), labels)
    picture = on_disk(tmp_path / "y", labels[0], (16, 16))
    like = as_image(labels[0].astype(np.uint8), np.eye(3))
    write_segmentation(picture, tmp_path / "a.png", like=like)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0].numpy(), labels[0])


def test_a_volume_that_is_read_in_parts_gives_grid_and_codes(tmp_path: Path) -> None:
    labels = labels_up_to(3, np.uint8)
    source = as_image(np.ones(SHAPE, np.float32), AFFINE)
    source.meta["sform_code"] = source.meta["qform_code"] = 3
    write_segmentation(labels, tmp_path / "like.nii.gz", like=source)
    with open_volume(tmp_path / "like.nii.gz") as like:
        write_segmentation(labels, tmp_path / "a.nii.gz", like=like)
    write_segmentation(labels, tmp_path / "b.nii.gz", like=tmp_path / "like.nii.gz")
    written = {(tmp_path / name).read_bytes() for name in ("like.nii.gz", "a.nii.gz", "b.nii.gz")}
    assert len(written) == 1
    assert read_image(tmp_path / "a.nii.gz").meta["sform_code"] == 3


@pytest.mark.usefixtures("_slabs")
@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (labels_up_to(3, np.float32) - 0.5, InputError, "fractions"),
        (labels_up_to(70000, np.int32), InputError, "between 0 and 65535"),
        (labels_up_to(3, np.int16) - 1, InputError, "between 0 and 65535"),
        (labels_up_to(3, np.uint8)[1:], ShapeError, "spatial shape"),
    ],
)
def test_what_is_no_label_map_is_refused(
    tmp_path: Path, labels: np.ndarray, error: type[VolsegError], words: str
) -> None:
    like = as_image(np.zeros(SHAPE, np.uint8), AFFINE)
    stored = on_disk(tmp_path / "z", labels, (16, 16, 16))
    with pytest.raises(error, match=words):
        write_segmentation(stored, tmp_path / "out" / "a.nii.gz", like=like)
    assert not (tmp_path / "out").exists()


class Stripes:
    """Labels that are computed when they are read, and cannot be from one plane on."""

    dtype = np.dtype(np.uint16)

    def __init__(self, shape: tuple[int, ...], readable: int) -> None:
        self.shape = shape
        self.readable = readable

    def __getitem__(self, place: tuple[slice, ...]) -> np.ndarray:
        first, last, _ = place[-1].indices(self.shape[-1])
        if last > self.readable:
            raise OSError(5, "Input/output error")
        planes = np.arange(first, last, dtype=np.uint16) % 7 * 50
        return np.broadcast_to(planes, (*self.shape[:2], last - first))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nothing_half_written_is_left(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_on_disk, "_SLAB_BYTES", 1 << 12)
    grid = as_image(np.zeros((16, 16, 50), np.uint8), AFFINE)
    labels = Stripes((16, 16, 50), 50)
    write_segmentation(labels, tmp_path / f"a{suffix}", like=grid)
    old = (tmp_path / f"a{suffix}").read_bytes()
    labels.dtype = np.dtype(np.uint8)  # read once only, so that it fails while writing
    labels.readable = 30
    with pytest.raises(OutputError, match="Input/output error"):
        write_segmentation(labels, tmp_path / f"a{suffix}", like=grid)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]
    assert (tmp_path / f"a{suffix}").read_bytes() == old


@pytest.fixture
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_memory_does_not_depend_on_the_length(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_on_disk, "_SLAB_BYTES", 1 << 20)
    peaks = []
    for length in (200, 800):
        grid = Grid((128, 128, length), Affine(AFFINE))
        like = open_volume(as_image(np.zeros((1, 1, 1), np.uint8), AFFINE))
        like.grid = grid
        tracemalloc.reset_peak()
        write_segmentation(Stripes(grid.shape, length), tmp_path / f"a{suffix}", like=like)
        peaks.append(tracemalloc.get_traced_memory()[1])
    assert max(peaks) < 6 << 20
    assert peaks[1] < 1.1 * peaks[0]
