import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from volseg.errors import InputError, ShapeError
from volseg.postprocess import (
    CloseGaps,
    FillHoles,
    KeepLargest,
    RemoveSmallComponents,
    SmoothBoundaries,
    apply_rules,
)
from volseg.postprocess.slabs import parts_at_once

NOISE = st.one_of(
    arrays(np.uint8, st.tuples(*[st.integers(1, 12)] * 2), elements=st.integers(0, 3)),
    arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.integers(0, 3)),
)
CLASSES = st.one_of(
    st.fixed_dictionaries({}),
    st.fixed_dictionaries({"classes": st.sets(st.integers(1, 3), min_size=1).map(tuple)}),
    st.fixed_dictionaries({"region": st.sets(st.integers(1, 3), min_size=1).map(tuple)}),
)
LENGTH = st.sampled_from([0.8, 1.0, 1.5, 2.2])
LEVEL = st.integers(-1, 1)


def connectivity(labels, level):
    return {2: (4, 8), 3: (6, 18, 26)}[labels.ndim][level]


# Functions of the map, whose number of axes decides which connectivities there are.
RULES = st.one_of(
    CLASSES.map(lambda target: lambda labels: FillHoles(**target)),
    st.builds(
        lambda target, size, to, keep, level: (
            lambda labels: RemoveSmallComponents(
                **target,
                min_size_mm3=size,
                replace_with=to,
                never_empty=keep,
                connectivity=connectivity(labels, level),
            )
        ),
        CLASSES,
        st.integers(0, 9),
        st.integers(0, 3),
        st.booleans(),
        LEVEL,
    ),
    st.builds(
        lambda target, count, keep, level: (
            lambda labels: KeepLargest(
                **target, count=count, never_empty=keep, connectivity=connectivity(labels, level)
            )
        ),
        CLASSES,
        st.integers(1, 3),
        st.booleans(),
        LEVEL,
    ),
    st.builds(lambda target, r: lambda labels: CloseGaps(**target, radius_mm=r), CLASSES, LENGTH),
    st.builds(
        lambda target, sigma, keep: (
            lambda labels: SmoothBoundaries(**target, sigma_mm=sigma, never_empty=keep)
        ),
        CLASSES,
        LENGTH,
        st.booleans(),
    ),
)


