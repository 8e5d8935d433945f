"""A first `make` that fails leaves nothing that the next one would take for made."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.absence import report_absence

# As Debian's without python3-venv: it fails after it has linked the interpreter.
HALF = '[ "$1" = -c ] || { mkdir -p .venv/bin; touch .venv/bin/python; exit 1; }'


@pytest.mark.parametrize(
    ("python", "said"), [("exit 1", "needs Python 3.11 or newer: make demo PYTHON="), (HALF, "")]
)
def test_an_environment_that_cannot_be_made_is_not_left(
    repository, tmp_path, request, python, said
):
    if shutil.which("make") is None:
        report_absence(request.config, "make is not installed")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / name, tmp_path)
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{python}\n")
    script.chmod(0o755)
    words = ["make", "demo", f"PYTHON={script}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / ".venv" / "bin" / "python").exists()
