"""What is looked for on a server, and what is found there."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass

from volseg.errors import InputError

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_DATES = re.compile(r"[0-9]{8}(-([0-9]{8})?)?|-[0-9]{8}")
_LONGEST_UID = 64
# The condition that each matching key of a search takes.
_STUDY_KEYS = {
    "StudyInstanceUID": "study",
    "PatientID": "patient",
    "PatientName": "name",
    "StudyDate": "date",
    "AccessionNumber": "accession",
    "ModalitiesInStudy": "modality",
}
_SERIES_KEYS = {
    "SeriesInstanceUID": "series",
    "Modality": "modality",
    "SeriesDescription": "description",
}


def is_uid(text: str) -> bool:
    """Return whether a text may be a DICOM UID (PS3.5, 9.1)."""
    return _UID.fullmatch(text) is not None and len(text) <= _LONGEST_UID


@dataclass(frozen=True)
class FoundSeries:
    """A series as a server describes it; what the server does not say is empty."""

    study: str
    series: str
    patient: str = ""
    name: str = ""
    date: str = ""
    accession: str = ""
    study_description: str = ""
    modality: str = ""
    description: str = ""
    instances: int | None = None


@dataclass(frozen=True)
class SeriesQuery:
    """Conditions on series, all of which must be met; empty ones are not conditions.

    Texts may hold the wildcards `*` and `?` (PS3.4, C.2.2.2.4), the UIDs may not.

    Attributes:
        study: Study Instance UID.
        series: Series Instance UID.
        patient: Patient ID.
        name: Patient's Name, as in `Doe^Jane` or `DOE*`; in letters, ideograms or sounds.
        date: Study Date, `20260131`, or a range: `20260101-20260131`, `20260101-`, `-20260131`.
        accession: Accession Number.
        modality: such as `CT`.
        description: Series Description.
    """

    study: str = ""
    series: str = ""
    patient: str = ""
    name: str = ""
    date: str = ""
    accession: str = ""
    modality: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse what no server could answer.

        Raises:
            InputError: if a UID or the date is not one.
        """
        for uid in (self.study, self.series):
            if uid and not is_uid(uid):
                raise InputError(
                    f"{uid!r} is not a DICOM UID: expected digits and dots, 64 at most; `volseg "
                    "pacs find` lists those of a server."
                )
        if self.date and not _DATES.fullmatch(self.date):
            raise InputError(
                f"the study date {self.date!r} cannot be read: expected YYYYMMDD, or a range such "
                "as 20260101-20260131."
            )

    @property
    def has_conditions(self) -> bool:
        """Whether there is any."""
        return any(dataclasses.astuple(self))

    def merged(self, other: SeriesQuery) -> SeriesQuery:
        """Return the conditions of both.

        Raises:
            InputError: if both set the same condition differently.
        """
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        for name in ours:
            if ours[name] and theirs[name] and ours[name] != theirs[name]:
                raise InputError(
                    f"two values of {name}, {ours[name]!r} in the address and {theirs[name]!r} "
                    "beside it: give one."
                )
        return SeriesQuery(**{name: ours[name] or theirs[name] for name in ours})

    def study_keys(self) -> dict[str, str]:
        """Return the matching keys of a search for studies, keyword to value."""
        return self._keys(_STUDY_KEYS)

    def series_keys(self) -> dict[str, str]:
        """Return the matching keys of a search for series, keyword to value."""
        return self._keys(_SERIES_KEYS)

    def _keys(self, conditions: Mapping[str, str]) -> dict[str, str]:
        values = {keyword: getattr(self, name) for keyword, name in conditions.items()}
        return {keyword: value for keyword, value in values.items() if value}

    def matches(self, found: FoundSeries) -> bool:
        """Return whether a series meets every condition.

        A server answers as if a key that it does not support had not been given, so what comes
        back is more than what was asked for (PS3.4, C.2.2.1.2 and C.2.2.1.3).
        """
        texts = ("study", "series", "patient", "accession", "modality", "description")
        names = (found.name, *found.name.split("="))  # in letters, ideograms and sounds
        return (
            all(_like(getattr(found, text), getattr(self, text)) for text in texts)
            and any(_like(name, self.name) for name in names)
            and _within(found.date, self.date)
        )


def _like(value: str, pattern: str) -> bool:
    if not pattern:
        return True
    # Servers differ in case, and pad names with empty components.
    value, pattern = (text.rstrip("^ ").casefold() for text in (value, pattern))
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def _within(date: str, dates: str) -> bool:
    if not dates:
        return True
    first, dash, last = dates.partition("-")
    return date == first if not dash else bool(date) and first <= date <= (last or "9")
