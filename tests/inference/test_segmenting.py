"""The whole stream, from what the network reads to files on the source grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import AsDiscreted, Compose, Invertd, Orientationd, Spacingd
from torch import nn

from volseg.errors import Cancelled, ShapeError
from volseg.geometry import Affine, Grid
from volseg.inference import Decision, Targets, Tiling, gaussian_weights, segment_volume


def sharp(tiles: torch.Tensor) -> torch.Tensor:
    """Three classes by brightness."""
    smooth = nn.functional.avg_pool3d(tiles, 3, 1, 1)
    return torch.cat([-smooth, 0 * smooth + 0.4, smooth], 1) * 5


def scan() -> tuple[MetaTensor, Grid]:
    """A sagittal scan of soft spheres, 0.9 x 1.1 x 3 mm."""
    axes = np.meshgrid(*(np.arange(n) for n in (40, 36, 14)), indexing="ij")
    values = np.sin(axes[0] / 5) * np.cos(axes[1] / 6) + np.sin(axes[2] / 3)
    matrix = np.array([[0, 0, 3.0, -20], [-0.9, 0, 0, 30], [0, -1.1, 0, 10], [0, 0, 0, 1]])
    image = MetaTensor(torch.from_numpy(values[None]).float(), affine=torch.from_numpy(matrix))
    return image, Grid((40, 36, 14), Affine(matrix))


def preparation() -> Compose:
    return Compose(
        [
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=[1.3, 1.3, 1.3], mode="bilinear"),
        ]
    )


def test_labels_are_those_of_the_whole_chain_in_monai(tmp_path):
    image, source = scan()
    there = preparation()
    network_input = there({"image": image})["image"]
    network = Grid(tuple(network_input.shape[1:]), Affine(network_input.affine.numpy()))

    tile = (16, 16, 16)
    logits = sliding_window_inference(
        network_input[None].as_tensor(), tile, 1, sharp, 0.5, roi_weight_map=gaussian_weights(tile)
    )[0]
    pred = MetaTensor(logits.softmax(0)).copy_meta_from(network_input)
    back = Compose(
        [
            Invertd("pred", there, "image", nearest_interp=False),
            AsDiscreted("pred", argmax=True),
        ]
    )
    expected = back({"image": network_input, "pred": pred})["pred"][0].numpy()

    # The input as a memory map, the labels too: nothing of the size of a volume in memory.
    np.save(tmp_path / "input.npy", network_input.numpy())
    for axis in range(3):
        labels = np.lib.format.open_memmap(
            tmp_path / f"labels{axis}.npy", mode="w+", dtype=np.uint8, shape=source.shape
        )
        segment_volume(
            np.load(tmp_path / "input.npy", mmap_mode="r"),
            sharp,
            Tiling.blended(tile),
            Targets(labels=labels),
            network_grid=network,
            source_grid=source,
            axis=axis,
        )
        assert set(np.unique(labels)) == {0, 1, 2}
        # Tiles lie elsewhere where steps are not whole (MONAI moves the last one only).
        assert np.mean(labels == expected) > 0.99


def test_all_that_can_be_wanted_comes_in_one_run():
    image, source = scan()
    prepared = preparation()({"image": image})["image"]
    network = Grid(tuple(prepared.shape[1:]), Affine(prepared.affine.numpy()))
    arrays = Targets(
        labels=np.zeros(source.shape, np.uint8),
        probabilities=np.zeros((3, *source.shape), np.float16),
        entropy=np.zeros(source.shape, np.float32),
        disagreement=np.zeros(source.shape, np.float32),
    )
    calls = []
    segment_volume(
        prepared,
        [sharp, lambda tiles: 0.8 * sharp(tiles).roll(1, 2)],
        Tiling.blended((16, 16, 16)),
        arrays,
        network_grid=network,
        source_grid=source,
        mirror_axes=(0,),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1][0] == calls[-1][1] == len(calls)
    probabilities = np.asarray(arrays.probabilities, np.float32)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=2e-3)
    ordered = np.sort(probabilities, axis=0)
    sure = ordered[-1] - ordered[-2] > 2e-3
    assert np.array_equal(np.asarray(arrays.labels)[sure], probabilities.argmax(0)[sure])
    expected = -np.sum(probabilities * np.log(probabilities + 1e-9), axis=0) / np.log(3)
    np.testing.assert_allclose(arrays.entropy, expected, atol=5e-3)
    spread = np.asarray(arrays.disagreement)
    assert 0 <= spread.min() < 1e-3
    assert 0.02 < spread.max() < 1


def test_two_dimensions_and_regions():
    grid = Grid((30, 25), Affine.from_parts([1.0, 1.0]))
    source = Grid((61, 51), Affine.from_parts([0.5, 0.5], [-0.5, 0.0]))
    ramp = torch.linspace(-10, 10, 30)[None, :, None].expand(1, 30, 25)
    labels = np.zeros(source.shape, np.uint8)
    segment_volume(
        ramp,
        lambda x: torch.cat([x + 3.2, x - 4.1], 1),  # the second region lies in the first
        Tiling.blended((16, 16)),
        Targets(labels=labels),
        network_grid=grid,
        source_grid=source,
        decision=Decision((5, 9)),
    )
    across = labels[:, 20]
    assert (labels == across[:, None]).all()
    assert list(dict.fromkeys(across.tolist())) == [0, 5, 9]
    position = source.affine.apply(np.stack([np.arange(61), np.zeros(61)], -1))[:, 0]
    value = position * 20 / 29 - 10
    # Probabilities are interpolated over a voxel, so a boundary moves by less than that.
    assert abs(value[across >= 5][0] + 3.2) < 20 / 29
    assert abs(value[across == 9][0] - 4.1) < 20 / 29


def test_a_volume_elsewhere_is_refused_and_a_run_can_be_stopped():
    grid = Grid((20, 20), Affine.from_parts([1.0, 1.0]))
    targets = Targets(labels=np.zeros((20, 20), np.uint8))
    arguments = (lambda x: torch.cat([x, -x], 1), Tiling.blended((8, 8)), targets)
    with pytest.raises(ShapeError, match="network's grid"):
        segment_volume(torch.zeros(1, 20, 21), *arguments, network_grid=grid, source_grid=grid)
    with pytest.raises(Cancelled):
        segment_volume(
            torch.zeros(1, 20, 20),
            *arguments,
            network_grid=grid,
            source_grid=grid,
            cancelled=lambda: True,
        )
