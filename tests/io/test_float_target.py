"""Maps written block by block: the file of the whole array, whichever way the blocks come."""

from __future__ import annotations

import errno
import itertools
import os
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import zarr

from volseg.errors import InputError, MissingPackageError, OutputError
from volseg.geometry import Affine, Grid
from volseg.inference.restoring import Targets, restore_slabs
from volseg.inference.streaming import Slab
from volseg.io import (
    array_on_disk,
    as_image,
    block_spool,
    map_target,
    open_volume,
    open_zarr,
    probabilities_target,
    read_image,
    write_image,
)

AFFINE = np.array([[0, 0, -2.0, 5], [1.5, 0, 0, 6], [0, 1.25, 0, 7], [0, 0, 0, 1]])
SHAPE = (9, 8, 21)
LIKE = as_image(np.zeros(SHAPE, np.uint8), AFFINE)
VALUES = np.random.default_rng(0).random((3, *SHAPE), dtype=np.float32)
SUFFIXES = [".nii", ".nii.gz", ".zarr"]


@pytest.fixture(params=[1 << 24, 9 * 8 * 4 * 4], ids=["one group", "groups of 4 planes"])
def _groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_spool, "_GROUP_BYTES", request.param)


def stored(path: Path) -> np.ndarray:
    """Return what a file holds, class first, as another library reads it."""
    if path.suffix == ".zarr":
        return zarr.open_array(path, mode="r")[:]
    values = nib.load(path).get_fdata(dtype=np.float32)
    return np.moveaxis(values, -1, 0) if values.ndim == 4 else values[None]


def blocks(axis: int, thickness: int) -> list[tuple[slice, ...]]:
    places = []
    for start in range(0, SHAPE[axis], thickness):
        place = [slice(None)] * 4
        place[axis + 1] = slice(start, min(SHAPE[axis], start + thickness))
        places.append(tuple(place))
    return places


@pytest.mark.usefixtures("_groups")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thickness", [1, 5, 30])
def test_slabs_of_any_axis(tmp_path: Path, axis: int, thickness: int, suffix: str) -> None:
    path = tmp_path / "new" / f"p{suffix}"
    with probabilities_target(path, like=LIKE, classes=3) as target:
        assert target.shape == VALUES.shape
        assert target.dtype == np.float32
        for place in blocks(axis, thickness):
            target[place] = VALUES[place]
        assert not path.exists()
    np.testing.assert_array_equal(stored(path), VALUES)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    if suffix != ".zarr":
        write_image(as_image(VALUES, AFFINE), tmp_path / f"b{suffix}")
        assert path.read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.usefixtures("_groups")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(4))
