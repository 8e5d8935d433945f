"""The ways to standardise intensities, their parameters, and the file that keeps fitted ones."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from volseg.atomic import replacing
from volseg.errors import InputError, UnknownNameError
from volseg.transforms.intensity_statistics import (
    mean_and_std,
    percentiles,
    region_of,
    require_region,
    values_in,
)
from volseg.transforms.landmarks import increasing, standardize_by_landmarks

_FORMAT = "volseg standardization 1"
_LARGEST_FILE = 2**20  # bytes; a real one has a few thousand


@dataclass(frozen=True)
class ZScore:
    """Mean 0 and standard deviation 1 in a region.

    Attributes:
        region: Where both are taken from: ``whole``, ``nonzero``, ``above_mean`` or ``mask``.
        outside: Value for the voxels outside of the region; they are mapped like all the others
            without it.
    """

    name: ClassVar[str] = "zscore"
    region: str = "whole"
    outside: float | None = None

    def __post_init__(self) -> None:
        require_region(self.region)

    def apply(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return one channel standardised."""
        inside = region_of(image, self.region, mask)
        mean, std = mean_and_std(values_in(image, inside))
        if std <= 1e-6 * abs(mean) or std == 0:
            raise _constant(mean)
        result = (image - mean) / std
        if inside is None or self.outside is None:
            return result
        return torch.where(inside, result, self.outside)


@dataclass(frozen=True)
class Percentile:
    """Two percentiles of a region become the ends of a range.

    Attributes:
        lower: Percentile that becomes the first end.
        upper: Percentile that becomes the second end.
        output_range: The two ends.
        clip: Whether values beyond become the ends.
        region: Where the percentiles are taken from, see `ZScore`.
    """

    name: ClassVar[str] = "percentile"
    lower: float = 0.5
    upper: float = 99.5
    output_range: tuple[float, float] = (0.0, 1.0)
    clip: bool = True
    region: str = "whole"

    def __post_init__(self) -> None:
        require_region(self.region)
        _require(0 <= self.lower < self.upper <= 100, self, "0 <= lower < upper <= 100")
        _require(_is_range(self.output_range), self, "an output_range of two ascending numbers")

    def apply(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return one channel standardised."""
        values = values_in(image, region_of(image, self.region, mask))
        low, high = percentiles(values, (self.lower, self.upper))
        if high <= low:
            raise _constant(low)
        return scale_range(image, (low, high), self.output_range, clip=self.clip)


@dataclass(frozen=True)
class Window:
    """A fixed window becomes a range, and values beyond become its ends: for CT.

    Attributes:
        lower: Value that becomes the first end, in CT in Hounsfield units.
        upper: Value that becomes the second end.
        output_range: The two ends.
    """

    name: ClassVar[str] = "window"
    lower: float
    upper: float
    output_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        _require(-math.inf < self.lower < self.upper < math.inf, self, "finite lower < upper")
        _require(_is_range(self.output_range), self, "an output_range of two ascending numbers")

    def apply(self, image: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return one channel standardised."""
        return scale_range(image, (self.lower, self.upper), self.output_range, clip=True)


@dataclass(frozen=True)
class Foreground:
    """Clipped and z-scored with numbers of the foreground of the training set: for CT.

    Isensee et al., "nnU-Net", Nature Methods 18, 2021: 0.5 and 99.5 percentile, mean and standard
    deviation of all labelled voxels.

    Attributes:
        lower: Values below become this one.
        upper: Values above become this one.
        mean: Becomes 0.
        std: Becomes 1.
    """

    name: ClassVar[str] = "foreground"
    lower: float
    upper: float
    mean: float
    std: float

    def __post_init__(self) -> None:
        _require(self.lower < self.upper and self.std > 0, self, "lower < upper and std above 0")

    def apply(self, image: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return one channel standardised."""
        return (image.clamp(self.lower, self.upper) - self.mean) / self.std


@dataclass(frozen=True)
class Nyul:
    """Percentiles of the image are moved to where they lie on average in the training set.

    Attributes:
        percents: Which percentiles.
        landmarks: Where they lie on the standard scale.
        region: Where the percentiles are taken from, see `ZScore`; as in fitting.
    """

    name: ClassVar[str] = "nyul"
    percents: tuple[float, ...]
    landmarks: tuple[float, ...]
    region: str = "nonzero"

    def __post_init__(self) -> None:
        require_region(self.region)
        percents, landmarks = self.percents, self.landmarks
        _require(
            2 <= len(percents) == len(landmarks)
            and increasing((-1, *percents, 101))
            and increasing(landmarks)
            and percents[0] >= 0
            and percents[-1] <= 100,
            self,
            "as many percents (0 to 100) as landmarks, at least two, both ascending",
        )

    def apply(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return one channel standardised."""
        values = values_in(image, region_of(image, self.region, mask))
        return standardize_by_landmarks(
            image, values, percents=self.percents, landmarks=self.landmarks
        )


Method = ZScore | Percentile | Window | Foreground | Nyul

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (ZScore, Percentile, Window, Foreground, Nyul)
}


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
        channels = self.channels * len(image) if len(self.channels) == 1 else self.channels
        if len(channels) != len(image):
            raise InputError(
                f"the image has {len(image)} channels, but the standardisation is for "
                f"{len(channels)}: fit it on images like this one."
            )
        if not torch.isfinite(image).all():
            raise InputError(
                "the image holds values that are not finite (NaN or infinity): repair the file."
            )
        return torch.stack([c.apply(part, mask) for c, part in zip(channels, image, strict=True)])


def scale_range(
    image: Tensor, source: tuple[float, float], target: tuple[float, float], *, clip: bool
) -> Tensor:
    """Return the image with one range of values mapped to another.

    Args:
        image: Values of any shape.
        source: The range that it is in, ascending.
        target: The range that it goes to, ascending.
        clip: Whether values beyond become the ends.
    """
    slope = (target[1] - target[0]) / (source[1] - source[0])
    result = (image - source[0]) * slope + target[0]
    return result.clamp(*target) if clip else result


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
    content = {
        "format": _FORMAT,
        "method": fitted.method,
        "channels": [asdict(channel) for channel in fitted.channels],
        "provenance": dict(fitted.provenance),
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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


def _is_range(values: Sequence[float]) -> bool:
    return len(values) == 2 and values[0] < values[1]


def _require(fine: bool, found: Method, expected: str) -> None:
    if not fine:
        raise InputError(f"the standardisation is {found}; expected {expected}.")


def _constant(value: float) -> InputError:
    return InputError(
        f"the image is constant ({value:g}) in the region that the statistics are taken from, so "
        "its intensities cannot be standardised: leave it out or choose another region."
    )
