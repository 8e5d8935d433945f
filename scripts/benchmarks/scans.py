"""What inference is measured on: scans in files, a network, and phantoms whose truth is known.

The network of the phantoms is trained once, in a few minutes, and kept in the user's cache. It is
trained narrow and then widened by repeating each of its channels (Chen, Goodfellow, Shlens,
"Net2Net", ICLR 2016): the same labels, with the arithmetic of a network that is used in earnest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional

from volseg.atomic import replacing
from volseg.geometry import Affine, Grid, parallel_grid
from volseg.networks import build_network
from volseg.phantom import make_phantom
from volseg.predictors import user_cache_folder
from volseg.transforms.regrid import regrid

Sides = tuple[int, ...]

CACHE = user_cache_folder().parent / "benchmarks"
TILE = (96, 96, 96)
ORIENTATION = "LPS"  # of the files, as DICOM has it; networks get RAS

# Background, liver (with its lesions) and kidneys, by the class of the phantom.
_CLASSES = np.array([0, 1, 0, 2, 1], dtype=np.uint8)
PHANTOM_CLASSES = ("liver", "kidneys")
_TRAINING_SEEDS = (1, 2)
_SEED = 0
_STEPS = 600
_LEARNING_RATE = 3e-3
_PATCH = 64  # voxels a side
_NARROW = (8, 8, 16, 32, 64)
WIDENED = 4
PHANTOM_NETWORK: dict[str, Any] = {
    "name": "unet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1 + len(PHANTOM_CLASSES),
    "channels": tuple(WIDENED * width for width in _NARROW),
    "norm": "instance",
    "activation": "leakyrelu",
}


@dataclass(frozen=True)
class Scan:
    """An image in a file, and how the network gets it.

    Attributes:
        image: A `.npy` file, float32 ``(1, x, y, z)``, standardised.
        grid: Where its voxels lie.
        spacing: What the network gets, in mm; always RAS.
    """

    image: Path
    grid: Grid
    spacing: tuple[float, ...]

    @property
    def network_grid(self) -> Grid:
        """The grid of what the network gets."""
        return parallel_grid(self.grid, orientation="RAS", spacing=self.spacing)


@dataclass(frozen=True)
class Weights:
    """A network in a file: what `build_network` takes, and its weights."""

    options: dict[str, Any]
    file: Path

    @property
    def classes(self) -> int:
        """Channels of the logits."""
        return int(self.options["out_channels"])

    def load(self) -> nn.Module:
        """Return the network, in evaluation mode."""
        network = build_network(**self.options)
        network.load_state_dict(torch.load(self.file, weights_only=True))
        return network.eval()


def by(sides: Sequence[int]) -> str:
    """Return sides as they are written: 96x96x80."""
    return "x".join(map(str, sides))


def source_grid(shape: Sequence[int], spacing: float) -> Grid:
    """Return the grid of a file."""
    grid = Grid(tuple(shape), Affine.from_parts((spacing,) * len(shape)))
    return parallel_grid(grid, orientation=ORIENTATION)


def spacing_for(grid: Grid, sides: Sequence[int]) -> tuple[float, ...]:
    """Return the spacing, in mm, at which a grid has these sides and the same corners.

    Then volseg, which keeps the middle of a volume, and MONAI, which keeps its corner, give the
    network the same voxels.
    """
    return tuple(
        step * (side - 1) / (wanted - 1)
        for step, side, wanted in zip(grid.spacing, grid.shape, sides, strict=True)
    )


def sides_of_whole_tiles(shape: Sequence[int]) -> Sides:
    """Return sides a little below ``shape`` that tiles overlapping by half cover without a rest.

    There volseg, which spreads tiles evenly, and MONAI, which moves the last one only, cut the
    same tiles.
    """
    return tuple(
        tile + tile // 2 * max(0, (side - tile) // (tile // 2))
        for side, tile in zip(shape, TILE, strict=True)
    )


def phantom_scan(shape: Sequence[int]) -> tuple[Scan, Path]:
    """Return a phantom that the network was not trained on, and the file of its labels (x, y, z).

    Voxels of 1 mm, resampled to 1.04 to 1.07 mm at full size.
    """
    scan = _phantom(_SEED, shape)
    return scan, _labels_of(scan)


def phantom_network(shape: Sequence[int]) -> Weights:
    """Return the network of the phantoms of this size, trained at the first call."""
    file = CACHE / f"phantom_network_{by(shape)}.pt"
    if not file.is_file():
        scans = [_phantom(seed, shape) for seed in _TRAINING_SEEDS]
        network = _train(scans)
        wide = {name: widened(name, value) for name, value in network.state_dict().items()}
        with replacing(file) as temporary:
            torch.save(wide, temporary)
    return Weights(PHANTOM_NETWORK, file)


def noise_scan(folder: Path, shape: Sequence[int], *, spacing: float, network: float) -> Scan:
    """Return a scan of smooth noise, where only its size counts.

    Args:
        folder: Where its file is written, unless it is there.
        shape: Sides in voxels.
        spacing: Distance of its voxels in mm.
        network: Distance of the voxels that the network gets, in mm, about.
    """
    grid = source_grid(shape, spacing)
    sides = [1 + round((side - 1) * spacing / network) for side in shape]
    file = folder / f"noise_{by(shape)}.npy"
    if not file.is_file():
        image = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(1, *shape))
        image[0] = smooth_noise(1, shape)[0].numpy()
        image.flush()
    return Scan(file, grid, spacing_for(grid, sides))


def random_network(folder: Path, classes: int) -> Weights:
    """Return a network that takes little time, whose labels mean nothing."""
    options = {
        **PHANTOM_NETWORK,
        "out_channels": classes,
        "channels": (4, 8),
    }
    file = folder / f"random_network_{classes}.pt"
    if not file.is_file():
        torch.manual_seed(0)
        torch.save(build_network(**options).state_dict(), file)
    return Weights(options, file)


def smooth_noise(channels: int, shape: Sequence[int]) -> Tensor:
    """Return noise ``(channels, ...)`` of standard deviation about 1, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((channels, 1, *(-(-side // 12) for side in shape)), generator=generator)
    result = torch.empty((channels, *shape))
    for channel, cells in zip(result, coarse, strict=True):
        channel.copy_(functional.interpolate(cells[None], tuple(shape), mode="trilinear")[0, 0])
    return 1.5 * result


def _phantom(seed: int, shape: Sequence[int]) -> Scan:
    """Return a phantom, made at the first call."""
    grid = source_grid(shape, 1.0)
    files = [CACHE / f"phantom_{kind}_{seed}_{by(shape)}.npy" for kind in ("image", "labels")]
    if not all(file.is_file() for file in files):
        print(f"making phantom {seed} of {by(shape)}", flush=True)
        phantom = make_phantom(seed, shape=shape, spacing=(1.0, 1.0, 1.0))
        made = Grid(tuple(shape), Affine.from_parts((1.0, 1.0, 1.0)))
        image = torch.from_numpy((phantom.image[None] - 400) / 200)
        labels = torch.from_numpy(_CLASSES[phantom.labels][None])
        _save(files[0], regrid(image, made, grid).numpy())
        _save(files[1], regrid(labels, made, grid, mode="nearest").numpy()[0])
    return Scan(files[0], grid, spacing_for(grid, sides_of_whole_tiles(shape)))


def _train(scans: Sequence[Scan]) -> nn.Module:
    """Train the narrow network on patches: half lie anywhere, half around a voxel of a class."""
    torch.manual_seed(0)
    chosen = np.random.default_rng(0)
    network = build_network(**{**PHANTOM_NETWORK, "channels": _NARROW}).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_STEPS)
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    cases = [_on_network_grid(scan) for scan in scans]
    voxels = [
        [np.argwhere(labels[0].numpy() == label) for label in range(1, 1 + len(PHANTOM_CLASSES))]
        for _, labels in cases
    ]
    started = time.perf_counter()
    for step in range(_STEPS):
        case = chosen.integers(len(cases))
        image, labels = cases[case]
        middle = chosen.integers(labels.shape[1:])
        if step % 2:
            middle = chosen.choice(voxels[case][chosen.integers(len(PHANTOM_CLASSES))])
        starts = np.clip(middle - _PATCH // 2, 0, np.array(labels.shape[1:]) - _PATCH)
        patch = (slice(None), *(slice(start, start + _PATCH) for start in starts.tolist()))
        optimizer.zero_grad()
        value = loss(network(image[patch][None]), labels[patch][None])
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            seconds = time.perf_counter() - started
            print(
                f"training: step {step} of {_STEPS}, loss {value.item():.3f}, {seconds:.0f} s",
                flush=True,
            )
    return network


def _on_network_grid(scan: Scan) -> tuple[Tensor, Tensor]:
    """Return image and labels of a phantom, ``(1, ...)`` each, as the network gets them."""
    image = torch.from_numpy(np.load(scan.image))
    labels = torch.from_numpy(np.load(_labels_of(scan))[None])
    target = scan.network_grid
    return regrid(image, scan.grid, target), regrid(labels, scan.grid, target, mode="nearest")


def _labels_of(scan: Scan) -> Path:
    return scan.image.with_name(scan.image.name.replace("image", "labels"))


def widened(name: str, value: Tensor) -> Tensor:
    """Return a parameter of the network in which each channel is there `WIDENED` times."""
    convolution = value.ndim > 1
    transposed = ".up." in name  # (in, out, ...), where others are (out, in, ...)
    first, last = name.startswith("encoder.0.units.0."), name.startswith("heads.")
    entering, leaving = (0, 1) if convolution and transposed else (1, 0)
    if not last:
        value = value.repeat_interleave(WIDENED, dim=leaving)
    if convolution and not first:
        value = value.repeat_interleave(WIDENED, dim=entering) / WIDENED
    return value


def _save(file: Path, values: npt.NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary, temporary.open("wb") as opened:
        np.save(opened, values)