@given(NOISE, st.lists(RULES, min_size=1, max_size=3), st.integers(1, 8), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_slabs_layout_and_place_give_what_the_rules_give_one_by_one(labels, rules, planes, f):
    spacing = (1.0, 0.7, 1.9)[: labels.ndim]
    rules = [rule(labels) for rule in rules]
    expected = labels
    for rule in rules:
        expected = apply_rules(expected, [rule], spacing=spacing)
    labels = np.asfortranarray(labels) if f else labels
    before = labels.copy()
    result = apply_rules(labels, rules, spacing=spacing, planes=planes)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(labels, before)
    assert result.dtype == labels.dtype
    out = np.full_like(labels, 7)
    assert apply_rules(labels, rules, spacing=spacing, out=out, planes=planes) is out
    np.testing.assert_array_equal(out, expected)
    apply_rules(labels, rules, spacing=spacing, out=labels, planes=planes)
    np.testing.assert_array_equal(labels, expected)


def anatomy(shape=(46, 52, 60), seed=0) -> np.ndarray:
    """Balls of five classes with holes, islands and rough boundaries."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    grid = np.indices(shape)
    for value in (1, 2, 3, 4, 5):
        for radius, hole in ((11, 4), (3, 0), (2, 0)):
            centre = random.uniform(0.2, 0.8, 3) * shape
            distance = np.linalg.norm(grid - centre[:, None, None, None], axis=0)
            distance += ndimage.gaussian_filter(random.normal(size=shape), 1) * 3
            labels[distance < radius] = value
            labels[distance < hole] = 0
    labels[random.random(shape) < 0.002] = 0
    return labels


ALL = [
    CloseGaps(radius_mm={1: 2.0, 3: 3.1}),
    FillHoles(region=(2, 4)),
    FillHoles(),
    RemoveSmallComponents(min_size_mm3={1: 400.0, 2: 30.0, 5: 60.0}, connectivity=18),
    KeepLargest(classes=(2, 3)),
    SmoothBoundaries(sigma_mm={1: 1.5, 2: 1.5, 4: 0.8}),
    KeepLargest(region=(1, 5), connectivity=6),
]


@pytest.mark.parametrize("planes", [1, 2, 5, 17, 45])
def test_slabs_have_no_effect_on_anatomy(planes):
    labels, spacing = anatomy(), (0.9, 0.8, 1.4)
    expected = apply_rules(labels, ALL, spacing=spacing, planes=1000)
    assert (expected != labels).mean() > 0.01
    result = apply_rules(labels, ALL, spacing=spacing, planes=planes)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_order_of_axes_in_memory_has_no_effect(axes):
    labels, spacing = anatomy(), (0.9, 0.8, 1.4)
    stored = labels.transpose(axes).copy().transpose(np.argsort(axes))
    result = apply_rules(stored, ALL, spacing=spacing, planes=6)
    np.testing.assert_array_equal(result, apply_rules(labels, ALL, spacing=spacing))
    assert result.strides == stored.strides


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_a_memory_map_is_changed_in_place(tmp_path, order, dtype):
    labels, spacing = anatomy(), (0.9, 0.8, 1.4)
    path = tmp_path / "labels.raw"
    on_disk = np.memmap(path, dtype, "w+", shape=labels.shape, order=order)
    on_disk[:] = labels
    result = apply_rules(on_disk, ALL, spacing=spacing, out=on_disk, planes=4)
    assert result is on_disk
    on_disk.flush()
    stored = np.memmap(path, dtype, "r", shape=labels.shape, order=order)
    np.testing.assert_array_equal(stored, apply_rules(labels, ALL, spacing=spacing))


class Chunked:
    """An array that is not NumPy's: only slices, and nothing but the parts that are asked for."""

    def __init__(self, values, chunks):
        self.values, self.chunks, self.largest = values, chunks, 0

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)

    def __getitem__(self, index):
        part = self.values[index].copy()
        self.largest = max(self.largest, part.size)
        return part

    def __setitem__(self, index, values):
        self.largest = max(self.largest, np.size(values))
        self.values[index] = values


@pytest.mark.parametrize("in_place", [True, False])
def test_an_array_on_disk_is_read_and_written_in_parts(in_place):
    labels, spacing = anatomy(), (0.9, 0.8, 1.4)
    source = Chunked(labels.copy(), (46, 52, 3))
    out = source if in_place else Chunked(np.zeros_like(labels), (46, 52, 3))
    assert apply_rules(source, ALL, spacing=spacing, out=out, planes=3) is out
    np.testing.assert_array_equal(out.values, apply_rules(labels, ALL, spacing=spacing))
    if not in_place:
        np.testing.assert_array_equal(source.values, labels)
    # Slabs of three planes a thread, with the margins of the closing and the smoothing.
    planes = 3 * parts_at_once(torch.get_num_threads()) + 8
    assert max(source.largest, out.largest) <= 46 * 52 * planes


