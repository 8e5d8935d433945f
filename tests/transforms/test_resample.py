import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import map_coordinates

from volseg.errors import UnknownNameError
from volseg.transforms import Volume, resample
from volseg.transforms.displacement import node_weights
from volseg.transforms.mapping import Inverse, Pull
from volseg.transforms.sampling import Source

RANDOM = np.random.default_rng(7)
SHAPES = [(23, 17), (14, 11, 9)]


def mapping(shape, size=None, strength=1.0):
    axes = len(shape)
    size = size or tuple(n - 2 for n in shape)
    rng = np.random.default_rng(axes)
    matrix = np.eye(axes + 1)
    matrix[:-1, :-1] += rng.uniform(-0.2, 0.2, (axes, axes))
    matrix[:-1, -1] = (np.array(shape) - 1) / 2 - matrix[:-1, :-1] @ ((np.array(size) - 1) / 2)
    return Pull(matrix, size, strength * rng.normal(0, 0.5, (axes, *[4] * axes)))


def positions(pull):
    """The source indices, written out: spline displacement, then the matrix."""
    field = pull.nodes
    for axis, n in enumerate(pull.size, start=1):
        weights = node_weights(n, field.shape[axis])
        field = np.moveaxis(np.tensordot(weights, field, (1, axis)), 0, axis)
    moved = np.indices(pull.size) + field
    linear = np.tensordot(pull.matrix[:-1, :-1], moved, 1)
    return linear + pull.matrix[:-1, -1].reshape(-1, *[1] * len(pull.size))


def inside(at, shape, margin=0.0):
    last = np.array(shape).reshape(-1, *[1] * len(shape)) - 1
    return ((at >= margin) & (at <= last - margin)).all(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("padding", "scipy_mode"),
    [("zeros", "grid-constant"), ("border", "nearest"), ("reflection", "mirror")],
)
def test_linear_is_that_of_scipy(shape, padding, scipy_mode):
    values = RANDOM.normal(size=(2, *shape)).astype(np.float32)
    pull = mapping(shape, tuple(n + 3 for n in shape))
    [found] = resample([Volume(torch.from_numpy(values), "linear", padding)], pull)
    assert not inside(positions(pull), shape).all()
    for channel in range(2):
        expected = map_coordinates(values[channel], positions(pull), order=1, mode=scipy_mode)
        np.testing.assert_allclose(found[channel], expected, atol=3e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_cubic_is_that_of_scipy(shape, padding):
    values = RANDOM.normal(size=shape).astype(np.float32)
    pull = mapping(shape, tuple(n + 3 for n in shape))
    at = positions(pull)
    [found] = resample([Volume(torch.from_numpy(values)[None], "cubic", padding)], pull)
    expected = map_coordinates(values.astype(float), at, order=3, mode="mirror")
    within = np.ones_like(expected, bool) if padding == "reflection" else inside(at, shape)
    assert within.sum() > 100
    np.testing.assert_allclose(found[0].numpy()[within], expected[within], atol=2e-4)
    if padding == "zeros":
        far = ~inside(at, shape, -0.5)
        assert far.any()
        assert (found[0].numpy()[far] == 0).all()


def test_a_part_of_a_large_volume_is_filtered_as_in_the_whole():
    values = RANDOM.normal(size=(160, 50)).astype(np.float32)
    pull = Pull(np.array([[0.9, 0.1, 70.3], [-0.1, 0.9, 20.4], [0, 0, 1]]), (12, 10))
    [found] = resample([Volume(torch.from_numpy(values)[None], "cubic")], pull)
    at = (
        np.tensordot(pull.matrix[:2, :2], np.indices(pull.size), 1) + pull.matrix[:2, 2, None, None]
    )
    expected = map_coordinates(values.astype(float), at, order=3, mode="mirror")
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


@pytest.mark.parametrize(("mode", "interpolator"), [("linear", sitk.sitkLinear)])
def test_affine_is_that_of_itk(mode, interpolator):
    shape = (12, 9, 7)
    values = RANDOM.normal(size=shape).astype(np.float32)
    pull = Pull(mapping(shape).matrix, shape)
    image = sitk.GetImageFromArray(values.transpose(2, 1, 0))
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(pull.matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(pull.matrix[:3, 3].tolist())
    expected = sitk.GetArrayFromImage(sitk.Resample(image, image, affine, interpolator))
    at = np.tensordot(pull.matrix[:3, :3], np.indices(shape), 1) + pull.matrix[:3, 3].reshape(
        3, 1, 1, 1
    )
    [found] = resample([Volume(torch.from_numpy(values)[None], mode)], pull)
    within = inside(at, shape)
    np.testing.assert_allclose(
        found[0].numpy()[within], expected.transpose(2, 1, 0)[within], atol=1e-4
    )


@pytest.mark.parametrize("shape", [(5, 4), (9, 7, 5), (1, 6, 3)])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_identity(shape, padding):
    values = torch.from_numpy(RANDOM.integers(-9, 9, (1, *shape)))
    image = torch.from_numpy(RANDOM.normal(size=(1, *shape)).astype(np.float32))
    volumes = [Volume(values, "nearest", padding), Volume(values, "classes", padding)]
    volumes += [Volume(image, "linear", padding), Volume(image, "cubic", padding)]
    near, classes, linear, cubic = resample(volumes, Pull(np.eye(len(shape) + 1), shape))
    assert torch.equal(near, values)
    assert torch.equal(classes, values)
    np.testing.assert_allclose(linear, image, atol=1e-6)
    np.testing.assert_allclose(cubic, image, atol=2e-6)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int16, torch.int64, torch.float16, torch.bool]
)
def test_types(dtype):
    values = torch.from_numpy(RANDOM.integers(0, 2, (1, 6, 5))).to(dtype)
    pull = mapping((6, 5))
    assert resample([Volume(values, "nearest")], pull)[0].dtype == dtype
    assert resample([Volume(values, "linear")], pull)[0].dtype == torch.float32


