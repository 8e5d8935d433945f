"""The noise of magnitude MR images."""

from __future__ import annotations

from typing import Any

import torch
from monai.config import KeysCollection
from torch import Tensor

from volseg.errors import InputError
from volseg.transforms.random_intensity import RandomIntensityTransform


def add_rician_noise(image: Tensor, *, std: float, seed: int) -> Tensor:
    """Return the magnitude of the image after noise on its real and imaginary part.

    Gudbjartsson, Patz, "The Rician distribution of noisy MRI data", Magnetic Resonance in Medicine
    34, 1995. The noise is drawn on the CPU, so a seed gives the same noise on every device.

    Args:
        image: Intensities of any shape; zero is no signal, so noise comes before a z-score.
        std: Standard deviation of either part.
        seed: Of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    real, imaginary = (
        torch.randn(image.shape, generator=generator, dtype=image.dtype).to(image.device) * std
        for _ in range(2)
    )
    return torch.hypot(image + real, imaginary)


class RandRicianNoised(RandomIntensityTransform):
    """Add Rician noise: `add_rician_noise`, for images of which zero is no signal.

    All keys share the standard deviation; the noise of each is its own.

    Args:
        keys: Images ``(channels, x, y)`` or ``(channels, x, y, z)``.
        prob: Probability to add noise.
        std: Range that the standard deviation is drawn from, in the unit of the image.
        allow_missing_keys: Skip a key that the dictionary lacks.

    Raises:
        InputError: The range is none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        *,
        std: tuple[float, float] = (0.0, 0.1),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        if len(std) != 2 or not 0 <= std[0] <= std[1] < float("inf"):
            raise InputError(f"std is {std}; expected two ascending numbers of at least 0.")
        self.std = tuple(std)

    def draw(self, spatial_dims: int) -> dict[str, Any]:  # noqa: ARG002
        """Return standard deviation and seed."""
        return {
            "std": float(self.R.uniform(*self.std)),
            "seed": int(self.R.randint(2**31 - 1)),
        }

    def apply(self, image: Tensor, **drawn: Any) -> Tensor:
        """Return the image with noise."""
        return add_rician_noise(image, **drawn)