@pytest.mark.parametrize(("threads", "thickest"), [(1, 2), (4, 10)])
def test_a_rule_on_neighbourhoods_takes_at_once_what_threads_would_share(threads, thickest):
    """Its slabs come one after the other, each with a margin: thin ones read all of it again."""
    labels, rule = anatomy(), CloseGaps(radius_mm=2.0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        source = Chunked(labels, (46, 52, 1))
        result = apply_rules(source, [rule], spacing=(1, 1, 1), planes=2)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(result, apply_rules(labels, [rule], spacing=(1, 1, 1)))
    margin = 2 * 2  # twice the radius ahead
    assert source.largest == 46 * 52 * (thickest + margin)


def test_no_rule_is_a_copy():
    labels = anatomy()
    result = apply_rules(labels, [])
    np.testing.assert_array_equal(result, labels)
    assert not np.shares_memory(result, labels)


def test_a_region_is_cleaned_as_one_and_its_classes_stay():
    labels = np.zeros((9, 9), np.uint8)
    labels[1:6, 1:6] = 1
    labels[3, 1:6] = 2  # one organ in three parts of two classes
    labels[7, 7], labels[8, 7] = 1, 2  # an island of both
    labels[2, 2], labels[3, 4] = 0, 0
    cleaned = apply_rules(labels, [KeepLargest(region=(1, 2)), FillHoles(region=(1, 2))])
    expected = labels.copy()
    expected[7:, 7] = 0
    expected[2, 2] = 1  # three of its faces are of class 1
    expected[3, 4] = 1  # two of each: the lowest
    np.testing.assert_array_equal(cleaned, expected)


def test_what_the_classes_of_a_region_enclose_together_is_its_hole():
    labels = np.array([[1, 1, 2], [1, 0, 2], [1, 2, 2]], np.uint8)
    np.testing.assert_array_equal(apply_rules(labels, [FillHoles()]), labels)
    assert apply_rules(labels, [FillHoles(region=(1, 2))])[1, 1] == 1
    labels[0, 1] = 2
    assert apply_rules(labels, [FillHoles(region=(1, 2))])[1, 1] == 2


def test_sizes_per_class():
    labels = np.array([[1, 1, 0, 2, 2, 0, 3, 0, 3, 3]], np.uint8)
    rule = RemoveSmallComponents(min_size_voxels={1: 3, 3: 2})
    assert apply_rules(labels, [rule]).tolist() == [[0, 0, 0, 2, 2, 0, 0, 0, 3, 3]]
    rule = KeepLargest(count={3: 2})
    np.testing.assert_array_equal(apply_rules(labels, [rule]), labels)


def test_a_filled_hole_holds_components_together_over_corners():
    # Class 1 at (2, 2) touches the ring only over the hole, which the first rule fills.
    labels = np.zeros((5, 6), np.uint8)
    labels[:5, :5] = 1
    labels[1:4, 1:4] = 2
    labels[1, 1], labels[2, 2] = 0, 1
    alone = apply_rules(labels, [KeepLargest(classes=(1,))])
    assert alone[2, 2] == 0
    filled = apply_rules(labels, [FillHoles(), KeepLargest(classes=(1,))])
    assert filled[1, 1] == filled[2, 2] == 1


@pytest.mark.parametrize(
    "rule",
    [
        RemoveSmallComponents(min_size_voxels=9, never_empty=True),
        KeepLargest(region=(1, 2), never_empty=True),
        SmoothBoundaries(sigma_mm=2.0, never_empty=True),
    ],
)
def test_never_empty_keeps_the_largest_component(rule, caplog):
    labels = np.zeros((14, 14), np.uint8)
    labels[8:13, 8:13] = 1
    labels[1, 1:4] = labels[5, 1] = 2
    with caplog.at_level(logging.WARNING, logger="volseg.postprocess"):
        result = apply_rules(labels, [rule], spacing=(1, 1), planes=3)
    assert (result[1, 1:4] == 2).all()
    assert "would have removed the whole of class 2" in caplog.text
    caplog.clear()
    risky = type(rule)(**{**vars(rule), "never_empty": False})
    with caplog.at_level(logging.WARNING, logger="volseg.postprocess"):
        assert not (apply_rules(labels, [risky], spacing=(1, 1), planes=3) == 2).any()
    assert "removed the whole of class 2" in caplog.text


def test_nothing_is_written_when_the_labels_are_unusable():
    labels = np.ones((6, 5), np.int16)
    labels[2, 2], labels[5, 4] = 0, -1
    before = labels.copy()
    for rule in (FillHoles(), CloseGaps(radius_mm=1.0)):
        with pytest.raises(InputError, match="-1"):
            apply_rules(labels, [rule], spacing=(1, 1), out=labels, planes=1)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"out": np.zeros((4, 3), np.uint8)}, ShapeError, r"\(4, 3\)"),
        ({"out": np.zeros((4, 4), np.uint16)}, InputError, "uint16"),
        ({"planes": 0}, InputError, "at least 1"),
        ({"rules": [CloseGaps(radius_mm=1.0)]}, InputError, "needs the spacing"),
        ({"rules": [CloseGaps(radius_mm=1.0)], "spacing": (1, 1, 1)}, InputError, "2 positive"),
    ],
)
def test_unusable_options_are_named(options, error, words):
    options = {"rules": [FillHoles()], **options}
    with pytest.raises(error, match=words):
        apply_rules(np.zeros((4, 4), np.uint8), **options)
