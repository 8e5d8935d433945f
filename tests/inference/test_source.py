"""Tiles are cut from sources that never give a plane twice, and mirrored as numpy pads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.inference import ArraySource
from volseg.inference.source import TileReader, as_source, mirrored_indices


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40))
def test_mirroring_is_that_of_numpy(side, before, after):
    expected = np.pad(np.arange(side), (before, after), mode="reflect")
    found = mirrored_indices(np.arange(-before, side + after), side)
    assert np.array_equal(found, expected)


class Counted(ArraySource):
    """An array that notes which planes are read."""

    def __init__(self, values):
        super().__init__(values)
        self.planes: list[int] = []

    def read(self, axis, start, stop):
        self.planes.extend(range(start, stop))
        return super().read(axis, start, stop)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), axis=st.integers(0, 2), mirrored=st.booleans())
def test_tiles_are_those_of_the_padded_volume(data, axis, mirrored):
    sides = [data.draw(st.integers(1, 12)) for _ in range(3)]
    tile = [data.draw(st.integers(1, 9)) for _ in range(3)]
    reach = [data.draw(st.integers(0, size - 1)) for size in tile]
    step = data.draw(st.integers(1, 5))
    volume = np.random.default_rng(0).normal(size=(2, *sides)).astype(np.float32)
    widths = [(0, 0), *((r, r + size) for r, size in zip(reach, tile, strict=True))]
    padded = np.pad(volume, widths, mode="reflect" if mirrored else "constant")
    readers = [
        TileReader(source, axis, tile, [mirrored] * 3)
        for source in (ArraySource(volume), as_source(torch.from_numpy(volume)))
    ]
    for place in range(-reach[axis], sides[axis], step):
        starts = [-r for r in reach]
        starts[axis] = place
        window = tuple(
            slice(start + r, start + r + size)
            for start, r, size in zip(starts, reach, tile, strict=True)
        )
        for reader in readers:
            assert np.array_equal(reader.read(starts).numpy(), padded[(slice(None), *window)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_plane_is_read_once_and_in_order(axis):
    source = Counted(np.arange(2 * 20**3, dtype=np.int16).reshape(2, 20, 20, 20))
    reader = TileReader(source, axis, (8, 8, 8), (False, False, False))
    for along in (0, 4, 8, 12):
        for across in (0, 6, 12):
            starts = [across] * 3
            starts[axis] = along
            found = reader.read(starts)
            window = tuple(slice(start, start + 8) for start in starts)
            assert np.array_equal(found.numpy(), source.values[(slice(None), *window)])
            assert found.dtype == torch.float32
    assert source.planes == list(range(20))


def test_a_memory_map_is_a_source(tmp_path):
    values = np.arange(1 * 6 * 7 * 8, dtype=np.int16).reshape(1, 6, 7, 8)
    np.save(tmp_path / "volume.npy", values)
    source = as_source(np.load(tmp_path / "volume.npy", mmap_mode="r"))
    assert source.shape == (1, 6, 7, 8)
    assert np.array_equal(source.read(2, 3, 5).numpy(), values[..., 3:5])