def test_large_numbers_of_objects_stay_exact():
    values = torch.tensor([[[2**40 + 1, 2**40 + 3], [5, 2**24 + 1]]])
    [found] = resample([Volume(values, "nearest")], Pull(np.eye(3), (2, 2)))
    assert torch.equal(found, values)


def test_classes_are_the_largest_of_the_linear_shares():
    labels = RANDOM.integers(0, 4, (15, 13))
    pull = mapping((15, 13), strength=0.5)
    [found] = resample([Volume(torch.from_numpy(labels)[None], "classes")], pull)
    at = positions(pull)
    shares = np.stack(
        [
            map_coordinates(
                (labels == c).astype(float), at, order=1, mode="grid-constant", cval=c == 0
            )
            for c in range(4)
        ]
    )
    clear = np.diff(np.sort(shares, 0)[-2:], axis=0)[0] > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[0].numpy()[clear], shares.argmax(0)[clear])


def test_fill_is_outside():
    [found] = resample(
        [Volume(torch.ones(1, 4, 4), "linear", fill=-1000.0)],
        Pull(np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]]), (4, 4)),
    )
    assert (found == -1000).all()


def test_only_the_patch_is_read(tmp_path):
    stored = np.lib.format.open_memmap(
        tmp_path / "v.npy", mode="w+", dtype=np.float32, shape=(1, 60, 40, 30)
    )
    stored[:] = np.nan
    stored[:, 20:34, 10:24, 8:22] = 3.0
    volume = torch.from_numpy(stored)
    matrix = np.eye(4)
    matrix[:3, 3] = (22, 12, 10)
    nodes = np.full((3, 3, 3, 3), 0.5)
    [found] = resample([Volume(volume, "linear")], Pull(matrix, (8, 8, 8), nodes))
    assert (found == 3.0).all()