def test_blocks_of_any_shape_in_any_order(tmp_path: Path, seed: int, suffix: str) -> None:
    random = np.random.default_rng(seed)
    cuts = [
        [0, *sorted(random.choice(np.arange(1, side), 1 + (side > 3), replace=False)), side]
        for side in VALUES.shape
    ]
    parts = [[slice(*bounds) for bounds in itertools.pairwise(cut)] for cut in cuts]
    places = list(itertools.product(*parts))
    random.shuffle(places)
    left_out = places.pop()
    expected = VALUES.copy()
    expected[left_out] = 0
    with probabilities_target(tmp_path / f"p{suffix}", like=LIKE, classes=3) as target:
        for place in places:
            target[place] = -1.0
            target[place] = VALUES[place]
    np.testing.assert_array_equal(stored(tmp_path / f"p{suffix}"), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_map_has_no_axis_of_classes(tmp_path: Path, suffix: str) -> None:
    with map_target(tmp_path / f"m{suffix}", like=LIKE) as target:
        assert target.shape == SHAPE
        for place in blocks(1, 3):
            target[place[1:]] = VALUES[0][place[1:]]
    np.testing.assert_array_equal(stored(tmp_path / f"m{suffix}"), VALUES[:1])


def test_geometry_is_that_of_the_source(tmp_path: Path) -> None:
    like = as_image(np.zeros(SHAPE, np.uint8), AFFINE)
    like.meta["sform_code"], like.meta["qform_code"] = 2, 3
    write_image(like, tmp_path / "like.nii")
    with open_volume(tmp_path / "like.nii") as volume:
        for source in (like, volume, tmp_path / "like.nii"):
            with probabilities_target(tmp_path / "p.nii", like=source, classes=3):
                pass
            image = read_image(tmp_path / "p.nii")
            assert image.shape == (3, *SHAPE)
            np.testing.assert_array_equal(image.affine.numpy(), AFFINE)
            assert (image.meta["sform_code"], image.meta["qform_code"]) == (2, 3)
    with probabilities_target(tmp_path / "p.zarr", like=like, classes=3):
        pass
    array = zarr.open_array(tmp_path / "p.zarr", mode="r")
    np.testing.assert_array_equal(array.attrs["affine"], AFFINE)
    assert array.attrs["class_axis"] == 0
    assert array.metadata.dimension_names == ("class", "x", "y", "z")


def test_pictures(tmp_path: Path) -> None:
    like = as_image(np.zeros((9, 8), np.uint8), np.eye(3))
    for axis in (1, 2):
        with probabilities_target(tmp_path / "p.zarr", like=like, classes=2) as target:
            for index in range(like.shape[axis]):
                place = tuple(
                    slice(index, index + 1) if a == axis else slice(None) for a in (0, 1, 2)
                )
                target[place] = VALUES[:2, :, :, 0][place]
        np.testing.assert_array_equal(stored(tmp_path / "p.zarr"), VALUES[:2, :, :, 0])
    with pytest.raises(InputError, match="no place in the world"):
        probabilities_target(tmp_path / "p.nii", like=like, classes=2).__enter__()


def test_many_chunks_and_files_of_zarr(tmp_path: Path) -> None:
    shape = (70, 130, 150)
    like = open_volume(as_image(np.zeros(shape, np.uint8), AFFINE))
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    with map_target(tmp_path / "m.zarr", like=like) as target:
        target[:, :, :] = values
    np.testing.assert_array_equal(stored(tmp_path / "m.zarr")[0], values)
    array = zarr.open_array(tmp_path / "m.zarr", mode="r")
    assert array.chunks == (1, 64, 64, 64)
    files = [path for path in (tmp_path / "m.zarr").rglob("*") if path.is_file()]
    assert len(files) == 1 + 3  # its description, and 64 planes each


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_inference_writes_to_it_what_it_writes_to_an_array(tmp_path: Path, axis: int) -> None:
    grid = Grid(SHAPE, Affine(AFFINE))
    logits = torch.from_numpy(VALUES) * 4

    def slabs() -> list[Slab]:
        ends = [*range(0, SHAPE[axis], 4), SHAPE[axis]]
        return [
            Slab(axis, start, stop, logits.narrow(axis + 1, start, stop - start))
            for start, stop in itertools.pairwise(ends)
        ]

    grids = {"network_grid": grid, "source_grid": grid}
    probabilities = np.empty(VALUES.shape, np.float32)
    entropy = np.empty(SHAPE, np.float32)
    restore_slabs(slabs(), Targets(probabilities=probabilities, entropy=entropy), **grids)
    with (
        probabilities_target(tmp_path / "p.nii.gz", like=LIKE, classes=3) as in_file,
        map_target(tmp_path / "e.nii.gz", like=LIKE) as map_in_file,
    ):
        restore_slabs(slabs(), Targets(probabilities=in_file, entropy=map_in_file), **grids)
    np.testing.assert_array_equal(stored(tmp_path / "p.nii.gz"), probabilities)
    np.testing.assert_array_equal(stored(tmp_path / "e.nii.gz")[0], entropy)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_run_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    with probabilities_target(path, like=LIKE, classes=3) as target:
        target[:, :, :, :] = VALUES
    for failure in (ValueError("bug"), KeyboardInterrupt()):
        with (  # noqa: PT012
            pytest.raises(type(failure)),
            probabilities_target(path, like=LIKE, classes=3) as target,
        ):
            target[blocks(2, 5)[0]] = 0
            raise failure
        np.testing.assert_array_equal(stored(path), VALUES)
        assert [found.name for found in tmp_path.iterdir()] == [path.name]
    with probabilities_target(path, like=LIKE, classes=3) as target:
        target[:, :, :, :] = 1 - VALUES
    np.testing.assert_array_equal(stored(path), 1 - VALUES)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_errors_of_others_are_not_blamed_on_the_file(tmp_path: Path, suffix: str) -> None:
    with (  # noqa: PT012
        pytest.raises(BrokenPipeError),
        probabilities_target(tmp_path / f"p{suffix}", like=LIKE, classes=3) as target,
    ):
        target[:, :, :, :] = VALUES
        raise BrokenPipeError  # of a display of the progress, for example
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_sentence(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / f"p{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with (
            pytest.raises(OutputError) as caught,
            probabilities_target(path, like=LIKE, classes=3) as target,
        ):
            target[:, :, :, :] = VALUES
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_shows_before_the_work(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / f"p{suffix}"
    like = open_volume(LIKE)
    like.grid = Grid((1024, 1024, 16), Affine(AFFINE))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"no room for 192 MiB in .*; free space") as caught:
            probabilities_target(path, like=like, classes=3).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nothing is reserved here")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_room_is_reserved_before_the_work_where_the_file_system_can(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def unable(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    path = tmp_path / f"p{suffix}"
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left"):
        probabilities_target(path, like=LIKE, classes=3).__enter__()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "posix_fallocate", unable)
    with probabilities_target(path, like=LIKE, classes=3) as target:
        target[:, :, :, :] = VALUES
    np.testing.assert_array_equal(stored(path), VALUES)


