"""Make the pictures of reports in docs/: phantoms, segmented and reported on, in a browser.

    volseg report --fetch-viewer
    python scripts/report_pictures.py

needs playwright and Debian's chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from rich.progress import track

from volseg.errors import VolsegError
from volseg.evaluation import evaluate_files
from volseg.io import as_image, write_image, write_segmentation
from volseg.phantom import make_phantom
from volseg.report import fetch_viewer, find_records, write_evaluation_page, write_report
from volseg.segmenter import RECORD_SUFFIX, Segmenter, result_files, segment_to_files

BUNDLE = "phantom_unet"
# This phantom is cut off, so that there is something to find.
CUT = 4
FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WIDTH = 1280
PAGES = {"case": "phantom_01.html", "cohort": "index.html", "evaluation": "evaluation.html"}


def write_phantom(seed: int, path: Path, reference: Path) -> None:
    """Write a phantom and its true labels; of one only the lower half."""
    phantom = make_phantom(seed)
    values, labels = np.rint(phantom.image).astype(np.int16), phantom.labels
    if seed == CUT:
        half = values.shape[2] // 2
        values, labels = values[:, :, :half], labels[:, :, :half]
    image = as_image(values[np.newaxis], phantom.affine)
    write_image(image, path)
    write_segmentation(labels, reference, like=image)


def make_report(count: int, viewer: Path) -> None:
    """Segment phantoms, and write their report and evaluation, all in the present folder."""
    segmenter = Segmenter(BUNDLE)
    out = Path("out")
    for seed in track(range(1, count + 1), description="phantoms"):
        case = f"phantom_{seed:02d}"
        image = Path("phantoms") / f"{case}.nii.gz"
        write_phantom(seed, image, Path("references") / f"{case}.nii.gz")
        files = result_files(out, case, ["nifti"], spatial_dims=3)
        segment_to_files(segmenter, image, files).write(out / f"{case}{RECORD_SUFFIX}")
    write_report(find_records([out]), "report", viewer=viewer)
    evaluation = evaluate_files(out, "references", labels=segmenter.labels)
    write_evaluation_page(evaluation, "report/evaluation.html", title="Phantoms by phantom_unet")


def take_pictures(chromium: str, target: Path) -> None:
    """Take pictures of the pages in the folder report."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = browser.new_context(viewport={"width": WIDTH, "height": 1010}, offline=True)
        page = context.new_page()
        for name, file in PAGES.items():
            page.goto((Path("report") / file).resolve().as_uri())
            if name == "case":
                page.wait_for_selector("body[data-ready=true]")
            shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            shot.save(target / f"report_{name}.png", optimize=True)
        browser.close()


def main() -> None:
    """Read the arguments and make the pictures."""
    parser = argparse.ArgumentParser(description="Make the pictures of reports in docs/.")
    parser.add_argument("--count", type=int, default=8, help="number of phantoms")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    arguments = parser.parse_args()
    target = Path(__file__).resolve().parent.parent / "docs"
    try:
        viewer = fetch_viewer()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            make_report(arguments.count, viewer)
            take_pictures(arguments.chromium, target)
    except VolsegError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
