"""A labelled abdomen made by arithmetic alone: as many cases as wanted, and nobody's data.

The organs are deformed implicit shapes, so the label map is true by construction. Same seed, same
phantom; the anatomy of a seed does not depend on grid, noise or bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volseg.errors import InputError
from volseg.phantom.anatomy import NAMES, paint_abdomen
from volseg.phantom.canvas import FIELD, Canvas, halved
from volseg.phantom.shapes import smooth_noise

#: Intensity of an average soft tissue, in arbitrary units; noise is stated as a part of it.
SOFT_TISSUE = 400.0

#: Lowest and highest mean of each tissue, as parts of `SOFT_TISSUE`. The ranges overlap on
#: purpose: an organ is known by its shape and place, not by its intensity.
TISSUES = {
    "liver": (0.95, 1.40),
    "spleen": (0.70, 1.25),
    "kidney": (0.85, 1.40),
    "muscle": (0.60, 0.85),
    "fat": (1.65, 2.20),
    "marrow": (0.95, 1.40),
    "cortical bone": (0.15, 0.30),
    "disc": (0.50, 0.90),
    "cord": (0.80, 1.00),
    "fluid": (0.30, 0.55),
    "bile": (0.35, 1.70),
    "vessel": (0.40, 1.30),
    "heart": (0.70, 1.20),
    "lung": (0.06, 0.14),
    "stomach": (0.50, 1.30),
    "bowel": (0.65, 1.25),
}


@dataclass(frozen=True)
class Phantom:
    """An image with its true label map.

    Attributes:
        image: Intensities ``(x, y, z)``, float32, in arbitrary units, none negative.
        labels: Class of each voxel ``(x, y, z)``, uint8.
        affine: Voxel index to world, ``(4, 4)``, RAS+ in mm.
        names: Class of each structure by name.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    names: dict[str, int]


def make_phantom(
    seed: int,
    *,
    shape: Sequence[int] = (96, 96, 80),
    spacing: Sequence[float] = (1.5, 1.5, 2.0),
    noise: float = 1 / 15,
    bias: float = 0.2,
) -> Phantom:
    """Return an abdomen with liver, spleen, kidneys and, in most seeds, lesions of the liver.

    The trunk fills the field of view whatever its size: 350 x 270 x 280 mm make an adult, the
    default an infant. Every structure is rendered at twice the resolution and averaged, so
    voxels at a border are a mixture; their label is the class with the largest share. Where
    organs would overlap, `paint_abdomen` states which one keeps its place.

    Args:
        seed: Another seed gives another anatomy, other contrasts and other noise.
        shape: Number of voxels along x, y and z.
        spacing: Size of a voxel along x, y and z, in mm.
        noise: Standard deviation of the noise of each quadrature channel, as a part of the
            intensity of soft tissue; its inverse is the signal-to-noise ratio there. The
            magnitude is Rician (Gudbjartsson & Patz 1995).
        bias: Largest deviation of the smooth multiplicative field from 1.

    Raises:
        InputError: The shape, spacing, noise or bias cannot be used.
    """
    size, edges = _checked(seed, shape, spacing, noise, bias)
    # One stream a purpose: a change to the painting leaves the noise of a seed as it was.
    anatomy, contrast, shading, thermal, place = np.random.default_rng(seed).spawn(5)
    canvas = Canvas(anatomy, size, classes=len(NAMES))
    paint_abdomen(canvas, _draw_tissues(contrast))

    canvas.shares[0] = 1 - canvas.shares[1:].sum(axis=0)
    labels = canvas.shares.argmax(axis=0).astype(np.uint8)
    image = halved(canvas.signal)
    axes = [axis.reshape(-1, 2).mean(axis=1) for axis in canvas.axes]
    field = smooth_noise(shading, axes, extent=FIELD, control=150)
    image *= 1 + bias * (field / np.abs(field).max())
    if noise > 0:
        image = _rician(image, noise * SOFT_TISSUE, thermal)
    return Phantom(image, labels, _affine(size, edges, place), dict(NAMES))


def _checked(
    seed: int, shape: Sequence[int], spacing: Sequence[float], noise: float, bias: float
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Return shape and spacing as plain numbers."""
    if seed < 0:
        raise InputError(f"the seed of a phantom is {seed}: give a whole number from 0 on.")
    if len(shape) != 3 or any(int(size) != size or size < 16 for size in shape):
        raise InputError(
            f"the shape of a phantom is {tuple(shape)}: give three whole numbers of voxels "
            "(x, y, z), each at least 16."
        )
    if len(spacing) != 3 or not all(0 < edge < math.inf for edge in spacing):
        raise InputError(
            f"the spacing of a phantom is {tuple(spacing)}: give three positive sizes in mm."
        )
    if not 0 <= noise < math.inf:
        raise InputError(
            f"the noise of a phantom is {noise}: give the inverse of the signal-to-noise ratio "
            "of soft tissue, 0 for none."
        )
    if not 0 <= bias < 1:
        raise InputError(
            f"the bias of a phantom is {bias}: give a number from 0 (none) to below 1."
        )
    x, y, z = (int(part) for part in shape)
    dx, dy, dz = (float(edge) for edge in spacing)
    return (x, y, z), (dx, dy, dz)


def _draw_tissues(generator: np.random.Generator) -> dict[str, float]:
    """Return the mean intensity of each tissue of one phantom."""
    tissue = {name: SOFT_TISSUE * generator.uniform(*span) for name, span in TISSUES.items()}
    tissue["medulla"] = tissue["kidney"] * generator.uniform(0.72, 0.92)
    tissue["inner fat"] = tissue["fat"] * generator.uniform(0.85, 0.98)
    # Lesions and vessels are seen against the liver, so they are drawn relative to it.
    dark = generator.random() < 0.65
    contrast = generator.uniform(0.50, 0.75) if dark else generator.uniform(1.28, 1.55)
    tissue["lesion"] = tissue["liver"] * contrast
    tissue["liver vessel"] = tissue["liver"] * generator.choice((0.72, 1.28)).item()
    return tissue


def _rician(
    image: NDArray[np.float32], sigma: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return the magnitude of an image with Gaussian noise in both quadrature channels."""
    real = image + sigma * generator.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * generator.standard_normal(image.shape, dtype=np.float32)
    magnitude: NDArray[np.float32] = np.hypot(real, imaginary)
    return magnitude


def _affine(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return an affine whose scanner isocentre is within 20 mm of the middle of the grid."""
    affine = np.diag([*spacing, 1.0])
    middle = (np.asarray(shape) - 1) / 2 * spacing
    affine[:3, 3] = np.round(generator.uniform(-20, 20, 3) - middle, 3)
    return affine
