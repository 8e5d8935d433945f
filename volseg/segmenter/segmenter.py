"""Load a bundle once, segment many volumes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, Unpack, cast

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor

from volseg.bundle import Bundle, BundleParts, build_inferer, build_parts, open_bundle
from volseg.errors import InputError, ShapeError
from volseg.inference import Decision, SlidingWindowInferer, SpooledArray, Target
from volseg.io import (
    ImageSource,
    ReadingOptions,
    StoredVolume,
    as_image,
    in_channel_order,
    meta_tensor,
    open_volume,
    read_image,
    require_segmentation_target,
    write_segmentation,
)
from volseg.segmenter.amounts import bytes_of
from volseg.segmenter.device import choose_device
from volseg.segmenter.in_memory import run_in_memory
from volseg.segmenter.map_files import open_maps
from volseg.segmenter.memory_plan import NOTHING, Afterwards, MemoryPlan
from volseg.segmenter.streamed import Cancelling, Maps, Progress, Stream

T = TypeVar("T")
Planned = Callable[[MemoryPlan], None]


@dataclass(frozen=True)
class _Hooks:
    """What a caller is told while a run goes on, and asked."""

    planned: Planned | None
    progress: Progress | None
    cancelled: Cancelling | None


class Segmenter:
    """A bundle, ready to segment.

    The image passes through part by part: only the planes are held that the tiles at hand need. A
    bundle with transforms of another kind than volseg's own is run in memory.

    Args:
        bundle: Name of a shipped bundle or a bundle folder; a list of them is an ensemble, whose
            probabilities are averaged.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        trust_code: Execute the code that the bundle's configuration may hold; only for bundles
            whose author you trust.
        memory_budget: Most memory for the process, such as ``"4GB"`` or a number of bytes. Each
            run is planned before it begins, and refused if it cannot keep to it.
        clean: Whether the rules of the bundle are applied to the label map; without them it is what
            the network says.
        body_above: Run only the box of the voxels above this value, as in the file (in CT -500
            HU, say), and a centimetre around it; the rest is background.
        settings: Options of `volseg.inference.SlidingWindowInferer` that replace the bundle's:
            ``overlap``, ``tile``, ``mirror_axes``, ``tile_batch``, ``backend``, ``precision``,
            ``require_precision``.

    Raises:
        InputError: The bundle does not exist, is damaged or unsafe, the device is not there, a
            setting is wrong, or the members of an ensemble do not go together.

    Example:
        >>> segmenter = Segmenter("hippocampus_unet")  # doctest: +SKIP
        >>> labels = segmenter.segment("case.nii.gz")  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: str | Path | Sequence[str | Path],
        *,
        device: str = "auto",
        trust_code: bool = False,
        memory_budget: int | str | None = None,
        clean: bool = True,
        body_above: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        names = [bundle] if isinstance(bundle, str | Path) else list(bundle)
        if not names:
            raise InputError("a segmenter needs at least one bundle, got none.")
        self._bundles = [open_bundle(name) for name in names]
        self.bundle = self._bundles[0]
        self.device = choose_device(device)
        self.memory_budget = None if memory_budget is None else bytes_of(memory_budget)
        self._trust_code = trust_code
        self._clean = clean
        self._settings = dict(settings or {})
        parts = [
            build_parts(bundle, trust_code=trust_code, settings=settings)
            for bundle in self._bundles
        ]
        for opened, part in zip(self._bundles, parts, strict=True):
            _ = opened.sha256  # of what was loaded, whatever becomes of the files
            part.network.to(self.device)
        self._body_above = body_above
        self._use(parts)

    def _use(self, parts: list[BundleParts]) -> None:
        self._parts = parts
        needs_stream = (
            len(parts) > 1
            or self.memory_budget is not None
            or self._body_above is not None
            or not self._clean
        )
        self._stream: Stream | None = None
        if needs_stream or Stream.suits(parts[0]):
            self._stream = Stream(self._bundles, parts, self.device, clean=self._clean)

    def with_settings(self, settings: Mapping[str, Any]) -> Segmenter:
        """Return a segmenter of the same networks that differs in some settings.

        Where tile, backend and precision stay, what is converted is shared, too; the two are then
        used from one thread.

        Raises:
            InputError: A setting is wrong.
        """
        other = copy.copy(self)
        other._settings = {**self._settings, **settings}
        parts = []
        for bundle, part in zip(self._bundles, self._parts, strict=True):
            inferer = build_inferer(bundle, trust_code=self._trust_code, settings=other._settings)
            if isinstance(inferer, SlidingWindowInferer) and isinstance(
                part.inferer, SlidingWindowInferer
            ):
                inferer.share_predictors(part.inferer)
            parts.append(replace(part, inferer=inferer))
        other._use(parts)
        return other

    def warm_up(self) -> None:
        """Make what computes the logits and some tiles: the first case then takes no longer.

        Raises:
            VolsegError: The backend or the precision cannot be had here, or the network does not
                take tiles of this size.
        """
        first = self._parts[0]
        if not isinstance(first.inferer, SlidingWindowInferer):
            return  # makes nothing
        channels = self.bundle.in_channels
        if self._stream is not None:
            networks = self._stream.predictors()
        else:
            networks = first.inferer.predictors(first.network, channels, self.device)
        tiles = torch.zeros(
            first.inferer.tile_batch, channels, *first.inferer.tile, device=self.device
        )
        with torch.inference_mode():
            for network in networks:
                network(tiles)

    @property
    def labels(self) -> dict[str, int]:
        """Label values by class name, background left out."""
        return self.bundle.labels

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The bundles, several of an ensemble; `bundle` is the first one."""
        return tuple(self._bundles)

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen beside the bundles and may change the label map."""
        chosen = {"clean": self._clean, "body_above": self._body_above, **self._settings}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def streams(self) -> bool:
        """Whether images pass through part by part; `Maps` can be had only then."""
        return self._stream is not None

    @property
    def decision(self) -> Decision | None:
        """How labels are decided and what probabilities are said; None if not part by part."""
        return None if self._stream is None else self._stream.decision

    @property
    def passes(self) -> int:
        """How often each tile is seen: networks x mirrored passes."""
        return 1 if self._stream is None else self._stream.passes

    def require_probabilities(self) -> None:
        """Refuse, before an image is read, probabilities that members do not agree on.

        Raises:
            InputError: They have different temperatures.
        """
        if self._stream is not None:
            self._stream.require_probabilities()

    def in_order(self, image: T) -> T:
        """Return an image with its channels in the order of the bundle's, if they are named.

        Raises:
            UnknownNameError: The bundle has no such channel.
            InputError: A channel is missing or given twice.
        """
        if not isinstance(image, Mapping):
            return image
        name = f"the bundle {self.bundle.name}"
        return cast(T, in_channel_order(image, self.bundle.channels, name))

    def segment(
        self,
        image: Any,
        affine: Any = None,
        *,
        maps: Maps | None = None,
        planned: Planned | None = None,
        progress: Progress | None = None,
        cancelled: Cancelling | None = None,
    ) -> MetaTensor:
        """Return the label map ``(1, x, y, z)``, uint8, on exactly the grid of ``image``.

        Args:
            image: A path (file or DICOM folder), a `MetaTensor` ``(channels, x, y, z)`` with its
                RAS+ affine, a SimpleITK image, or an array together with ``affine``. Or, but for
                arrays, one of them for each channel of the bundle, by name.
            affine: RAS+ affine in mm of an array; only for arrays.
            maps: Arrays that also receive probabilities, entropy or disagreement.
            planned: Called with the plan before the run begins.
            progress: Called as ``progress(done, total)`` with tiles.
            cancelled: Asked between parts; ``True`` stops with `Cancelled`.

        Raises:
            InputError: The image cannot be read or its geometry is unusable.
            ShapeError: The number of channels or of axes is not the bundle's.
            MemoryLimitError: The memory allowed, or that of the GPU, does not do.
            Cancelled: ``cancelled()`` was true.
        """
        maps = maps or Maps()
        hooks = _Hooks(planned, progress, cancelled)
        image = self.in_order(image)
        is_path = isinstance(image, str | os.PathLike | Mapping) and affine is None
        if not is_path or self._stream is None:
            image = as_image(image, affine)
        with open_volume(image) as volume:
            self._require_suitable(volume)
            if self._stream is None:
                return self._in_memory(image, maps, hooks)

            def room(_: MemoryPlan) -> Any:
                return np.zeros(volume.grid.shape, stream.label_type)

            stream = self._stream
            labels = self._streamed(stream, volume, room, maps, hooks, in_memory=True)
            return meta_tensor(labels[np.newaxis], volume.grid.affine, volume.source, volume.meta)

    def segment_file(
        self,
        path: ImageSource,
        output: str | Path,
        *,
        probabilities: str | Path | Target | None = None,
        entropy: str | Path | None = None,
        disagreement: str | Path | None = None,
        afterwards: Afterwards = NOTHING,
        planned: Planned | None = None,
        before_writing: Callable[[], None] | None = None,
        progress: Progress | None = None,
        cancelled: Cancelling | None = None,
        **reading: Unpack[ReadingOptions],
    ) -> None:
        """Write the label map of an image; neither is ever in memory as a whole where it need not.

        NIfTI and DICOM are read, and NIfTI is written, part by part.

        Args:
            path: Image file or DICOM folder, or one for each channel of the bundle, by name.
            output: Where the label map goes: ``.nii.gz``, ``.nii``, ``.nrrd``, ``.mha``; pictures
                ``.png`` or ``.tif``.
            probabilities: Where class probabilities go as they come: ``.nii``, ``.nii.gz`` or
                ``.zarr``, or an array that takes them block by block.
            entropy: Where the entropy of the probabilities goes, likewise.
            disagreement: Where the disagreement of the passes goes, likewise.
            afterwards: What the caller will do with the label map, which is planned for.
            planned: Called with the plan before the run begins.
            before_writing: Called when all is computed, before the first file is replaced.
            progress: Called as ``progress(done, total)`` with tiles.
            cancelled: Asked between parts; ``True`` stops with `Cancelled`.
            **reading: How the image is read, such as ``series=...``: as for `read_image`.

        Raises:
            InputError: The image cannot be read or its geometry is unusable.
            ShapeError: The number of channels or of axes is not the bundle's.
            MemoryLimitError: The memory allowed, or that of the GPU, does not do.
            OutputError: A result cannot be written; nothing half-written is left. Where nothing
                can be written at all, this is known before the network runs.
            Cancelled: ``cancelled()`` was true; nothing is written.
        """
        path = self.in_order(path)
        image: Any = path
        if self._stream is None:
            image, reading = read_image(path, **reading), {}
        with ExitStack() as cleanup:
            volume = cleanup.enter_context(open_volume(image, **reading))
            self._require_suitable(volume)
            require_segmentation_target(output, volume)
            labels: Any
            # Closed before the label map is written: that is there only if all the others are.
            with open_maps(
                volume,
                classes=self.bundle.out_channels,
                probabilities=probabilities,
                entropy=entropy,
                disagreement=disagreement,
            ) as maps:
                hooks = _Hooks(planned, progress, cancelled)
                if self._stream is None:
                    labels = self._in_memory(image, maps, hooks)
                else:
                    stream, shape = self._stream, volume.grid.shape
                    by_planes = Path(output).name.lower().endswith((".nii", ".nii.gz"))

                    def room(plan: MemoryPlan) -> Any:
                        if not by_planes:
                            return np.zeros(shape, stream.label_type)
                        return cleanup.enter_context(_spooled(shape, stream.label_type, plan))

                    labels = self._streamed(
                        stream,
                        volume,
                        room,
                        maps,
                        hooks,
                        in_memory=not by_planes,
                        afterwards=afterwards,
                    )
                if before_writing is not None:
                    before_writing()
            write_segmentation(labels, output, like=volume)

    def _streamed(
        self,
        stream: Stream,
        volume: StoredVolume,
        room: Callable[[MemoryPlan], Any],
        maps: Maps,
        hooks: _Hooks,
        *,
        in_memory: bool,
        afterwards: Afterwards = NOTHING,
    ) -> Any:
        """Return the label map in the room that was made for it."""
        plan = stream.plan(
            volume,
            maps,
            labels_in_memory=in_memory,
            budget=self.memory_budget,
            afterwards=afterwards,
        )
        if hooks.planned is not None:
            hooks.planned(plan)
        labels = room(plan)
        stream.run(
            volume,
            labels,
            plan,
            maps,
            body_above=self._body_above,
            progress=hooks.progress,
            cancelled=hooks.cancelled,
        )
        return labels

    def _in_memory(self, image: MetaTensor, maps: Maps, hooks: _Hooks) -> MetaTensor:
        if maps.wanted:
            raise InputError(
                f"the bundle {self.bundle.name} uses transforms that need the whole volume at "
                "once: it gives no probabilities or uncertainty, only labels."
            )
        return run_in_memory(
            self._parts[0],
            image,
            self.device,
            progress=hooks.progress,
            cancelled=hooks.cancelled,
        )

    def _require_suitable(self, volume: StoredVolume) -> None:
        found = (volume.channels, len(volume.grid.shape))
        expected = (self.bundle.in_channels, self.bundle.spatial_dims)
        if found != expected:
            names = f" ({', '.join(self.bundle.channels)})" if expected[0] > 1 else ""
            raise ShapeError(
                f"{volume.source or 'the image'} has {found[0]} channels in {found[1]}D, but the "
                f"bundle {self.bundle.name} takes {expected[0]}{names} in {expected[1]}D: give it "
                "such images, each channel by its name if they are files of their own, or choose "
                "another bundle."
            )


def _spooled(shape: tuple[int, ...], label_type: npt.DTypeLike, plan: MemoryPlan) -> SpooledArray:
    """Return room for a label map on the disk."""
    # It comes along one axis, and leaves along the last as NIfTI has it.
    order = dict.fromkeys([len(shape) - 1, plan.source_axis, *range(len(shape))])
    return SpooledArray(shape, label_type, order=list(order))