def test_wrong_places_and_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"'\.nrrd' is not known"):
        map_target(tmp_path / "p.nrrd", like=LIKE).__enter__()
    with map_target(tmp_path / "p.nii", like=LIKE) as target:
        with pytest.raises(InputError, match="a slice for each axis"):
            target[:, :] = 0
        with pytest.raises(InputError, match="without a step"):
            target[::2, :, :] = 0
    (tmp_path / "results.zarr").mkdir()
    (tmp_path / "results.zarr" / "precious.txt").write_text("x")
    with pytest.raises(OutputError, match="something else is there"):
        map_target(tmp_path / "results.zarr", like=LIKE).__enter__()
    assert (tmp_path / "results.zarr" / "precious.txt").exists()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingPackageError, match=r"volseg\[zarr\]"):
        map_target(tmp_path / "p.zarr", like=LIKE).__enter__()
    with pytest.raises(MissingPackageError, match=r"reading \.zarr"):
        open_zarr(tmp_path / "p.zarr")


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_memory_does_not_depend_on_the_length(
    tmp_path: Path, suffix: str, axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_spool, "_GROUP_BYTES", 1 << 18)
    monkeypatch.setattr(array_on_disk, "_SLAB_BYTES", 1 << 18)
    peaks = []
    for length in (100, 400):
        like = open_volume(LIKE)
        like.grid = Grid((64, 64, length), Affine(AFFINE))
        tracemalloc.start()
        with probabilities_target(tmp_path / f"p{suffix}", like=like, classes=2) as target:
            thickness = 1600 // length if axis == 0 else 16
            for start in range(0, like.grid.shape[axis], thickness):
                place = [slice(None)] * 4
                place[axis + 1] = slice(start, start + thickness)
                target[tuple(place)] = 0.5
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 3 << 20
    assert peaks[1] < 1.2 * peaks[0]
