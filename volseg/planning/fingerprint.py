"""What a data set looks like: its cases, and those that cannot be used with the reason."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from volseg.atomic import writing_to
from volseg.data import file_stamps
from volseg.errors import InputError
from volseg.io import ImageSource
from volseg.job_limits import memory_of_job, usable_processors
from volseg.planning.case_fingerprint import CaseFaultError, CaseFingerprint, fingerprint_case
from volseg.planning.dataset import CaseFiles

# Entries of journals that other versions of this wrote are measured again.
_VERSION = 4
# Bytes that reading and measuring takes for a voxel of each channel, and of the label.
_BYTES_OF_A_VOXEL = 8
_USABLE_SHARE = 0.5

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """A case that cannot be used, and why.

    Attributes:
        case: Name.
        kind: As of `CaseFaultError`.
        sentence: What is wrong, and what to do.
    """

    case: str
    kind: str
    sentence: str


@dataclass(frozen=True)
class Fingerprint:
    """What a data set looks like.

    Attributes:
        cases: Those that can be used, in the order of the list.
        faults: Those that cannot.
    """

    cases: tuple[CaseFingerprint, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.cases[0].shape)

    @property
    def channels(self) -> int:
        """Channels of each image."""
        return self.cases[0].channels

    @property
    def label_values(self) -> list[int]:
        """The labels that occur, background left out."""
        return sorted({value for case in self.cases for value in case.labels})

    @property
    def label_voxels(self) -> dict[str, dict[int, int]]:
        """Voxels of each label in each case, by name of the case and value of the label."""
        return {
            case.case: {value: size.voxels for value, size in case.labels.items()}
            for case in self.cases
        }

    def text(self) -> str:
        """Return it as JSON, one case a line."""

        def lines(entries: Sequence[Mapping[str, Any]]) -> str:
            return ",".join(f"\n    {json.dumps(entry, allow_nan=False)}" for entry in entries)

        cases = lines([case.as_json() for case in self.cases])
        faults = lines([asdict(fault) for fault in self.faults])
        return f'{{\n  "cases": [{cases}\n  ],\n  "faults": [{faults}\n  ]\n}}\n'


def fingerprint_cases(
    files: CaseFiles,
    *,
    values: Collection[int] | None = None,
    ignore: int | None = None,
    constant_channels: bool = False,
    workers: int | None = None,
    journal: str | Path | None = None,
    progress: Progress | None = None,
) -> Fingerprint:
    """Return what a data set looks like.

    Args:
        files: Image and label of each case, by name.
        values: Labels that may occur, background included; any without it.
        ignore: Value of voxels that nobody labelled.
        constant_channels: Whether a channel of a volume may hold one value everywhere: image by
            image, it cannot be standardised.
        workers: Cases at a time; by default as many as there are processors and room in memory for.
        journal: File that keeps what was found, a line a case: called again with it after a stop,
            only cases are read that it lacks, or whose files have changed.
        progress: Called with the number of cases done and of all.

    Raises:
        InputError: No case can be used; the message names the first with the most common fault.
    """
    report = progress or (lambda _done, _total: None)
    found: dict[str, CaseFingerprint | Fault] = {}
    with _journal(journal) as kept:
        stamps = {case: _stamp(case, files[case], values, ignore) for case in files}
        found = {case: kept.known[stamp] for case, stamp in stamps.items() if stamp in kept.known}
        report(len(found), len(files))
        waiting = {case: paths for case, paths in files.items() if case not in found}
        for case, entry in _measured(waiting, values, ignore, workers):
            kept.add(stamps[case], entry)
            found[case] = entry
            report(len(found), len(files))
    return _together([_usable(found[case], constant_channels) for case in files])


def _measured(
    files: CaseFiles, values: Collection[int] | None, ignore: int | None, workers: int | None
) -> Iterator[tuple[str, CaseFingerprint | Fault]]:
    """Yield cases as they are done. Decompression and counting leave Python to other threads."""

    def measure(case: str) -> CaseFingerprint | Fault:
        try:
            return fingerprint_case(case, *files[case], values=values, ignore=ignore)
        except CaseFaultError as error:
            return Fault(case, error.kind, str(error))

    waiting = sorted(files, key=lambda case: _size(files[case]), reverse=True)
    if workers is None:
        workers = usable_processors()
        # The largest is read alone, as it tells how many there is room for.
        while waiting:
            entry = measure(case := waiting.pop(0))
            yield case, entry
            if isinstance(entry, CaseFingerprint):
                taken = _BYTES_OF_A_VOXEL * (1 + entry.channels) * math.prod(entry.shape)
                workers = min(workers, max(1, int(_USABLE_SHARE * memory_of_job()) // taken))
                break
    pool = ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(measure, case): case for case in waiting}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _size(files: tuple[ImageSource, str | Path]) -> int:
    """Return the bytes of the files of an image."""
    return sum(size for path in _paths(files[0]) for _path, size, _time in file_stamps(path))


def _paths(source: ImageSource) -> list[Path]:
    return [Path(path) for path in (source.values() if isinstance(source, Mapping) else [source])]


def _together(found: Sequence[CaseFingerprint | Fault]) -> Fingerprint:
    """Return the fingerprint, without cases that do not go with the others."""
    sound = [entry for entry in found if isinstance(entry, CaseFingerprint)]
    if not sound:
        faults = [entry for entry in found if isinstance(entry, Fault)]
        reason = "there is none"
        if faults:
            [(kind, _)] = Counter(fault.kind for fault in faults).most_common(1)
            first = next(fault for fault in faults if fault.kind == kind)
            reason = f"{first.case}: {first.sentence}"
        raise InputError(f"no case can be used for training: {reason}")
    kinds = Counter((len(case.shape), case.channels) for case in sound)
    (dims, channels), _ = kinds.most_common(1)[0]
    first_with: dict[str, str] = {}
    entries: list[CaseFingerprint | Fault] = []
    for entry in found:
        if isinstance(entry, CaseFingerprint):
            entry = _fitting(entry, dims, channels, first_with)  # noqa: PLW2901
        entries.append(entry)
    return Fingerprint(
        tuple(entry for entry in entries if isinstance(entry, CaseFingerprint)),
        tuple(entry for entry in entries if isinstance(entry, Fault)),
    )


def _usable(entry: CaseFingerprint | Fault, constant_channels: bool) -> CaseFingerprint | Fault:
    """Return a case, or why its intensities cannot be standardised."""
    if isinstance(entry, Fault) or (constant_channels and len(entry.shape) == 3):
        return entry
    for channel, found in enumerate(entry.intensities, start=1):
        if found.minimum == found.maximum:
            return Fault(
                entry.case,
                "values",
                f"channel {channel} of {entry.channels} of its image holds {found.minimum:g} "
                "everywhere and cannot be standardised: repair the image, or take the channel out "
                "of all images if it tells nothing, such as the opacity of pictures.",
            )
    return entry


def _fitting(
    case: CaseFingerprint, dims: int, channels: int, first_with: dict[str, str]
) -> CaseFingerprint | Fault:
    """Return a case, or why it does not go with those before it."""
    if (len(case.shape), case.channels) != (dims, channels):
        return Fault(
            case.case,
            "channels",
            f"the image has {len(case.shape)} axes and {case.channels} channels, but most have "
            f"{dims} and {channels}.",
        )
    twin = first_with.setdefault(case.image_hash, case.case)
    if twin != case.case:
        return Fault(
            case.case,
            "duplicate",
            f"it holds the same image as {twin}, and must not be in another fold than that.",
        )
    return case


class _Journal:
    """What was found before, by the state of the files it was found in."""

    def __init__(self, file: TextIO | None, known: Mapping[str, CaseFingerprint | Fault]) -> None:
        self._file = file
        self.known = known

    def add(self, stamp: str, entry: CaseFingerprint | Fault) -> None:
        if self._file is not None:
            kind = "measured" if isinstance(entry, CaseFingerprint) else "fault"
            line = json.dumps({"stamp": stamp, kind: asdict(entry)}, allow_nan=False)
            self._file.write(line + "\n")
            self._file.flush()


@contextmanager
def _journal(path: str | Path | None) -> Iterator[_Journal]:
    if path is None:
        yield _Journal(None, {})
        return
    path = Path(path)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    with file:
        if text and not text.endswith("\n"):  # a killed run may have left half a line
            file.write("\n")
        yield _Journal(file, dict(_kept(text)))


def _kept(text: str) -> Iterator[tuple[str, CaseFingerprint | Fault]]:
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            if "fault" in entry:
                yield entry["stamp"], Fault(**entry["fault"])
            else:
                yield entry["stamp"], CaseFingerprint.from_json(entry["measured"])
        except (ValueError, KeyError, TypeError):
            _log.debug("a line of what was found before is not whole: its case is read again")


def _stamp(
    case: str,
    files: tuple[ImageSource, str | Path],
    values: Collection[int] | None,
    ignore: int | None,
) -> str:
    """Return a text that changes when a file of the case, or what is expected of it, does."""
    states = [[str(path), *file_stamps(path)] for source in files for path in _paths(source)]
    expected = None if values is None else sorted(values)
    return json.dumps([_VERSION, case, states, expected, ignore])
