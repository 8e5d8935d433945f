"""By what part of a voxel a label map lies beside the image it was made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Of the Gaussian that both are seen through, in voxels: a mask is no finer than its voxels.
_SMOOTHING = 1.0
# Share of each axis along which both fall to 0: opposite borders are neighbours to a transform.
_TAPERED = 0.25
_STEPS = 10
_CLOSE = 1e-3
_FARTHEST = 2.0


def label_offset(image: npt.NDArray[np.generic], mask: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """Return where in the image what a voxel of a mask names lies, in voxels from that voxel.

    It is where the correlation of both is highest, or lowest for what is darker than the rest,
    found by Newton's method on their cross-spectrum: of one picture to a tenth of a voxel, and the
    mean of many is as much nearer as there are more. For structures without a preferred side
    (cells, membranes, vessels in all directions): an organ that has other neighbours on each side
    is drawn to one of them, too.

    Args:
        image: ``(x, y)`` or ``(x, y, z)``.
        mask: Where the structure was drawn, of the same shape.

    Returns:
        One number an axis; NaN where nothing was drawn, or no peak lies within two voxels.
    """
    axes = image.ndim
    spectrum = np.conj(_spectrum(mask)) * _spectrum(image)
    angles = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(n) for n in image.shape), indexing="ij")
    spectrum *= np.exp(-(_SMOOTHING**2) * sum(angle**2 for angle in angles))
    offset = np.zeros(axes)
    sign = np.sign(spectrum.sum().real)
    for _ in range(_STEPS):
        turn = sum(angle * part for angle, part in zip(angles, offset, strict=True))
        moved = sign * spectrum * np.exp(1j * turn)
        slope = np.array([-(angle * moved.imag).sum() for angle in angles])
        bend = np.array([[-(a * b * moved.real).sum() for b in angles] for a in angles])
        if not np.all(np.linalg.eigvalsh(bend) < 0):
            break
        step = np.linalg.solve(bend, slope)
        offset -= step
        if np.abs(offset).max() > _FARTHEST:
            break
        if np.abs(step).max() < _CLOSE:
            return tuple(float(value) for value in offset)
    return (float("nan"),) * axes


def _spectrum(values: npt.NDArray[np.generic]) -> npt.NDArray[np.complex128]:
    """Return the spectrum of values around their mean, which fall to 0 at the borders."""
    from scipy.signal.windows import tukey  # noqa: PLC0415 - a second, for all of volseg.metrics

    around = values.astype(np.float64)
    around -= around.mean()
    for axis, side in enumerate(values.shape):
        window = tukey(side, _TAPERED)
        around *= window.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    spectrum: npt.NDArray[np.complex128] = np.fft.fftn(around)
    return spectrum
