"""The one way to a predictor: the fastest that gives torch's labels."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from volseg.errors import (
    InputError,
    MissingPackageError,
    OutputError,
    UnknownNameError,
    VolsegError,
)
from volseg.predictors import onnxruntime_backend, openvino_backend, tensorrt_backend
from volseg.predictors.cache import (
    ConversionCache,
    Entry,
    conversion_cache,
    user_cache_folder,
)
from volseg.predictors.contract import (
    PRECISIONS,
    Precision,
    Predictor,
    TileShapes,
    first_line,
    tile_shapes,
)
from volseg.predictors.fingerprint import network_fingerprint
from volseg.predictors.tensorrt_backend import TensorRTPredictor
from volseg.predictors.torch_backend import TorchPredictor
from volseg.predictors.verification import Agreement, check_volume, verified

BACKENDS = ("auto", "torch", "compile", "openvino", "onnxruntime", "tensorrt")

_log = logging.getLogger(__name__)


class _Converter(Protocol):
    """A module that converts exported programs and runs what came of it."""

    TITLE: str
    FILES: tuple[str, ...]
    REVISION: int  # raised when other files come of the same program

    def version(self) -> str: ...
    def processor(self) -> str: ...
    def require(self, precision: Precision) -> None: ...
    def convert(
        self, program: ExportedProgram, shapes: TileShapes
    ) -> Callable[[Sequence[Path]], None]: ...
    def load(
        self, files: Sequence[Path], shapes: TileShapes, precision: Precision
    ) -> Predictor: ...


_CONVERTERS: dict[str, _Converter] = {
    "openvino": openvino_backend,
    "onnxruntime": onnxruntime_backend,
}


def make_predictor(
    network: nn.Module,
    *,
    tile: Sequence[int],
    in_channels: int,
    backend: str = "auto",
    precision: str = "auto",
    required: bool = True,
    device: str | torch.device = "cpu",
    cache: Path | None = None,
    fingerprint: str | None = None,
    check_tiles: Tensor | None = None,
    exclusive: bool = True,
) -> Predictor:
    """Return a predictor that gives the labels of ``network``.

    A converted network is kept on the disk and found again by its content. Before its first use
    it is compared with torch on a check volume, once a conversion, precision, processor and user.

    Args:
        network: The network with its weights; it is put into evaluation mode and, for torch,
            moved to ``device``. A converted network no longer needs it.
        tile: Tile size in voxels, an entry a spatial axis.
        in_channels: Image channels.
        backend: One of `BACKENDS`. ``auto`` on a CPU is OpenVINO where it is installed, converts
            the network and passes the check, and else torch; elsewhere it is torch.
        precision: ``f32``, ``bf16``, ``f16``; ``auto`` is f32 on a CPU and f16 (mixed) on a GPU.
        required: Whether the precision must be had. Otherwise f32 stands in, which is logged, where
            the processor lacks the precision or it gives other labels.
        device: Where to compute.
        cache: Folder for converted networks, such as ``models/converted`` of a bundle; where it
            cannot be written to, and by default, the user's cache folder (``$VOLSEG_CACHE``).
        fingerprint: What stands for the network's content in the cache (`network_fingerprint`).
        check_tiles: Float32 tiles ``(tiles, channels, *tile)`` to compare on, for example of a
            real image; by default a synthetic volume.
        exclusive: Whether a voxel has one label (see `verified`).

    Raises:
        UnknownNameError: Unknown backend or precision.
        ShapeError: The network does not take tiles of this size.
        MissingPackageError: The backend is not installed.
        InputError: The backend cannot be used here, does not take this network, or does not give
            torch's labels.
        OutputError: The converted network can be kept nowhere, not even in a temporary folder.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("backend", backend, BACKENDS)
    if precision not in ("auto", *PRECISIONS):
        raise UnknownNameError("precision", precision, ("auto", *PRECISIONS))
    device = torch.device(device)
    chosen: Precision = _chosen_precision(precision, device)
    shapes = tile_shapes(network, in_channels, tile)

    def predictor(precision: Precision) -> Predictor:
        return _made(
            backend,
            network,
            shapes,
            precision,
            device=device,
            cache=conversion_cache(cache),
            fingerprint=fingerprint,
            check_tiles=check_tiles,
            exclusive=exclusive,
        )

    try:
        return predictor(chosen)
    except (InputError, MissingPackageError, OutputError) as error:
        if required or chosen == "f32":
            raise
        _log.warning("f32 is used: %s", error)
        return predictor("f32")


def _made(
    backend: str,
    network: nn.Module,
    shapes: TileShapes,
    precision: Precision,
    *,
    device: torch.device,
    **conversion: Any,
) -> Predictor:
    """Return the predictor of a backend, in one precision."""
    if backend in _CONVERTERS:
        if device.type != "cpu":
            raise InputError(
                f"the backend {backend!r} computes on the CPU, got the device {str(device)!r}: "
                "use the backend 'torch' there."
            )
        return _converted(backend, network, shapes, precision, **conversion)
    if backend == "tensorrt":
        return _engine(network, shapes, precision, device, **conversion)
    if backend == "auto" and device.type == "cpu":
        try:
            return _converted("openvino", network, shapes, precision, **conversion)
        except MissingPackageError as error:
            _log.info("torch is used: %s", error)
        except (_Unusable, OutputError) as error:
            if precision != "f32":
                raise  # torch has no other precision on a CPU
            _log.warning("torch is used: %s", error)
    return TorchPredictor(
        network, shapes, device=device, precision=precision, compiled=backend == "compile"
    )


