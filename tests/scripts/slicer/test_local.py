"""volseg as a program of its own: listed, run, read, ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_slicer import result_of
from VolSegLib import child_process
from VolSegLib.bundles import Bundle, read_bundles
from VolSegLib.child_process import child_environment
from VolSegLib.errors import VolSegError
from VolSegLib.local import LocalVolSeg

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs here are shell scripts")


@pytest.fixture
def volseg(volseg_program, tiny_bundle) -> LocalVolSeg:
    return LocalVolSeg(volseg_program, child_environment(os.environ), [str(tiny_bundle)])


def program_that(tmp_path: Path, script: str) -> LocalVolSeg:
    """Some other program in the place of volseg."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return LocalVolSeg(str(program), dict(os.environ))


BUNDLE = Bundle("any", "any", "1", "", ("image",), ())


def test_cancelling_ends_the_program_and_what_it_started(tmp_path):
    volseg = program_that(
        tmp_path,
        'echo \'{"stage": "segmenting", "done": 1, "total": 9}\' >&2\n'
        f"echo $$ > {tmp_path}/pid\nexec sleep 60",
    )
    steps = volseg.segment(BUNDLE, {"image": tmp_path / "image.nrrd"}, tmp_path, {})
    while next(steps) is None:
        pass
    while not (tmp_path / "pid").exists():
        time.sleep(0.01)
    pid = int((tmp_path / "pid").read_text())
    steps.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_does_not_end_when_asked_to_is_killed_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(child_process, "_SECONDS_TO_TIDY_UP", 0.1)
    volseg = program_that(
        tmp_path,
        "trap '' TERM\nsleep 60 &\n"
        f"echo $! > {tmp_path}/pid\n"
        'echo \'{"stage": "segmenting", "done": 1, "total": 9}\' >&2\nwait',
    )
    steps = volseg.segment(BUNDLE, {"image": tmp_path / "image.nrrd"}, tmp_path, {})
    while next(steps) is None:
        pass
    steps.close()
    stat = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    end = time.monotonic() + 30
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 'error: out of luck.' >&2; exit 2", "out of luck."),
        ("exit 3", "volseg ended with code 3 and said nothing."),
        ("kill -9 $$", "for want of memory"),
        ("exit 0", "volseg was ended before it was done."),
        ("kill -15 $$", "volseg was ended before it was done."),
    ],
)
def test_a_program_that_fails_is_a_sentence(tmp_path, script, sentence):
    volseg = program_that(tmp_path, script)
    with pytest.raises(VolSegError) as raised:
        result_of(volseg.segment(BUNDLE, {"image": tmp_path / "image.nrrd"}, tmp_path, {}))
    assert sentence in str(raised.value)


def test_several_images_are_given_by_the_names_of_their_channels(tmp_path):
    volseg = program_that(tmp_path, 'echo "$@" >&2; exit 1')
    images = {"t1": Path("a.nrrd"), "flair": Path("b.nrrd")}
    with pytest.raises(VolSegError) as raised:
        result_of(volseg.segment(BUNDLE, images, tmp_path, {"memory": "4GB"}))
    assert str(raised.value) == (
        f"segment --channel t1=a.nrrd --channel flair=b.nrrd --output {tmp_path}/out "
        "--bundle any --progress lines --memory 4GB"
    )


def test_programs_that_are_not_volseg_are_refused(tmp_path):
    for script, sentence in (
        ("echo hello", "is it volseg?"),
        ("echo '[{}]'", "update volseg, or this extension"),
        ("echo 'error: no bundles.' >&2; exit 2", "no bundles."),
    ):
        with pytest.raises(VolSegError) as raised:
            result_of(program_that(tmp_path, script).bundles())
        assert sentence in str(raised.value)
    absent = LocalVolSeg(str(tmp_path / "absent"), {})
    for steps in (absent.bundles(), absent.segment(BUNDLE, {}, tmp_path, {})):
        with pytest.raises(VolSegError, match="cannot be started"):
            result_of(steps)


def test_bundles_of_pictures_and_without_weights_are_not_offered():
    row = {"name": "a", "version": "1", "description": "", "spatial_dims": 3, "channels": ["MR"]}
    row |= {"labels": {}, "segments": {}, "colors": {}}
    rows = [row, row | {"name": "b", "spatial_dims": 2}, row | {"name": "c", "trained": False}]
    assert [bundle.name for bundle in read_bundles(rows)] == ["a"]


def test_another_python_does_not_meet_the_variables_of_slicer():
    of_slicer = {
        "SLICER_HOME": "/opt/Slicer",
        "PYTHONHOME": "/opt/Slicer/lib/Python",
        "PYTHONPATH": "/opt/Slicer/bin/Python",
        "PYTHONNOUSERSITE": "1",
        "LD_LIBRARY_PATH": "/opt/Slicer/lib",
        "PATH": os.pathsep.join(["/opt/Slicer/bin", "/usr/bin", "/opt/SlicerOther/bin"]),
        "HOME": "/home/me",
    }
    child = child_environment(of_slicer)
    assert child == {
        "SLICER_HOME": "/opt/Slicer",
        "PATH": os.pathsep.join(["/usr/bin", "/opt/SlicerOther/bin"]),
        "HOME": "/home/me",
        "PYTHONUTF8": "1",
    }
    # A Python with the variables of another one does not even start.
    command = [sys.executable, "-c", ""]
    assert subprocess.run(command, check=False, env=of_slicer, capture_output=True).returncode != 0
    subprocess.run(command, check=True, env=child)
