"""A browser, the viewer of pages, and records of cases whose truth is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.absence import report_absence
from volseg.errors import ServerError
from volseg.io import as_image, open_volume, write_image, write_segmentation
from volseg.quality import check_case, measure_case
from volseg.report import fetch_viewer
from volseg.segmenter import CaseRecord, UsedBundle

MakeCase = Callable[..., Path]


@pytest.fixture(scope="session")
def viewer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The script of NiiVue, fetched once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        try:
            script = fetch_viewer()
        except ServerError as error:
            report_absence(request.config, str(error))
        yield script


@contextlib.contextmanager
def offline_page(browser: Any) -> Iterator[Any]:
    """A page without a network, which fails at the end if a script failed or asked for one."""
    context = browser.new_context(viewport={"width": 1280, "height": 1400}, offline=True)
    found = context.new_page()
    trouble: list[str] = []
    found.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    found.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
    found.on(
        "request",
        lambda asked: (
            asked.url.startswith(("file:", "blob:", "data:"))
            or trouble.append(f"request: {asked.url}")
        ),
    )
    yield found
    context.close()
    assert trouble == []


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page without a network, which fails the test if a script fails or asks for a network."""
    with offline_page(browser) as page:
        yield page


def write_case(
    folder: Path,
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    name: str = "case",
    case: str | None = None,
    names: dict[int, str] | None = None,
    seed: int = 0,
) -> Path:
    """Write an image, a label map and the record of a case, and return the record."""
    names = names or {1: "liver", 2: "spleen"}
    noise = np.random.default_rng(seed).normal(100, 5, labels.shape)
    image = as_image((noise + 20 * (labels > 0)).astype(np.float32)[np.newaxis], affine)
    suffix = ".nii.gz" if labels.ndim == 3 else ".png"
    if labels.ndim == 2:
        image = as_image(np.clip(noise, 0, 255).astype(np.uint8)[np.newaxis], affine)
    files = {
        "image": folder / "images" / f"{name}{suffix}",
        "labels": folder / "out" / f"{name}_seg{suffix}",
        "record": folder / "out" / f"{name}_record.json",
    }
    write_image(image, files["image"])
    write_segmentation(labels, files["labels"], like=image)
    label_map = as_image(labels[np.newaxis], affine)
    with open_volume(image) as opened, open_volume(label_map) as map_opened:
        found = measure_case(opened, map_opened, names=names)
    record = CaseRecord(
        case=case or name,
        image=str(files["image"]),
        channels={},
        grid=found.grid,
        modality=None,
        files={"nifti": files["labels"]},
        statistics=found.statistics,
        quality=check_case(found),
        bundles=(UsedBundle("phantom_unet", "Phantom U-Net", "0.1.0", "0" * 64),),
        settings={"clean": True},
        labels={label: value for value, label in names.items()},
        seconds=1.5,
        peak_memory_bytes=10**9,
        volseg="0.1.0",
    )
    record.write(files["record"])
    return files["record"]


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """`write_case` in a folder of the test."""
    return partial(write_case, tmp_path)
