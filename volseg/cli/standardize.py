"""``volseg standardize fit``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.console import output, progress_bar
from volseg.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Fit how intensities are standardised.")


@app.callback()
def _standardize() -> None:
    """Keep ``fit`` a command of its own, though it is the only one."""


@app.command("fit")
def fit(
    images: Annotated[list[Path], typer.Argument(help="Images of the training set, or folders.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="File to write (.json).")],
    method: Annotated[
        str, typer.Option(help="nyul (landmarks, for MR) or foreground (for CT; needs --labels).")
    ] = "nyul",
    labels: Annotated[
        Path | None, typer.Option(help="Folder of label maps named as the images.")
    ] = None,
    region: Annotated[
        str, typer.Option(help="Voxels of nyul's landmarks: whole, nonzero or above_mean.")
    ] = "nonzero",
) -> None:
    """Fit intensity standardisation on a training set, for `StandardizeIntensityd`."""
    from volseg.data import hash_files
    from volseg.transforms import fit_standardization, write_standardization

    paths = _listed(images)
    with progress_bar() as bar:
        task = bar.add_task("fitting", total=len(paths))
        fitted = fit_standardization(
            paths,
            method=method,
            labels=None if labels is None else _labels_of(paths, labels),
            region=region,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    provenance = {**fitted.provenance, "images_sha256": hash_files(paths)}
    write_standardization(dataclasses.replace(fitted, provenance=provenance), out)
    output.print(f"written: {out} ({len(paths)} images)", soft_wrap=True, markup=False)


def _listed(images: list[Path]) -> list[Path]:
    from volseg.data import list_images

    listed: list[Path] = []
    for path in images:
        if path.is_dir():
            listed.extend(Path(item["image"]) for item in list_images(path))
        elif path.is_file():
            listed.append(path)
        else:
            raise InputError(f"there is no image {path}: give image files or folders of them.")
    return listed


def _labels_of(images: list[Path], folder: Path) -> list[Path]:
    from volseg.data import list_images
    from volseg.io import image_name

    label_of = {item["case"]: Path(item["image"]) for item in list_images(folder)}
    lonely = [path for path in images if image_name(path) not in label_of]
    if lonely:
        raise InputError(
            f"{len(lonely)} of {len(images)} images have no label map in {folder} (first: "
            f"{lonely[0]}): give both the same file names."
        )
    return [label_of[image_name(path)] for path in images]
