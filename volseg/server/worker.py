"""The process that computes: it holds the networks of one device and takes one job at a time.

It is started by `WorkerProcess` and spoken to in lines of JSON, on standard input and output; it
ends when its input does, so that it never outlives the server. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import math
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from volseg.errors import Cancelled, InputError, MemoryLimitError, VolsegError
from volseg.server.faults import described
from volseg.server.jobs import RECORD
from volseg.server.private_output import Tell, private_output

if TYPE_CHECKING:
    from volseg.segmenter import CaseRecord, Segmenter

_MOST_NETWORKS = 4
_SECONDS_BETWEEN_REPORTS = 0.1


def main() -> None:
    """Take jobs until the input ends."""
    tell = private_output()
    _prepare()
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    stopped = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if message.get("do") == "cancel":
                stopped.set()
            else:
                stopped.clear()
                jobs.put(message)
        os._exit(0)  # the server is gone: whatever is being computed is not wanted

    threading.Thread(target=listen, daemon=True).start()
    setup = jobs.get()
    work = Work(setup, tell, stopped.is_set)
    while True:
        tell(work.outcome(jobs.get()))


def _prepare() -> None:
    # Warnings of pydicom and others quote values of headers: no patient's name in a log.
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(OSError):  # where memory ends, this process goes and not the server
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")


class Work:
    """What is needed for every job.

    Args:
        setup: first message of the server: device, memory, limits, and how PACS are reached.
        tell: reports to the server.
        stopped: whether the job at hand is not wanted any more.
    """

    def __init__(self, setup: Mapping[str, Any], tell: Tell, stopped: Callable[[], bool]) -> None:
        self._setup = setup
        self._tell = tell
        self._stopped = stopped
        self._segmenter = lru_cache(maxsize=_MOST_NETWORKS)(self._load)
        self._reported = 0.0

    def outcome(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job and return how it ended."""
        folder = Path(job["folder"])
        try:
            with _temporary_files_in(folder / "temporary"):
                files = self._segment(job, folder)
        except Cancelled:
            return {"ended": "cancelled"}
        except VolsegError as error:
            # Where the files of this server lie is nobody's business.
            sentence = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the image")
            return {"ended": "failed", "error": sentence}
        except Exception as error:  # a fault of ours in one job must not stop the others
            print(described(error), file=sys.stderr)  # noqa: T201
            return {"ended": "failed", "error": f"unexpected {type(error).__name__} (a fault)."}
        return {"ended": "done", "files": files}

    def _load(self, bundle: str, _digest: str) -> Segmenter:
        from volseg.segmenter import Segmenter  # noqa: PLC0415 - torch, seconds after the start

        return Segmenter(bundle, device=self._setup["device"], memory_budget=self._setup["memory"])

    def _segment(self, job: Mapping[str, Any], folder: Path) -> dict[str, str]:
        """Segment the image of a job and return the names of the results by format."""
        from volseg.bundle import open_bundle  # noqa: PLC0415
        from volseg.segmenter import result_files, segment_to_files  # noqa: PLC0415

        bundle = Path(job["bundle"])
        segmenter = self._segmenter(str(bundle), open_bundle(bundle).sha256)
        options = dict(job["options"])
        formats, stable = options.pop("formats"), options.pop("stable_uids")
        image = self._image(job, folder)
        paths = image.values() if isinstance(image, dict) else [image]
        require_moderate(paths, self._setup["most_bytes"])
        files = result_files(
            folder / "results",
            "image",
            formats,
            spatial_dims=segmenter.bundle.spatial_dims,
        )
        record = self._with_room(
            lambda: segment_to_files(
                segmenter,
                image,
                files,
                case=folder.name,
                stable=stable,
                reading=options,
                progress=self._report,
                cancelled=self._stopped,
            )
        )
        uploaded = dict.fromkeys(record.channels, "upload")  # nothing of where they lie
        record = dataclasses.replace(record, image="upload", channels=uploaded)
        record.write(folder / "results" / RECORD)
        if job["contiguous"]:
            from volseg.server.contiguous import make_contiguous  # noqa: PLC0415

            make_contiguous(files["nifti"], segmenter.labels)
        return {name: file.name for name, file in files.items()}

    def _with_room(self, segment: Callable[[], CaseRecord]) -> CaseRecord:
        """Segment; where memory does not suffice, again without networks of other bundles."""
        if self._segmenter.cache_info().currsize > 1:
            with contextlib.suppress(MemoryLimitError):
                return segment()
            self._segmenter.cache_clear()
            gc.collect()  # parts of a network refer to each other
        return segment()

    def _image(self, job: Mapping[str, Any], folder: Path) -> Any:
        """Return the path of the image, or of each channel; a series is fetched first."""
        if job["reference"] is None:
            paths = {name: folder / place for name, place in job["inputs"].items()}
            return paths.get("image") if len(paths) == 1 else paths
        return self._fetched(job["reference"], folder / "input" / "fetched")

    def _fetched(self, reference: str, folder: Path) -> Path:
        from volseg.pacs import (  # noqa: PLC0415
            Connection,
            Credentials,
            Tls,
            fetch_series,
            find_one_series,
            open_server,
            parse_address,
        )

        address = parse_address(reference)
        connection = TypeAdapter(Connection).validate_python(self._setup["connection"])
        # One set of options is for all servers, and not each knows what it is for.
        if address.is_dimse:
            connection = dataclasses.replace(connection, credentials=Credentials())
        if not address.is_encrypted:
            connection = dataclasses.replace(connection, tls=Tls())
        server = open_server(address, connection)
        series = find_one_series(server, address.query)

        def fetched(_done: int, _total: int) -> None:
            if self._stopped():
                raise Cancelled("cancelled while the series was fetched.")

        fetch_series(server, series, folder, progress=fetched)
        return folder

    def _report(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._reported >= _SECONDS_BETWEEN_REPORTS or done == total:
            self._reported = now
            self._tell({"progress": {"done": done, "total": total}})


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have temporary files made where they are removed with the job, also after a crash."""
    folder.mkdir(exist_ok=True)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)


def require_moderate(paths: Iterable[Path], most_bytes: int) -> None:
    """Refuse what becomes larger than what is taken, however small its file is.

    Of the other formats the size was known when they were received.

    Raises:
        InputError: it does.
    """
    from volseg.io.nifti_header import open_nifti  # noqa: PLC0415

    for path in paths:
        if not path.name.endswith(".nii.gz"):
            continue
        voxels = math.prod(open_nifti(path).shape)  # of the header alone
        if voxels > most_bytes:
            raise InputError(f"the image has {voxels:,} voxels, more than this server takes.")


if __name__ == "__main__":
    main()
