"""DIMSE: C-ECHO, C-FIND, C-GET or C-MOVE, C-STORE (PS3.4, PS3.7), with pynetdicom."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from volseg.errors import InputError, ServerError
from volseg.pacs.association import Peer, status_words
from volseg.pacs.server import Instance, Level, Outgoing

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

logger = logging.getLogger(__name__)

_MOST_CONTEXTS = 128  # of an association: PS3.8, 7.1.1.13
# Instances a request: some servers say nothing before all of them are sent.
_TOGETHER = 32
_PENDING = (0xFF00, 0xFF01)
_SOME_NOT_SENT = (0xA701, 0xA702, 0xB000)  # PS3.4, C.4.2.1.5 and C.4.3.1.4
_NOT_WANTED = 0x0124
_CANNOT_STORE = 0xA700
_IMPLICIT = "1.2.840.10008.1.2"
_UNCOMPRESSED = (_IMPLICIT, "1.2.840.10008.1.2.1")
# Each in a context of its own, so that the server sends what it has as it has it.
_COMPRESSED = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
)


class Dimse:
    """A DIMSE server.

    Args:
        peer: the server, and what this side is called there.
        listen: host (empty for all) and port where this side takes what it asks for by C-MOVE; None
            for C-GET.

    Raises:
        MissingPackageError: if pynetdicom is not installed.
    """

    def __init__(self, peer: Peer, *, listen: tuple[str, int] | None = None) -> None:
        self._peer = peer
        self._peer.application()  # says what is not installed
        self._listen = listen
        self.name = self._peer.name

    def echo(self) -> None:
        """Verify the connection (C-ECHO)."""
        from pynetdicom import sop_class  # noqa: PLC0415 - an optional package

        with self._peer.association([_context(sop_class.Verification)]) as association:
            self._peer.require_status(association.send_c_echo(), "echo")

    def find(
        self, level: Level, keys: Mapping[str, str], returned: Sequence[str]
    ) -> Iterator[dict[str, str]]:
        """Search (C-FIND, Study Root), as in `Server.find`."""
        from pynetdicom import sop_class  # noqa: PLC0415 - an optional package

        model = sop_class.StudyRootQueryRetrieveInformationModelFind
        unique = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}
        identifier = _identifier(
            level, dict.fromkeys((unique.get(level, "SOPInstanceUID"), *returned), "") | dict(keys)
        )
        with self._peer.association([_context(model)]) as association:
            for status, match in association.send_c_find(identifier, model):
                if self._peer.require_status(status, "search") in _PENDING and match is not None:
                    yield _texts(match, self.name)

    def fetch(self, instances: Sequence[Instance], receive: Callable[[Dataset], None]) -> None:
        """Retrieve instances (C-GET, or C-MOVE to this side), as in `Server.fetch`."""
        incoming = _Incoming({instance.uid for instance in instances}, receive)
        if self._listen is None:
            self._get(instances, incoming)
        else:
            self._move(instances, incoming, *self._listen)

    def push(
        self, files: Sequence[Outgoing], report: Callable[[Outgoing, str | None], None]
    ) -> None:
        """Store instances (C-STORE), as in `Server.push`."""
        from pynetdicom import sop_class  # noqa: PLC0415 - an optional package

        # Every server takes part in this, so that one that refuses all else can be told which.
        verification = _context(sop_class.Verification)
        for contexts, batch in _batches(files):
            with self._peer.association([verification, *contexts]) as association:
                for file in batch:
                    report(file, self._store(association, file))

    def _store(self, association: Association, file: Outgoing) -> str | None:
        dataset = file.load()
        kind, syntax = dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID
        accepted = {
            context.transfer_syntax[0]
            for context in association.accepted_contexts
            if context.abstract_syntax == kind
        }
        if syntax not in accepted and not (_IMPLICIT in accepted and syntax in _UNCOMPRESSED):
            return f"it does not take {kind.name} in {syntax.name}"
        try:
            status = association.send_c_store(dataset)
        except ValueError as error:
            if not association.is_established:
                raise
            return f"it cannot be encoded ({error})"
        if "Status" not in status:
            raise self._peer.broken()
        if int(status.Status) >> 12 == 0xB:
            logger.warning("%s took %s with %s.", self.name, file.path, status_words(status))
        elif int(status.Status) != 0:
            return status_words(status)
        return None

    def _get(self, instances: Sequence[Instance], incoming: _Incoming) -> None:
        from pynetdicom import build_role, sop_class  # noqa: PLC0415 - an optional package

        model = sop_class.StudyRootQueryRetrieveInformationModelGet
        kinds = _kinds(instances)
        storage = [_context(kind, *_UNCOMPRESSED) for kind in kinds]
        each = [_context(kind, syntax) for kind in kinds for syntax in _COMPRESSED]
        contexts = [_context(model), *storage, *each][:_MOST_CONTEXTS]
        roles = [build_role(kind, scp_role=True) for kind in kinds]
        with self._peer.association(contexts, roles=roles, on_store=incoming) as association:
            for identifier in _requests(instances):
                self._follow(association.send_c_get(identifier, model), incoming)

    def _move(
        self, instances: Sequence[Instance], incoming: _Incoming, host: str, port: int
    ) -> None:
        from pynetdicom import sop_class  # noqa: PLC0415 - an optional package

        model = sop_class.StudyRootQueryRetrieveInformationModelMove
        with (
            self._listening(incoming, host, port),
            self._peer.association([_context(model)]) as association,
        ):
            for identifier in _requests(instances):
                answers = association.send_c_move(identifier, self._peer.ae_title, model)
                self._follow(answers, incoming)

    def _follow(self, answers: Iterator[tuple[Dataset, Any]], incoming: _Incoming) -> None:
        for status, _ in answers:
            incoming.raise_failure()
            if status.get("Status") in _SOME_NOT_SENT:  # which ones is seen by what is missing
                logger.info("%s: the retrieval ended with %s", self.name, status_words(status))
            else:
                self._peer.require_status(status, "retrieval")
        incoming.raise_failure()

    @contextlib.contextmanager
    def _listening(self, incoming: _Incoming, host: str, port: int) -> Iterator[None]:
        """Be a storage server while the block runs."""
        from pynetdicom import evt  # noqa: PLC0415 - an optional package
        from pynetdicom.presentation import AllStoragePresentationContexts  # noqa: PLC0415

        entity, tls = self._peer.application(), self._peer.tls
        entity.require_called_aet = True
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, [*_UNCOMPRESSED, *_COMPRESSED])
        try:
            server = entity.start_server(
                (host, port),
                block=False,
                ssl_context=None if tls is None else tls.server_context(),
                evt_handlers=[(evt.EVT_C_STORE, incoming)],
            )
        except OSError as error:
            raise InputError(
                f"cannot listen for DICOM on port {port}: {error.strerror}; choose another with "
                "--listen, which the server must know."
            ) from error
        try:
            yield
        finally:
            server.shutdown()


class _Incoming:
    """Takes instances as they come, in whatever thread, and keeps what went wrong with them."""

    def __init__(self, wanted: set[str], receive: Callable[[Dataset], None]) -> None:
        self._wanted = wanted
        self._receive = receive
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def __call__(self, event: Any) -> int:
        """Take one instance; returns a status of the Storage service (PS3.4, B.2.3)."""
        with self._lock:
            uid = str(event.request.AffectedSOPInstanceUID)
            if uid not in self._wanted:
                logger.warning("the instance %s was not asked for, and not taken", uid)
                return _NOT_WANTED
            if self._failure is None:
                try:
                    self._receive(_dataset(event))
                except BaseException as error:  # raised again where it is seen
                    self._failure = error
                else:
                    self._wanted.remove(uid)
                    return 0x0000
            return _CANNOT_STORE

    def raise_failure(self) -> None:
        """Raise what went wrong."""
        if self._failure is not None:
            raise self._failure


def _dataset(event: Any) -> Dataset:
    dataset = event.dataset
    dataset.file_meta = event.file_meta
    return dataset


def _context(abstract_syntax: str, *syntaxes: str) -> PresentationContext:
    from pynetdicom import build_context  # noqa: PLC0415 - an optional package

    return build_context(abstract_syntax, list(syntaxes or _UNCOMPRESSED))


def _identifier(level: Level, keys: Mapping[str, str]) -> Dataset:
    from pydicom import Dataset  # noqa: PLC0415 - an optional package

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    if any(not value.isascii() for value in keys.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _requests(instances: Sequence[Instance]) -> Iterator[Dataset]:
    """Yield identifiers that name all instances (lists of UIDs: PS3.4, C.2.2.2.2)."""
    remaining = iter(instances)
    while batch := list(islice(remaining, _TOGETHER)):
        uids = {"StudyInstanceUID": batch[0].study, "SeriesInstanceUID": batch[0].series}
        identifier = _identifier("IMAGE", uids)
        identifier.SOPInstanceUID = [instance.uid for instance in batch]
        yield identifier


def _texts(match: Dataset, server: str) -> dict[str, str]:
    try:
        return {
            element.keyword: str(element.value)
            for element in match
            if element.keyword and element.value not in (None, "", [])
        }
    except Exception as error:  # pydicom raises many types
        raise ServerError(
            f"{server} answered the search with something that is not DICOM "
            f"({type(error).__name__})."
        ) from error


def _kinds(instances: Sequence[Instance]) -> list[str]:
    """Return the SOP classes that may come."""
    from pynetdicom.presentation import StoragePresentationContexts  # noqa: PLC0415 - optional

    kinds = list(dict.fromkeys(instance.sop_class for instance in instances))
    if all(kinds):
        return kinds
    # The server does not say: what is usual, one context less than an association holds.
    return [str(context.abstract_syntax) for context in StoragePresentationContexts][
        : _MOST_CONTEXTS - 1
    ]


def _batches(
    files: Sequence[Outgoing],
) -> Iterator[tuple[list[PresentationContext], list[Outgoing]]]:
    """Split files into what one association can take, with the contexts it needs."""
    pairs: dict[tuple[str, str], None] = {}
    batch: list[Outgoing] = []
    for file in files:
        kind, syntax = file.instance.sop_class, file.instance.transfer_syntax
        # The default of DICOM beside the file's own, for servers that know no other.
        needed = {(kind, syntax): None}
        if syntax in _UNCOMPRESSED:
            needed[kind, _IMPLICIT] = None
        if len(pairs | needed) >= _MOST_CONTEXTS:
            yield [_context(*pair) for pair in pairs], batch
            pairs, batch = {}, []
        pairs |= needed
        batch.append(file)
    if batch:
        yield [_context(*pair) for pair in pairs], batch
