"""Only the body is run: found on the file's values, and put back where it was."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from volseg import Segmenter
from volseg.errors import InputError
from volseg.geometry import Affine, Grid
from volseg.inference import Box, CroppedSource, Targets, TensorSource, box_on_source
from volseg.inference.cropping import box_above, targets_in_box
from volseg.segmenter import Maps


def test_the_box_of_voxels_above_a_level():
    values = np.zeros((2, 6, 7, 8), np.float32)
    assert box_above(values, 0.5, (0, 0, 0)) is None
    values[0, 2, 3, 4] = values[1, 4, 1, 6] = 1
    assert box_above(values, 0.5, (10, 0, 0)) == Box((12, 1, 4), (15, 4, 7))
    assert box_above(values, 1.0, (0, 0, 0)) is None
    grown = Box((2, 1, 4), (5, 4, 7)).grown((3, 0, 1), (6, 7, 8))
    assert grown == Box((0, 1, 3), (6, 4, 8))


def test_a_cropped_source_reads_the_box():
    values = torch.arange(5 * 6 * 7.0).reshape(1, 5, 6, 7)
    source = CroppedSource(TensorSource(values), Box((1, 2, 3), (4, 6, 5)))
    assert source.shape == (1, 3, 4, 2)
    for axis in range(3):
        found = source.read(axis, 1, 2)
        assert torch.equal(found, values[:, 1:4, 2:6, 3:5].narrow(axis + 1, 1, 1))


def test_the_box_lies_at_the_same_place_of_the_world():
    network = Grid((20, 20, 20), Affine.from_parts([2.0, 2.0, 2.0], [-5, 3, 0]))
    # Axes in another order and direction, a finer grid.
    matrix = np.array([[0, 0, 0.7, -4], [-0.9, 0, 0, 40], [0, 1.1, 0, 1], [0, 0, 0, 1]])
    source = Grid((40, 30, 50), Affine(matrix))
    box = Box((3, 4, 5), (11, 14, 17))
    part = box_on_source(box, network, source)
    lowest, highest = (of(box.grid(network).corners, axis=0) for of in (np.min, np.max))
    first, last = (of(part.grid(source).corners, axis=0) for of in (np.min, np.max))
    spacing = np.array([0.7, 0.9, 1.1])
    # All voxels between those of the box, and not one more would be.
    assert (first >= lowest - 1e-6).all()
    assert (last <= highest + 1e-6).all()
    assert (first - spacing < lowest).all()
    assert (last + spacing > highest).all()


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_outside_of_the_box_is_background_for_certain(axis, exclusive):
    shape = (5, 6, 7)
    arrays = [np.full(shape, 9, np.uint8), *(np.full((n, *shape), 9.0) for n in (3, 1, 1))]
    whole = Targets(arrays[0], arrays[1], arrays[2][0], arrays[3][0])
    part = targets_in_box(whole, Box((1, 2, 3), (4, 5, 7)), exclusive=exclusive)
    sides = part.labels.shape
    assert sides == (3, 3, 4)
    for start in range(sides[axis]):  # as they come: planes of one axis
        place = [slice(None)] * 3
        place[axis] = slice(start, start + 1)
        part.labels[tuple(place)] = 2
        part.probabilities[(slice(None), *place)] = 0.25
        part.entropy[tuple(place)] = part.disagreement[tuple(place)] = 0.5
    inside = np.zeros(shape, bool)
    inside[1:4, 2:5, 3:7] = True
    assert np.array_equal(arrays[0], 2 * inside)
    assert (arrays[1][:, inside] == 0.25).all()
    # Regions have no channel for the background.
    assert (arrays[1][0][~inside] == (1 if exclusive else 0)).all()
    assert not arrays[1][1:, ~inside].any()
    for array in arrays[2:]:
        assert (array[0][inside] == 0.5).all()
        assert not array[0][~inside].any()


def test_a_cropped_run_is_that_of_the_cropped_image(tiny_bundle, tmp_path):
    """Air around the balls: the box is found, and beyond it lies background."""
    inner = nib.load(tiny_bundle.parent / "data" / "images" / "ball0.nii.gz")
    values = np.zeros((60, 50, 40), np.float32)
    values[25:45, 12:36, 14:30] = inner.get_fdata()
    nib.save(nib.Nifti1Image(values, inner.affine), tmp_path / "image.nii.gz")
    cropped = Segmenter(tiny_bundle, body_above=40.0, clean=False)
    plain = Segmenter(tiny_bundle, clean=False)
    maps = Maps(probabilities=np.zeros((3, *values.shape), np.float32))
    tiles = {}
    found = cropped.segment(
        tmp_path / "image.nii.gz", maps=maps, progress=lambda _, n: tiles.update(cropped=n)
    ).numpy()[0]
    plain.segment(tmp_path / "image.nii.gz", progress=lambda _, n: tiles.update(plain=n))
    assert tiles["cropped"] < 0.8 * tiles["plain"]
    box = (slice(15, 55), slice(2, 46), slice(4, 40))  # ten millimetres around
    outside = np.ones(values.shape, bool)
    outside[box] = False
    assert found.any()
    assert not found[outside].any()
    assert (maps.probabilities[0][outside] == 1).all()
    assert np.allclose(maps.probabilities.sum(0), 1, atol=1e-5)


def test_an_image_without_a_body_is_refused(tiny_bundle):
    image = tiny_bundle.parent / "data" / "images" / "ball0.nii.gz"
    with pytest.raises(InputError, match=r"ball0.nii.gz has no voxel above 5000"):
        Segmenter(tiny_bundle, body_above=5000).segment(image)
