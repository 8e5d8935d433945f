"""Sides of small images that fit the tiny presets."""

from __future__ import annotations

from volseg.networks import network_spec

_SIDES = {2: (16, 24), 3: (8, 16, 12)}
_VALID_SIDES = {2: (44, 48), 3: (44, 48, 44)}  # what valid convolutions take


def sides_of(name: str, dims: int) -> tuple[int, ...]:
    """Return the sides of a small image that the tiny preset of a network takes."""
    if name == "swinunetr":  # MONAI fixes its five halvings
        return (64, 32, 32)[:dims]
    return (_VALID_SIDES if network_spec(name).valid else _SIDES)[dims]