def test_inverse_of_affine_and_displacement():
    shape = (40, 36)
    x, y = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    image = torch.from_numpy(np.cos(3 * x + y) * np.cos(2 * y))[None].float()
    rng = np.random.default_rng(0)
    forward = Pull(
        np.array([[0.95, 0.2, -2.0], [-0.2, 0.95, 4.0], [0, 0, 1]]),
        shape,
        rng.normal(0, 1, (2, 5, 5)),
    )
    [moved] = resample([Volume(image, "cubic")], forward)
    [back] = resample([Volume(moved, "cubic")], Inverse(forward, shape))
    core = (slice(None), slice(10, -10), slice(10, -10))
    np.testing.assert_allclose(back[core], image[core], atol=5e-3)
    # The tolerance in voxels: the coordinates there and back.
    coordinates = torch.from_numpy(np.indices(shape)).float()
    [there] = resample([Volume(coordinates, "linear", "border")], forward)
    [again] = resample([Volume(there, "cubic")], Inverse(forward, shape))
    assert (again - coordinates)[core].abs().max() < 0.05


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        resample([Volume(torch.zeros(1, 2, 2), "bilinear")], Pull(np.eye(3), (2, 2)))
    with pytest.raises(UnknownNameError, match="padding mode 'reflect'"):
        resample([Volume(torch.zeros(1, 2, 2), "linear", "reflect")], Pull(np.eye(3), (2, 2)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic", "classes"])
def test_compiled_loops_give_what_tensor_operations_give(shape, padding, mode):
    """The two routes were written apart: one for processors, one for any other device."""
    values = torch.from_numpy(RANDOM.normal(size=(2, *shape)).astype(np.float32))
    if mode in ("nearest", "classes"):
        values = torch.from_numpy(RANDOM.integers(0, 4, (2, *shape)).astype(np.int16))
    source = Source.prepare(values, mode=mode, padding=padding, fill=3)
    # Some of the 5,000 positions lie far outside.
    at = RANDOM.uniform(-0.7, 1.7, (len(shape), 5000)) * np.reshape(shape, (-1, 1))
    indices = torch.from_numpy(at.astype(np.float32))
    found = torch.empty(2, 5000, dtype=values.dtype)
    source.sample(indices, found)
    torch.testing.assert_close(found, source.sample_by_tensors(indices), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.int64])
def test_both_routes_know_every_type_of_label(dtype):
    values = torch.from_numpy(RANDOM.integers(0, 2, (1, 9, 8, 7))).to(dtype)
    indices = torch.from_numpy(RANDOM.uniform(0, 6, (3, 400)).astype(np.float32))
    for mode in ("nearest", "classes"):
        source = Source.prepare(values, mode=mode)
        found = torch.empty(1, 400, dtype=dtype)
        source.sample(indices, found)
        assert torch.equal(found.long(), source.sample_by_tensors(indices).long())


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic", "classes"])
def test_nothing_outside_is_read_whatever_the_indices_are(padding, mode):
    values = torch.ones(1, 6, 5, 4)
    source = Source.prepare(values, mode=mode, padding=padding, fill=1.0)
    wild = [np.nan, np.inf, -np.inf, 3e38, -3e38, 2e9, -2e9]
    at = RANDOM.choice(wild, (3, 2000)).astype(np.float32)
    found = torch.empty(1, 2000)
    source.sample(torch.from_numpy(at), found)
    torch.testing.assert_close(found, torch.ones(1, 2000))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("start", [-20, 130, 60])
def test_a_part_near_the_edge_is_mirrored_as_the_whole(mode, start):
    values = torch.from_numpy(RANDOM.normal(size=(1, 150, 12)).astype(np.float32))
    matrix = np.eye(3)
    matrix[:2, 2] = (start + 0.3, 2.6)
    pull = Pull(matrix, (40, 6))
    source = Source.prepare(values, pull.bounds(), mode=mode, padding="reflection")
    assert source.shape[0] < 100  # only a part is read
    [found] = resample([Volume(values, mode, "reflection")], pull)
    expected = map_coordinates(
        values[0],
        positions(Pull(matrix, (40, 6), np.zeros((2, 2, 2)))),
        order=1 if mode == "linear" else 3,
        mode="mirror",
    )
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_coordinates_stay_exact_in_a_region_of_low_precision():
    values = torch.from_numpy(RANDOM.normal(size=(1, 60, 50)).astype(np.float32))
    [expected] = resample([Volume(values)], mapping((60, 50)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        [found] = resample([Volume(values)], mapping((60, 50)))
    assert torch.equal(found, expected)


def test_the_number_of_threads_does_not_matter():
    image = torch.from_numpy(RANDOM.normal(size=(1, 70, 50, 40)).astype(np.float32))
    pull = mapping((70, 50, 40))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(resample([Volume(image)], pull)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
