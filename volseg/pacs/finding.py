"""Looking for series and for what is in them, the same way on every server.

Only the hierarchical searches that every server must support are used (PS3.4, C.4.1.3.1.1): first
the studies, then the series of each. One search goes beyond: a series known by nothing but its UID.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from volseg.errors import InputError, ServerError
from volseg.pacs.query import FoundSeries, SeriesQuery, is_uid
from volseg.pacs.server import Instance, Server

logger = logging.getLogger(__name__)

_STUDY = ("PatientID", "PatientName", "StudyDate", "AccessionNumber", "StudyDescription")
_SERIES = ("Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances")
_CALLED = {
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
    "SOPInstanceUID": "SOP Instance UID",
}


class _OddUidError(ServerError):
    """What a server gives as a UID is none."""


def find_series(
    server: Server, query: SeriesQuery, *, limit: int | None = None
) -> list[FoundSeries]:
    """Return the series that meet all conditions, in the order of the server.

    What it lists under something that is no UID is left out, with a warning.

    Args:
        server: where to look.
        query: the conditions; none of them means every series.
        limit: stop after this many.

    Raises:
        ServerError: if the server cannot be asked.
    """
    found: list[FoundSeries] = []
    keys = query.study_keys()
    if query.series and not keys.get("StudyInstanceUID"):
        keys = {"StudyInstanceUID": _study_of(server, query.series)}
        if not keys["StudyInstanceUID"]:
            return []
    for study in server.find("STUDY", keys, ("StudyInstanceUID", *_STUDY)):
        uid = _listed_uid(study, "StudyInstanceUID", "a study", server)
        if not uid:
            continue
        series_keys = {"StudyInstanceUID": uid} | query.series_keys()
        wanted = ("SeriesInstanceUID", *_SERIES)
        for series in server.find("SERIES", series_keys, wanted):
            own = _listed_uid(series, "SeriesInstanceUID", "a series", server)
            one = _found(uid, own, study, series)
            if own and query.matches(one):
                found.append(one)
            if limit is not None and len(found) >= limit:
                return found
    return found


def find_one_series(server: Server, query: SeriesQuery) -> FoundSeries:
    """Return the only series that meets all conditions.

    Raises:
        InputError: if there is none, or more than one, which the message lists.
        ServerError: if the server cannot be asked.
    """
    shown = 8
    found = find_series(server, query, limit=shown + 1)
    if not found:
        raise InputError(
            f"{server.name} has no series that meets the conditions; `volseg pacs find` lists "
            "what it has."
        )
    if len(found) > 1:
        listed = "; ".join(
            f"{one.modality or '?'} {one.description or 'without description'!r} ({one.series})"
            for one in found[:shown]
        )
        more = " and more" if len(found) > shown else ""
        raise InputError(
            f"{server.name} has several series that meet the conditions, where one is expected: "
            f"{listed}{more}; name one with ?series=UID."
        )
    return found[0]


def list_instances(server: Server, study: str, series: str) -> list[Instance]:
    """Return the instances of a series that the server has, none if it does not know the series.

    Raises:
        ServerError: if the server cannot be asked.
    """
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    rows = server.find("IMAGE", keys, ("SOPInstanceUID", "SOPClassUID"))
    instances: dict[str, Instance] = {}
    for row in rows:
        uid = _uid(row, "SOPInstanceUID", f"an instance of the series {series}", server)
        instances[uid] = Instance(study, series, uid, row.get("SOPClassUID", ""))
    return list(instances.values())


def _study_of(server: Server, series: str) -> str:
    """Return the study of a series, empty if the server finds none."""
    rows = server.find("SERIES", {"SeriesInstanceUID": series}, ("StudyInstanceUID",))
    found = next((row for row in rows if row.get("SeriesInstanceUID") == series), None)
    if found is not None and not found.get("StudyInstanceUID"):
        raise ServerError(
            f"{server.name} does not say which study the series {series} is in: name the study, "
            "too (?study=UID&series=UID)."
        )
    return _uid(found, "StudyInstanceUID", f"the series {series}", server) if found else ""


def _listed_uid(row: Mapping[str, str], keyword: str, what: str, server: Server) -> str:
    """Return a UID of a row of a list; empty if it is an odd one, as the others count, still."""
    try:
        return _uid(row, keyword, what, server)
    except _OddUidError as error:
        logger.warning("left out: %s", error)
        return ""


def _uid(row: Mapping[str, str], keyword: str, what: str, server: Server) -> str:
    """Return a UID of a row; folders and files are called after it, so it must be one.

    Raises:
        ServerError: if there is none, or something else.
    """
    uid = row.get(keyword, "")
    if not uid:
        raise ServerError(f"{server.name} lists {what} without its {_CALLED[keyword]}.")
    if not is_uid(uid):
        raise _OddUidError(
            f"{server.name} lists {what} with the {_CALLED[keyword]} {uid[:80]!r}: expected "
            "digits and dots, 64 at most; nothing can be fetched under such a name."
        )
    return uid


def _found(study_uid: str, uid: str, study: dict[str, str], series: dict[str, str]) -> FoundSeries:
    number = series.get("NumberOfSeriesRelatedInstances", "")
    return FoundSeries(
        study=study_uid,
        series=uid,
        patient=study.get("PatientID", ""),
        name=study.get("PatientName", ""),
        date=study.get("StudyDate", ""),
        accession=study.get("AccessionNumber", ""),
        study_description=study.get("StudyDescription", ""),
        modality=series.get("Modality", ""),
        description=series.get("SeriesDescription", ""),
        instances=int(number) if number.isdecimal() else None,
    )