class _Unusable(InputError):  # noqa: N818 - told apart by `make_predictor` only
    """A network does not convert, or does not give torch's labels once converted."""


def _chosen_precision(precision: str, device: torch.device) -> Precision:
    for name in PRECISIONS:
        if name == precision:
            return name
    return "f32" if device.type == "cpu" else "f16"


def _converted(
    name: str,
    network: nn.Module,
    shapes: TileShapes,
    precision: Precision,
    *,
    cache: ConversionCache,
    fingerprint: str | None,
    check_tiles: Tensor | None,
    exclusive: bool,
) -> Predictor:
    """Return a checked predictor of a converted network, from the cache if it is there."""
    converter = _CONVERTERS[name]
    converter.require(precision)
    network = network.eval().cpu()
    content = fingerprint or network_fingerprint(network)
    versions = [version("volseg"), torch.__version__, converter.version(), converter.REVISION]
    parts = [content, shapes.image, *versions]
    key = f"{name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"
    entry = cache.find(key, converter.FILES)
    if entry is not None:
        try:
            predictor = _loaded(converter, entry, shapes, precision)
        except _Unusable as error:  # such as one that another process removed just now
            _log.warning("it is converted anew: %s", error)
            entry = None
    if entry is None:
        entry = _convert(converter, network, shapes, cache, key)
        predictor = _loaded(converter, entry, shapes, precision)
    agreement = _agreement(
        entry, converter.processor(), predictor, network, check_tiles, exclusive=exclusive
    )
    if not agreement.accepted:
        predictor.close()
        instead = "backend 'torch'" if precision == "f32" else "precision 'f32'"
        raise _Unusable(f"{predictor.name} {agreement.reason}: use the {instead}.")
    return predictor


def _engine(
    network: nn.Module,
    shapes: TileShapes,
    precision: Precision,
    device: torch.device,
    *,
    fingerprint: str | None,
    check_tiles: Tensor | None,
    exclusive: bool,
    cache: ConversionCache,
) -> Predictor:
    """Return a checked TensorRT engine."""
    del cache  # engines are code: none comes from a bundle
    tensorrt_backend.require(device)
    predictor = TensorRTPredictor(
        network,
        shapes,
        device=device,
        precision=precision,
        content=fingerprint or network_fingerprint(network),
        folder=user_cache_folder().with_name("engines"),
    )
    reference = TorchPredictor(network, shapes, device=device)
    tiles = check_volume(shapes) if check_tiles is None else check_tiles
    agreement = verified(predictor, reference, tiles, exclusive=exclusive)
    if not agreement.accepted:
        predictor.close()
        raise _Unusable(f"{predictor.name} {agreement.reason}: use the backend 'torch'.")
    return predictor


def _agreement(
    entry: Entry,
    processor: str,
    predictor: Predictor,
    network: nn.Module,
    check_tiles: Tensor | None,
    *,
    exclusive: bool,
) -> Agreement:
    """Compare with torch, once for each user: a conversion may come from anybody."""
    holds_for = f"{predictor.precision}, {'labels' if exclusive else 'classes'}, {processor}"
    with contextlib.suppress(TypeError):  # not checked yet, or damaged
        return Agreement(**entry.recorded(holds_for))
    reference = TorchPredictor(network, predictor.shapes, device=torch.device("cpu"))
    tiles = check_volume(predictor.shapes) if check_tiles is None else check_tiles
    agreement = verified(predictor, reference, tiles, exclusive=exclusive)
    entry.record(holds_for, asdict(agreement))
    return agreement


def _loaded(
    converter: _Converter, entry: Entry, shapes: TileShapes, precision: Precision
) -> Predictor:
    """Return the predictor of an entry; one that cannot be loaded is removed."""
    try:
        return converter.load(entry.files, shapes, precision)
    except Exception as error:
        entry.discard()
        raise _Unusable(
            f"{converter.TITLE} cannot load the converted network ({first_line(error)}): use the "
            "backend 'torch'."
        ) from error


def _convert(
    converter: _Converter, network: nn.Module, shapes: TileShapes, cache: ConversionCache, key: str
) -> Entry:
    _log.info("converting %s for %s, once", type(network).__name__, converter.TITLE)
    try:
        with warnings.catch_warnings():
            # Exporters call deprecated functions of torch, all their own affair.
            warnings.simplefilter("ignore")
            with torch.inference_mode(False), torch.no_grad():
                if any(parameter.is_inference() for parameter in network.parameters()):
                    network = copy.deepcopy(network)  # such parameters cannot be traced
                program = torch.export.export(network, (torch.zeros(1, *shapes.image),))
                write = converter.convert(program, shapes)
    except VolsegError:
        raise
    except Exception as error:  # exporters raise whatever they like
        raise _Unusable(
            f"{type(network).__name__} cannot be converted for {converter.TITLE} "
            f"({first_line(error)}): use the backend 'torch'."
        ) from error
    return cache.store(key, converter.FILES, write)
