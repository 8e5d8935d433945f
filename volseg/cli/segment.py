"""``volseg segment``."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli import pacs_options
from volseg.cli.console import errors, output, print_json, progress_bar
from volseg.cli.option_groups import given
from volseg.cli.segment_remote import (
    RemoteSeries,
    Transfer,
    find_remote,
    on_disk,
    push_written,
    require_pushable,
    transfer,
)
from volseg.errors import InputError, VolsegError

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from rich.progress import Progress

    from volseg.io import ReadingOptions
    from volseg.pacs import Connection
    from volseg.segmenter import MemoryPlan, Segmenter


@given(transfer=transfer, connection=pacs_options.connection)
def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Images, folders of images, DICOM folders, or series on servers: see volseg pacs.",
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the label maps.")],
    bundle: Annotated[
        list[str],
        typer.Option(
            "--bundle", "-b", help="Name of a shipped bundle, or a bundle folder; several average."
        ),
    ],
    transfer: Transfer,
    connection: Connection,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(help="Most memory for the whole process, such as 4GB; shows a plan first."),
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Of neighbouring tiles, from 0; instead of the bundle's.")
    ] = None,
    tile: Annotated[
        str | None, typer.Option(help="Tile in voxels, such as 96,96,96; instead of the bundle's.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="Axes along which tiles are also shown mirrored: xyz, xy, ..., none."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="f32, bf16, f16 or auto; instead of the bundle's.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="auto, openvino, onnxruntime, torch, compile, tensorrt; instead of the bundle's."
        ),
    ] = None,
    body_above: Annotated[
        float | None,
        typer.Option(help="Run only the box of voxels above this value: -500 in CT, for example."),
    ] = None,
    tile_batch: Annotated[
        int | None, typer.Option(help="Tiles at once, for a GPU; instead of the bundle's.")
    ] = None,
    cleaning: Annotated[
        bool, typer.Option("--cleaning/--no-cleaning", help="Apply the bundle's rules.")
    ] = True,
    probabilities: Annotated[
        str | None,
        typer.Option(help="Also write OUT/<case>_probabilities: nii.gz, nii or zarr."),
    ] = None,
    uncertainty: Annotated[
        str | None,
        typer.Option(help="Also write OUT/<case>_entropy (and _disagreement): nii.gz, nii, zarr."),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(help="Axis codes such as RAS, which you vouch for, of files that state none."),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(help="Series Instance UID, of a DICOM folder that holds several series."),
    ] = None,
    irregular: Annotated[
        str | None,
        typer.Option(help="resample: DICOM slices at unequal distances, which are refused else."),
    ] = None,
    orthogonal: Annotated[
        bool, typer.Option("--orthogonal", help="Resample tilted DICOM slices at right angles.")
    ] = False,
    suv: Annotated[
        bool, typer.Option("--suv", help="Turn PET into standardised uptake values first.")
    ] = False,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="Of the result, some of: nifti, dicom-seg, dicom-labelmap, rtstruct, sr.",
        ),
    ] = "nifti",
    stable_uids: Annotated[
        bool,
        typer.Option("--stable-uids", help="The same image and bundle give the same DICOM files."),
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also write OUT/<case>_preview.png.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave cases whose results are there.")
    ] = False,
    trust_code: Annotated[
        bool,
        typer.Option("--trust-code", help="Execute code in the bundle's configuration."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Segment images; writes OUT/<case>_seg.nii.gz (2D images: _seg.png) on the source grid.

    Of DICOM series also, or instead, OUT/<case>_seg.dcm, _labelmap.dcm, _rtstruct.dcm and _sr.dcm.

    Exit code 0: all cases done; 1: some case failed; 2: nothing could be used.
    """
    cases = _cases(inputs, connection)
    from volseg.segmenter import Segmenter, result_files

    settings = {
        "overlap": overlap,
        "tile": None if tile is None else _whole_numbers("--tile", tile),
        "mirror_axes": None if mirror is None else _axes(mirror),
        "precision": precision,
        "require_precision": None if precision is None else True,
        "backend": backend,
        "tile_batch": tile_batch,
    }
    segmenter = Segmenter(
        bundle,
        device=device,
        trust_code=trust_code,
        memory_budget=memory,
        clean=cleaning,
        body_above=body_above,
        settings={name: value for name, value in settings.items() if value is not None},
    )
    if preview and memory is not None:
        raise InputError("--preview holds the whole image: leave it out with --memory.")
    for name, suffix in (("--probabilities", probabilities), ("--uncertainty", uncertainty)):
        _require_suffix(name, suffix, segmenter.bundle.spatial_dims)
    wanted = [word.strip() for word in formats.split(",")]
    result_files(out, "case", wanted, spatial_dims=segmenter.bundle.spatial_dims)
    if preview and "nifti" not in wanted:
        raise InputError("--preview shows the label map: add nifti to --format.")
    if transfer.push is not None:
        require_pushable(transfer.push, cases.values(), wanted)
    reading: ReadingOptions = {
        "orientation": orientation,
        "series": series,
        "irregular": irregular,
        "orthogonal": orthogonal,
        "suv": suv,
    }
    options = _Options(
        out,
        wanted,
        stable_uids,
        reading,
        preview,
        skip_existing,
        _suffix(probabilities),
        _suffix(uncertainty),
        transfer,
        connection,
    )
    rows: list[dict[str, Any]] = []
    with progress_bar() as bar:
        overall = bar.add_task("cases", total=len(cases))
        for case, source in cases.items():
            row = _segment_source(segmenter, case, source, options, bar)
            rows.append(row)
            if row["status"] == "failed":
                errors.print(f"{case}: {row['error']}", soft_wrap=True, markup=False)
            elif row["status"] == "done" and not as_json:
                output.print(f"{case}: {row['output']}", soft_wrap=True, markup=False)
            bar.advance(overall)
    if as_json:
        print_json(rows)
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        unusable = len(failed) == len(rows) and all(row["unusable_input"] for row in failed)
        raise typer.Exit(2 if unusable else 1)


