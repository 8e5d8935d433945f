"""Back to the source grid: what scipy interpolates and numpy decides, without their arrays."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, Spacingd
from scipy.ndimage import map_coordinates

from volseg.errors import GeometryError, InputError, ShapeError
from volseg.geometry import Affine, Grid, index_mapping
from volseg.inference import Decision, Slab, Targets, restore_slabs, restoring_bytes


def slabs_of(logits: torch.Tensor, axis: int, depth: int, disagreement=None):
    side = logits.shape[1 + axis]
    for start in range(0, side, depth):
        count = min(depth, side - start)
        spread = None if disagreement is None else disagreement.narrow(axis, start, count)
        part = logits.narrow(1 + axis, start, count)
        yield Slab(axis, start, start + count, part, spread)


def smooth(classes: int, sides, seed: int = 0) -> torch.Tensor:
    """Logits with regions as they are in images: wide, with several classes meeting."""
    generator = torch.Generator().manual_seed(seed)
    mode = {2: "bilinear", 3: "trilinear"}[len(sides)]
    coarse = torch.randn(1, classes, *[4] * len(sides), generator=generator) * 4
    return torch.nn.functional.interpolate(coarse, tuple(sides), mode=mode)[0]


def interpolated(values: np.ndarray, network: Grid, source: Grid) -> np.ndarray:
    """Every channel at every source voxel, in float64, by scipy."""
    indices = np.indices(source.shape).reshape(len(source.shape), -1)
    places = index_mapping(network, source).apply(indices.T).T
    channels = [
        map_coordinates(channel.astype(np.float64), places, order=1, mode="nearest")
        for channel in values
    ]
    return np.stack(channels).reshape(len(values), *source.shape)


def related(network: Grid, sides, order, flips, zoom, shift) -> Grid:
    """A grid whose axes are those of another, in another order, direction and spacing."""
    dims = len(sides)
    matrix = np.zeros((dims + 1, dims + 1))
    matrix[dims, dims] = 1
    for axis in range(dims):
        step = -zoom[axis] if flips[axis] else zoom[axis]
        matrix[order[axis], axis] = step
        matrix[order[axis], dims] = shift[axis] + (step * (1 - sides[axis]) if flips[axis] else 0)
    return Grid(tuple(sides), network.affine @ Affine(matrix))


@settings(deadline=None, max_examples=30)
@given(data=st.data(), dims=st.integers(2, 3), classes=st.integers(2, 9), regions=st.booleans())
def test_labels_and_probabilities_are_those_of_scipy(data, dims, classes, regions):
    def numbers(low, high):
        return [data.draw(st.floats(low, high)) for _ in range(dims)]

    sides = [data.draw(st.integers(1, 14)) for _ in range(dims)]
    spacing = numbers(0.5, 3)
    network = Grid(tuple(sides), Affine.from_parts(spacing, numbers(-50, 50)))
    source = related(
        network,
        [data.draw(st.integers(1, 20)) for _ in range(dims)],
        data.draw(st.permutations(range(dims))),
        [data.draw(st.booleans()) for _ in range(dims)],
        numbers(0.3, 2.5),
        numbers(-2, 4),
    )
    axis, depth = data.draw(st.integers(0, dims - 1)), data.draw(st.integers(1, 14))
    logits = smooth(classes, sides)
    probabilities = (logits.sigmoid() if regions else logits.softmax(0)).numpy()
    expected = interpolated(probabilities, network, source)

    labels = np.full(source.shape, 255, np.uint8)
    found = np.full((classes, *source.shape), np.nan, np.float32)
    names = list(range(10, 10 + classes))
    restore_slabs(
        slabs_of(logits, axis, depth),
        Targets(labels=labels, probabilities=found),
        network_grid=network,
        source_grid=source,
        decision=Decision(tuple(names) if regions else None),
        threads=2,
    )
    # Positions within a hundredth of a voxel of a plane are taken to lie on it.
    np.testing.assert_allclose(found, expected, atol=0.05)
    if regions:
        decided = np.zeros(source.shape, int)
        for name, there in zip(names, found > 0.5, strict=True):
            decided[there] = name
        clear = (np.abs(found - 0.5) > 1e-5).all(0)
    else:
        decided = found.argmax(0)
        ordered = np.sort(found, axis=0)
        clear = ordered[-1] - ordered[-2] > 1e-5
    assert np.array_equal(labels[clear], decided[clear])


@pytest.mark.parametrize("spacing", [1.0, 0.6])
@pytest.mark.parametrize("regions", [None, (4, 9)])
def test_a_threshold_decides_on_the_probabilities_that_are_given(regions, spacing):
    """Where voxels are copied, by the logits; between them, by interpolated probabilities."""
    network = Grid((9, 11, 10), Affine.from_parts([1.0] * 3))
    source = Grid((9, 11, 10), Affine.from_parts([spacing] * 3))
    logits = smooth(2, network.shape)
    for threshold in (0.2, 0.5, 0.77):
        labels = np.zeros(source.shape, np.uint8)
        found = np.zeros((2, *source.shape), np.float32)
        restore_slabs(
            slabs_of(logits, 0, 4),
            Targets(labels=labels, probabilities=found),
            network_grid=network,
            source_grid=source,
            decision=Decision(regions, threshold),
        )
        if regions is None:
            expected = (found[1] > threshold).astype(np.uint8)
        else:
            expected = np.select([found[1] > threshold, found[0] > threshold], [9, 4])
        clear = (np.abs(found - threshold) > 1e-5).all(0)
        assert clear.mean() > 0.9
        assert np.array_equal(labels[clear], expected[clear])
        assert len(np.unique(labels)) == len(regions or (0,)) + 1


@pytest.mark.parametrize("regions", [None, (1, 2, 3)])
def test_a_temperature_divides_the_logits_and_moves_no_label(regions):
    grid = Grid((9, 11, 10), Affine.from_parts([1.0] * 3))
    between = Grid((14, 17, 15), Affine.from_parts([0.6] * 3))
    logits = torch.randn(3, *grid.shape) * 4
    for source in (grid, between):
        results = []
        for temperature in (1.0, 2.5, 0.3):
            labels = np.zeros(source.shape, np.uint8)
            found = np.zeros((3, *source.shape), np.float32)
            restore_slabs(
                slabs_of(logits, 1, 3),
                Targets(labels=labels, probabilities=found),
                network_grid=grid,
                source_grid=source,
                decision=Decision(regions, temperature=temperature),
            )
            results.append((labels, found))
            if source is grid:
                divided = logits.double() / temperature
                expected = divided.softmax(0) if regions is None else divided.sigmoid()
                # Of a region, no is one minus a float32.
                rounding = 2e-6 if regions is None else 2e-3
                np.testing.assert_allclose(found, expected.numpy(), atol=rounding)
        (labels, plain), *tempered = results
        for other, said in tempered:
            assert np.array_equal(other, labels)
            assert not np.allclose(said, plain, atol=0.05)
            if regions is None:
                assert np.array_equal(said.argmax(0), plain.argmax(0))
                np.testing.assert_allclose(said.sum(0), 1, atol=1e-5)


def test_decisions_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="between 0 and 1"):
        Decision(threshold=1.0)
    with pytest.raises(InputError, match="positive number"):
        Decision(temperature=0)
    with pytest.raises(InputError, match="3 classes compete"):
        Decision(threshold=0.4).require_channels(3)
    assert Decision((300, 7)).highest_label(2) == 300


@pytest.mark.parametrize("noisy", [False, True])
def test_interpolation_is_exact_to_rounding(noisy):
    network = Grid((9, 11, 10), Affine.from_parts([1.5, 2.0, 3.0], [3, 4, 5]))
    source = Grid((20, 31, 33), Affine.from_parts([0.71, 0.83, 0.97], [2.5, 3.9, 4.4]))
    logits = torch.randn(5, 9, 11, 10) * 4 if noisy else smooth(5, (9, 11, 10))
    expected = interpolated(logits.double().softmax(0).numpy(), network, source)
    for axis in range(3):
        labels = np.zeros(source.shape, np.uint16)
        found = np.zeros((5, *source.shape), np.float32)
        targets = Targets(labels=labels, probabilities=found)
        restore_slabs(slabs_of(logits, axis, 4), targets, network_grid=network, source_grid=source)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        ordered = np.sort(expected, axis=0)
        clear = ordered[-1] - ordered[-2] > 1e-5
        assert clear.mean() > 0.99
        assert np.array_equal(labels[clear], expected.argmax(0)[clear])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_grid_that_is_only_turned_gets_the_labels_of_the_logits(order):
    network = Grid((5, 6, 7), Affine.from_parts([1.0, 2.0, 3.0]))
    logits = torch.randn(4, 5, 6, 7)
    # Probabilities of 1 for two classes at once in float32, where logits still tell them apart.
    logits[:, 2, 3, 4] = torch.tensor([0.0, 200.0, 200.0001, 0.0])
    for flips in itertools.product((False, True), repeat=3):
        sides = [network.shape[axis] for axis in order]
        source = related(network, sides, order, flips, [1] * 3, [0] * 3)
        expected = logits.argmax(0).permute(order)
        expected = expected.flip([axis for axis in range(3) if flips[axis]]).numpy()
        for axis in range(3):
            labels = np.full(sides, 9, np.uint8)
            targets = Targets(labels=labels)
            restore_slabs(
                slabs_of(logits, axis, 2), targets, network_grid=network, source_grid=source
            )
            assert np.array_equal(labels, expected)


def test_undoes_what_monai_did_to_the_grid():
    affine = Affine.from_parts([0.8, 0.9, 2.5], [-30, 40, 10]).matrix.copy()
    turn = np.deg2rad(20)
    oblique = np.eye(4)
    oblique[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    # A sagittal scan: array axes run to P, I and R, turned by 20 degrees.
    world = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    affine = oblique @ world @ affine
    image = MetaTensor(torch.randn(1, 24, 20, 9), affine=torch.from_numpy(affine))
    preparation = Compose(
        [
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=[1.5, 1.5, 1.5], mode="bilinear"),
        ]
    )
    prepared = preparation({"image": image})["image"]
    network = Grid(tuple(prepared.shape[1:]), Affine(prepared.affine.numpy()))
    source = Grid((24, 20, 9), Affine(affine))
    logits = smooth(3, network.shape)
    labels = np.zeros(source.shape, np.uint8)
    restore_slabs(
        slabs_of(logits, 2, 5), Targets(labels=labels), network_grid=network, source_grid=source
    )
    expected = interpolated(logits.softmax(0).numpy(), network, source).argmax(0)
    assert np.mean(labels == expected) > 0.9999


@pytest.mark.parametrize("regions", [None, [2, 1, 3]])
def test_the_result_depends_neither_on_slabs_nor_threads_nor_blocks(regions):
    network = Grid((19, 13, 17), Affine.from_parts([1.5] * 3))
    source = Grid((33, 25, 29), Affine.from_parts([0.83, 0.79, 0.9], [0.1, -0.4, 0.3]))
    logits, spread = smooth(3, network.shape), torch.rand(network.shape)
    results = []
    for axis in range(3):
        for depth, threads, block in ((19, 1, 1 << 26), (1, 1, 1), (5, 4, 1), (7, 3, 40_000)):
            arrays = [np.zeros(source.shape, np.uint8)]
            arrays += [np.zeros((3, *source.shape), np.float32)]
            arrays += [np.zeros(source.shape, np.float32) for _ in range(2)]
            restore_slabs(
                slabs_of(logits, axis, depth, spread),
                Targets(*arrays),
                network_grid=network,
                source_grid=source,
                decision=Decision(None if regions is None else tuple(regions)),
                threads=threads,
                block_bytes=block,
            )
            results.append(arrays)
    first, *others = results
    assert all(np.array_equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("sides", "fine"), [((24, 20, 30), (47, 39, 59)), ((90, 80), (179, 159))])
def test_noise_gets_the_same_labels_along_every_axis(sides, fine):
    """Half-way between voxels of few values, at many of which classes tie but for rounding."""
    network = Grid(sides, Affine.from_parts([1.5] * len(sides)))
    source = Grid(fine, Affine.from_parts([0.75] * len(sides)))
    logits = torch.randint(0, 3, (3, *sides), generator=torch.Generator().manual_seed(0)).float()
    results = []
    for axis in range(len(sides)):
        labels = np.zeros(source.shape, np.uint8)
        targets = Targets(labels=labels)
        restore_slabs(slabs_of(logits, axis, 7), targets, network_grid=network, source_grid=source)
        results.append(labels)
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_memory_is_that_of_some_planes():
    classes, network = 20, Grid((60, 40, 40), Affine.from_parts([1.5] * 3))
    source = Grid((120, 80, 80), Affine.from_parts([0.75] * 3))
    logits = smooth(classes, network.shape)
    labels = np.zeros(source.shape, np.uint8)

    def run():
        restore_slabs(
            slabs_of(logits, 0, 20),
            Targets(labels=labels),
            network_grid=network,
            source_grid=source,
            threads=2,
            block_bytes=1 << 20,
        )

    run()  # compiled
    tracemalloc.start()
    run()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = restoring_bytes(
        network.shape,
        source.shape,
        classes,
        axis=0,
        source_axis=0,
        interpolated=False,
        block_bytes=1 << 20,
    )
    assert most < expected
    assert most < 0.05 * classes * labels.size * 4


def test_labels_beyond_255_need_the_wider_type():
    grid = Grid((4, 4), Affine.from_parts([1.0, 1.0]))
    logits = torch.zeros(300, 4, 4)
    logits[299] = 1
    labels = np.zeros((4, 4), np.uint16)
    restore_slabs([Slab(0, 0, 4, logits)], Targets(labels), network_grid=grid, source_grid=grid)
    assert (labels == 299).all()
    with pytest.raises(InputError, match="uint16"):
        restore_slabs(
            [Slab(0, 0, 4, logits)],
            Targets(np.zeros((4, 4), np.uint8)),
            network_grid=grid,
            source_grid=grid,
        )


def test_a_view_of_the_target_leaves_the_rest_alone():
    network = Grid((6, 6), Affine.from_parts([1.0, 1.0], [2.0, 3.0]))
    labels = np.full((12, 12), 77, np.uint8)
    part = Grid((6, 6), Affine.from_parts([1.0, 1.0], [2.0, 3.0]))
    logits = torch.randn(3, 6, 6)
    restore_slabs(
        [Slab(1, 0, 6, logits)], Targets(labels[2:8, 3:9]), network_grid=network, source_grid=part
    )
    assert np.array_equal(labels[2:8, 3:9], logits.argmax(0))
    assert np.count_nonzero(labels == 77) == 12 * 12 - 36


def test_what_does_not_fit_is_refused():
    grid = Grid((6, 6, 6), Affine.from_parts([1.0] * 3))
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    slab, labels = Slab(0, 0, 6, torch.zeros(2, 6, 6, 6)), np.zeros((6, 6, 6), np.uint8)

    def run(slabs=(slab,), targets=None, source=grid, **options):
        targets = targets or Targets(labels)
        restore_slabs(slabs, targets, network_grid=grid, source_grid=source, **options)

    with pytest.raises(GeometryError, match=r"parallel axes.*6 x 6 x 6 voxels of 1 x 1 x 1.*and"):
        run(source=Grid((6, 6, 6), Affine(turn)))
    with pytest.raises(GeometryError, match="onto 2"):
        run(targets=Targets(labels[0]), source=Grid((6, 6), Affine.from_parts([1.0] * 2)))
    with pytest.raises(ShapeError, match="target of the labels"):
        run(targets=Targets(labels[1:]))
    with pytest.raises(InputError, match="uint8 or uint16"):
        run(targets=Targets(labels.astype(np.int64)))
    with pytest.raises(InputError, match="floating"):
        run(targets=Targets(entropy=labels))
    with pytest.raises(InputError, match="disagreement"):
        run(targets=Targets(disagreement=labels.astype(np.float32)))
    with pytest.raises(ShapeError, match="end before their grid"):
        run(slabs=[Slab(0, 0, 3, torch.zeros(2, 3, 6, 6))])
    with pytest.raises(ShapeError, match="does not continue"):
        run(slabs=[Slab(0, 1, 6, torch.zeros(2, 5, 6, 6))])
    with pytest.raises(InputError, match="2 channels"):
        run(decision=Decision((1,)))
    with pytest.raises(InputError, match="no choice"):
        run(slabs=[Slab(0, 0, 6, torch.zeros(1, 6, 6, 6))])
