"""``volseg standardize fit``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from volseg.cli.console import output, progress_bar
from volseg.cli.lists import words
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
    ignore: Annotated[
        int | None, typer.Option(help="Value in the label maps of what nobody labelled.")
    ] = None,
    region: Annotated[
        str, typer.Option(help="Voxels of nyul's landmarks: whole, nonzero or above_mean.")
    ] = "nonzero",
    channels: Annotated[
        str | None,
        typer.Option(help="Names of the bundle's channels, in order, if they are files: t1,flair."),
    ] = None,
) -> None:
    """Fit intensity standardisation on a training set, for `StandardizeIntensityd`."""
    from volseg.data import hash_files
    from volseg.transforms import fit_standardization, write_standardization

    names = None if channels is None else words(channels)
    listed = _listed(images, names)
    sources = [source for _, source in listed]
    with progress_bar() as bar:
        task = bar.add_task("fitting", total=len(sources))
        fitted = fit_standardization(
            sources,
            method=method,
            labels=None if labels is None else _labels_of([case for case, _ in listed], labels),
            ignore=ignore,
            region=region,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    files = [
        path
        for source in sources
        for path in (source.values() if isinstance(source, dict) else [source])
    ]
    provenance = {**fitted.provenance, "images_sha256": hash_files(files)}
    write_standardization(dataclasses.replace(fitted, provenance=provenance), out)
    output.print(f"written: {out} ({len(sources)} images)", soft_wrap=True, markup=False)


def _listed(
    images: list[Path], channels: list[str] | None
) -> list[tuple[str, str | dict[str, str]]]:
    """Return name and file of each image, or the files of its channels."""
    from volseg.data import list_images
    from volseg.io import image_name

    listed: list[tuple[str, str | dict[str, str]]] = []
    for path in images:
        if path.is_dir():
            listed.extend((item["case"], item["image"]) for item in list_images(path, channels))
        elif path.is_file():
            listed.append((image_name(path), str(path)))
        else:
            raise InputError(f"there is no image {path}: give image files or folders of them.")
    return listed


def _labels_of(cases: list[str], folder: Path) -> list[Path]:
    from volseg.data import list_images
    from volseg.data.channel_files import by_name

    twice = next((case for number, case in enumerate(cases) if case in cases[:number]), None)
    if twice is not None:
        raise InputError(
            f"two images are named {twice}, and {folder} has one label map of that name: give each "
            "a name of its own."
        )
    label_of = by_name((item["case"], Path(item["image"])) for item in list_images(folder))
    lonely = [case for case in cases if case not in label_of]
    if lonely:
        raise InputError(
            f"{len(lonely)} of {len(cases)} images have no label map in {folder} (first: "
            f"{lonely[0]}): give both the same file names."
        )
    return [label_of[case] for case in cases]
