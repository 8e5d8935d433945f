"""One case of ``volseg segment``: fetched if need be, segmented, shown, sent on."""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.atomic import writing_to
from volseg.cli.channel_options import Channels
from volseg.cli.console import errors
from volseg.cli.result_options import PICTURES
from volseg.cli.segment_inputs import Source, described
from volseg.cli.segment_remote import RemoteSeries, Transfer, on_disk, push_written
from volseg.errors import InputError, VolsegError

if TYPE_CHECKING:
    from volseg.cli.case_progress import CaseProgress
    from volseg.cli.result_options import Results
    from volseg.io import ImageSource, ReadingOptions
    from volseg.pacs import Anonymizer, Connection
    from volseg.segmenter import CaseRecord, MemoryPlan, Segmenter
    from volseg.segmenter.streamed import Progress as Advance

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseRunner:
    """Segments one case after the other with the same segmenter and options."""

    segmenter: Segmenter
    reading: ReadingOptions
    results: Results
    transfer: Transfer
    connection: Connection
    anonymizer: Anonymizer | None
    progress: CaseProgress

    def run(self, case: str, source: Source) -> dict[str, Any]:
        """Return what there is to say of a case; what goes wrong with it is said there, too."""
        row: dict[str, Any] = {"case": case, "input": str(source)}
        try:
            return row | self._run(case, source)
        except VolsegError as error:
            sentence, unusable = str(error), isinstance(error, InputError)
        except Exception as error:  # a fault of ours in one case must not stop the others
            _log.debug("the case %s failed unexpectedly", case, exc_info=True)
            sentence = f"unexpected {type(error).__name__}: {error} (details with --debug)"
            unusable = False
        return row | {"status": "failed", "error": sentence, "unusable_input": unusable}

    def _run(self, case: str, source: Source) -> dict[str, Any]:
        files = self.results.files(case, self.segmenter.bundle.spatial_dims)
        self._require_results_of(case, source)
        if self.results.skip_existing and self._is_done(case, source, files):
            row: dict[str, Any] = {"status": "skipped"}
        else:
            row = {"status": "done"} | self._segment_source(case, source, files)
        # Also of cases that are skipped: an earlier run may not have reached the server.
        if self.transfer.push is not None:
            to, connection = self.transfer.push, self.connection
            row["pushed"] = push_written([*files.values()], described(source), to, connection)
        return row

    def _require_results_of(self, case: str, source: Source) -> None:
        """Refuse to replace the results of another image, which is called the same.

        Raises:
            InputError: if the record beside them names another image, or another series of it.
        """
        from volseg.segmenter import read_record, stated_settings

        path = self.results.record(case)
        try:
            record = read_record(path)
        except InputError:  # there is none
            return
        stated = self._stated(source, stated_settings(self.segmenter, self.reading))
        places = [(record.image, stated["image"])]
        if record.channels and stated["channels"]:
            # By name: another bundle may have them in another order, or only some of them. Where
            # they have none in common, the first ones tell.
            channels = stated["channels"]
            common = [name for name in record.channels if name in channels]
            places = [(record.channels[name], channels[name]) for name in common] or places
        others = [(old, new) for old, new in places if not _is_same_place(old, new)]
        series = record.settings.get("series"), stated["settings"].get("series")
        if not others and series[0] == series[1]:
            return
        old, new = (others or places)[0]
        if self.anonymizer is not None:  # whose pseudonym says nothing to the one who gave it
            new = str(described(source))
        named = [
            f"the series {uid} of {place}" if uid else place
            for uid, place in zip(series, (old, new), strict=True)
        ]
        raise InputError(
            f"the results called {case} in {self.results.folder} are those of {named[0]}, not of "
            f"{named[1]}: give each image a folder of its own (-o), or remove {path}."
        )

    def _is_done(self, case: str, source: Source, files: dict[str, Path]) -> bool:
        from volseg.segmenter import are_results_of, stated_settings

        settings = stated_settings(self.segmenter, self.reading)
        return are_results_of(
            self.results.record(case),
            files | self.results.maps(case, self.segmenter.passes),
            bundles=self.segmenter.bundles,
            **self._stated(source, settings),
        )

    def _segment_source(self, case: str, source: Source, files: dict[str, Path]) -> dict[str, Any]:
        path = self.results.record(case)
        with self._on_disk(case, source) as image:
            started = time.perf_counter()
            record = self._segment(case, image, files)
            record = replace(record, **self._stated(source, record.settings))
            record.write(path)
            seconds = round(time.perf_counter() - started, 3)
        first, *others = record.files.items()
        return {
            "output": str(first[1]),
            **{name: str(path) for name, path in others},
            "record": str(path),
            "flags": record.as_json()["quality"]["flags"],
            "seconds": seconds,
        }

    def _stated(self, source: Source, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a record says was given: what was fetched lies here only for a while.

        An anonymized one has a pseudonym of it, by which it is known again.
        """
        channels = source.images if isinstance(source, Channels) else {}
        image = _place(described(source))
        places = {name: _place(one) for name, one in channels.items()}
        if self.anonymizer is not None:
            given = [image, *places.values(), settings.get("series")]
            image = self.anonymizer.new_name(json.dumps(given))
            places = dict.fromkeys(places, image)
            settings = {name: value for name, value in settings.items() if name != "series"}
        return {"image": image, "channels": places, "settings": settings}

    def _segment(self, case: str, image: ImageSource, files: dict[str, Path]) -> CaseRecord:
        """Write all results of what lies here."""
        from volseg.segmenter import require_pictures, segment_to_files

        if any(name in files for name in PICTURES):
            require_pictures(
                image,
                self.segmenter,
                self.reading,
                self.anonymizer,
                as_dicom="dicom-preview" in files,
            )
        maps = self.results.maps(case, self.segmenter.passes)
        written = [*files.values(), *maps.values()]
        with (
            _old_record(self.results.record(case), written) as set_aside,
            self.progress.stage(case, "segmenting") as tiles,
        ):
            record = segment_to_files(
                self.segmenter,
                image,
                {name: file for name, file in files.items() if name not in PICTURES},
                case=case,
                stable=self.results.stable_uids,
                anonymizer=self.anonymizer,
                reading=self.reading,
                planned=_show_plan if self.segmenter.memory_budget is not None else None,
                before_writing=set_aside,
                progress=tiles,
                **maps,
            )
        self._write_previews(image, files)
        return replace(record, files={**record.files, **files})

    def _write_previews(self, image: ImageSource, files: dict[str, Path]) -> None:
        """Write the pictures that were asked for."""
        png, capture = map(files.get, PICTURES)
        if png is None and capture is None:
            return
        import numpy as np

        from volseg.io import grid_of, meta_tensor, read_image
        from volseg.report import preview_picture, write_preview
        from volseg.segmenter import write_dicom_picture

        names = {value: name for name, value in self.segmenter.labels.items()}
        values, labels = read_image(image, **self.reading), read_image(files["nifti"])
        if self.segmenter.bundle.spatial_dims == 2:  # a picture does not say where its pixels lie
            labels = meta_tensor(labels.as_tensor(), grid_of(values).affine)
        if png is not None:
            write_preview(values, labels, png, names=names)
        if capture is not None:
            write_dicom_picture(
                np.asarray(preview_picture(values, labels, names=names)),
                capture,
                segmenter=self.segmenter,
                image=image,
                reading=self.reading,
                stable=self.results.stable_uids,
                anonymizer=self.anonymizer,
            )

    @contextmanager
    def _on_disk(self, case: str, source: Source) -> Iterator[ImageSource]:
        """Give the path of an image, or of each of its channels, while the block runs."""

        def fetching() -> AbstractContextManager[Advance]:
            return self.progress.stage(case, "fetching")

        with ExitStack() as resources:

            def fetched(one: Path | RemoteSeries) -> Path:
                return resources.enter_context(on_disk(one, self.transfer.keep, fetching))

            if isinstance(source, Channels):
                yield {name: fetched(one) for name, one in source.images.items()}
            else:
                yield fetched(source)


def _place(source: Path | RemoteSeries) -> str:
    """Return what names an image wherever one looks from; links stay as they were given."""
    return os.path.abspath(source) if isinstance(source, Path) else str(source)  # noqa: PTH100


@contextmanager
def _old_record(record: Path, results: Sequence[Path]) -> Iterator[Callable[[], None]]:
    """Give what sets an old record aside, which must not lie beside new results.

    It is called before the first result is replaced. Where the block fails and none was, as on a
    full disk, the record comes back: it is still of what lies beside it.

    Args:
        record: its file, which may not be there.
        results: all files that the block may write.

    Yields:
        What is to be called.
    """
    aside = record.with_name(f".volseg-{secrets.token_hex(8)}{record.suffix}")
    before = [*map(_state, results)]

    def set_aside() -> None:
        with writing_to(record), suppress(FileNotFoundError):
            record.replace(aside)

    try:
        yield set_aside
    except BaseException:
        if [*map(_state, results)] == before:
            with suppress(OSError):  # there was none, it is where it was, or it stays aside
                aside.replace(record)
        else:
            _remove(aside)
        raise
    else:
        _remove(aside)


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)


def _state(result: Path) -> tuple[int, int] | None:
    """Return what is another once a file or folder is replaced; None where there is none."""
    try:
        found = result.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_same_place(first: str, second: str) -> bool:
    """Whether two places are one, of files whatever links lead there; of servers as they read."""
    from volseg.pacs import is_address

    if is_address(first) or is_address(second):
        return first == second
    return os.path.realpath(first) == os.path.realpath(second)


def _show_plan(plan: MemoryPlan) -> None:
    errors.print(plan.describe(), soft_wrap=True, markup=False, highlight=False)
