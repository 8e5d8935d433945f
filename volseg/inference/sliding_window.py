"""Sliding-window inference for MONAI: the slabs of the engine, put together in memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from volseg.errors import InputError, ShapeError, UnknownNameError
from volseg.inference.ensemble import Network
from volseg.inference.receptive_field import measure_receptive_field
from volseg.inference.streaming import Progress, stream_logits
from volseg.inference.tiling import Tiling
from volseg.networks import NetworkEnsemble
from volseg.predictors import BACKENDS, PRECISIONS, Predictor, make_predictor


class SlidingWindowInferer(Inferer):
    """Run a callable over tiles and blend what it returns.

    Without ``exact``, tiles of padded convolutions overlap and are blended, which softens what
    padding does near their faces. With it the result is that of one run over the whole volume
    (`Tiling.exact`), for networks whose output at a voxel depends on its surroundings only:
    instance normalisation is none of them. Networks of valid convolutions need their ``border``:
    the volume is mirrored at its faces and results abut (`Tiling.valid`).

    Args:
        tile: Tile size in voxels, an entry per spatial axis.
        overlap: Least overlap of neighbouring tiles as a share of the tile, one or an axis each.
        blending: ``gaussian`` or ``constant`` weights.
        margin: Voxels dropped at tile faces inside the volume, one or an axis each.
        border: Voxels at each face by which the network's result is shorter than the tile;
            ``overlap``, ``blending`` and ``margin`` then have no meaning.
        exact: Give what one run over the whole volume would. ``margin`` then is the context, and
            with it has to cover the radius of the receptive field; where ``stride`` is not given,
            both are measured at the first call with a network (`measure_receptive_field`).
        stride: Total stride of the network, one or an axis each, for ``exact``.
        mirror_axes: Spatial axes, from 0, along which tiles are also shown mirrored; the mean of
            all combinations is taken.
        tile_batch: Tiles the callable gets at once.
        backend: What computes (`volseg.predictors.make_predictor`): ``auto``, ``openvino``, ...; a
            network is converted at its first call, and again once its weights have changed. The
            network computes as it is without it.
        precision: What a ``backend`` computes in where the processor can: ``f32``, ``bf16``,
            ``f16``, or ``auto`` (f32 on a CPU, f16 on a GPU).
        require_precision: Refuse where the precision cannot be had, instead of using f32.
        exclusive: Whether a voxel has one label, the class of the largest logit; else channels are
            regions. It says what a converted network is compared in.
        folder: Bundle folder: converted networks are kept in its ``models/converted``.
        progress: Called as ``progress(done, total)`` after each batch of tiles.
        cancelled: Asked before each batch of tiles; ``True`` raises `Cancelled`.

    Raises:
        InputError: An option is out of range.
    """

    def __init__(
        self,
        tile: Sequence[int],
        *,
        overlap: float | Sequence[float] = 0.5,
        blending: str = "gaussian",
        margin: int | Sequence[int] = 0,
        border: int | Sequence[int] = 0,
        exact: bool = False,
        stride: int | Sequence[int] | None = None,
        mirror_axes: Sequence[int] = (),
        tile_batch: int = 1,
        backend: str | None = None,
        precision: str = "auto",
        require_precision: bool = False,
        exclusive: bool = True,
        folder: str | Path | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        if tile_batch < 1:
            raise InputError(f"tile_batch must be at least 1, got {tile_batch}.")
        if stride is not None and not exact:
            raise InputError(f"stride belongs to exact=True, got {stride} without it.")
        if backend is not None and backend not in BACKENDS:
            raise UnknownNameError("backend", str(backend), BACKENDS)
        if precision not in ("auto", *PRECISIONS):
            raise UnknownNameError("precision", str(precision), ("auto", *PRECISIONS))
        valid = any([border] if isinstance(border, int) else border)
        if exact and stride is None and valid:
            raise InputError("exact tiles of a network with a border need its total stride.")
        if not exact:
            tiling = (
                Tiling.valid(tile, border=border)
                if valid
                else Tiling.blended(tile, overlap=overlap, blending=blending, margin=margin)
            )
        elif stride is not None:
            tiling = Tiling.exact(tile, context=margin, stride=stride, border=border)
        else:
            tiling = Tiling.blended(tile)  # until the network is measured
        self.tile = tiling.tile
        self.mirror_axes = tuple(mirror_axes)
        self.tile_batch = tile_batch
        self.backend = backend
        self.precision = precision
        self.require_precision = require_precision
        self.exclusive = exclusive
        self.folder = None if folder is None else Path(folder)
        self.progress = progress
        self.cancelled = cancelled
        self._tiling = tiling
        self._measures = exact and stride is None
        self._measured: Network | None = None
        self._predictors: dict[int, tuple[tuple[Any, ...], Predictor]] = {}

    def tiling(self, network: Network, channels: int) -> Tiling:
        """Return how a network's volumes are cut; it is measured where that has to be known.

        Args:
            network: Callable from ``(tiles, channels, *tile)`` to logits.
            channels: Image channels it takes.

        Raises:
            InputError: Exactness was asked for, and the network has no finite receptive field or
                the tile is too small for it.
        """
        if self._measures and self._measured is not network:
            field = measure_receptive_field(
                network,
                channels=channels,
                spatial_dims=len(self.tile),
                device=_device_of(network),
            )
            self._tiling = Tiling.exact(self.tile, context=field.radius, stride=field.stride)
            self._measured = network
        return self._tiling

    def predictors(
        self,
        network: Network,
        channels: int,
        device: torch.device,
        *,
        exclusive: bool | None = None,
    ) -> list[Network]:
        """Return what computes the logits of tiles in place of a network, or of each of several.

        Args:
            network: A module is converted for the ``backend``, if one is set, the networks of a
                `volseg.networks.NetworkEnsemble` each on its own; any other callable is returned.
            channels: Image channels it takes.
            device: Where it is to compute.
            exclusive: Whether a voxel has one label; as given to the constructor without it.

        Raises:
            VolsegError: The backend cannot be used here or does not give torch's labels; see
                `volseg.predictors.make_predictor`.
        """
        backend = self.backend
        if backend is None and self.precision != "auto":
            backend = "auto"  # to have it in that precision
        if not isinstance(network, nn.Module):
            return [network]
        networks = list(network.networks) if isinstance(network, NetworkEnsemble) else [network]
        if backend is None:
            return [*networks]
        exclusive = self.exclusive if exclusive is None else exclusive
        # What belongs to other networks is let go, before more is made.
        wanted = {id(member) for member in networks}
        self._predictors = {key: made for key, made in self._predictors.items() if key in wanted}
        for member in networks:
            predicts = (
                weakref.ref(member),  # a network that is gone may have had its address
                channels,
                device,
                exclusive,
                *map(_version, (*member.parameters(), *member.buffers())),
            )
            if self._predictors.get(id(member), ((),))[0] == predicts:
                continue
            made = make_predictor(
                member,
                tile=self.tile,
                in_channels=channels,
                backend=backend,
                precision=self.precision,
                required=self.require_precision,
                exclusive=exclusive,
                device=device,
                cache=None if self.folder is None else self.folder / "models" / "converted",
            )
            self._predictors[id(member)] = predicts, made
        return [self._predictors[id(member)][1] for member in networks]

    def share_predictors(self, other: SlidingWindowInferer) -> None:
        """Compute with what another inferer computes with, where it is the same.

        Predictors are used from one thread: so are, from then on, the two inferers.
        """
        kept = ("tile", "backend", "precision", "require_precision", "exclusive", "folder")
        if all(getattr(self, name) == getattr(other, name) for name in kept):
            self._predictors = other._predictors

    def __call__(
        self,
        inputs: Tensor,
        network: Network,
        *args: Any,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return ``network(inputs)`` computed tile by tile.

        Args:
            inputs: ``(batch, channels, ...)``; sides smaller than the tile are padded with zeros
                (evenly on both faces; mirrored for a network with a border) and the result is
                cropped back.
            network: Callable from ``(tiles, channels, *tile)`` to one tensor
                ``(tiles, classes, *tile)``.
            *args: Passed on to ``network``.
            progress: Overrides the one given to the constructor.
            cancelled: Overrides the one given to the constructor.
            **kwargs: Passed on to ``network``.

        Returns:
            Float tensor ``(batch, classes, ...)`` on the grid of ``inputs``, of the type of
            ``inputs`` (a `MetaTensor` keeps its affine).

        Raises:
            ShapeError: The number of axes does not fit, or the callable changed the tile's size.
            Cancelled: ``cancelled()`` was true.
        """
        dims = len(self.tile)
        if inputs.ndim != dims + 2 or not inputs.numel():
            raise ShapeError(
                f"tiles of {dims} axes need inputs of {dims + 2} axes (batch, channels, "
                f"{', '.join('xyz'[:dims])}) with at least one voxel, got {tuple(inputs.shape)}."
            )
        # Plain tensors inside: a MetaTensor would track every slice.
        volumes = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        tiling = self.tiling(network, volumes.shape[1])
        computes = self.predictors(network, volumes.shape[1], volumes.device)
        if args or kwargs:
            computes = [partial(network, *args, **kwargs)]  # a predictor takes tiles alone
        kind = "classes" if self.exclusive else "regions"
        if isinstance(network, NetworkEnsemble):
            kind = network.kind
        report = progress or self.progress
        result: Tensor | None = None
        for item, volume in enumerate(volumes):
            slabs = stream_logits(
                volume,
                computes,
                tiling,
                mirror_axes=self.mirror_axes,
                tile_batch=self.tile_batch,
                kind=kind,
                progress=report and partial(_report_item, report, item, len(volumes)),
                cancelled=cancelled or self.cancelled,
            )
            for slab in slabs:
                if result is None:
                    shape = (len(volumes), len(slab.logits), *volume.shape[1:])
                    result = torch.empty(shape, dtype=torch.float32, device=volumes.device)
                planes = result[item].narrow(1 + slab.axis, slab.start, slab.stop - slab.start)
                planes.copy_(slab.logits)
        if result is None:
            raise ShapeError(f"there is nothing to infer in an input of {tuple(inputs.shape)}.")
        return _like(result, inputs)


def _device_of(network: Network) -> torch.device:
    """Return where a network is; of other callables it is not known."""
    weights = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return torch.device("cpu") if weights is None else weights.device


def _version(weights: Tensor) -> tuple[int, int]:
    """Return what is another number once weights have changed in place."""
    return id(weights), 0 if weights.is_inference() else weights._version


def _report_item(report: Progress, item: int, items: int, done: int, total: int) -> None:
    """Count the tiles of all volumes of a batch."""
    report(item * total + done, items * total)


def _like(result: Tensor, inputs: Tensor) -> Tensor:
    """Give ``result`` the geometry and history of ``inputs``, as network outputs in MONAI have."""
    if not hasattr(inputs, "as_tensor"):
        return result
    from monai.data import MetaTensor  # noqa: PLC0415 - only where metadata is in play

    like: Tensor = MetaTensor(result).copy_meta_from(inputs)
    return like
