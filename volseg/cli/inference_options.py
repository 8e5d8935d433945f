"""Options of commands that run the network of a bundle: see `given`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from volseg.cli.option_groups import options_under
from volseg.errors import InputError

if TYPE_CHECKING:
    from volseg.bundle import Bundle
    from volseg.segmenter import Segmenter

_option = options_under("Inference")


@dataclass(frozen=True)
class Inference:
    """Which bundles are run and how: what `Segmenter` is made from."""

    bundles: list[str]
    options: Mapping[str, Any]

    def bundle(self) -> Bundle:
        """Return the first bundle, nothing but its metadata read.

        Raises:
            InputError: if there is no such bundle.
        """
        from volseg.bundle import open_bundle

        return open_bundle(self.bundles[0])

    def segmenter(self) -> Segmenter:
        """Load the bundles.

        Raises:
            InputError: as `Segmenter` does.
        """
        from volseg.segmenter import Segmenter

        return Segmenter(self.bundles, **self.options)

    def execution_and_choices(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what changes no label (``device``, ``memory``, ``trust_code``), and what does."""
        others = dict(self.options)
        execution = {"memory": others.pop("memory_budget")}
        execution |= {name: others.pop(name) for name in ("device", "trust_code")}
        return execution, others


def inference(
    bundle: Annotated[
        list[str],
        _option(
            "--bundle", "-b", help="Name of a shipped bundle, or a bundle folder; several average."
        ),
    ],
    device: Annotated[str, _option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    memory: Annotated[
        str | None,
        _option(help="Most memory for the whole process, such as 4GB; shows a plan first."),
    ] = None,
    overlap: Annotated[
        float | None,
        _option(help="Of neighbouring tiles, from 0; instead of the bundle's."),
    ] = None,
    tile: Annotated[
        str | None,
        _option(help="Tile in voxels, such as 96,96,96; instead of the bundle's."),
    ] = None,
    mirror: Annotated[
        str | None,
        _option(help="Axes along which tiles are also shown mirrored: xyz, xy, none."),
    ] = None,
    precision: Annotated[
        str | None,
        _option(help="f32, bf16, f16 or auto; instead of the bundle's."),
    ] = None,
    backend: Annotated[
        str | None,
        _option(
            help="auto, openvino, onnxruntime, torch, compile, tensorrt; instead of the bundle's."
        ),
    ] = None,
    body_above: Annotated[
        float | None,
        _option(help="Run only the box of voxels above this value: -500 in CT, for example."),
    ] = None,
    tile_batch: Annotated[
        int | None,
        _option(help="Tiles at once, for a GPU; instead of the bundle's."),
    ] = None,
    cleaning: Annotated[
        bool, _option("--cleaning/--no-cleaning", help="Apply the bundle's rules.")
    ] = True,
    trust_code: Annotated[
        bool,
        _option("--trust-code", help="Execute code in the bundle's configuration."),
    ] = False,
) -> Inference:
    """Return what the options say.

    Raises:
        InputError: if the tile or the axes cannot be read.
    """
    settings = {
        "overlap": overlap,
        "tile": None if tile is None else _whole_numbers("--tile", tile),
        "mirror_axes": None if mirror is None else _axes(mirror),
        "precision": precision,
        "require_precision": None if precision is None else True,
        "backend": backend,
        "tile_batch": tile_batch,
    }
    options = {
        "device": device,
        "trust_code": trust_code,
        "memory_budget": memory,
        "clean": cleaning,
        "body_above": body_above,
        "settings": {name: value for name, value in settings.items() if value is not None},
    }
    return Inference(bundle, options)


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
