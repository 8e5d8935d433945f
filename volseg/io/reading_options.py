"""What a caller may say about the reading of an image, beside its path."""

from __future__ import annotations

from typing import TypedDict


class ReadingOptions(TypedDict, total=False):
    """The keyword arguments of `read_image`, which says what they mean."""

    orientation: str | None
    series: str | None
    orthogonal: bool
    irregular: str | None
    suv: bool
