"""Phantoms: the same for the same seed, anatomically plausible, true at the borders, Rician."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from volseg.errors import InputError
from volseg.phantom import Phantom, make_phantom
from volseg.phantom.abdomen import SOFT_TISSUE
from volseg.phantom.anatomy import NAMES, paint_abdomen
from volseg.phantom.canvas import Canvas, halved
from volseg.phantom.shapes import coverage, ellipsoid, largest_piece, smooth_noise, tube

#: The default field of view, 144 x 144 x 160 mm, on a grid coarse enough for tests.
SMALL = {"shape": (32, 32, 32), "spacing": (4.5, 4.5, 5.0)}


@pytest.fixture(scope="module")
def several() -> list[Phantom]:
    return [make_phantom(seed, **SMALL) for seed in range(8)]


@pytest.fixture(scope="module")
def clean() -> Phantom:
    return make_phantom(4, **SMALL, noise=0, bias=0)


def volumes(phantom: Phantom) -> dict[str, float]:
    """Volume of each class in mL."""
    voxel = abs(np.linalg.det(phantom.affine[:3, :3])) / 1000
    return {name: voxel * (phantom.labels == label).sum() for name, label in NAMES.items()}


class TestValue:
    def test_same_seed_gives_same_bytes(self, several):
        again = make_phantom(3, **SMALL)
        assert again.image.tobytes() == several[3].image.tobytes()
        assert again.labels.tobytes() == several[3].labels.tobytes()
        assert again.affine.tobytes() == several[3].affine.tobytes()

    def test_other_seed_differs(self, several):
        assert (several[0].labels != several[1].labels).mean() > 0.01
        assert not np.array_equal(several[0].image, several[1].image)

    def test_types_and_shapes(self, several):
        phantom = several[0]
        assert phantom.image.shape == phantom.labels.shape == SMALL["shape"]
        assert phantom.image.dtype == np.float32
        assert phantom.labels.dtype == np.uint8
        assert phantom.affine.dtype == np.float64
        assert phantom.names == {
            "background": 0,
            "liver": 1,
            "spleen": 2,
            "kidneys": 3,
            "lesions": 4,
        }
        assert np.isfinite(phantom.image).all()
        assert phantom.image.min() >= 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            phantom.image = phantom.image

    def test_global_random_state_is_left_alone(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        make_phantom(0, shape=(16, 16, 16))
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


class TestGeometry:
    def test_affine_is_ras_with_the_spacing_and_a_centred_origin(self, several):
        for phantom in several:
            np.testing.assert_array_equal(phantom.affine[:3, :3], np.diag(SMALL["spacing"]))
            np.testing.assert_array_equal(phantom.affine[3], [0, 0, 0, 1])
            middle = phantom.affine @ [*(np.array(SMALL["shape"]) - 1) / 2, 1]
            assert np.abs(middle[:3]).max() <= 20.001

    def test_sides_of_the_patient(self, several):
        for phantom in several:
            labels = phantom.labels
            liver, spleen, kidneys = (ndimage.center_of_mass(labels == k) for k in (1, 2, 3))
            assert liver[0] > spleen[0] + 10  # the liver is on the right, +x
            assert kidneys[1] < liver[1]  # kidneys lie behind, -y
            assert kidneys[2] < liver[2]  # and lower, -z

    def test_anatomy_does_not_depend_on_the_grid(self, clean):
        fine = make_phantom(4, shape=(64, 64, 64), spacing=(2.25, 2.25, 2.5), noise=0, bias=0)
        difference = np.abs(halved(fine.image) - clean.image)
        assert difference.mean() < 0.03 * clean.image.mean()
        assert np.percentile(difference, 99) < 0.15 * SOFT_TISSUE
        # Where all eight fine voxels agree, the coarse one is of their class.
        blocks = fine.labels.reshape(32, 2, 32, 2, 32, 2)
        low, high = blocks.min(axis=(1, 3, 5)), blocks.max(axis=(1, 3, 5))
        pure = low == high
        assert (clean.labels[pure] == low[pure]).mean() > 0.9995

    def test_field_of_view_sets_the_size_of_the_patient(self, several):
        adult = make_phantom(1, shape=SMALL["shape"], spacing=(10.9375, 8.4375, 8.75))
        np.testing.assert_array_equal(adult.labels, several[1].labels)
        assert 900 < volumes(adult)["liver"] < 2200


class TestAnatomy:
    def test_volumes_are_those_of_an_infant(self, several):
        for phantom in several:
            volume = volumes(phantom)
            assert 70 < volume["liver"] < 220
            assert 5 < volume["spleen"] < 30
            assert 14 < volume["kidneys"] < 45
            assert volume["lesions"] < 15

    def test_most_but_not_all_livers_have_lesions(self, several):
        with_lesions = [volumes(phantom)["lesions"] > 0 for phantom in several]
        assert 4 <= sum(with_lesions) < len(several)

    def test_labels_are_whole_numbers_of_known_classes(self, several):
        for phantom in several:
            assert set(np.unique(phantom.labels).tolist()) <= set(NAMES.values())
            assert {0, 1, 2, 3} <= set(np.unique(phantom.labels).tolist())

    def test_organs_are_in_one_piece_and_kidneys_in_two(self, several):
        for phantom in several:
            _, livers = ndimage.label(np.isin(phantom.labels, (1, 4)), np.ones((3, 3, 3)))
            _, spleens = ndimage.label(phantom.labels == 2, np.ones((3, 3, 3)))
            _, kidneys = ndimage.label(phantom.labels == 3, np.ones((3, 3, 3)))
            assert (livers, spleens, kidneys) == (1, 1, 2)

    def test_lesions_lie_in_the_liver(self, several):
        for phantom in several:
            lesions = phantom.labels == NAMES["lesions"]
            rim = phantom.labels[ndimage.binary_dilation(lesions) & ~lesions]
            assert (rim == NAMES["liver"]).sum() >= 0.8 * rim.size

    def test_organs_cannot_be_told_by_intensity_alone(self, several):
        def mean(phantom: Phantom, name: str) -> float:
            return float(phantom.image[phantom.labels == NAMES[name]].mean())

        order = {mean(p, "liver") > mean(p, "kidneys") for p in several}
        assert order == {True, False}

    def test_shares_of_the_classes_are_disjoint_and_the_label_is_the_largest(self):
        canvas = Canvas(np.random.default_rng(0), (24, 24, 24), classes=len(NAMES))
        paint_abdomen(canvas, _EvenTissue())
        assert canvas.free.min() >= -1e-6
        organs = canvas.shares[1:].sum(axis=0)
        assert canvas.shares.min() >= 0
        assert organs.max() <= 1 + 1e-5
        # All organs and all the rest of the body make up what is not air.
        assert (organs <= 1 - halved(canvas.free) + 1e-5).all()


class _EvenTissue(dict):
    """Every tissue has intensity 1."""

    def __missing__(self, key: str) -> float:
        return 1.0


class TestSignal:
    def test_noise_and_bias_leave_the_labels(self, several, clean):
        np.testing.assert_array_equal(several[4].labels, clean.labels)

    def test_air_is_rayleigh(self, clean):
        """Rayleigh: mean sigma sqrt(pi / 2), deviation 0.655 sigma (Gudbjartsson & Patz 1995)."""
        sigma = 0.1 * SOFT_TISSUE
        noisy = make_phantom(4, **SMALL, noise=0.1, bias=0)
        air = noisy.image[clean.image == 0]
        assert air.size > 3000
        assert air.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)
        assert air.std() == pytest.approx(0.655 * sigma, rel=0.03)

    def test_tissue_has_the_second_moment_of_rice(self, clean):
        """Rice: the mean square is the true square plus 2 sigma squared, at any signal."""
        sigma = SOFT_TISSUE / 15
        noisy = make_phantom(4, **SMALL, bias=0)
        liver = clean.labels == NAMES["liver"]
        extra = noisy.image[liver].astype(float) ** 2 - clean.image[liver].astype(float) ** 2
        error = 2 * sigma * clean.image[liver].mean() / np.sqrt(liver.sum())
        assert abs(extra.mean() - 2 * sigma**2) < 4 * error
        deviation = (noisy.image - clean.image)[liver].std()
        assert deviation == pytest.approx(sigma, rel=0.05)

    def test_bias_is_a_smooth_factor_within_its_bound(self, clean):
        shaded = make_phantom(4, **SMALL, noise=0, bias=0.2)
        body = clean.image > 0.05 * SOFT_TISSUE
        factor = shaded.image[body] / clean.image[body]
        assert factor.min() > 0.799
        assert factor.max() < 1.201
        assert factor.max() - factor.min() > 0.1
        whole = np.where(body, shaded.image / np.where(body, clean.image, 1), np.nan)
        assert np.nanmax(np.abs(np.diff(whole, axis=2))) < 0.05

    def test_skin_is_a_mixture_of_fat_and_air(self, clean):
        line = clean.image[:, 16, 16]
        inside = np.flatnonzero(line > 0)
        first, last = inside[0], inside[-1]
        fat = max(line[first + 1], line[first + 2])
        assert line[first - 1] == 0
        assert 0 < line[first] <= fat * 1.1
        assert line[last + 1] == 0
        edge = (clean.image > 0) & ndimage.binary_dilation(clean.image == 0)
        part = clean.image[edge] / fat
        # Mixtures of every proportion, none brighter than fat and its texture.
        assert np.histogram(part, bins=5, range=(0, 1))[0].min() > 0.02 * part.size
        assert part.max() < 1.3


class TestShapes:
    def test_coverage_of_a_flat_surface_is_the_exact_part(self):
        x = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), dtype=np.float32)
        part = coverage(x - np.float32(3.3), step=3.0)
        np.testing.assert_allclose(part[:, 1, 1], [1, 1, 1, 0.8, 0, 0, 0, 0], atol=1e-6)

    def test_coverage_adds_up_to_the_volume_of_an_ellipsoid(self):
        axis = np.arange(-16, 17, dtype=np.float32)
        points = tuple(np.meshgrid(axis, axis, axis, indexing="ij"))
        shape = ellipsoid(points, (0.3, -0.2, 0.1), (12, 9, 7), (0.3, 0.5, -0.4))
        part = coverage(shape, step=3.0)
        assert part.sum() == pytest.approx(4 / 3 * np.pi * 12 * 9 * 7, rel=0.01)
        assert shape.dtype == part.dtype == np.float32

    def test_tube_is_as_thick_as_it_says(self):
        axis = np.arange(-10, 11, dtype=np.float32)
        points = tuple(np.meshgrid(axis, axis, axis, indexing="ij"))
        shape = tube(points, (0, 0, -6), (0, 0, 6), (4, 2))
        assert shape[10, 10, 4] == pytest.approx(-4)
        assert shape[14, 10, 4] == pytest.approx(0, abs=1e-6)
        assert shape[10, 12, 16] == pytest.approx(0, abs=1e-6)
        assert shape[10, 10, 18] == pytest.approx(0, abs=1e-6)

    def test_largest_piece_drops_the_other_and_its_rim(self):
        axis = np.arange(-20, 21, dtype=np.float32)
        points = tuple(np.meshgrid(axis, axis, axis, indexing="ij"))
        large = ellipsoid(points, (-8, 0, 0), (8, 8, 8))
        small = ellipsoid(points, (12, 0, 0), (3, 3, 3))
        kept = coverage(largest_piece(np.minimum(large, small)), step=3.0)
        np.testing.assert_array_equal(kept, coverage(large, step=3.0))

    def test_smooth_noise_has_unit_variance_and_no_grid(self):
        extent = (80.0, 80.0, 80.0)
        fine = [np.linspace(-39, 39, 79, dtype=np.float32)] * 3
        coarse = [axis[::3] for axis in fine]
        field = smooth_noise(np.random.default_rng(5), fine, extent=extent, control=8)
        again = smooth_noise(np.random.default_rng(5), coarse, extent=extent, control=8)
        np.testing.assert_allclose(field[::3, ::3, ::3], again, atol=1e-4)
        assert field.std() == pytest.approx(1, abs=0.15)
        assert np.abs(np.diff(field, axis=0)).max() < 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"shape": (96, 96)}, r"shape of a phantom is \(96, 96\): give three whole numbers"),
        ({"shape": (96, 96, 8)}, "each at least 16"),
        ({"shape": (96, 96, 20.5)}, "three whole numbers"),
        ({"spacing": (1, 1, 0)}, r"spacing of a phantom is \(1, 1, 0\): give three positive"),
        ({"spacing": (1, 1, float("nan"))}, "three positive sizes in mm"),
        ({"noise": -0.1}, "noise of a phantom is -0.1"),
        ({"bias": 1.0}, "bias of a phantom is 1.0"),
    ],
)
def test_unusable_input_is_a_sentence(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        make_phantom(0, **wrong)


def test_negative_seed_is_a_sentence():
    with pytest.raises(InputError, match="seed of a phantom is -1"):
        make_phantom(-1)
