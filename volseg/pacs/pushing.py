"""Sending DICOM files to a server, each of them once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.errors import InputError, ServerError
from volseg.pacs.finding import list_instances
from volseg.pacs.part10 import damage, files_of, instance_of, read_dataset
from volseg.pacs.retrying import Patience
from volseg.pacs.server import Instance, Outgoing, Server

if TYPE_CHECKING:
    from pydicom import Dataset

    from volseg.pacs.anonymizing import Anonymizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pushed:
    """What became of the files of a push.

    Attributes:
        sent: instances that the server has taken.
        already_there: instances that it had, and that were not sent again.
    """

    sent: tuple[Instance, ...]
    already_there: tuple[Instance, ...]


def push_files(
    server: Server,
    inputs: Iterable[str | os.PathLike[str]],
    *,
    anonymizer: Anonymizer | None = None,
    again: bool = False,
    progress: Callable[[int, int], None] | None = None,
    patience: Patience | None = None,
) -> Pushed:
    """Send DICOM files of any kind, as they are, and make sure that the server took them.

    All files are looked at before the first is sent. One instance at a time is held in memory.

    Args:
        server: where to.
        inputs: DICOM files, and folders of them at any depth; other files in folders are passed
            over.
        anonymizer: takes out what tells who the patient is; the files stay as they are.
        again: send also what the server has already.
        progress: called with how many instances are there and how many there are to be.
        patience: how often to try again.

    Raises:
        InputError: if a file is missing, damaged or cannot be anonymized; nothing was sent.
        ServerError: if the server fails or refuses files; the message says how many it has taken.
    """
    patience = patience or Patience()
    files = _outgoing([Path(path) for path in inputs], anonymizer)
    waiting = {file.instance.uid: file for file in files}
    there = set() if again else _already_there(server, files, patience)
    for uid in there:
        del waiting[uid]
    sent: list[Instance] = []
    refused: dict[str, str] = {}

    def report(file: Outgoing, reason: str | None) -> None:
        del waiting[file.instance.uid]
        if reason is None:
            sent.append(file.instance)
        else:
            refused[str(file.path)] = reason
        if progress is not None:
            progress(len(files) - len(waiting), len(files))

    if progress is not None:
        progress(len(there), len(files))
    try:
        if waiting:
            patience.trying(
                lambda: server.push(list(waiting.values()), report),
                progressed=lambda: -len(waiting),
            )
    except ServerError as error:
        raise ServerError(
            f"{error} It has {len(there) + len(sent)} of {len(files)} instances: the same command "
            "sends the rest.",
            passing=error.passing,
        ) from error
    if refused:
        path, reason = next(iter(refused.items()))
        raise ServerError(
            f"{server.name} refused {len(refused)} of {len(files)} instances, the first of them "
            f"{path}: {reason}."
        )
    had = tuple(file.instance for file in files if file.instance.uid in there)
    return Pushed(tuple(sent), had)


def _outgoing(inputs: list[Path], anonymizer: Anonymizer | None) -> list[Outgoing]:
    files: dict[str, Outgoing] = {}
    for path in files_of(inputs):
        if (found := damage(path)) is not None:
            where = "" if str(path) in found else f"{path}: "
            raise InputError(f"nothing was sent: {where}{found.rstrip('.')}.")
        header = read_dataset(path, header_only=True)
        instance = instance_of(header, str(path))
        if anonymizer is not None:
            anonymizer.require_possible(header, str(path))
            instance = anonymizer.new_instance(instance)
        if instance.uid in files:
            raise InputError(
                f"nothing was sent: {files[instance.uid].path} and {path} are both the instance "
                f"{instance.uid}; leave one out."
            )
        files[instance.uid] = Outgoing(instance, path, partial(_load, path, anonymizer))
    if not files:
        raise InputError("there is no DICOM file to send in what was given.")
    return list(files.values())


def _load(path: Path, anonymizer: Anonymizer | None) -> Dataset:
    dataset = read_dataset(path)
    return dataset if anonymizer is None else anonymizer.anonymize(dataset, source=str(path))


def _already_there(server: Server, files: list[Outgoing], patience: Patience) -> set[str]:
    """Return the UIDs of files that the server has; none where it cannot be asked."""
    there: set[str] = set()
    for study, series in dict.fromkeys((f.instance.study, f.instance.series) for f in files):
        try:
            listed = patience.trying(partial(list_instances, server, study, series))
        except ServerError as error:
            if error.passing:
                raise
            # A server may store without being searchable (PS3.4, B).
            logger.info("cannot ask for what is there, so all is sent: %s", error)
            return set()
        there.update(instance.uid for instance in listed)
    return there & {file.instance.uid for file in files}
