"""Fetching a series into a folder, so that an interrupted transfer goes on where it stopped."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.errors import InputError, ServerError
from volseg.pacs.finding import list_instances
from volseg.pacs.part10 import damage, instance_in, instance_of, write_dataset
from volseg.pacs.query import FoundSeries, is_uid
from volseg.pacs.retrying import Patience
from volseg.pacs.server import Instance, Server

if TYPE_CHECKING:
    from pydicom import Dataset

    from volseg.pacs.anonymizing import Anonymizer

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def fetch_series(
    server: Server,
    series: FoundSeries,
    folder: str | os.PathLike[str],
    *,
    anonymizer: Anonymizer | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> list[Path]:
    """Fetch a series into `folder`, one `<SOP Instance UID>.dcm` an instance, as it is stored.

    Each file appears whole or not at all. Instances that are there already, whole, are not fetched
    again, so that the same call goes on after an interruption. A few instances at a time are in
    memory.

    Args:
        server: where the series is.
        series: which one, of `find_series`.
        folder: made if missing; files of other names in it are not touched.
        anonymizer: takes out what tells who the patient is before anything is written; the names of
            the files are the new UIDs then.
        progress: called with how many instances are there and how many there are to be.
        patience: how often to try again.

    Returns:
        The files of the series, in the order of the server.

    Raises:
        ServerError: if the server has no such series, or fails; the message says how much is there.
        OutputError: if a file cannot be written.
        InputError: if an instance cannot be anonymized (its burnt-in annotations, for example).
    """
    patience = patience or Patience()
    listed = patience.trying(lambda: list_instances(server, series.study, series.series))
    if not listed:
        raise ServerError(f"{server.name} lists no instance of the series {series.series}.")
    if len(listed) < (series.instances or 0):
        raise ServerError(
            f"{server.name} lists {len(listed)} instances of the series {series.series}, and says "
            f"that it has {series.instances}: it limits how many it lists, so some would be missed."
        )
    target = _Target(Path(folder), anonymizer, server.name)
    missing = {instance.uid: instance for instance in listed if not target.holds(instance.uid)}
    if len(missing) < len(listed):
        logger.info("%d of %d instances are there", len(listed) - len(missing), len(listed))

    def report() -> None:
        if progress is not None:
            progress(len(listed) - len(missing), len(listed))

    def receive(dataset: Dataset) -> None:
        uid = _wanted(dataset, missing, server)
        target.put(dataset, uid)
        del missing[uid]
        report()

    def attempt() -> None:
        server.fetch(list(missing.values()), receive)
        if missing:
            raise ServerError(
                f"{server.name} did not send {len(missing)} of the instances it lists.",
                passing=True,
            )

    report()
    try:
        if missing:
            patience.trying(attempt, progressed=lambda: -len(missing))
    except ServerError as error:
        there = f"{len(listed) - len(missing)} of {len(listed)}"
        raise ServerError(
            f"{error} {there} instances of the series {series.series} are in {folder}, whole: the "
            "same command fetches the rest.",
            passing=error.passing,
        ) from error
    return [target.path(instance.uid) for instance in listed]


def _wanted(dataset: Dataset, missing: dict[str, Instance], server: Server) -> str:
    """Return the UID of an instance, one of those that are missing."""
    try:
        instance = instance_of(dataset, f"what {server.name} sent")
    except InputError as error:
        raise ServerError(str(error)) from error
    wanted = missing.get(instance.uid)
    if wanted is None or wanted.series != instance.series or wanted.study != instance.study:
        raise ServerError(
            f"{server.name} sent the instance {instance.uid} of the series {instance.series}, "
            "which was not asked for."
        )
    return instance.uid


class _Target:
    """The folder that a series is fetched into."""

    def __init__(self, folder: Path, anonymizer: Anonymizer | None, server: str) -> None:
        self._folder = folder
        self._server = server
        self._anonymizer = anonymizer

    def path(self, uid: str) -> Path:
        name = self._new(uid)
        if not is_uid(name):  # or it might lead out of the folder
            raise ServerError(f"{self._server} has an instance {name[:80]!r}, which is no UID.")
        return self._folder / f"{name}.dcm"

    def holds(self, uid: str) -> bool:
        path = self.path(uid)
        if not path.exists():
            return False
        found = damage(path)
        if found is None and instance_in(path).uid != self._new(uid):
            found = "it holds another instance"
        if found is not None:
            logger.warning("%s is fetched again: %s.", path, found.rstrip("."))
        return found is None

    def put(self, dataset: Dataset, uid: str) -> None:
        if self._anonymizer is not None:
            dataset = self._anonymizer.anonymize(dataset)
        try:
            write_dataset(dataset, self.path(uid))
        except InputError as error:
            raise ServerError(f"what came from {self._server} cannot be kept: {error}") from error

    def _new(self, uid: str) -> str:
        return uid if self._anonymizer is None else self._anonymizer.new_uid(uid)
