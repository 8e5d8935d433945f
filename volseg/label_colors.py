"""The colour of each label: the same value has the same colour in every picture."""

from __future__ import annotations

import colorsys

Color = tuple[int, int, int]

# Bright on black and apart from each other; the first ones also for colour-blind readers.
_FIRST: tuple[Color, ...] = (
    (255, 99, 71),
    (64, 176, 255),
    (255, 205, 60),
    (60, 210, 140),
    (214, 130, 255),
    (255, 150, 200),
    (0, 220, 220),
    (255, 150, 40),
    (170, 220, 70),
    (150, 150, 255),
)


def label_color(label: int) -> Color:
    """Return the colour of a label as red, green and blue from 0 to 255."""
    if 1 <= label <= len(_FIRST):
        return _FIRST[label - 1]
    # Steps of the golden ratio keep the hues of neighbouring values far apart.
    hue = (label * 0.618033988749895) % 1
    saturation, value = (0.55, 0.75, 0.95)[label % 3], (1.0, 0.85)[label % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def html_color(label: int) -> str:
    """Return the colour of a label as HTML has it, such as ``#ff4b4b``."""
    return "#{:02x}{:02x}{:02x}".format(*label_color(label))
