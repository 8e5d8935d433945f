"""Volumes read in parts: the values, grids and refusals of volumes read as a whole."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from PIL import Image

from volseg.errors import GeometryError, InputError, VolsegError
from volseg.io import ReadImaged, StoredVolume, as_image, grid_of, open_volume
from volseg.io.dicom.segmentations import write_dicom_seg

AFFINE = np.array([[0, 0, -2.0, 5], [1.5, 0, 0, 6], [0, 1.25, 0, 7], [0, 0, 0, 1]])


def whole(image: object) -> MetaTensor:
    return ReadImaged("image", dtype="float32")({"image": image})["image"]


def assembled(volume: StoredVolume, voxels: int) -> np.ndarray:
    """Put the blocks together; every voxel comes once, in the order of the file."""
    values = np.zeros((volume.channels, *volume.grid.shape), np.float32)
    times = np.zeros(values.shape, int)
    places = []
    for block in volume.blocks(voxels):
        assert block.values.dtype == np.float32
        assert block.values.shape == values[block.place].shape
        planes = block.stop - block.start
        assert planes == 1 or block.values.size <= voxels
        values[block.place] = block.values
        times[block.place] += 1
        places.append((block.channel.start, block.start))
    assert places == sorted(places)
    assert (times == 1).all()
    return values


def assert_like_whole(volume: StoredVolume, expected: MetaTensor) -> None:
    assert volume.grid == grid_of(expected)
    assert volume.channels == expected.shape[0]
    assert volume.source == expected.meta["filename_or_obj"]
    assert volume.meta.items() <= expected.meta.items()
    for voxels in (1, 150, 1 << 22):
        # Bits, so that NaN equals itself and -0 is not 0.
        found = assembled(volume, voxels).view(np.int32)
        np.testing.assert_array_equal(found, expected.numpy().view(np.int32))


def saved(
    path: Path,
    values: np.ndarray,
    slope: float = np.nan,
    inter: float = 0,
    order: str = "<",
    codes: int = 1,
) -> Path:
    """Write a NIfTI file of stored values and a scaling, in a byte order."""
    dtype = values.dtype if values.dtype.names else values.dtype.newbyteorder(order)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    header.set_data_shape(values.shape)
    header.set_sform(AFFINE, codes)
    header["scl_slope"], header["scl_inter"] = slope, inter
    header["vox_offset"] = 368
    content = header.binaryblock + bytes(20) + values.astype(dtype).tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    random = np.random.default_rng(len(shape))
    if np.dtype(dtype).kind == "f":
        values = random.normal(size=shape) * 1e3
        values.flat[:3] = [np.nan, np.inf, -0.0]
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    top = min(limits.max, 2**63 - 1)  # past it no reader has a type
    return random.integers(limits.min, top, shape, dtype, endpoint=True)


def test_a_dicom_seg_is_a_label_map(
    make_source: Callable[..., Any], labels: np.ndarray, tmp_path: Path
) -> None:
    _, source = make_source()
    write_dicom_seg(labels, tmp_path / "seg.dcm", source=source)
    expected = whole(tmp_path / "seg.dcm")
    with open_volume(tmp_path / "seg.dcm") as volume:
        assert volume.meta["modality"] == "SEG"
        assert volume.grid == grid_of(expected)
        np.testing.assert_array_equal(assembled(volume, 1000), expected.numpy())


@pytest.mark.data
def test_every_odd_file_gives_what_it_gives_as_a_whole(data_root: Path) -> None:
    suffixes = (".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".mha")
    files = [p for p in (data_root / "nifti_odd").rglob("*") if p.name.endswith(suffixes)]
    assert len(files) > 40
    refused = 0
    for path in files:
        expected: MetaTensor | VolsegError
        try:
            expected = whole(path)
        except VolsegError as error:
            expected = error
        if isinstance(expected, MetaTensor):
            with open_volume(path) as volume:
                assert_like_whole(volume, expected)
        else:
            refused += 1
            with pytest.raises(type(expected)) as caught, open_volume(path) as volume:
                list(volume.blocks())
            assert str(caught.value) == str(expected)
    assert 0 < refused < 15


@pytest.mark.data
def test_colours_and_pictures_are_in_memory(data_root: Path) -> None:
    for path in (
        data_root / "dicom_series" / "mr_rgb",
        next((data_root / "denoise_bsd" / "bsd68").iterdir()),
    ):
        with open_volume(path) as volume:
            assert volume.in_memory
            assert_like_whole(volume, whole(path))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("scaling", [(np.nan, 0), (1, 0), (0.37, -1024), (1, 3.5)])
@pytest.mark.parametrize(
    "dtype", [*(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")), "f4", "f8"]
)
def test_types_scalings_and_byte_orders(
    tmp_path: Path, dtype: str, scaling: tuple[float, float], order: str, suffix: str
) -> None:
    path = saved(tmp_path / f"a{suffix}", noise((5, 6, 7), dtype), *scaling, order)
    with open_volume(path) as volume:
        assert not volume.in_memory
        assert_like_whole(volume, whole(path))
    raw = nib.load(path).get_fdata()
    np.testing.assert_allclose(assembled(volume, 50)[0], raw, rtol=1e-6)


@pytest.mark.parametrize(
    "shape", [(9, 8), (30,), (9, 8, 1), (1, 1, 1), (4, 5, 6, 7), (4, 5, 6, 1, 3), (20, 9, 1, 11)]
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_other_numbers_of_axes(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", noise(shape, "int16"))
    with open_volume(path) as volume:
        assert_like_whole(volume, whole(path))


def test_colours(tmp_path: Path) -> None:
    for names in ("RGB", "RGBA"):
        colours = noise((5, 6, 7, len(names)), "uint8")
        stored = colours.view([(name, "u1") for name in names])[..., 0]
        path = saved(tmp_path / "a.nii.gz", stored)
        with open_volume(path) as volume:
            assert_like_whole(volume, whole(path))
        np.testing.assert_array_equal(assembled(volume, 99), np.moveaxis(colours, -1, 0))


def test_values_past_float32_are_infinite(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.array([[[1e300, -1e300, 1e-300]]]))
    with open_volume(path) as volume:
        assert_like_whole(volume, whole(path))
        assert next(volume.blocks()).values.ravel().tolist() == [np.inf, -np.inf, 0]


def test_other_formats_are_in_memory(tmp_path: Path) -> None:
    volume = sitk.GetImageFromArray(noise((5, 6, 7, 3), "int16"), isVector=True)
    sitk.WriteImage(volume, str(tmp_path / "a.nrrd"))
    sitk.WriteImage(volume, str(tmp_path / "a.mha"))
    Image.fromarray(noise((9, 8, 3), "uint8")).save(tmp_path / "a.png")
    for name in ("a.nrrd", "a.mha", "a.png"):
        with open_volume(tmp_path / name) as stored:
            assert stored.in_memory
            assert_like_whole(stored, whole(tmp_path / name))


@pytest.mark.parametrize(
    "turned",
    [
        lambda values: values,
        lambda values: values.to(torch.float16),
        lambda values: values.permute(0, 3, 1, 2),
        lambda values: values.flip(1).to(torch.uint8),
        lambda values: values > 50,
        lambda values: values.double().requires_grad_(),
        lambda values: values[:, :1],
    ],
)
def test_images_in_memory(turned: Callable[[torch.Tensor], torch.Tensor]) -> None:
    values = turned(torch.arange(2 * 4 * 5 * 6, dtype=torch.float32).reshape(2, 4, 5, 6))
    image = MetaTensor(values, affine=torch.from_numpy(AFFINE))
    image.meta["sform_code"] = 2
    with open_volume(image) as volume:
        assert volume.in_memory
        assert volume.meta == {"sform_code": 2}
        assert_like_whole(volume, as_image(image).to(torch.float32).detach())


def test_two_dimensional_images_in_memory() -> None:
    image = as_image(noise((3, 9, 8), "uint8"), np.eye(3))
    with open_volume(image) as volume:
        assert volume.grid.shape == (9, 8)
        assert_like_whole(volume, whole(image))


def test_each_walk_starts_anew(tmp_path: Path) -> None:
    values = noise((5, 6, 7), "int16")
    with open_volume(saved(tmp_path / "a.nii.gz", values)) as volume:
        first, second = volume.blocks(30), volume.blocks(60)
        next(first)
        assert next(second).start == 0
        assert next(first).start == 1
        np.testing.assert_array_equal(assembled(volume, 30)[0], values)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="lists open files as Linux does")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_leaving_closes_the_files(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", noise((5, 6, 7), "int16"))

    def is_open() -> bool:
        links = Path("/proc/self/fd").iterdir()
        return any(link.is_symlink() and link.readlink() == path for link in links)

    with open_volume(path) as volume:
        assert not is_open()
        walk = volume.blocks(30)
        next(walk)
        assert is_open()
    assert not is_open()
    assert list(walk) == []


def test_damage_gives_the_sentence_of_a_whole_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", noise((20, 20, 20), "int16"))
    content = path.read_bytes()
    packed = gzip.compress(content)
    for name, damaged in [
        ("cut.nii", content[:-1]),
        ("header.nii", content[:200]),
        ("cut.nii.gz", packed[: len(packed) // 2]),
        ("short.nii.gz", gzip.compress(content[:-100])),
        ("checksum.nii.gz", packed[:-8] + b"abcd" + packed[-4:]),
        ("length.nii.gz", packed[:-4] + b"abcd"),
        ("middle.nii.gz", packed[:9000] + b"xxxx" + packed[9004:]),
        ("hidden.nii", packed),
        ("empty.nii", b""),
    ]:
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError) as expected:
            whole(tmp_path / name)
        with pytest.raises(InputError) as caught, open_volume(tmp_path / name) as volume:
            list(volume.blocks(500))
        assert str(caught.value) == str(expected.value)


def test_what_cannot_be_read_is_refused_before_the_first_block(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="magnitude"):
        open_volume(saved(tmp_path / "a.nii", np.ones((2, 3, 4), np.complex64)))
    with pytest.raises(InputError, match="more than one axis beyond"):
        open_volume(saved(tmp_path / "a.nii", np.ones((2, 3, 4, 5, 6), np.int16)))
    with pytest.raises(InputError, match="no such file"):
        open_volume(tmp_path / "missing.nii")
    unplaced = saved(tmp_path / "a.nii", np.ones((2, 3, 4), np.int16), codes=0)
    with pytest.raises(GeometryError, match="codes are 0 and 0"):
        open_volume(unplaced)
    with open_volume(unplaced, orientation="LPS") as volume:
        assert volume.grid.affine.orientation == ("L", "P", "S")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_memory_does_not_depend_on_the_length(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for length in (40, 160):
        values = np.random.default_rng(0).integers(0, 9, (64, 64, length), np.int16)
        path = saved(tmp_path / f"a{suffix}", values, slope=0.5)
        del values
        tracemalloc.start()
        with open_volume(path) as volume:
            total = sum(float(block.values.sum()) for block in volume.blocks(1 << 14))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert total > 0
    # Stored, scaled and float32 values of a block, and the one before it.
    assert max(peaks) < 8 * 4 * (1 << 14) + (1 << 20)
    assert peaks[1] < 1.1 * peaks[0]
