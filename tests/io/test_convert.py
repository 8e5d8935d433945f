"""Images in memory: what is taken, and what is refused as unclear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.utils import SpaceKeys

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine
from volseg.io import (
    as_image,
    grid_of,
    on_source_grid,
    original_grid_of,
    read_image,
    write_image,
)

AFFINE = np.array([[0, 0, -2.0, 5], [1.5, 0, 0, 6], [0, 1, 0, 7], [0, 0, 0, 1]])
VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_every_kind_gives_the_same_image(tmp_path: Path) -> None:
    image = as_image(VALUES, AFFINE)
    write_image(image, tmp_path / "a.nrrd")
    for value in (
        as_image(VALUES[None], Affine(AFFINE)),
        as_image(torch.from_numpy(VALUES), AFFINE),
        as_image(image),
        as_image(MetaTensor(torch.from_numpy(VALUES[None]), affine=torch.from_numpy(AFFINE))),
        as_image(tmp_path / "a.nrrd"),
        as_image(str(tmp_path / "a.nrrd")),
        as_image(sitk.ReadImage(str(tmp_path / "a.nrrd"))),
    ):
        assert torch.equal(value.as_tensor(), torch.from_numpy(VALUES)[None])
        np.testing.assert_allclose(value.affine, AFFINE)
        assert set(value.meta) >= {"affine", "original_affine", "spatial_shape", "filename_or_obj"}


def test_simpleitk_images_become_ras_with_channels() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 4, 3, 2))
    image = sitk.GetImageFromArray(rows, isVector=True)
    image.SetOrigin((10, 20, 30))
    image.SetSpacing((1, 2, 3))
    taken = as_image(image)
    np.testing.assert_array_equal(taken.numpy(), rows.transpose(3, 2, 1, 0))
    np.testing.assert_array_equal(
        taken.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]
    )


def in_space(space: str, affine: np.ndarray = AFFINE) -> MetaTensor:
    """Return an image whose world MONAI calls by this name, as it was read and as it is."""
    values = np.zeros((1, 6, 7)) if len(affine) == 3 else VALUES[None]
    meta = {
        "space": space,
        "original_affine": affine,
        "spatial_shape": np.array(values.shape[1:]),
    }
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine), meta=meta)


def test_images_of_monai_in_lps_are_brought_to_ras(tmp_path: Path) -> None:
    lps = in_space(SpaceKeys.LPS)
    image = as_image(lps)
    np.testing.assert_array_equal(image.affine, Affine.from_lps(AFFINE).matrix)
    assert image.meta["space"] == "RAS"
    assert original_grid_of(image) == grid_of(image)
    write_image(lps, tmp_path / "a.nii")
    written = sitk.ReadImage(str(tmp_path / "a.nii"))
    point = written.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(point, (AFFINE @ [1, 2, 3, 1])[:3], atol=1e-5)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").numpy(), VALUES[None])
    np.testing.assert_array_equal(
        as_image(in_space(SpaceKeys.LPS, np.eye(3))).affine, np.diag([-1, -1, 1])
    )


def test_grids_in_other_worlds_are_not_taken_for_ras() -> None:
    assert grid_of(in_space("right-anterior-superior")).affine == Affine(AFFINE)
    for space in ("LPS", "left-anterior-superior"):
        for taken in (grid_of, original_grid_of, *([as_image] if space != "LPS" else [])):
            with pytest.raises(GeometryError, match=f"'{space}' .*expected 'RAS'"):
                taken(in_space(space))


def test_two_dimensions() -> None:
    image = as_image(np.zeros((3, 6, 7), np.uint8), np.eye(3))
    assert grid_of(image).shape == (6, 7)
    assert as_image(image).shape == (3, 6, 7)
    assert as_image(np.zeros((6, 7)), np.eye(3)).shape == (1, 6, 7)


@pytest.mark.parametrize(
    ("value", "affine", "error", "words"),
    [
        (VALUES, None, GeometryError, "does not say where"),
        (torch.zeros(2, 3, 4), None, GeometryError, "does not say where"),
        (VALUES[0], AFFINE, ShapeError, "these axes"),
        (np.zeros((64, 64, 40, 3)), AFFINE, ShapeError, "channels last"),
        (MetaTensor(torch.zeros(2, 3, 4)), None, ShapeError, "add the channel axis"),
        (MetaTensor(torch.zeros(1, 2, 3, 4)), AFFINE, GeometryError, "its own geometry"),
        ([1, 2], AFFINE, InputError, "cannot take list"),
        (VALUES * 1j, AFFINE, InputError, "complex"),
        (torch.from_numpy(VALUES * 1j), AFFINE, InputError, "complex"),
        (VALUES, np.full((4, 4), np.nan), GeometryError, "finite"),
        ("missing.nii", None, InputError, "no such file"),
    ],
)
def test_unclear_values_are_refused(
    value: object, affine: object, error: type[InputError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        as_image(value, affine)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_labels_go_on_exactly_the_source_grid() -> None:
    source = as_image(VALUES, AFFINE)
    nearly = MetaTensor(
        torch.ones(1, 2, 3, 4), affine=torch.from_numpy(AFFINE) + 1e-9 * torch.eye(4)
    )
    nearly.affine[3] = torch.tensor([0, 0, 0, 1.0])
    labels = on_source_grid(nearly, source)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.affine, source.affine)
    moved = as_image(np.ones((2, 3, 4)), AFFINE + np.diag([0.1, 0, 0, 0]))
    with pytest.raises(GeometryError, match="mm apart"):
        on_source_grid(moved, source)