def _cases(inputs: list[str], connection: Connection) -> dict[str, Path | RemoteSeries]:
    """Name every case; a folder stands for the images in it, or is one DICOM series."""
    from volseg.data import list_images
    from volseg.io import SUFFIXES, image_name
    from volseg.pacs import is_address

    found: dict[str, Path | RemoteSeries] = {}
    for text in inputs:
        if is_address(text):
            remote = find_remote(text, connection)
            found[remote.found.series] = remote
            continue
        path = Path(text)
        if not path.exists():
            raise InputError(f"there is no file or folder {path}.")
        images = [path]
        if path.is_dir():
            entries = list(path.iterdir())
            if not entries:
                raise InputError(f"the folder {path} is empty: give a folder of images.")
            if any(entry.name.lower().endswith(tuple(SUFFIXES)) for entry in entries):
                images = [Path(item["image"]) for item in list_images(path)]
                for folder in sorted(entry.name for entry in entries if entry.is_dir()):
                    note = f"{path / folder} is not looked into: give it as an input too"
                    errors.print(note, soft_wrap=True, markup=False)
        for image in images:
            case = image_name(image.resolve())
            if case in found:
                raise InputError(
                    f"{found[case]} and {image} would both be written as {case}_seg: "
                    "segment them into different folders."
                )
            found[case] = image
    return found


@dataclass(frozen=True)
class _Options:
    out: Path
    formats: list[str]
    stable_uids: bool
    reading: ReadingOptions
    preview: bool
    skip_existing: bool
    probabilities: str | None
    uncertainty: str | None
    transfer: Transfer
    connection: Connection


