"""The frame of random intensity transforms: draw plain numbers, apply them, record them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform
from torch import Tensor

from volseg.transforms.channel_first import as_float_image, plain, with_metadata_of


class RandomIntensityTransform(RandomizableTransform, MapTransform, InvertibleTransform):
    """Changes intensities at random; all keys share one draw.

    The drawn numbers are recorded with the applied operations of the tensor, under
    ``extra_info``, and are the keyword arguments of the function that applied them. Intensities
    are not brought back by the inverse, which only takes the record away again.

    Args:
        keys: Images ``(channels, x, y)`` or ``(channels, x, y, z)``.
        prob: Probability to change a dictionary.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.1, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)

    @abstractmethod
    def draw(self, spatial_dims: int) -> dict[str, Any]:
        """Return plain numbers for one dictionary."""

    @abstractmethod
    def apply(self, image: Tensor, **drawn: Any) -> Tensor:
        """Return the image changed as drawn.

        Args:
            image: float32, without metadata.
            drawn: What `draw` returned.
        """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary, its images as float32 and perhaps changed."""
        result = dict(data)
        self.randomize(None)
        drawn: dict[str, Any] = {}
        for place, key in enumerate(self.key_iterator(result)):
            image = as_float_image(key, result[key])
            if self._do_transform:
                drawn = drawn or self.draw(image.ndim - 1)
                if place and "seed" in drawn:  # noise of two images is never the same
                    drawn = {**drawn, "seed": (drawn["seed"] + 1) % 2**32}
                changed = with_metadata_of(image, self.apply(plain(image), **drawn))
            else:
                changed = with_metadata_of(image, plain(image))
            result[key] = self.push_transform(changed, extra_info=dict(drawn))
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary without the record; intensities stay."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = result[key].clone()
            self.pop_transform(result[key])
        return result
