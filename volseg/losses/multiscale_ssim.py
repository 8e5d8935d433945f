"""Multi-scale structural similarity of two images, in 2D and 3D, also of small patches.

Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar
2003.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from volseg.errors import ShapeError

# Wang et al. 2003, finest scale first.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11
SIGMA = 1.5

# The slope of a small power is infinite at zero. A similarity below the floor adds no gradient.
_FLOOR = 1e-4

_CONVOLUTION = {2: F.conv2d, 3: F.conv3d}
_AVERAGE_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}


def count_scales(sides: tuple[int, ...]) -> int:
    """Return how many of the five scales keep every side at least one window (11 voxels) long.

    One up to 21 voxels along the shortest side, two from 22, three from 44, four from 88, all five
    from 176.
    """
    scales = 1
    while scales < len(SCALE_WEIGHTS) and min(sides) >> scales >= WINDOW:
        scales += 1
    return scales


def multiscale_ssim(prediction: Tensor, target: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the multi-scale structural similarity of each channel, 1 for equal images.

    The mean contrast-structure term of every finer scale times the mean SSIM (which alone holds the
    luminance) of the coarsest, each to the power of its weight. Windows are Gaussian (11 voxels,
    sigma 1.5) and stay inside the image; each scale halves the resolution by averaging.

    Small images have fewer scales (`count_scales`), whose weights are raised to sum to 1, and along
    a side shorter than the window the window has the largest odd length that fits.

    Args:
        prediction: ``(batch, channels, *spatial)`` in 2D or 3D.
        target: The same shape.
        data_range: Largest minus smallest possible value.

    Returns:
        ``(batch, channels)``. Terms that are not above 0.0001 count as that number.

    Raises:
        ShapeError: The shapes differ, or a side is shorter than three voxels.
    """
    shape = tuple(prediction.shape)
    if shape != tuple(target.shape) or len(shape) not in (4, 5) or min(shape[2:]) < 3:
        raise ShapeError(
            f"the images to compare have the shapes {shape} and {tuple(target.shape)}; expected "
            "one shape, (batch, channels, x, y) or (batch, channels, x, y, z), with sides of at "
            "least 3 voxels."
        )
    spatial_dims = len(shape) - 2
    x, y = (image.reshape(-1, 1, *shape[2:]) for image in (prediction, target))
    scales = count_scales(shape[2:])
    total = sum(SCALE_WEIGHTS[:scales])
    similarity = torch.ones_like(x[:, 0].flatten(1)[:, 0])
    # 16 bits do not hold the difference of the mean square and the squared mean.
    with torch.autocast(x.device.type, enabled=False):
        for scale in range(scales):
            if scale > 0:
                x, y = (_AVERAGE_POOL[spatial_dims](image, 2) for image in (x, y))
            luminance, contrast = _ssim_terms(x, y, data_range)
            term = contrast if scale < scales - 1 else luminance * contrast
            floored = term.flatten(1).mean(dim=1).clamp(min=_FLOOR)
            similarity = similarity * floored ** (SCALE_WEIGHTS[scale] / total)
    return similarity.reshape(shape[:2])


def _ssim_terms(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Return the luminance and the contrast-structure term of each window (Eqs. 1 to 3)."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    moments = _window_means(torch.cat([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = moments.chunk(5)
    covariance = mean_xy - mean_x * mean_y
    variances = mean_xx - mean_x * mean_x + mean_yy - mean_y * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _window_means(images: Tensor) -> Tensor:
    """Return the Gaussian means of ``(images, 1, *spatial)`` over all windows inside them."""
    sides = images.shape[2:]
    for axis, side in enumerate(sides):
        length = min(WINDOW, side - 1 + side % 2)
        places = torch.arange(length, dtype=images.dtype, device=images.device) - length // 2
        weights = torch.exp(-(places**2) / (2 * SIGMA**2))
        kernel_shape = [1, 1, *(length if other == axis else 1 for other in range(len(sides)))]
        kernel = (weights / weights.sum()).reshape(kernel_shape)
        images = _CONVOLUTION[len(sides)](images, kernel)
    return images
