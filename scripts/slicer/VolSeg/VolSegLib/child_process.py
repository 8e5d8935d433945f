"""Other programs, run outside of Slicer's own Python."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from .errors import VolSegError
from .steps import SECONDS_A_STEP, Steps

_OF_SLICER = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "QT_PLUGIN_PATH",
)
_SECONDS_TO_TIDY_UP = 5


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that has nothing to do with Slicer.

    With the variables by which Slicer finds its own Python and libraries, another Python would load
    those and fail.

    Args:
        environment: that of Slicer, or better the one that Slicer was started in.
    """
    home = environment.get("SLICER_HOME")
    child = {name: value for name, value in environment.items() if name not in _OF_SLICER}
    if home and "PATH" in child:
        folders = child["PATH"].split(os.pathsep)
        child["PATH"] = os.pathsep.join(
            folder for folder in folders if not Path(folder).is_relative_to(home)
        )
    return {**child, "PYTHONUTF8": "1"}


class Child:
    """A program that runs, and the lines that it writes.

    Args:
        command: the program and its arguments.
        environment: all of its variables.
        with_output: whether lines of its standard output are read, too; else only what it writes
            to the standard error.

    Raises:
        VolSegError: it cannot be started.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, with_output: bool
    ) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - what the user chose or saw
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if with_output else subprocess.DEVNULL,
                stderr=subprocess.STDOUT if with_output else subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                start_new_session=True,  # to be ended with all that it started
            )
        except OSError as error:
            raise VolSegError(f"{command[0]} cannot be started: {error.strerror}.") from error
        stream = self._process.stdout or self._process.stderr
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(stream, self._lines), daemon=True).start()

    def next_line(self) -> Steps[str | None]:
        """Step until it has written a line; return None when it has ended."""
        while True:
            try:
                return self._lines.get(timeout=SECONDS_A_STEP)
            except queue.Empty:
                yield None

    def wait(self) -> int:
        """Return the exit code of a program that has ended."""
        return self._process.wait()

    def end(self) -> None:
        """End it if it runs: first asked to, so that it tidies up."""
        if self._process.poll() is not None:
            return
        self._send("SIGTERM")
        try:
            self._process.wait(_SECONDS_TO_TIDY_UP)
        except subprocess.TimeoutExpired:
            self._send("SIGKILL")
            self._process.wait()

    def _send(self, name: str) -> None:
        """Send a signal to it and to all that it started; Windows has none, and ends it."""
        if os.name == "nt":
            self._process.terminate()
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, getattr(signal, name))


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], *, with_output: bool = False
) -> Iterator[Child]:
    """Start a program, and end it when the block is left: see `Child`."""
    child = Child(command, environment, with_output=with_output)
    try:
        yield child
    finally:
        child.end()


def output_of(
    command: Sequence[str], environment: Mapping[str, str], seconds: int
) -> subprocess.CompletedProcess[str]:
    """Return what a program writes, which is to take no longer than some seconds.

    Raises:
        VolSegError: it cannot be started, or takes longer.
    """
    try:
        return subprocess.run(  # noqa: S603 - what the user chose
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise VolSegError(f"{command[0]} cannot be started: {error.strerror}.") from error
    except subprocess.TimeoutExpired as error:
        raise VolSegError(f"{command[0]} has not answered for {seconds} seconds.") from error


def _read(stream: TextIO, lines: queue.Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)
