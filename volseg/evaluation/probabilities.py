"""Calibration of the probabilities that segmenting wrote, file by file in little memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.errors import Cancelled, InputError, VolsegError
from volseg.evaluation.case import values_of
from volseg.evaluation.class_score import Label
from volseg.evaluation.label_maps import read_label_map
from volseg.evaluation.pairs import CasePair
from volseg.geometry import require_same_grid
from volseg.io import StoredVolume, open_volume, open_zarr
from volseg.metrics import Calibration, CalibrationTally, Reliability

_SUFFIXES = (".nii.gz", ".nii", ".zarr")


@dataclass(frozen=True)
class CasesCalibration:
    """How well the probabilities of some cases are calibrated.

    Attributes:
        calibration: Of all of their voxels together.
        names: Of the channels.
        cases: That took part.
        failures: Cases that could not, with the reason.
    """

    calibration: Calibration
    names: list[str]
    cases: list[str]
    failures: dict[str, str]

    @property
    def curves(self) -> dict[str, Reliability]:
        """What there is a curve of: the label, the foreground, and each channel but background."""
        found = self.calibration
        channels = dict(zip(self.names, found.channels, strict=True))
        if found.label is None or found.foreground is None:
            return channels
        del channels[self.names[0]]
        if len(channels) == 1:  # which is the foreground
            return {"label": found.label, **channels}
        return {"label": found.label, "foreground": found.foreground, **channels}


def calibrate_files(
    pairs: Iterable[CasePair],
    folder: str | Path,
    *,
    labels: Mapping[str, Label],
    regions: Sequence[Collection[int]] | None = None,
    bins: int = 15,
    ignore: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CasesCalibration:
    """Compare probabilities with references, over all voxels of all cases.

    One label map, the largest probability of each of its voxels and a block are held at a time.

    Args:
        pairs: The cases, as `pair_files` gives them.
        folder: Holds `<case>_probabilities` of each, `.nii.gz`, `.nii` or `.zarr`, as `volseg
            segment --probabilities` writes them.
        labels: Names of the labels; the channels are background and the labels 1, 2 and so on. A
            single channel is that of any label. Where one has several values, each is a region
            with a channel of its own.
        regions: The labels in each channel, where channels are regions that may overlap.
        bins: Of probability.
        ignore: Voxels whose reference has this value are left out.
        progress: Called with the number of cases done and of all cases.

    Raises:
        InputError: No case has probabilities. What is wrong with a single case is in
            `CasesCalibration.failures` instead.
    """
    listed = list(pairs)
    if regions is None and any(isinstance(label, tuple) for label in labels.values()):
        regions = [values_of(label) for label in labels.values()]
    whole: CalibrationTally | None = None
    channels: list[int | Collection[int]] = []
    cases: list[str] = []
    failures: dict[str, str] = {}
    for done, pair in enumerate(listed, start=1):
        try:
            with _open(pair.case, Path(folder)) as volume:
                channels = _members(volume, labels, regions)
                exclusive = regions is None and len(channels) > 1
                tally = CalibrationTally(channels, exclusive=exclusive, bins=bins, ignore=ignore)
                reference, grid = read_label_map(pair.reference)
                what = f"{volume.source} and the reference {pair.reference}"
                require_same_grid(volume.grid, grid, what=what)
                tally.add_blocks(((one.place, one.values) for one in volume.blocks()), reference)
            # Only now, so that of a file that ends too early nothing counts.
            if whole is None:
                whole = tally
            else:
                whole.merge(tally)
            cases.append(pair.case)
        except Cancelled:
            raise
        except VolsegError as error:
            failures[pair.case] = str(error)
        if progress is not None:
            progress(done, len(listed))
    if whole is None:
        reason = next(iter(failures.values()), "there is no case")
        raise InputError(f"no case has probabilities that can be used ({reason.rstrip('.')}).")
    return CasesCalibration(whole.result(), _names(channels, labels), cases, failures)


def require_probabilities(cases: Sequence[str], folder: str | Path) -> None:
    """Check that there are probabilities of one case at least.

    Raises:
        InputError: There are of none.
    """
    if not any(_find(case, Path(folder)) for case in cases):
        raise InputError(_missing(cases[0], Path(folder)))


def _find(case: str, folder: Path) -> Path | None:
    paths = (folder / f"{case}_probabilities{suffix}" for suffix in _SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def _missing(case: str, folder: Path) -> str:
    return (
        f"there is no {case}_probabilities{{{','.join(_SUFFIXES)}}} in {folder}: write it with "
        "`volseg segment --probabilities nii.gz`."
    )


def _open(case: str, folder: Path) -> StoredVolume:
    path = _find(case, folder)
    if path is None:
        raise InputError(_missing(case, folder))
    return open_zarr(path) if path.suffix == ".zarr" else open_volume(path)


def _members(
    volume: StoredVolume, labels: Mapping[str, Label], regions: Sequence[Collection[int]] | None
) -> list[int | Collection[int]]:
    if regions is not None:
        return list(regions)
    values = [value for label in labels.values() for value in values_of(label)]
    if volume.channels == 1:
        return [sorted(values)]
    if volume.channels != max(values, default=0) + 1:
        raise InputError(
            f"{volume.source} has {volume.channels} channels, which are not the background and the "
            f"labels {dict(labels)}: give all labels of the bundle with --bundle."
        )
    return list(range(volume.channels))


def _names(channels: Sequence[int | Collection[int]], labels: Mapping[str, Label]) -> list[str]:
    whole = {frozenset(values_of(label)): name for name, label in labels.items()}
    whole[frozenset({0})] = "background"
    found = []
    for one in channels:
        values = {one} if isinstance(one, int) else set(one)
        parts = (whole.get(frozenset({value}), f"label {value}") for value in sorted(values))
        found.append(whole.get(frozenset(values)) or " + ".join(parts))
    return found
