"""The command-line module, run as Slicer runs one: files in and out, progress, an end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from volseg import Segmenter, read_image
from volseg.io import as_image, write_image

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs here are shell scripts")


@pytest.fixture
def script(extension) -> str:
    return str(extension / "VolSegCLI" / "VolSegCLI.py")


@pytest.fixture
def scan(tmp_path):
    """An oblique volume in the format of Slicer's temporary files."""
    turned = np.eye(4)
    turned[:3, :3] = [[0.8, -0.6, 0], [-0.6, -0.8, 0], [0, 0, 1.2]]
    voxels = np.random.default_rng(0).normal(100, 10, (20, 18, 16)).astype(np.float32)
    write_image(as_image(voxels, turned), tmp_path / "scan.nrrd")
    return tmp_path / "scan.nrrd"


def run(script: str, *words: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, script, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_a_volume_becomes_a_label_map(script, scan, volseg_program, tiny_bundle, tmp_path):
    output = tmp_path / "labels.nrrd"
    ended = run(
        *(script, "--program", volseg_program, "--bundle", tiny_bundle, "--device", "cpu"),
        *(scan, output),
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "<filter-start><filter-name>VolSeg</filter-name></filter-start>"
    assert lines[-1] == "<filter-end><filter-name>VolSeg</filter-name></filter-end>"
    pattern = re.compile(r"<filter-progress>([0-9.]+)</filter-progress>")
    fractions = [float(pattern.fullmatch(line)[1]) for line in lines[1:-1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    found, expected = read_image(output), Segmenter(tiny_bundle, device="cpu").segment(scan)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)


def test_without_volseg_there_is_a_sentence(script, scan, tmp_path):
    ended = run(script, "--program", tmp_path / "absent", "--bundle", "any", scan, tmp_path / "out")
    assert ended.returncode == 1
    assert "absent is not volseg" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_abort_ends_volseg_too(script, scan, tmp_path, number):
    """Slicer kills what it started; a volseg that is left over finds that nobody reads it."""
    program = tmp_path / "volseg"
    program.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && echo volseg 1 && exit\necho $$ > {tmp_path}/pid\n"
        'while echo \'{"stage": "segmenting", "done": 1, "total": 2}\' >&2; do sleep 0.05; done\n'
    )
    program.chmod(0o755)
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, script, "--program", program, "--bundle", "any", scan, "out.nrrd"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stdout:
            if line == "<filter-progress>0.5000</filter-progress>\n":
                break
        pid = int((tmp_path / "pid").read_text())
        process.send_signal(number)
        assert process.wait(30) != 0
    end = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < end
        time.sleep(0.05)
    if number == signal.SIGTERM:
        assert list((tmp_path / "temporary").iterdir()) == []


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_the_description_can_be_asked_for(script, extension):
    ended = run(script, "--xml")
    assert ended.stdout == (extension / "VolSegCLI" / "VolSegCLI.xml").read_text()
