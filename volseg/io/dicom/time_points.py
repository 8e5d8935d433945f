"""Time points: frames at repeated positions, split into volumes by what their headers say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from volseg.geometry import StackError
from volseg.io.dicom.frame_keys import CLOCKS, LABELS, Key
from volseg.io.dicom.frames import Frame

_MOST_LISTED = 6

# The frames of one position, in the order of positions.
Columns = Sequence[Sequence[Frame]]


def split_time_points(
    columns: Columns, heights: Sequence[float], what: str
) -> tuple[list[list[Frame]], str]:
    """Return the frames of each time point, one a position, and by what they were told apart.

    Args:
        columns: the frames of each position.
        heights: the place of each position along the normal, mm, for messages.
        what: names the slices in messages.

    Raises:
        StackError: if not every position has as many frames as the others, or nothing in the
            headers tells the frames of a position apart.
    """
    count = _common_count(columns, heights, what)
    if count == 1:
        return [[column[0] for column in columns]], ""
    labels = [name for name in LABELS if _is_label(columns, name)]
    groups = [_by_label(column, labels) for column in columns]
    names = " and ".join(labels)
    if all(len(frames) == 1 for group in groups for frames in group.values()):
        return _in_order(groups), names
    for clock in CLOCKS:
        ordered = [_by_clock(group, clock) for group in groups]
        if all(group is not None for group in ordered):
            complete = [group for group in ordered if group is not None]
            if clock != "instance number" or _is_systematic(complete):
                # One label or more, then the order of the clock within each.
                return _in_order(complete), f"{names} and {clock}" if names else clock
    raise StackError(
        f"{what} must each have their own position, or say which time point, echo or b-value they "
        f"belong to; got {count} at every position, and nothing in the headers that tells them "
        f"apart ({_nearly(columns)}); give the slices of one volume only.",
        heights,
    )


def _common_count(columns: Columns, heights: Sequence[float], what: str) -> int:
    counts = Counter(len(column) for column in columns)
    usual = max(counts, key=lambda number: (counts[number], number))
    odd = [
        (height, len(column))
        for height, column in zip(heights, columns, strict=True)
        if len(column) != usual
    ]
    if odd:
        shown = ", ".join(f"{found} at {height:.3f} mm" for height, found in odd[:_MOST_LISTED])
        more = f" and {len(odd) - _MOST_LISTED} more" if len(odd) > _MOST_LISTED else ""
        raise StackError(
            f"{what} must come equally often at every position, got {usual} at most positions but "
            f"{shown}{more} along the normal: slices are repeated or missing; give the slices of "
            "complete volumes only.",
            [height for height, _ in odd],
        )
    return usual


def _is_label(columns: Columns, name: str) -> bool:
    """Whether a key differs among the frames of a position, and in one way at all of them."""
    first = Counter(frame.keys.get(name) for frame in columns[0])
    if len(first) == 1 or None in first:
        return False
    return all(Counter(frame.keys.get(name) for frame in column) == first for column in columns)


def _by_label(column: Sequence[Frame], labels: Sequence[str]) -> dict[tuple[Key, ...], list[Frame]]:
    groups: dict[tuple[Key, ...], list[Frame]] = defaultdict(list)
    for frame in column:
        groups[tuple(frame.keys[name] for name in labels)].append(frame)
    return groups


def _by_clock(
    group: dict[tuple[Key, ...], list[Frame]], clock: str
) -> dict[tuple[Key, ...], list[Frame]] | None:
    """Return the frames of each label in the order of a clock, None if that is not possible."""
    ordered = {}
    for label, frames in group.items():
        times = [frame.keys.get(clock) for frame in frames]
        if len(set(times)) != len(times) or len({type(time) for time in times}) != 1:
            return None
        if None in times:
            return None
        ordered[label] = sorted(frames, key=lambda frame: _sortable(frame.keys[clock]))
    return ordered


def _is_systematic(groups: Sequence[dict[tuple[Key, ...], list[Frame]]]) -> bool:
    """Whether frames are numbered volume by volume, or position by position.

    Any other numbering says nothing about time.
    """
    for label in groups[0]:
        numbers = [
            [float(str(frame.keys["instance number"])) for frame in group[label]]
            for group in groups
        ]
        times = list(zip(*numbers, strict=True))
        if not (_are_apart(times) or _are_apart(sorted(numbers))):
            return False
    return True


def _are_apart(blocks: Sequence[Sequence[float]]) -> bool:
    return all(max(block) < min(after) for block, after in pairwise(blocks))


def _in_order(groups: Sequence[dict[tuple[Key, ...], list[Frame]]]) -> list[list[Frame]]:
    """Return for every time point, sorted by its labels, the frame of each position."""
    points: list[list[Frame]] = []
    for label in sorted(groups[0], key=lambda label: [_sortable(part) for part in label]):
        columns = [group[label] for group in groups]
        points.extend([list(frames) for frames in zip(*columns, strict=True)])
    return points


def _sortable(key: Key) -> tuple[str, Key]:
    return type(key).__name__, key


def _nearly(columns: Columns) -> str:
    """Return what the frames of the first position have in common, for the message."""
    shared = [
        f"the same {name}"
        for name in (*LABELS, *CLOCKS)
        if name in columns[0][0].keys and len({frame.keys.get(name) for frame in columns[0]}) == 1
    ]
    return ", ".join(shared[:4]) or "no times, no numbers"
