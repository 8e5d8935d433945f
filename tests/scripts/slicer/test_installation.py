"""Finding volseg, and making an environment for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_slicer import result_of
from VolSegLib import installation
from VolSegLib.errors import VolSegError
from VolSegLib.installation import Creation, find_volseg, own_environment, plan_creation

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs here are shell scripts")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home without any volseg."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make_program(path: Path, script: str = "echo volseg 0.1.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_volseg_is_found_where_it_usually_is(home, tmp_path):
    environment = {"PATH": str(tmp_path / "bin")}
    with pytest.raises(VolSegError, match="is not found on this computer"):
        result_of(find_volseg("", environment))
    # Each is preferred to the one before; one that does not run is passed over.
    conda = make_program(home / "miniforge3" / "envs" / "volseg" / "bin" / "volseg")
    assert result_of(find_volseg("", environment)) == str(conda)
    made_here = make_program(own_environment() / "bin" / "volseg")
    assert result_of(find_volseg("", environment)) == str(made_here)
    on_path = make_program(tmp_path / "bin" / "volseg")
    assert result_of(find_volseg("", environment)) == str(on_path)
    make_program(on_path, "exit 1")
    assert result_of(find_volseg("", environment)) == str(made_here)
    named = make_program(tmp_path / "elsewhere" / "bin" / "volseg")
    assert result_of(find_volseg("", {**environment, "VOLSEG": str(named)})) == str(named)
    assert result_of(find_volseg(str(tmp_path / "elsewhere"), environment)) == str(named)


def test_a_choice_that_is_not_volseg_is_not_replaced_by_another(home, tmp_path):
    make_program(tmp_path / "bin" / "volseg")
    other = make_program(tmp_path / "other", "echo something else")
    for chosen in (other, tmp_path / "absent"):
        with pytest.raises(VolSegError, match="is not volseg, or does not run"):
            result_of(find_volseg(str(chosen), {"PATH": str(tmp_path / "bin")}))


def test_the_commands_that_make_an_environment_can_be_read_before(home, tmp_path, monkeypatch):
    monkeypatch.setattr(installation.sysconfig, "get_path", lambda _: str(tmp_path / "scripts"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "constraints.txt").touch()
    binaries = tmp_path / "bin"
    environment = {"PATH": str(binaries)}
    with pytest.raises(VolSegError, match=r"neither uv nor Python 3\.11"):
        plan_creation(str(source), environment)
    make_program(binaries / "python3.12", "echo 3 12")
    make_program(binaries / "python3", "echo 3 9")
    folder = own_environment()
    pinned = f"--constraint {source}/constraints.txt {source}"
    assert plan_creation(str(source), environment).describe().splitlines() == [
        f"{binaries}/python3.12 -m venv {folder}",
        f"{folder}/bin/python -m pip install {pinned}",
    ]
    uv = make_program(tmp_path / "scripts" / "uv")  # as Slicer brings it
    assert plan_creation(str(source), environment).describe().splitlines() == [
        f"{uv} venv --python 3.12 {folder}",
        f"{uv} pip install --python {folder}/bin/python {pinned}",
    ]
    for nothing in ("", "volseg-of-anybody"):
        with pytest.raises(VolSegError, match="say what to install"):
            plan_creation(nothing, environment)
    folder.mkdir(parents=True)
    with pytest.raises(VolSegError, match="is there already"):
        plan_creation(str(source), environment)


def test_a_real_environment_is_made_in_which_the_program_answers(home, tmp_path):
    """Of a small package in the place of volseg: `python -m venv` and pip are the real ones."""
    folder = own_environment()
    python = str(folder / "bin" / "python")
    site = f"import sysconfig; print(sysconfig.get_path('purelib'), file=open('{tmp_path}/s', 'w'))"
    program = folder / "bin" / "volseg"
    write = f"printf '#!/bin/sh\\necho volseg 1' > {program}; chmod +x {program}; echo written"
    creation = Creation(
        folder,
        (
            (sys.executable, "-m", "venv", "--without-pip", str(folder)),
            (python, "-c", site),
            ("/bin/sh", "-c", write),
        ),
    )
    heard: list = []
    assert result_of(creation.run(dict(os.environ)), heard) == str(program)
    assert heard[-1].stage == "written"
    assert Path((tmp_path / "s").read_text().strip()).is_relative_to(folder)
    assert result_of(find_volseg(str(program), {})) == str(program)
    numpy = subprocess.run([python, "-c", "import numpy"], check=False, capture_output=True)
    assert numpy.returncode != 0


def test_an_environment_that_cannot_be_made_leaves_nothing(home):
    folder = own_environment()
    begin = ("/bin/sh", "-c", f"mkdir -p {folder}")
    fails = ("/bin/sh", "-c", "echo no network; exit 1")
    with pytest.raises(VolSegError, match="/bin/sh failed: no network"):
        result_of(Creation(folder, (begin, fails)).run(dict(os.environ)))
    assert not folder.exists()
    steps = Creation(folder, (begin, ("/bin/sh", "-c", "sleep 60"))).run(dict(os.environ))
    while not folder.exists():
        next(steps)
    steps.close()
    assert not folder.exists()
