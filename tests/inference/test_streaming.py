"""Streamed logits are those of the whole volume accumulated in memory, written naively here."""

from __future__ import annotations

import collections
import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from volseg.errors import Cancelled, InputError, MemoryLimitError, ShapeError
from volseg.inference import (
    Tiling,
    gaussian_weights,
    stream_footprint,
    stream_logits,
)


def network(dims: int, seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return nn.Sequential(
        convolution(1, 4, 3, padding=1), nn.ReLU(), convolution(4, classes, 3, padding=1)
    ).eval()


def collected(slabs) -> torch.Tensor:
    parts = [(slab.axis, slab.logits.clone()) for slab in slabs]
    return torch.cat([part for _, part in parts], dim=1 + parts[0][0])


@torch.no_grad()
def naive(volume, networks, tile, overlap, mirror_axes=()):
    """The textbook: sum of weighted logits over sum of weights, both as large as the volume."""
    sides = volume.shape[1:]
    padded = [max(side, size) for side, size in zip(sides, tile, strict=True)]
    before = [(p - s) // 2 for p, s in zip(padded, sides, strict=True)]
    inner = tuple(slice(b, b + s) for b, s in zip(before, sides, strict=True))
    whole = torch.zeros(volume.shape[0], *padded)
    whole[(slice(None), *inner)] = volume
    weights = gaussian_weights(tile)
    total, count = torch.zeros(3, *padded), torch.zeros(padded)
    tiling = Tiling.blended(tile, overlap=overlap)
    along = [tiling.along(axis, side) for axis, side in enumerate(padded)]
    for start in itertools.product(*([one.start for one in tiles] for tiles in along)):
        window = tuple(slice(a, a + size) for a, size in zip(start, tile, strict=True))
        means = []
        for member in networks:
            passes = []
            for n in range(len(mirror_axes) + 1):
                for axes in itertools.combinations(mirror_axes, n):
                    dims = [axis + 1 for axis in axes]
                    shown = whole[(slice(None), *window)].flip(dims)
                    passes.append(member(shown[None])[0].flip(dims))
            means.append(torch.stack(passes).mean(0))
        logits = means[0]
        if len(means) > 1:
            logits = torch.stack(means).softmax(1).mean(0).log()
        total[(slice(None), *window)] += logits * weights
        count[window] += weights
    return (total / count)[(slice(None), *inner)]


@pytest.mark.parametrize(
    ("sides", "tile"),
    [
        ((37, 24), (16, 12)),
        ((7, 40), (16, 16)),
        ((20, 13, 26), (8, 8, 12)),
        ((5, 22, 17), (8, 8, 8)),
        ((5, 6, 19), (8, 8, 8)),
        ((3, 6, 7), (8, 8, 8)),
    ],
)
@pytest.mark.parametrize("members", [1, 2])
def test_streamed_equals_accumulated_in_memory_along_every_axis(sides, tile, members):
    dims = len(sides)
    volume = torch.randn(1, *sides, generator=torch.Generator().manual_seed(1))
    networks = [network(dims, seed) for seed in range(members)]
    mirrors = (0, dims - 1) if members == 2 else ()
    expected = naive(volume, networks, tile, 0.4, mirrors)
    tiling = Tiling.blended(tile, overlap=0.4)
    for axis, batch in itertools.product(range(dims), (1, 3)):
        slabs = stream_logits(
            volume.numpy() if batch == 1 else volume,
            networks,
            tiling,
            axis=axis,
            mirror_axes=mirrors,
            tile_batch=batch,
        )
        found = collected(slabs)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert torch.equal(found.argmax(0), expected.argmax(0))


def test_agrees_with_monai_on_the_same_tiles_and_weights():
    tile = (16, 12, 8)
    model = network(3)
    volume = torch.randn(1, 40, 30, 20)  # whole steps of half a tile: no tile is moved
    with torch.no_grad():
        expected = sliding_window_inference(
            volume[None], tile, 2, model, overlap=0.5, roi_weight_map=gaussian_weights(tile)
        )[0]
    found = collected(stream_logits(volume, model, Tiling.blended(tile)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_impulse_comes_out_once_and_in_its_place(axis):
    for place in itertools.product((0, 9, 22), (0, 13), (4, 17)):
        volume = torch.zeros(1, 23, 14, 18)
        volume[(0, *place)] = 1
        found = collected(stream_logits(volume, lambda x: x, Tiling.blended([8, 8, 8]), axis=axis))
        torch.testing.assert_close(found, volume, atol=1e-6, rtol=0)


def test_slabs_come_as_soon_as_no_later_tile_touches_them():
    seen = []

    def model(tiles):
        seen.append(1)
        return tiles

    slabs = stream_logits(torch.randn(1, 40, 8, 8), model, Tiling.blended([16, 8, 8]), axis=0)
    finished = [(slab.start, slab.stop, len(seen)) for slab in slabs]
    assert finished == [(0, 8, 2), (8, 16, 3), (16, 24, 4), (24, 40, 4)]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most there ever were."""

    def __init__(self):
        super().__init__()
        self.live, self.most = 0, 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                address = storage.data_ptr()
                if address and address not in self.known:
                    self.known[address] = storage.nbytes()
                    self.live += storage.nbytes()
                    self.most = max(self.most, self.live)
                    weakref.finalize(storage, self._freed, address)
        return result

    def _freed(self, address):
        self.live -= self.known.pop(address, 0)


@pytest.mark.parametrize("axis", [0, 2])
def test_memory_is_what_the_footprint_says_whatever_the_length(axis):
    classes, tiling = 12, Tiling.blended([16, 16, 16])

    def model(tiles):
        return tiles.expand(-1, classes, -1, -1, -1).contiguous()

    most = {}
    for length in (64, 192):
        sides = [40, 40, 40]
        sides[axis] = length
        volume = np.zeros((1, *sides), np.float32)
        with LiveBytes() as memory:
            for slab in stream_logits(volume, model, tiling, axis=axis):
                del slab
        expected = stream_footprint(volume.shape, tiling, classes, axis=axis)
        assert memory.live < 10_000
        most[length] = memory.most
        assert 0.5 * expected.total < memory.most < 1.05 * expected.total
        # Far below the volume's logits.
        assert memory.most < classes * volume.nbytes * (0.5 if length == 64 else 0.2)
    assert most[192] < 1.01 * most[64]


@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_an_ensemble_holds_what_the_footprint_says(kind):
    """Tiles as large as the slab, so that what is held for the mean of probabilities counts."""
    classes, tiling = 12, Tiling.blended([24, 24, 24])

    def model(tiles):
        return tiles.expand(-1, classes, -1, -1, -1).contiguous()

    volume = np.zeros((1, 24, 24, 60), np.float32)
    most = {}
    for networks in (1, 2, 5):
        with LiveBytes() as memory:
            for slab in stream_logits(volume, [model] * networks, tiling, axis=2, kind=kind):
                del slab
        expected = stream_footprint(
            volume.shape, tiling, classes, axis=2, networks=networks, passes=networks
        )
        most[networks] = memory.most
        assert 0.5 * expected.total < memory.most < 1.05 * expected.total
    assert most[1] < most[2] < 1.01 * most[5] < 1.05 * most[2]


def test_a_cancelled_run_returns_its_memory():
    calls = []
    with LiveBytes() as memory:
        slabs = stream_logits(
            np.zeros((1, 64, 40, 40), np.float32),
            lambda tiles: calls.append(1) or tiles.repeat(1, 8, 1, 1, 1),
            Tiling.blended([16, 16, 16]),
            cancelled=lambda: len(calls) == 30,
        )
        with pytest.raises(Cancelled, match="30 of"):
            collections.deque(slabs, maxlen=0)
        assert memory.most > 1_000_000
        gc.collect()
        assert memory.live < 10_000


def test_a_run_that_is_left_returns_its_memory():
    with LiveBytes() as memory:
        for slab in stream_logits(
            np.zeros((1, 64, 40, 40), np.float32),
            lambda tiles: tiles.repeat(1, 8, 1, 1, 1),
            Tiling.blended([16, 16, 16]),
        ):
            del slab
            break
        gc.collect()
        assert memory.live < 10_000


def test_what_does_not_fit_is_refused():
    tiling, volume = Tiling.blended([8, 8]), torch.zeros(1, 16, 16)
    for options, word in (
        ({"axis": 2}, "axis must be"),
        ({"mirror_axes": [0, 0]}, "different spatial axes"),
        ({"mirror_axes": [2]}, "different spatial axes"),
        ({"tile_batch": 0}, "tile_batch"),
        ({"disagreement": True}, "two passes"),
        (
            {"kind": "voxels", "disagreement": True, "mirror_axes": [0]},
            "'classes' or 'regions'",
        ),
    ):
        with pytest.raises(InputError, match=word):
            list(stream_logits(volume, lambda x: x, tiling, **options))
    with pytest.raises(InputError, match="at least one network"):
        stream_logits(volume, [], tiling)
    with pytest.raises(ShapeError, match="3 axes"):
        stream_logits(volume[0], lambda x: x, tiling)
    with pytest.raises(ShapeError, match="same classes"):
        list(stream_logits(volume, [lambda x: x, lambda x: x.repeat(1, 2, 1, 1)], tiling))


def test_a_full_gpu_is_given_half_as_many_tiles(caplog):
    sizes = []

    def model(tiles):  # no GPU is needed to see what its allocator raises
        sizes.append(len(tiles))
        if len(tiles) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return tiles.expand(-1, 2, -1, -1) * 2

    volume, tiling = torch.rand(1, 40, 40), Tiling.blended([16, 16])
    found = collected(stream_logits(volume, model, tiling, tile_batch=16))
    assert sizes[:3] == [16, 8, 4]
    assert max(sizes[3:]) == 2
    assert torch.allclose(found, 2 * volume.expand(2, -1, -1), atol=1e-5)
    assert "16 tiles do not fit into the memory of cpu: 8 at once" in caplog.text


def test_a_gpu_too_small_for_one_tile_is_said():
    def model(tiles):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(MemoryLimitError, match="one tile of 16 x 16 voxels does not fit"):
        collected(stream_logits(torch.rand(1, 40, 40), model, Tiling.blended([16, 16])))


def test_tiles_that_do_not_fit_onto_the_gpu_are_fewer(monkeypatch):
    move, sizes = torch.Tensor.to, []

    def onto(tensor, *arguments, **options):
        if tensor.ndim == 4:
            sizes.append(len(tensor))
            if len(tensor) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return move(tensor, *arguments, **options)

    volume, tiling = torch.rand(1, 40, 40), Tiling.blended([16, 16])
    monkeypatch.setattr(torch.Tensor, "to", onto)
    found = collected(stream_logits(volume, lambda x: x, tiling, tile_batch=8, device="cpu"))
    assert sizes[:3] == [8, 4, 2]
    assert torch.allclose(found, volume, atol=1e-5)


def test_a_gpu_too_small_for_the_logits_that_are_not_finished_is_said(monkeypatch):
    zeros = torch.zeros

    def full(shape, **options):
        if isinstance(shape, tuple):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return zeros(shape, **options)

    volume, tiling = torch.rand(1, 40, 40), Tiling.blended([16, 16])
    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(MemoryLimitError, match="1 x 16 x 40, 0.00 GB.* do not fit .* of cpu"):
        collected(stream_logits(volume, lambda x: x, tiling))


def test_another_fault_of_the_network_is_not_taken_for_a_full_memory():
    def model(tiles):
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        collected(
            stream_logits(torch.rand(1, 40, 40), model, Tiling.blended([16, 16]), tile_batch=4)
        )
