"""A reader for MONAI's `LoadImage` and `LoadImaged`, with the guarantees of `read_image`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
from monai.data import ImageReader, MetaTensor
from monai.utils import MetaKeys, SpaceKeys

from volseg.errors import InputError, UnknownNameError
from volseg.geometry import require_same_grid
from volseg.io.formats import format_of_input
from volseg.io.meta_tensors import further_meta, grid_of, numpy_values
from volseg.io.read import read_image
from volseg.io.reading_options import ReadingOptions

_OPTIONS = ReadingOptions.__annotations__


@dataclass(frozen=True)
class Refusal:
    """Why there is no image."""

    error: Exception


class VolsegReader(ImageReader):
    """Read images as `read_image` does: right, or refused with a sentence.

    `LoadImaged(keys="image", reader=VolsegReader)`, or in the configuration of a bundle
    `{"_target_": "LoadImaged", "keys": "image", "reader": "volseg.io.VolsegReader"}`; further
    arguments of `LoadImaged`, such as `series`, are those of `read_image`.

    Args:
        **reading: the keyword arguments of `read_image`.

    Raises:
        InputError: if there is another argument.
    """

    def __init__(self, **reading: Unpack[ReadingOptions]) -> None:
        super().__init__()
        unknown = sorted(set(reading) - set(_OPTIONS))
        if unknown:  # of a TypeError LoadImage makes a warning
            raise UnknownNameError("argument of VolsegReader", unknown[0], _OPTIONS)
        self.reading = reading

    def verify_suffix(self, filename: Any) -> bool:
        """Return whether all paths are of formats that volseg reads."""
        try:
            for path in _paths(filename):
                format_of_input(path)
        except InputError:
            return False
        return True

    def read(self, data: Any, **kwargs: Any) -> list[MetaTensor] | Refusal:
        """Return the images (channels, x, y, z) of one path or several, or why there are none.

        An error is returned, and raised by `get_data`: where a reader raises here, `LoadImage`
        says nothing and has another one, of MONAI's own, guess.

        Args:
            data: path, or paths of images on one grid, which become channels.
            **kwargs: keyword arguments of `read_image`, in place of those of the reader.
        """
        try:
            return [read_image(path, **{**self.reading, **kwargs}) for path in _paths(data)]
        except Exception as error:
            return Refusal(error)

    def get_data(self, img: Any) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Return values and meta data of what `read` gave.

        One channel alone has no axis; of several the axis comes last, as MONAI's readers have it.

        Raises:
            InputError: if the image cannot be read, or not rightly.
            GeometryError: if several do not lie on one grid.
        """
        if isinstance(img, Refusal):
            raise img.error
        images: Sequence[MetaTensor] = [img] if isinstance(img, MetaTensor) else img
        grid = grid_of(images[0])
        for image in images[1:]:
            require_same_grid(
                grid,
                grid_of(image),
                what="images that become channels of one",
                advice="read them under keys of their own",
            )
        values = np.concatenate([numpy_values(image) for image in images])
        is_single = len(values) == 1
        meta: dict[str, Any] = {
            **further_meta(images[0]),
            MetaKeys.AFFINE: grid.affine.matrix.copy(),
            MetaKeys.ORIGINAL_AFFINE: grid.affine.matrix.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(values.shape[1:]),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if is_single else -1,
        }
        return (values[0] if is_single else np.moveaxis(values, 0, -1)), meta


def _paths(data: Any) -> list[str | os.PathLike[str]]:
    return [data] if isinstance(data, (str, os.PathLike)) else list(data)
