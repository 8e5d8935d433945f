"""What an error for users says."""

from __future__ import annotations

import sys

from volseg.errors import MissingPackageError


def test_a_missing_package_is_installed_by_what_the_error_says(monkeypatch):
    """In every shell, into the Python that lacks it, also where it is not the first on the path."""
    monkeypatch.setattr(sys, "executable", "/my programs/bin/python")
    said = str(MissingPackageError("reading DICOM", "pydicom", "dicom"))
    assert said.endswith(': "/my programs/bin/python" -m pip install "volseg[dicom]"')
    monkeypatch.setattr(sys, "executable", "/bin/python")
    said = str(MissingPackageError("the backend", "tensorrt"))
    assert said.endswith(": /bin/python -m pip install tensorrt")
