"""Written files: exact round trips, agreement with SimpleITK, and refusals."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nibabel.eulerangles import euler2mat

from volseg.errors import GeometryError, InputError, OutputError, ShapeError, VolsegError
from volseg.geometry import Affine, direction_of
from volseg.io import as_image, grid_of, read_image, write_image, write_segmentation

ALL_CODES = [
    "".join(letters)
    for order in itertools.permutations(["RL", "AP", "SI"])
    for letters in itertools.product(*order)
]
SHAPE = (3, 4, 5)
LABELS = np.arange(60, dtype=np.uint8).reshape(SHAPE)
OBLIQUE = euler2mat(0.4, -0.3, 0.7)


def affine_of_codes(codes: str, turn: np.ndarray | None = None) -> Affine:
    direction = direction_of(codes) if turn is None else turn @ direction_of(codes)
    placed = Affine.from_parts((0.7, 1.3, 2.5), (-91.5, 126.25, -72.125), direction)
    # What a NIfTI file can hold, so that exactness can be asked for.
    return Affine(placed.matrix.astype(np.float32))


@pytest.mark.parametrize("turn", [None, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ALL_CODES)
def test_all_orientations_round_trip_bit_for_bit(
    tmp_path: Path, codes: str, turn: np.ndarray | None
) -> None:
    affine = affine_of_codes(codes, turn)
    like = as_image(np.zeros(SHAPE, np.float32), affine)
    path = tmp_path / "a.nii"
    write_segmentation(LABELS, path, like=like)
    again = read_image(path)
    np.testing.assert_array_equal(again[0].numpy(), LABELS)
    np.testing.assert_array_equal(again.affine.numpy(), affine.matrix)
    assert again.dtype == torch.uint8
    header = nib.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), affine.matrix, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_link_to_a_file_without_suffix_says_the_format(tmp_path: Path, suffix: str) -> None:
    """As version control for data keeps large files: the content lies in a store, by its hash."""
    link = tmp_path / f"seg{suffix}"
    link.symlink_to(tmp_path / "4f0c")
    write_segmentation(LABELS, link, like=as_image(np.zeros(SHAPE, np.float32), np.eye(4)))
    assert link.is_symlink()
    np.testing.assert_array_equal(read_image(link)[0].numpy(), LABELS)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("turn", [None, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "IRP", "SAL"])
def test_simpleitk_finds_every_voxel_at_the_same_place(
    tmp_path: Path, codes: str, turn: np.ndarray | None, suffix: str
) -> None:
    affine = affine_of_codes(codes, turn)
    path = tmp_path / f"a{suffix}"
    write_segmentation(LABELS, path, like=as_image(np.zeros(SHAPE), affine))
    reference = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(reference).T, LABELS)
    for index in itertools.product(*((0, n - 1) for n in SHAPE)):
        x, y, z = reference.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((-x, -y, z), affine.apply(index), atol=2e-4)
    again = read_image(path)
    np.testing.assert_allclose(again.affine, affine.matrix, atol=1e-6)
    np.testing.assert_array_equal(again[0].numpy(), LABELS)


def test_a_sheared_affine_keeps_only_the_sform(tmp_path: Path) -> None:
    matrix = affine_of_codes("LAS").matrix.copy()
    matrix[1, 2] = 0.5
    like = as_image(np.zeros(SHAPE), matrix)
    write_segmentation(LABELS, tmp_path / "a.nii", like=like)
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").affine, matrix)


@pytest.mark.parametrize(
    ("codes", "written"),
    [
        ((2, 3), (2, 3)),
        ((0, 2), (2, 2)),
        ((4, 0), (4, 4)),
        ((1, 1), (1, 1)),
        ((7, 2), (2, 2)),  # not in the standard, as the next ones
        ((-1, 3), (3, 3)),
        ((9, 0), (1, 1)),
    ],
)
def test_codes_of_the_source_are_kept(
    tmp_path: Path, codes: tuple[int, int], written: tuple[int, int]
) -> None:
    source = nib.Nifti1Image(np.zeros(SHAPE, np.float32), None)
    matrix = affine_of_codes("LPS").matrix
    source.header.set_sform(matrix)
    source.header.set_qform(matrix)
    source.header["sform_code"], source.header["qform_code"] = codes
    source.to_filename(tmp_path / "source.nii")
    write_segmentation(LABELS, tmp_path / "a.nii", like=tmp_path / "source.nii")
    header = nib.load(tmp_path / "a.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == written


@pytest.mark.data
def test_written_on_exactly_the_grid_of_real_images(data_root: Path, tmp_path: Path) -> None:
    odd = data_root / "nifti_odd"
    names = ["fmri_oblique.nii.gz", "uint8_5d_sform_oblique.nii", "nifti2_4d_oblique.nii.gz"]
    for path in [*(odd / name for name in names), *sorted((odd / "orientations").iterdir())]:
        like = read_image(path)
        labels = np.zeros(like.shape[1:], np.uint8)
        write_segmentation(labels, tmp_path / "a.nii.gz", like=like)
        again = read_image(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(again.affine.numpy(), like.affine.numpy().astype(np.float32))


@pytest.mark.parametrize(
    ("labels", "stored"),
    [
        (LABELS, np.uint8),
        (LABELS.astype(bool), np.uint8),
        (LABELS.astype(np.int64) * 10, np.uint16),
        (LABELS.astype(np.float32), np.uint8),
        (torch.from_numpy(LABELS)[None], np.uint8),
        (np.asfortranarray(LABELS)[::-1, :, ::-1], np.uint8),
    ],
)
def test_types_of_labels(tmp_path: Path, labels: object, stored: type) -> None:
    like = as_image(np.zeros(SHAPE), affine_of_codes("RAS"))
    write_segmentation(labels, tmp_path / "a.nii.gz", like=like)
    again = nib.load(tmp_path / "a.nii.gz")
    assert again.get_data_dtype() == stored
    np.testing.assert_array_equal(again.get_fdata(), np.asarray(labels).reshape(SHAPE))


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (LABELS - 0.5, InputError),
        (LABELS.astype(np.int16) - 1, InputError),
        (LABELS.astype(np.int32) * 2000, InputError),
        (np.full(SHAPE, np.nan), InputError),
        (np.full(SHAPE, 1j), InputError),
        (LABELS.transpose(), ShapeError),
        (np.stack([LABELS, LABELS]), ShapeError),
        (as_image(LABELS, np.diag([2.0, 1, 1, 1])), GeometryError),
        (as_image(LABELS.transpose(), np.eye(4)), ShapeError),
    ],
)
def test_what_is_no_label_map_is_refused(
    tmp_path: Path, labels: object, error: type[VolsegError]
) -> None:
    with pytest.raises(error) as caught:
        write_segmentation(labels, tmp_path / "a.nii", like=as_image(np.zeros(SHAPE), np.eye(4)))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.int32, torch.float32, torch.float64, torch.float16]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_round_trip(tmp_path: Path, suffix: str, dtype: torch.dtype, channels: int) -> None:
    values = (torch.arange(60 * channels) % 251).reshape(channels, *SHAPE).to(dtype)
    image = as_image(values, affine_of_codes("PSR", OBLIQUE))
    write_image(image, tmp_path / f"a{suffix}")
    again = read_image(tmp_path / f"a{suffix}")
    assert torch.equal(again.as_tensor(), values.to(again.dtype))
    assert again.dtype == (torch.float32 if dtype == torch.float16 else dtype)
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_round_trip(tmp_path: Path, suffix: str) -> None:
    like = as_image(np.zeros((7, 5), np.float32), np.eye(3))
    for top in (200, 300):
        labels = (np.arange(35) % top).reshape(7, 5) + top - 35
        write_segmentation(labels, tmp_path / f"a{suffix}", like=like)
        again = read_image(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(again[0].numpy(), labels)
    with pytest.raises(InputError, match="no place in the world"):
        write_segmentation(labels, tmp_path / "a.nii", like=like)
    volume = as_image(np.zeros(SHAPE, np.uint8), np.eye(4))
    with pytest.raises(InputError, match="one 2D image"):
        write_segmentation(LABELS, tmp_path / f"b{suffix}", like=volume)
    fractions = as_image(np.full((7, 5), 0.5), np.eye(3))
    with pytest.raises(InputError, match="whole numbers"):
        write_image(fractions, tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("channels", [1, 3])
def test_two_dimensional_images_in_volume_formats(tmp_path: Path, channels: int) -> None:
    values = np.arange(35 * channels, dtype=np.float32).reshape(channels, 7, 5)
    image = as_image(values, np.diag([0.5, 2, 1]))
    for suffix in (".nrrd", ".mha"):
        write_image(image, tmp_path / f"a{suffix}")
        sitk_image = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
        assert sitk_image.GetSpacing() == (0.5, 2.0)
        again = read_image(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(again.numpy(), values)
        np.testing.assert_array_equal(again.affine, image.affine)


def test_two_writes_give_the_same_bytes(tmp_path: Path) -> None:
    like = as_image(np.zeros(SHAPE), affine_of_codes("LPI"))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_segmentation(LABELS, tmp_path / name, like=like)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_unknown_suffixes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.jpg' is not known"):
        write_image(as_image(LABELS, np.eye(4)), tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = as_image(np.zeros(SHAPE), np.eye(4))
    target = tmp_path / f"a{suffix}"
    write_segmentation(LABELS, target, like=like)
    old = target.read_bytes()

    def fail_half_way(*arguments: object, **options: object) -> None:
        stream = arguments[1]
        if isinstance(stream, str):
            Path(stream).write_bytes(b"half")
        else:
            stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Header, "write_to", fail_half_way)
    monkeypatch.setattr(sitk, "WriteImage", fail_half_way)
    with pytest.raises(OutputError, match="No space left") as caught:
        write_segmentation(LABELS + 1, target, like=like)
    assert str(target) in str(caught.value)
    assert target.read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".tif"])
def test_a_really_full_disk_is_noticed(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 8)).astype(np.uint8)
    like = as_image(noise, np.eye(4))
    if suffix == ".tif":
        like = as_image(noise.reshape(64, 512), np.eye(3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            write_image(like, tmp_path / f"a{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_path_through_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_image(as_image(LABELS, np.eye(4)), tmp_path / "file" / "a.nii")


def test_grid_of_a_written_file(tmp_path: Path) -> None:
    affine = affine_of_codes("ASR")
    write_image(as_image(LABELS, affine), tmp_path / "new" / "a.nii.gz")
    assert grid_of(read_image(tmp_path / "new" / "a.nii.gz")).affine == affine
