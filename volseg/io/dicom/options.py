"""What a caller may ask of the reading of a DICOM series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from volseg.errors import InputError


@dataclass(frozen=True)
class DicomOptions:
    """How a DICOM series is read.

    Attributes:
        series: Series Instance UID; needed where a folder holds several series of images.
        orthogonal: whether a stack that is not along its normal (a tilted gantry) is resampled at
            right angles, instead of keeping its sheared affine.
        irregular: "resample" to have slices at unequal distances resampled along the stack; None
            refuses them.
        suv: whether PET values become standardised uptake values by body weight, g/ml.

    Raises:
        InputError: if `irregular` is something else.
    """

    series: str | None = None
    orthogonal: bool = False
    irregular: str | None = None
    suv: bool = False

    def __post_init__(self) -> None:
        if self.irregular not in (None, "resample"):
            raise InputError(
                f"irregular={self.irregular!r} is not known: expected 'resample', or None to "
                "refuse slices at unequal distances."
            )

    @classmethod
    def of(cls, reading: Mapping[str, Any]) -> Self:
        """Return the options among the keyword arguments of `read_image`."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in reading.items() if name in names})

    def require_none(self, source: str) -> None:
        """Raise if an option is set: for images that are no DICOM series.

        Raises:
            InputError: if an option is set.
        """
        names = [name for name, value in vars(self).items() if value]
        if names:
            raise InputError(
                f"cannot read {source} with {' and '.join(names)}: the image is no DICOM series; "
                "leave the option out."
            )
