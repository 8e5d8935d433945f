"""volseg on this computer, as a program in an environment of its own."""

from __future__ import annotations

import json
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bundles import Bundle, read_bundles
from .child_process import output_of, running
from .errors import VolSegError
from .results import Result, read_remarks
from .steps import Progress, Steps, in_background


@dataclass(frozen=True)
class LocalVolSeg:
    """A `volseg` that was found or made.

    Attributes:
        program: path of the program.
        environment: what it is run in: see `child_environment`.
        own_bundles: folders of bundles of the user's own.
    """

    program: str
    environment: Mapping[str, str]
    own_bundles: Sequence[str] = ()

    def bundles(self) -> Steps[list[Bundle]]:
        """Step until the bundles are listed."""
        rows = yield from in_background(self._list)
        return read_bundles(rows)

    def _list(self) -> Any:
        command = [self.program, "bundle", "list", "--json", *self.own_bundles]
        listed = output_of(command, self.environment, seconds=120)
        if listed.returncode != 0:
            raise VolSegError(_told(listed.stderr.splitlines(), listed.returncode))
        try:
            return json.loads(listed.stdout)
        except ValueError as error:
            raise VolSegError(f"{self.program} does not list its bundles: is it volseg?") from error

    def segment(
        self, bundle: Bundle, images: Mapping[str, Path], folder: Path, options: Mapping[str, str]
    ) -> Steps[Result]:
        """Step until images are segmented, and return the label map and remarks on it.

        As `segment_files`, by one of `bundles`.
        """
        return (yield from self.segment_files(bundle.reference, images, folder, options))

    def segment_files(
        self, bundle: str, images: Mapping[str, Path], folder: Path, options: Mapping[str, str]
    ) -> Steps[Result]:
        """Step until images are segmented, and return the label map and remarks on it.

        Args:
            bundle: its name, or its folder.
            images: files by channel.
            folder: an empty one, which all files go to; what is left in it is the caller's to
                remove.
            options: further ones of `volseg segment`, by name, such as ``device``.

        Raises:
            VolSegError: what volseg says.
        """
        out = folder / "out"
        named = [part for pair in options.items() for part in (f"--{pair[0]}", pair[1])]
        command = [self.program, "segment", *_inputs(images), "--output", str(out)]
        command += ["--bundle", bundle, "--progress", "lines", *named]
        environment = {**self.environment, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
        result: Result | None = None
        said: deque[str] = deque(maxlen=40)
        with running(command, environment) as child:
            while (line := (yield from child.next_line())) is not None:
                event = _event(line)
                if event is None:
                    said.append(line)
                elif event["stage"] == "failed":
                    raise VolSegError(event["error"])
                elif event["stage"] == "done":
                    result = Result(Path(event["output"]), read_remarks(event.get("flags", ())))
                else:
                    yield Progress(event["stage"], event["done"], event["total"])
            code = child.wait()
        if code != 0 or result is None:
            raise VolSegError(_told(said, code))
        return result

    def convert(self, labels: Path, target: Path) -> Steps[None]:
        """Step until a label map is written in the format that the target's suffix says.

        Raises:
            VolSegError: what volseg says.
        """
        command = [self.program, "convert", str(labels), str(target)]
        said: deque[str] = deque(maxlen=40)
        with running(command, self.environment) as child:
            while (line := (yield from child.next_line())) is not None:
                said.append(line)
            code = child.wait()
        if code != 0:
            raise VolSegError(_told(said, code))


def _inputs(images: Mapping[str, Path]) -> list[str]:
    if len(images) == 1:
        return [str(path) for path in images.values()]
    return [part for name, path in images.items() for part in ("--channel", f"{name}={path}")]


def _event(line: str) -> dict[str, Any] | None:
    """Return what a line of `--progress lines` holds, or None if it is for people."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "stage" in event else None


def _told(lines: Sequence[str] | deque[str], returncode: int) -> str:
    """Return the sentence of a program that did not do what it should."""
    if returncode in (-signal.SIGTERM, 0):
        return "volseg was ended before it was done."
    if returncode < 0:
        return (
            "volseg was ended by the system, most likely for want of memory: close other programs, "
            "or set a limit under Memory."
        )
    said = [line.strip() for line in lines if line.strip()]
    if not said:
        return f"volseg ended with code {returncode} and said nothing."
    return said[-1].removeprefix("error: ")
