"""Finding volseg on this computer, and making an environment for it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .child_process import output_of, running
from .errors import VolSegError
from .steps import Progress, Steps, in_background

_SCRIPTS, _SUFFIX = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
_PYTHON, _OLDEST_PYTHON = "3.12", (3, 11)
_PYTHONS = ("python3.12", "python3.13", "python3.11", "python3", "python")


def find_volseg(chosen: str, environment: Mapping[str, str]) -> Steps[str]:
    """Step until a `volseg` has answered, and return the path of the program.

    Args:
        chosen: program, or folder of its environment, that the user set; no other one is tried
            then. Without it the variable VOLSEG, the PATH, and the places where environments
            usually lie are looked into.
        environment: what it is run in: see `child_environment`.

    Raises:
        VolSegError: none is found, or what was chosen is not volseg.
    """
    wanted = chosen or environment.get("VOLSEG", "")
    if wanted:
        program = Path(wanted).expanduser()
        if program.is_dir():
            program = program / _SCRIPTS / f"volseg{_SUFFIX}"
        if not (yield from in_background(_answers, str(program), environment)):
            raise VolSegError(
                f"{program} is not volseg, or does not run: choose the program volseg, or the "
                "folder of the Python environment that it is installed in."
            )
        return str(program)
    for candidate in _usual_places(environment):
        if (yield from in_background(_answers, candidate, environment)):
            return candidate
    raise VolSegError(
        "volseg is not found on this computer: choose where it is, have an environment made for "
        "it, or use a server."
    )


def own_environment() -> Path:
    """Return the folder of the environment that this extension makes."""
    return Path.home() / ".volseg" / "slicer-environment"


def _usual_places(environment: Mapping[str, str]) -> Iterator[str]:
    on_path = shutil.which("volseg", path=environment.get("PATH", ""))
    home = Path.home()
    conda = ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba", ".conda")
    folders = [
        own_environment(),
        home / ".local",
        home / ".venvs" / "volseg",
        home / ".virtualenvs" / "volseg",
        home / ".local" / "share" / "pipx" / "venvs" / "volseg",
        home / "pipx" / "venvs" / "volseg",
        *(home / name / "envs" / "volseg" for name in conda),
    ]
    programs = (folder / _SCRIPTS / f"volseg{_SUFFIX}" for folder in folders)
    yield from itertools.chain(
        [on_path] if on_path else [], (str(program) for program in programs if program.is_file())
    )


def _answers(program: str, environment: Mapping[str, str]) -> bool:
    return _output([program, "--version"], environment).startswith("volseg ")


def _output(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what a program writes, or nothing where it fails."""
    try:
        ended = output_of(command, environment, seconds=60)
    except VolSegError:
        return ""
    return ended.stdout if ended.returncode == 0 else ""


@dataclass(frozen=True)
class Creation:
    """How an environment for volseg will be made, to be shown before it is.

    Attributes:
        folder: the environment.
        commands: run one after the other.
    """

    folder: Path
    commands: tuple[tuple[str, ...], ...]

    def describe(self) -> str:
        """Return the commands as a person would type them."""
        return "\n".join(subprocess.list2cmdline(command) for command in self.commands)

    def run(self, environment: Mapping[str, str]) -> Steps[str]:
        """Step until the environment is made, and return its `volseg`; nothing stays if it fails.

        Raises:
            VolSegError: a command failed, with what it said last.
        """
        try:
            for command in self.commands:
                yield from _run(command, environment)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return str(self.folder / _SCRIPTS / f"volseg{_SUFFIX}")


def plan_creation(source: str, environment: Mapping[str, str]) -> Creation:
    """Return how an environment will be made.

    Args:
        source: what pip is to install: a folder with the source code of volseg, or a wheel.
        environment: what the commands are run in; uv is taken where there is one, which also brings
            a Python, and else a Python that is on the PATH.

    Raises:
        VolSegError: there is neither uv nor a Python that is new enough, or an environment is there
            already, or the source is not given.
    """
    folder = own_environment()
    if not source or not Path(source).exists():  # a mere name could be anybody's on PyPI
        raise VolSegError("say what to install: the folder of volseg's source code, or a wheel.")
    if folder.exists():
        raise VolSegError(f"{folder} is there already: remove it to have it made again.")
    source = str(Path(source).resolve())
    constraints = Path(source) / "constraints.txt"
    pinned = ["--constraint", str(constraints)] if constraints.is_file() else []
    python = str(folder / _SCRIPTS / f"python{_SUFFIX}")
    path = os.pathsep.join([environment.get("PATH", ""), sysconfig.get_path("scripts")])
    uv = shutil.which("uv", path=path)
    if uv:
        make = (uv, "venv", "--python", _PYTHON, str(folder))
        install = (uv, "pip", "install", "--python", python, *pinned, source)
        return Creation(folder, (make, install))
    base = _recent_python(environment)
    if base is None:
        raise VolSegError(
            "there is neither uv nor Python 3.11 or newer on this computer: install one of them, "
            "or use a server."
        )
    install = (python, "-m", "pip", "install", *pinned, source)
    return Creation(folder, ((base, "-m", "venv", str(folder)), install))


def _recent_python(environment: Mapping[str, str]) -> str | None:
    for name in _PYTHONS:
        program = shutil.which(name, path=environment.get("PATH", ""))
        question = "import sys; print(*sys.version_info[:2])"
        answer = _output([program, "-c", question], environment) if program else ""
        if answer and tuple(int(part) for part in answer.split()) >= _OLDEST_PYTHON:
            return program
    return None


def _run(command: Sequence[str], environment: Mapping[str, str]) -> Steps[None]:
    last = ""
    with running(command, environment, with_output=True) as child:
        while (line := (yield from child.next_line())) is not None:
            last = line.strip() or last
            yield Progress(last)
        code = child.wait()
    if code != 0:
        raise VolSegError(f"{command[0]} failed: {last or 'it said nothing'}.")
