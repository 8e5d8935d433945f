"""Packages that load their names at the first use have all the names they promise."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

PACKAGES = [
    "volseg",
    "volseg.bundle",
    "volseg.io",
    "volseg.io.dicom.segmentations",
    "volseg.segmenter",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there_and_no_other(package):
    module = importlib.import_module(package)
    # A module takes the place of a name that is the same, once it is loaded.
    assert not {one.name for one in pkgutil.iter_modules(module.__path__)} & set(module.__all__)
    for name in module.__all__:
        found = getattr(module, name)
        assert getattr(module, name) is found
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'absent'"):
        _ = module.absent


def test_a_server_and_what_it_tells_of_its_bundles_need_no_monai():
    script = (
        "import sys, volseg.server\n"
        "from volseg.bundle import open_bundle\n"
        "from volseg.segmenter import bytes_of, result_files\n"
        "from volseg.server.catalogue import describe\n"
        "assert describe(open_bundle('hippocampus_unet')).labels\n"
        "heavy = {'torch', 'monai', 'SimpleITK', 'nibabel', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
