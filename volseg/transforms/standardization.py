"""A standardisation of intensities for each channel, and the file that keeps a fitted one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from volseg.atomic import write_text
from volseg.errors import InputError, UnknownNameError
from volseg.transforms.intensity_statistics import require_finite
from volseg.transforms.standardization_methods import METHODS, Method, VoxelMap
from volseg.transforms.tally import Parts, in_one_part, in_passes

T = TypeVar("T")

_FORMAT = "volseg standardization 1"
_LARGEST_FILE = 2**20  # bytes; a real one has a few thousand


@dataclass(frozen=True)
class Standardization:
    """One way to standardise, with its parameters for each channel.

    Attributes:
        channels: One entry for each channel, or one for all of them; all of one method.
        provenance: What the parameters were fitted on.
    """

    channels: tuple[Method, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.channels[0].name

    def apply(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return an image ``(channels, x, y[, z])`` with each channel standardised on its own.

        Args:
            image: float32, without metadata.
            mask: Voxels of the region ``mask``, ``(x, y[, z])``.

        Raises:
            InputError: A channel is constant or not finite, or the number of channels is another.
        """
        return self._fitted(in_one_part(image), mask)(image)

    def fitted(self, parts: Parts) -> VoxelMap:
        """Fit on an image in parts, which need not fit in memory together.

        Whatever the parts, the result is that of `apply`, bit for bit. They are gone over as often
        as the method needs: not at all for ``window`` and ``foreground``, once for ``zscore``,
        twice for ``percentile`` and ``nyul``, once more for the region ``above_mean``.

        Args:
            parts: Begins to go over the parts: float32 tensors ``(channels, ...)`` of any shape,
                which together are the whole image.

        Returns:
            What standardises a part. It raises an `InputError` for values that are not finite.

        Raises:
            InputError: A channel is constant or not finite, the number of channels is another, or
                the region is ``mask``.
        """
        return self._fitted(parts, None)

    def _fitted(self, parts: Parts, mask: Tensor | None) -> VoxelMap:
        def checked() -> Iterator[Tensor]:
            for part in parts():
                self._for_each(self.channels, part)
                yield part

        maps = in_passes([partial(method.fit, mask) for method in self.channels], checked)

        def standardised(part: Tensor) -> Tensor:
            part = part.to(torch.float32).contiguous()
            channels = self._for_each(maps, part)
            if part.numel():
                require_finite(bool(torch.stack(part.aminmax()).isfinite().all()))
            found = [one(channel) for one, channel in zip(channels, part, strict=True)]
            # A stack of one would be a copy.
            return found[0][None] if len(found) == 1 else torch.stack(found)

        return standardised

    def _for_each(self, entries: Sequence[T], part: Tensor) -> Sequence[T]:
        """Return one entry for each channel of a part of the image."""
        if len(entries) == 1:
            return list(entries) * len(part)
        if len(entries) != len(part):
            raise InputError(
                f"the image has {len(part)} channels, but the standardisation is for "
                f"{len(entries)}: fit it on images like this one."
            )
        return entries


def standardization(
    method: str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
) -> Standardization:
    """Return a standardisation from plain values.

    Args:
        method: One of `METHODS`.
        parameters: The fields of its class; a list of them has one entry for each channel.

    Raises:
        UnknownNameError: There is no such method or parameter.
        InputError: A parameter is missing or out of range.
    """
    if method not in METHODS:
        raise UnknownNameError("standardisation", str(method), METHODS)
    entries = [parameters or {}] if isinstance(parameters, Mapping | None) else list(parameters)
    if not entries:
        raise InputError(f"the standardisation {method!r} has an empty list of parameters.")
    return Standardization(tuple(_method(METHODS[method], entry) for entry in entries))


def read_standardization(path: str | Path) -> Standardization:
    """Return the standardisation that `write_standardization` wrote.

    Raises:
        InputError: The file is missing or is no such file.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
        raise InputError(
            f"there is no standardisation {path}: make it with `volseg standardize fit IMAGES -o "
            f"{path.name}`."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"the standardisation {path} is not JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(
            f"{path} is not a standardisation: expected JSON with 'format': {_FORMAT!r}, as "
            "`volseg standardize fit` writes it."
        )
    channels, provenance = content.get("channels"), content.get("provenance", {})
    if not isinstance(channels, list) or not isinstance(provenance, dict):
        raise InputError(f"{path} is damaged: 'channels' must be a list, 'provenance' an object.")
    try:
        fitted = standardization(str(content.get("method")), channels)
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return Standardization(fitted.channels, provenance)


def write_standardization(fitted: Standardization, path: str | Path) -> None:
    """Write a standardisation as JSON, whole or not at all.

    Raises:
        OutputError: The file could not be written.
    """
    write_text(path, standardization_text(fitted))


def standardization_text(fitted: Standardization) -> str:
    """Return what `write_standardization` writes."""
    content = {
        "format": _FORMAT,
        "method": fitted.method,
        "channels": [asdict(channel) for channel in fitted.channels],
        "provenance": dict(fitted.provenance),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _method(kind: type[Method], entry: object) -> Method:
    if not isinstance(entry, Mapping):
        raise InputError(f"the parameters of {kind.name!r} are {entry!r}; expected names = values.")
    known = [item.name for item in fields(kind)]
    for name in entry:
        if name not in known:
            raise UnknownNameError(f"parameter of {kind.name!r}", str(name), known)
    try:
        return kind(**{name: _plain_value(value) for name, value in entry.items()})
    except TypeError as error:
        raise InputError(
            f"the parameters of {kind.name!r} are {dict(entry)}; expected values for "
            f"{', '.join(known)} of the right types ({error})."
        ) from error


def _plain_value(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else value
