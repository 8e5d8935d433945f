"""The check that a label belongs to its image, as a MONAI dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from volseg.errors import InputError
from volseg.geometry import require_same_grid
from volseg.io.label_map import original_grid_of

_MOST = torch.iinfo(torch.uint8).max


class CheckLabelsd(MapTransform):
    """Refuse labels that lie on another grid than their image, or hold what is no class.

    Without it, a label from another grid would train as if it were aligned. What passes is of one
    integer type that holds all classes, whatever its file has: a batch takes the type of its first.

    Args:
        keys: Labels ``(1, x, y, z)`` or ``(1, x, y)``, as `ReadImaged` reads them.
        like: Entry of the image; it may have been transformed since it was read.
        classes: Number of classes, background included.
        ignore: Value of voxels that nobody labelled, which is no class; there is none without it.
        allow_missing_keys: Skip a key that the dictionary lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        like: str,
        classes: int,
        ignore: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.like = like
        self.classes = classes
        self.ignore = ignore
        largest = max(classes - 1, ignore or 0)
        self.dtype = torch.uint8 if largest <= _MOST else torch.int32

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary.

        Raises:
            GeometryError: The grids of the two files differ; names both.
            InputError: A value is not one of the classes; names the file and the values.
        """
        result = dict(data)
        image = result[self.like]
        for key in self.key_iterator(result):
            label = result[key]
            file = label.meta.get("filename_or_obj", key)
            what = f"the image {image.meta.get('filename_or_obj', self.like)} and its label {file}"
            require_same_grid(original_grid_of(image), original_grid_of(label), what=what)
            found = torch.unique(torch.as_tensor(label).as_subclass(torch.Tensor)).tolist()
            strange = [
                value
                for value in found
                if value not in range(self.classes) and value != self.ignore
            ]
            if strange:
                raise InputError(
                    f"the label {file} holds {', '.join(f'{value:g}' for value in strange[:5])}; "
                    f"expected whole numbers from 0 to {self.classes - 1}"
                    f"{'' if self.ignore is None else f', and {self.ignore} to ignore'}: name all "
                    "classes, or map the values of the files to them (stored_labels, "
                    "stored_classes)."
                )
            result[key] = label.to(self.dtype)
        return result
