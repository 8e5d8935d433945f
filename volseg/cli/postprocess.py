"""``volseg postprocess``: choose how label maps are cleaned, and clean them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.atomic import require_writable
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.errors import InputError, VolsegError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volseg.postprocess import DecisionTable, Rule

app = typer.Typer(help="Choose how label maps are cleaned, and clean them.", no_args_is_help=True)


@app.command("choose")
def choose(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or a bundle folder.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set the bundle lists.")],
    fold: Annotated[int, typer.Option(help="Fold that was held out in training.", min=0)] = 0,
    margin: Annotated[
        float, typer.Option(help="A rule must raise the mean Dice by more than this.", min=0)
    ] = 0.001,
    worse_share: Annotated[
        float,
        typer.Option(help="A rule may lower Dice in this share of the cases.", min=0, max=1),
    ] = 0.1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Choose the rules that improve held-out cases, class by class, and let the bundle apply them.

    Every rule that was tried, and what it did, is kept in configs/postprocessing.json.
    """
    from volseg.bundle import open_bundle
    from volseg.choosing import choose_cleaning, record_cleaning

    require_writable(open_bundle(bundle).folder / "configs" / "metadata.json")
    with progress_bar() as bar:
        cases = bar.add_task("segmenting held-out cases", total=None)

        def show(done: int, total: int) -> None:
            what = "judging rules" if done == total else "segmenting held-out cases"
            bar.update(cases, completed=done, total=total, description=what)

        table = choose_cleaning(
            bundle,
            data,
            fold=fold,
            margin=margin,
            worse_share=worse_share,
            device=device,
            progress=show,
        )
    if as_json:
        print_json(table.to_json())
    else:
        _show(table, open_bundle(bundle).labels)
    version = record_cleaning(bundle, table).metadata["version"]
    errors.print(
        f"stored as version {version}; all that was tried is in configs/postprocessing.json.",
        soft_wrap=True,
    )


@app.command("apply")
def apply(
    labels: Annotated[
        list[Path], typer.Argument(metavar="LABELS...", help="Label maps, or folders of them.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the cleaned ones.")],
    rules: Annotated[
        Path, typer.Option(help='Rules (.json): a decision table, or one with "rules" alone.')
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Apply rules to label maps, of any program; writes OUT/<name>.nii.gz (2D: .png).

    Exit code 0: all done; 1: some failed; 2: nothing could be used.
    """
    from volseg.postprocess import read_decision_table

    chosen = read_decision_table(rules).rules
    listed = _listed(labels)
    rows: list[dict[str, Any]] = []
    with progress_bar() as bar:
        for name, path in bar.track(listed.items(), description="cleaning"):
            try:
                rows.append({"case": name, **_clean(name, path, out, chosen)})
            except VolsegError as error:
                rows.append({"case": name, "input": str(path), "error": str(error)})
                errors.print(f"{name}: {error}", soft_wrap=True, markup=False)
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            if "output" in row:
                changed = f"{row['changed_voxels']} voxels changed"
                output.print(f"{row['output']}: {changed}", soft_wrap=True, markup=False)
    failed = sum("error" in row for row in rows)
    if failed:
        raise typer.Exit(2 if failed == len(rows) else 1)


def _show(table: DecisionTable, labels: dict[str, int]) -> None:
    from rich.markup import escape
    from rich.table import Table

    names = {value: name for name, value in labels.items()}
    shown = Table("class", "rules", "Dice before", "Dice after", "cases", box=None, pad_edge=False)
    for outcome in table.outcomes:
        of_class = [rule for rule in table.rules if rule.classes == (outcome.label,)]
        shown.add_row(
            escape(names.get(outcome.label, str(outcome.label))),
            ", ".join(_spoken(rule) for rule in of_class) or "none helps",
            *(
                "-" if dice is None else f"{dice:.4f}"
                for dice in (outcome.mean_before, outcome.mean_after)
            ),
            str(outcome.cases),
        )
    output.print(shown)


def _spoken(rule: Rule) -> str:
    options = [
        f"{name} {value}"
        for name, value in rule.to_json().items()
        if name not in ("kind", "classes")
    ]
    return " ".join([rule.kind, *options]).replace("_", " ")


def _listed(labels: list[Path]) -> dict[str, Path]:
    """Name every label map; a folder stands for the images in it."""
    from volseg.data import list_images
    from volseg.io import image_name

    paths: list[Path] = []
    for path in labels:
        if path.is_dir():
            paths.extend(Path(item["image"]) for item in list_images(path))
        elif path.is_file():
            paths.append(path)
        else:
            raise InputError(f"there is no label map {path}: give files or folders of them.")
    found: dict[str, Path] = {}
    for path in paths:
        name = image_name(path)
        if name in found:
            raise InputError(
                f"{found[name]} and {path} would both be written as {name}: clean them into "
                "different folders."
            )
        found[name] = path
    return found


def _clean(name: str, path: Path, out: Path, rules: Sequence[Rule]) -> dict[str, Any]:
    import numpy as np

    from volseg.io import (
        grid_of,
        on_source_grid,
        read_image,
        segmentation_suffix,
        write_segmentation,
    )
    from volseg.postprocess import apply_rules

    image = read_image(path)
    if image.shape[0] != 1:
        raise InputError(f"{path} has {image.shape[0]} channels; expected a label map with one.")
    before = on_source_grid(image, image).as_tensor().numpy()[0]
    target = out / f"{name}{segmentation_suffix(before.ndim)}"
    if target.exists() and target.samefile(path):
        raise InputError(f"{path} would be replaced by its cleaned map: give another folder.")
    grid = grid_of(image)
    after = apply_rules(before, rules, spacing=grid.spacing, voxel_volume=grid.voxel_volume)
    write_segmentation(after, target, like=image)
    changed = int(np.count_nonzero(before != after))
    return {"input": str(path), "output": str(target), "changed_voxels": changed}
