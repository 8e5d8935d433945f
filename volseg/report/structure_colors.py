"""The colours of the structures of an evaluation: labels, and regions of several labels."""

from __future__ import annotations

from collections.abc import Mapping

from volseg.evaluation import Label, values_of
from volseg.label_colors import html_color


def structure_colors(labels: Mapping[str, Label]) -> dict[str, str]:
    """Return the colours of structures, each its own, as HTML has them.

    A region has the colour of the first of its labels that no other structure has, so that regions
    within each other can be told apart.
    """
    taken = {label for label in labels.values() if isinstance(label, int)}
    found = {}
    for name, label in labels.items():
        number = label
        if not isinstance(number, int):
            free = [value for value in values_of(label) if value not in taken]
            number = free[0] if free else max(taken) + 1
            taken.add(number)
        found[name] = html_color(number)
    return found
