"""A small cohort of phantoms, and its expected label maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from volseg.cohort import CohortCase, CohortFolder, CohortSettings, prepare_cohort


@pytest.fixture
def images(tiny_bundle: Path) -> list[Path]:
    """Six phantoms; a test may change its own."""
    return sorted((tiny_bundle.parent / "data" / "images").iterdir())


@pytest.fixture
def cases(images: list[Path]) -> list[CohortCase]:
    return [CohortCase(path.name.split(".")[0], str(path)) for path in images]


@pytest.fixture
def settings(tiny_bundle: Path) -> CohortSettings:
    return CohortSettings.of_bundles([tiny_bundle], choices={"clean": True})


@pytest.fixture
def cohort(tmp_path: Path, settings: CohortSettings, cases: list[CohortCase]) -> CohortFolder:
    """A cohort of which nothing is done yet."""
    return prepare_cohort(tmp_path / "out", settings, cases)


@pytest.fixture(scope="session")
def expected(_tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The label map of each phantom, as `volseg segment` writes it, byte for byte."""
    from volseg.segmenter import Segmenter, result_files, segment_to_files

    folder = tmp_path_factory.mktemp("expected")
    segmenter = Segmenter(_tiny_bundle)
    found = {}
    for path in sorted((_tiny_bundle.parent / "data" / "images").iterdir()):
        files = result_files(folder, path.name.split(".")[0], ["nifti"], spatial_dims=3)
        segment_to_files(segmenter, path, files)
        found[path.name.split(".")[0]] = files["nifti"].read_bytes()
    return found


def label_maps(cohort: CohortFolder) -> dict[str, bytes]:
    """The label maps of a cohort by case."""
    found = (cohort.path / "cases").rglob("*_seg.nii.gz")
    return {path.name.removesuffix("_seg.nii.gz"): path.read_bytes() for path in found}


def half_written(cohort: CohortFolder) -> list[Path]:
    """What should never be left behind."""
    return [path for path in cohort.path.rglob("*") if path.name.startswith(".volseg-")]
