"""The soft normalised cut of W-Net: segments without labels.

Xia, Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017, after Shi and
Malik, "Normalized Cuts and Image Segmentation", IEEE TPAMI 2000.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from volseg.errors import InputError
from volseg.losses.targets import full_precision, require_same_grid
from volseg.processes import mean_over_processes


class SoftNormalisedCutLoss(nn.Module):
    """Number of segments minus the sum of their association ratios; from 0 to that number.

    ``J = K - sum_k [sum_u p_k(u) sum_v w_uv p_k(v)] / [sum_u p_k(u) sum_v w_uv]`` over voxels u and
    v less than ``radius`` apart, with ``w_uv = exp(-|F_u - F_v|^2 / sigma_intensity^2)
    exp(-|X_u - X_v|^2 / sigma_distance^2)``; F are intensities, X places in voxels. As in the
    formula a voxel is its own neighbour; there are none outside the image. Uniform probabilities
    give K - 1.

    The loop is over displacements, one of each opposite pair: memory does not grow with the radius,
    time does with its square in 2D and its cube in 3D (34 and 242 displacements for a radius of 5).
    The image gets no gradient.

    Args:
        radius: Of the neighbourhood, in voxels.
        sigma_intensity: In the unit of the image; the paper's 10 is for intensities from 0 to 255.
        sigma_distance: In voxels.

    Raises:
        InputError: An option is not above 0.
    """

    def __init__(
        self, *, radius: float = 5.0, sigma_intensity: float = 10.0, sigma_distance: float = 4.0
    ) -> None:
        super().__init__()
        for name, value in (
            ("radius", radius),
            ("sigma_intensity", sigma_intensity),
            ("sigma_distance", sigma_distance),
        ):
            if not value > 0:
                raise InputError(f"{name} is {value}; expected a number above 0.")
        self.radius = radius
        self.sigma_intensity = sigma_intensity
        self.sigma_distance = sigma_distance

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Return the mean of the cuts of all images, a single number.

        Args:
            logits: ``(batch, segments, *spatial)``, turned into probabilities by softmax; one
                channel is one segment (sigmoid), the rest of the image the other.
            image: ``(batch, channels, *spatial)``, any number of channels.

        Raises:
            ShapeError: The image does not lie on the grid of the logits.
        """
        require_same_grid(logits, image, channels=None, holding="intensities")
        scores = full_precision(logits)
        if scores.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        probabilities = torch.softmax(scores, dim=1)

        # W is symmetric, so the gradient of p'Wp is 2Wp: nothing of the loop need be kept for it.
        with torch.no_grad():
            values = torch.cat([probabilities, torch.ones_like(scores[:, :1])], dim=1)
            sums = self._neighbour_sums(values, full_precision(image).to(values.dtype))
            neighbours, degree = sums[:, :-1], sums[:, -1:]
            constant = _sum_over_space(probabilities * neighbours)
        within = 2 * _sum_over_space(probabilities * neighbours) - constant
        to_all = _sum_over_space(probabilities * degree)
        # A segment that is nowhere associates with nothing.
        ratios = within / to_all.clamp(min=torch.finfo(to_all.dtype).tiny)
        return mean_over_processes(probabilities.shape[1] - ratios.sum(dim=1))

    def _neighbour_sums(self, values: Tensor, image: Tensor) -> Tensor:
        """Return for each voxel the weighted sum of the values of its neighbours and itself."""
        sums = values.clone()
        for displacement in _half_of_the_ball(self.radius, image.shape[2:]):
            here, there = _pairs(displacement)
            difference = ((image[there] - image[here]) ** 2).sum(dim=1, keepdim=True)
            squared_distance = sum(step * step for step in displacement)
            weight = torch.exp(
                -difference / self.sigma_intensity**2 - squared_distance / self.sigma_distance**2
            )
            sums[here] += weight * values[there]
            sums[there] += weight * values[here]
        return sums


def _half_of_the_ball(radius: float, sides: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the displacements shorter than the radius, one of each pair of opposite ones."""
    origin = (0,) * len(sides)
    reaches = [min(int(radius), side - 1) for side in sides]
    for displacement in product(*(range(-reach, reach + 1) for reach in reaches)):
        if displacement > origin and sum(step * step for step in displacement) < radius**2:
            yield displacement


def _pairs(displacement: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the region of the voxels whose partner is in the image, and that of the partners."""
    ends = [(slice(None, -abs(step) or None), slice(abs(step), None)) for step in displacement]
    here = [
        low if step >= 0 else high for step, (low, high) in zip(displacement, ends, strict=True)
    ]
    there = [
        high if step >= 0 else low for step, (low, high) in zip(displacement, ends, strict=True)
    ]
    return (slice(None), slice(None), *here), (slice(None), slice(None), *there)


def _sum_over_space(values: Tensor) -> Tensor:
    return values.flatten(2).sum(dim=2)
