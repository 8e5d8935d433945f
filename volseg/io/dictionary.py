"""Reading and writing as MONAI dictionary transforms, for bundles.

All options are plain values, so that they can be written in a YAML file.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep

from volseg.errors import InputError, OutputError
from volseg.io.channels import in_channel_order, joined_images, require_options_of_channels
from volseg.io.convert import as_image
from volseg.io.formats import image_name, segmentation_suffix
from volseg.io.label_map import original_grid_of
from volseg.io.meta_tensors import meta_tensor
from volseg.io.read import read_image
from volseg.io.reading_options import ReadingOptions, reading_of_channel
from volseg.io.write import write_segmentation


class ReadImaged(MapTransform):
    """Read the images whose paths a dictionary holds: `volseg.io.read_image`.

    An image that is already in memory is checked and passed on, so that one preprocessing serves
    files and arrays.

    Args:
        keys: entries with a path, or a channel-first MetaTensor or SimpleITK image; or with one of
            them for each channel, by name.
        channels: names of the channels in their order, for entries that name them. Entries are read
            in their own order without it.
        dtype: name of a torch type such as "float32" to convert to, one or one a key; stored
            values are kept exactly without it.
        allow_missing_keys: skip a key that the dictionary lacks.
        **reading: how a path is read, such as `orientation="RAS"`: as for `read_image`.

    Raises:
        InputError: if `dtype` is not the name of a torch type.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        channels: Sequence[str] | None = None,
        dtype: str | None = None,
        allow_missing_keys: bool = False,
        **reading: Unpack[ReadingOptions],
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        names = ensure_tuple_rep(dtype, len(self.keys))
        self.types = tuple(None if name is None else _torch_type(name) for name in names)
        self.channels = None if channels is None else tuple(channels)
        self.reading = reading

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with images (channels, x, y, z) for the keys."""
        result = dict(data)
        for key, dtype in self.key_iterator(result, self.types):
            value = result[key]
            if isinstance(value, Mapping) and self.channels is not None:
                value = in_channel_order(value, self.channels, f"the entry {key!r}")
            image = _read(value, **self.reading)
            result[key] = image if dtype is None else image.to(dtype)
        return result


class WriteSegmentationd(MapTransform):
    """Write label maps on the grid of the files their images were read from.

    The file is named after its image, `a/liver_01.nii.gz` gives `liver_01_seg.nii.gz`, unless the
    dictionary names the case.

    Args:
        keys: label maps (1, x, y, z), already back on the grid of the file.
        like: entry of the image; it may have been transformed since it was read.
        folder: where to write; made if missing.
        case: entry with the name of the case, used where there is one.
        postfix: added to the name of the case.
        suffix: format; `.nii.gz` for volumes and `.png` for pictures without it.
        allow_missing_keys: skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        like: str,
        folder: str | os.PathLike[str],
        case: str = "case",
        postfix: str = "_seg",
        suffix: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.like = like
        self.folder = Path(folder)
        self.case = case
        self.postfix = postfix
        self.suffix = suffix
        self._source_of_target: dict[Path, str] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary; the label maps are on the disk.

        Raises:
            OutputError: if writing fails, or two images would share one file, as two in memory do
                if the dictionaries do not name their cases.
        """
        result = dict(data)
        image = result[self.like]
        source = str(image.meta.get("filename_or_obj", ""))
        named = result.get(self.case)
        case = str(named or image_name(source or "image"))
        grid = original_grid_of(image)
        codes = {
            name: int(image.meta[name])
            for name in ("sform_code", "qform_code")
            if name in image.meta
        }
        # Only its grid counts; one expanded element stands for all voxels.
        like = meta_tensor(torch.zeros(1).expand(1, *grid.shape), grid.affine, source, codes)
        for key in self.key_iterator(result):
            postfix = self.postfix if len(self.keys) == 1 else f"_{key}{self.postfix}"
            suffix = self.suffix or segmentation_suffix(len(grid.shape))
            target = self.folder / f"{case}{postfix}{suffix}"
            before = self._source_of_target.get(target)
            if before is not None and (before != source or not (named or source)):
                raise OutputError(
                    f"cannot write {target}: {before or 'an image in memory'} and "
                    f"{source or 'an image in memory'} have one name; name their cases (entry "
                    f"{self.case!r}), or write them to different folders."
                )
            self._source_of_target[target] = source
            write_segmentation(result[key], target, like=like)
        return result


def _read(value: Any, **reading: Unpack[ReadingOptions]) -> MetaTensor:
    """Return an image, or one whose channels are files or in memory, each by its name."""
    if isinstance(value, Mapping):
        require_options_of_channels(reading, [*value])
        images = {
            name: _read(one, **reading_of_channel(reading, name)) for name, one in value.items()
        }
        return joined_images(images, onto_first=reading.get("onto_first", False))
    if isinstance(value, (str, os.PathLike)):
        return read_image(value, **reading)
    return as_image(value)


def _torch_type(name: str) -> torch.dtype:
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise InputError(
            f"the dtype {name!r} is not a type of torch; expected a name such as float32."
        )
    return found
