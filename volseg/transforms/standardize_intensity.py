"""Standardising intensities as a MONAI dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from volseg.errors import InputError
from volseg.transforms.channel_first import as_float_image, as_mask, plain, with_metadata_of
from volseg.transforms.standardization import read_standardization, standardization


class StandardizeIntensityd(MapTransform):
    """Standardise intensities, each channel on its own; float32 comes out.

    Meant for whole images: a patch may be constant, which is refused.

    Args:
        keys: Images ``(channels, x, y)`` or ``(channels, x, y, z)``.
        method: ``zscore``, ``percentile``, ``window``, ``foreground`` or ``nyul``.
        parameters: The fields of the method's class (`volseg.transforms.ZScore` and so on) as
            plain values, a list of them with one entry for each channel, or the path of a file
            that ``volseg standardize fit`` wrote.
        folder: What a relative path starts from; in a bundle ``"@bundle_root"``. The working
            directory without it.
        mask_key: Mask with one channel, for the region ``mask``.
        allow_missing_keys: Skip a key that the dictionary lacks.

    Raises:
        InputError: Method and parameters do not go together, or the file is wrong.
    """

    def __init__(
        self,
        keys: KeysCollection,
        method: str = "zscore",
        *,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | Path | None = None,
        folder: str | Path | None = None,
        mask_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        if isinstance(parameters, str | Path):
            path = Path(folder or "") / parameters
            self.standardization = read_standardization(path)
            if self.standardization.method != method:
                raise InputError(
                    f"{path} is a standardisation by {self.standardization.method!r}, but the "
                    f"method is {method!r}: name one of them."
                )
        else:
            self.standardization = standardization(method, parameters)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the images standardised."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = as_float_image(key, result[key])
            mask = None
            if self.mask_key is not None:
                mask = as_mask(self.mask_key, data[self.mask_key], image)
            try:
                values = self.standardization.apply(plain(image), mask)
            except InputError as error:
                meta = getattr(image, "meta", {})
                source = meta.get("filename_or_obj") or "the image"
                raise InputError(f"{key!r} ({source}): {error}") from error
            result[key] = with_metadata_of(image, values)
        return result