def _segment_source(
    segmenter: Segmenter, case: str, source: Path | RemoteSeries, options: _Options, bar: Progress
) -> dict[str, Any]:
    """Segment what lies here or on a server, and send on what was written."""
    from volseg.segmenter import result_files

    row: dict[str, Any] = {"case": case, "input": str(source)}
    dims = segmenter.bundle.spatial_dims
    files = result_files(options.out, case, options.formats, spatial_dims=dims)
    remote = isinstance(source, RemoteSeries)
    fetching = bar.add_task(f"fetching {case}", total=None, visible=remote)
    try:
        if options.skip_existing and all(file.is_file() for file in files.values()):
            row["status"] = "skipped"
        else:
            with on_disk(
                source,
                options.transfer.keep,
                lambda done, total: bar.update(fetching, completed=done, total=total),
            ) as path:
                row = _segment_case(segmenter, case, path, files, options, bar) | row
        # Also of cases that are skipped: an earlier run may not have reached the server.
        if row["status"] != "failed" and options.transfer.push is not None:
            to, connection = options.transfer.push, options.connection
            row["pushed"] = push_written([*files.values()], source, to, connection)
    except VolsegError as error:
        unusable = isinstance(error, InputError)
        return row | {"status": "failed", "error": str(error), "unusable_input": unusable}
    finally:
        bar.remove_task(fetching)
    return row


def _segment_case(
    segmenter: Segmenter,
    case: str,
    path: Path,
    files: dict[str, Path],
    options: _Options,
    bar: Progress,
) -> dict[str, Any]:
    from volseg.segmenter import segment_to_files

    row: dict[str, Any] = {"case": case, "input": str(path)}
    tiles = bar.add_task(case, total=None)
    started = time.perf_counter()
    try:
        further = {
            name: options.out / f"{case}_{name}{suffix}"
            for name, suffix in (
                ("probabilities", options.probabilities),
                ("entropy", options.uncertainty),
                ("disagreement", options.uncertainty if segmenter.passes > 1 else None),
            )
            if suffix is not None
        }
        segment_to_files(
            segmenter,
            path,
            files,
            stable=options.stable_uids,
            reading=options.reading,
            probabilities=further.get("probabilities"),
            entropy=further.get("entropy"),
            disagreement=further.get("disagreement"),
            planned=_show_plan if segmenter.memory_budget is not None else None,
            progress=lambda done, total: bar.update(tiles, completed=done, total=total),
        )
        if options.preview:
            from volseg.io import read_image
            from volseg.report import write_preview

            names = {value: name for name, value in segmenter.labels.items()}
            image = read_image(path, **options.reading)
            labels = read_image(files["nifti"])
            write_preview(image, labels, options.out / f"{case}_preview.png", names=names)
    except VolsegError as error:
        unusable = isinstance(error, InputError)
        return row | {"status": "failed", "error": str(error), "unusable_input": unusable}
    except Exception as error:  # a fault of ours in one case must not stop the others
        _log.debug("the case %s failed unexpectedly", case, exc_info=True)
        sentence = f"unexpected {type(error).__name__}: {error} (details with --debug)"
        return row | {"status": "failed", "error": sentence, "unusable_input": False}
    finally:
        bar.remove_task(tiles)
    seconds = round(time.perf_counter() - started, 3)
    first = next(iter(files.values()))
    written = {name: str(path) for name, path in {**files, **further}.items() if path != first}
    return row | {"status": "done", "output": str(first), **written, "seconds": seconds}


def _show_plan(plan: MemoryPlan) -> None:
    errors.print(plan.describe(), soft_wrap=True, markup=False, highlight=False)


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace("x", ",").split(",")]
    except ValueError as error:
        raise InputError(
            f"{option} {text!r} cannot be read: expected whole numbers, such as 96,96,96."
        ) from error


def _axes(text: str) -> list[int]:
    if text == "none":
        return []
    if not text or not set(text) <= set("xyz"):
        raise InputError(f"--mirror {text!r} cannot be read: expected axes such as xyz, or none.")
    return sorted({"xyz".index(letter) for letter in text})


def _suffix(text: str | None) -> str | None:
    return None if text is None else f".{text.lstrip('.')}"


def _require_suffix(option: str, text: str | None, dims: int) -> None:
    """Refuse a format that cannot hold maps, before any case is run."""
    known = (".nii.gz", ".nii", ".zarr") if dims == 3 else (".zarr",)
    if text is not None and _suffix(text) not in known:
        names = ", ".join(suffix.lstrip(".") for suffix in known)
        raise InputError(f"{option} {text!r} cannot hold {dims}D maps: expected {names}.")
