"""An array in a file behaves as one in memory."""

from __future__ import annotations

import errno
import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.errors import OutputError
from volseg.inference.spooled_array import SpooledArray


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_parts_written_and_read_in_any_order(order):
    generator = np.random.default_rng(0)
    expected = np.zeros((5, 6, 7), np.float32)
    with SpooledArray(expected.shape, np.float32, order=order) as array:
        for _ in range(30):
            bounds = [sorted(generator.integers(0, side + 1, 2)) for side in expected.shape]
            part = tuple(slice(*pair) for pair in bounds)
            values = generator.random(expected[part].shape, np.float32)
            array[part] = values
            expected[part] = values
            assert np.array_equal(array[part], expected[part])
        for axis, side in enumerate(expected.shape):
            for plane in range(side):
                part = tuple(
                    slice(plane, plane + 1) if a == axis else slice(None) for a in range(3)
                )
                assert np.array_equal(array[part], expected[part])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from(["uint8", "float64"]))
def test_any_number_of_axes_and_types(shape, dtype):
    values = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    with SpooledArray(shape, dtype) as array:
        assert not array[()].any()
        array[()] = values
        assert np.array_equal(array[()], values)
        array[()] = 3
        assert (array[()] == 3).all()


def test_a_step_is_refused_rather_than_misread():
    with SpooledArray((4,), np.uint8) as array, pytest.raises(IndexError, match="step 1"):
        array[(slice(0, 4, 2),)]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    with pytest.raises(OutputError, match="set TMPDIR"):
        SpooledArray((4,), np.uint8, folder=tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nothing is reserved here")
def test_room_is_reserved_where_the_file_system_can(monkeypatch):
    def failing(code: int):
        def reserve(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "posix_fallocate", reserve)

    failing(errno.ENOSPC)
    with pytest.raises(OutputError, match="No space left"):
        SpooledArray((4,), np.uint8)
    failing(errno.EINVAL)
    with SpooledArray((4,), np.uint8) as array:
        array[(slice(1, 2),)] = 7
        assert array[()].tolist() == [0, 7, 0, 0]
