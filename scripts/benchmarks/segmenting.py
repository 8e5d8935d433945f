"""A scan segmented end to end by volseg and by MONAI: from its file to a file of its labels."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    Invertd,
    Orientationd,
    Spacingd,
)
from torch import Tensor

from benchmarks.costs import Figures
from benchmarks.scans import TILE, Scan, Sides, Weights
from volseg.geometry import Affine, Grid, relate_grids
from volseg.inference import Targets, Tiling, gaussian_weights, segment_volume
from volseg.predictors import Predictor, make_predictor
from volseg.transforms.regrid import regrid


@dataclass(frozen=True)
class WithVolseg:
    """A scan segmented by volseg.

    Attributes:
        scan: What is segmented.
        weights: The network.
        labels: Where the labels go.
        precision: As in `make_predictor`.
        tile: Voxels the network sees at once.
        overlap: Least share of a tile that the next one covers.
        tile_batch: Tiles the network gets at once.
        device: Where the network computes.
    """

    scan: Scan
    weights: Weights
    labels: Path
    precision: str = "f32"
    tile: Sides = TILE
    overlap: float = 0.5
    tile_batch: int = 1
    device: str = "cpu"

    def convert(self) -> None:
        """Convert and check the network, unless that was done before: that is not measured."""
        self._predictor().close()

    def prepare(self) -> Callable[[], Figures]:
        """Load the network, and what is compiled."""
        predictor = self._predictor()
        _load_compiled_loops(self.weights.classes)
        if self.device != "cpu":
            predictor(torch.zeros((self.tile_batch, 1, *self.tile)))
        return partial(self._run, predictor)

    def _predictor(self) -> Predictor:
        return make_predictor(
            self.weights.load(),
            tile=self.tile,
            in_channels=1,
            precision=self.precision,
            device=self.device,
        )

    def _run(self, predictor: Predictor) -> Figures:
        network = _Timed(predictor, self.device)
        started = time.perf_counter()
        self.segment(network)
        return network.figures(time.perf_counter() - started)

    def segment(self, network: Callable[[Tensor], Tensor]) -> None:
        """Segment the scan: from its file to the file of its labels."""
        image = np.load(self.scan.image, mmap_mode="r")
        labels = np.lib.format.open_memmap(
            self.labels, "w+", np.uint8, self.scan.grid.shape, fortran_order=True
        )
        segment_volume(
            _Regridded(_Mapped(image), self.scan.grid, self.scan.network_grid),
            network,
            Tiling.blended(self.tile, overlap=self.overlap),
            Targets(labels=_Mapped(labels)),
            network_grid=self.scan.network_grid,
            source_grid=self.scan.grid,
            tile_batch=self.tile_batch,
            device=self.device,
        )
        labels.flush()


@dataclass(frozen=True)
class WithMonai:
    """A scan segmented by MONAI's transforms and its sliding window, the network in torch.

    Its transforms compute in float32: by default they do in float64, which takes longer. Tiles are
    weighted by its Gaussian without the floor of 0.001, under which all voxels far from the middle
    of a tile count the same: with it, labels differ near the faces of the volume.
    """

    scan: Scan
    weights: Weights
    labels: Path
    tile_batch: int = 1
    device: str = "cpu"

    def prepare(self) -> Callable[[], Figures]:
        """Load the network."""
        network = self.weights.load().to(self.device)
        if self.device != "cpu":
            with torch.inference_mode(), self._precision():
                network(torch.zeros((self.tile_batch, 1, *TILE), device=self.device))
        return partial(self._run, network)

    def _run(self, network: Callable[[Tensor], Tensor]) -> Figures:
        timed = _Timed(network, self.device)
        started = time.perf_counter()
        self.segment(timed)
        return timed.figures(time.perf_counter() - started)

    def segment(self, network: Callable[[Tensor], Tensor]) -> None:
        """Segment the scan: from its file to the file of its labels."""
        affine = torch.tensor(self.scan.grid.affine.matrix.tolist(), dtype=torch.float64)
        image = MetaTensor(torch.from_numpy(np.load(self.scan.image)), affine=affine)
        preparation = Compose(
            [
                Orientationd("image", axcodes="RAS", labels=None),
                Spacingd("image", self.scan.spacing, mode="bilinear", dtype=torch.float32),
            ]
        )
        finish = Compose(
            [
                Activationsd("pred", softmax=True),
                Invertd("pred", preparation, "image", nearest_interp=False, device=self.device),
                AsDiscreted("pred", argmax=True),
            ]
        )
        case = preparation({"image": image.to(self.device)})
        with torch.inference_mode(), self._precision():
            case["pred"] = sliding_window_inference(
                case["image"][None],
                TILE,
                self.tile_batch,
                network,
                0.5,
                roi_weight_map=gaussian_weights(TILE).to(self.device),
            )[0].float()
        found = finish(case)["pred"][0]
        np.save(self.labels, found.to(torch.uint8).cpu().numpy())

    def _precision(self) -> Any:
        return torch.autocast(self.device, torch.float16, enabled=self.device != "cpu")


class _Timed:
    """A network that tells how many tiles it saw and how long they took."""

    def __init__(self, network: Callable[[Tensor], Tensor], device: str) -> None:
        self._network = network
        self._device = device
        self._tiles = 0
        self._seconds = 0.0

    def __call__(self, tiles: Tensor) -> Tensor:
        self._tiles += len(tiles)
        self._wait()
        started = time.perf_counter()
        logits = self._network(tiles)
        self._wait()
        self._seconds += time.perf_counter() - started
        return logits

    def figures(self, seconds: float) -> Figures:
        """Return tiles, and how much of the whole the network took."""
        return {"tiles": self._tiles, "network_share": self._seconds / seconds}

    def _wait(self) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()


class _Mapped:
    """An array in a file, of which no part stays in memory, as with plain reads and writes.

    Pages of a map that were touched count as memory of the process until they are let go of.
    """

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        self._array = array
        self.shape = array.shape
        self.ndim = array.ndim
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, part: Any) -> npt.NDArray[Any]:
        values = np.array(self._array[part], dtype=np.float32, order="C")
        self._let_go()
        return values

    def __setitem__(self, part: Any, values: npt.NDArray[Any]) -> None:
        self._array[part] = values
        self._let_go()

    def _let_go(self) -> None:
        # The file keeps what was written: it is mapped, not copied.
        self._array._mmap.madvise(mmap.MADV_DONTNEED)


class _Regridded:
    """A volume in a file as it is on another grid, computed slab by slab as it is read."""

    def __init__(self, values: npt.NDArray[Any] | _Mapped, found: Grid, wanted: Grid) -> None:
        self._values = values
        self._found = found
        self._wanted = wanted

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, then the spatial sides in voxels."""
        return (len(self._values), *self._wanted.shape)

    def read(self, axis: int, start: int, stop: int) -> Tensor:
        """Return planes of one spatial axis, float32."""
        wanted = _planes(self._wanted, axis, start, stop)
        relation = relate_grids(self._found, wanted)
        along = next(a for a, sampling in enumerate(relation) if sampling.target_axis == axis)
        first, last = int(relation[along].lower.min()), int(relation[along].upper.max()) + 1
        slices = [slice(None)] * self._values.ndim
        slices[along + 1] = slice(first, last)
        values = torch.from_numpy(self._values[tuple(slices)])
        return regrid(values, _planes(self._found, along, first, last), wanted)


def _planes(grid: Grid, axis: int, start: int, stop: int) -> Grid:
    """Return some planes of a grid."""
    shape = tuple(stop - start if a == axis else side for a, side in enumerate(grid.shape))
    shift = np.eye(len(shape) + 1)
    shift[axis, -1] = start
    return Grid(shape, grid.affine @ Affine(shift))


def _load_compiled_loops(classes: int) -> None:
    """Run the loops of the way there and back once, on next to nothing."""
    found = Grid((16, 16, 16), Affine.from_parts((1.0, 1.0, 1.0)))
    wanted = Grid((12, 12, 12), Affine.from_parts((1.3, 1.3, 1.3)))
    segment_volume(
        _Regridded(np.zeros((1, 16, 16, 16), np.float32), found, wanted),
        lambda tiles: torch.zeros((len(tiles), classes, *tiles.shape[2:])),
        Tiling.blended((8, 8, 8)),
        Targets(labels=np.zeros((16, 16, 16), np.uint8)),
        network_grid=wanted,
        source_grid=found,
    )
