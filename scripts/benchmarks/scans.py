"""What inference is measured on: scans in files, and networks.

Labels that mean something come from phantoms, as many as fill a volume, and from MONAI's BasicUNet:
one of half its widths is trained, once and for some minutes, and kept in the user's cache. Its
channels are then repeated (Chen, Goodfellow, Shlens, "Net2Net", ICLR 2016): the same labels, with
the widths and the arithmetic of the network that MONAI's users know.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional

from volseg.atomic import replacing
from volseg.geometry import Affine, Grid, parallel_grid
from volseg.networks import build_network
from volseg.phantom import make_phantom
from volseg.predictors import user_cache_folder
from volseg.transforms.regrid import regrid

Sides = tuple[int, ...]

TILE = (96, 96, 96)
ORIENTATION = "LPS"  # of the files, as DICOM has it; networks get RAS

CACHE = user_cache_folder().parent / "benchmarks"
PHANTOM = (64, 64, 66)  # voxels
_TEST_SEEDS, _TRAINING_SEEDS = range(13), range(100, 116)
_TRAINING_SHAPE = (256, 256, 132)
# Side of the patches in voxels, steps, highest learning rate: small and many, then as tiles are.
_TRAINING = ((64, 500, 3e-3), (TILE[0], 100, 1e-3), (TILE[0], 150, 2e-3), (TILE[0], 150, 2e-3))
PHANTOM_CLASSES = 5
WIDENED = 2
_CHANNELS = (32, 32, 64, 128, 256, 32)  # MONAI's default
_SMALL: dict[str, Any] = {
    "name": "unet",
    "spatial_dims": 3,
    "in_channels": 1,
    "channels": (4, 8),
    "norm": "instance",
    "activation": "leakyrelu",
    "deep_supervision": False,
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
    """A network in a file.

    Attributes:
        build: What it is called with, `build_network` or `basic_unet`.
        options: What that is called with.
        file: The weights.
        classes: Channels of the logits.
    """

    build: Callable[..., nn.Module]
    options: dict[str, Any]
    file: Path
    classes: int

    def load(self) -> nn.Module:
        """Return the network, in evaluation mode."""
        network = self.build(**self.options)
        network.load_state_dict(torch.load(self.file, weights_only=True))
        return network.eval()


def basic_unet(narrowing: int = 1) -> nn.Module:
    """Return MONAI's BasicUNet for phantoms, its default widths divided by a number."""
    channels = tuple(width // narrowing for width in _CHANNELS)
    network: nn.Module = BasicUNet(
        spatial_dims=3, in_channels=1, out_channels=PHANTOM_CLASSES, features=channels
    )
    return network


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


def phantom_scan(folder: Path, shape: Sequence[int]) -> tuple[Scan, Path]:
    """Return a volume full of phantoms that no network knows, and the file of their labels.

    Voxels are called 1 mm; the network gets 1.04 to 1.07 mm at full size.
    """
    grid = source_grid(shape, 1.0)
    files = folder / "phantom_image.npy", folder / "phantom_labels.npy"
    image, labels = _phantoms(shape, _TEST_SEEDS)
    np.save(files[0], _on_grid(image, grid).numpy())
    np.save(files[1], _on_grid(labels, grid)[0].numpy())
    return Scan(files[0], grid, spacing_for(grid, sides_of_whole_tiles(shape))), files[1]


def phantom_network(folder: Path) -> Weights:
    """Return a network that knows phantoms: trained at the first call, and widened."""
    kept = CACHE / "phantom_basic_unet.pt"
    if not kept.is_file():
        torch.manual_seed(0)
        network = basic_unet(WIDENED)
        for side, steps, rate in _TRAINING:
            _train(network, (side,) * 3, steps, rate)
        with replacing(kept) as temporary:
            torch.save(network.state_dict(), temporary)
    file = folder / "phantom_network.pt"
    torch.save(widened(torch.load(kept, weights_only=True)), file)
    return Weights(basic_unet, {}, file, PHANTOM_CLASSES)


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
        # In the order of NIfTI, whose planes lie together.
        image = np.lib.format.open_memmap(file, "w+", np.float32, (1, *shape), fortran_order=True)
        image[0] = smooth_noise(1, shape)[0].numpy()
        image.flush()
    return Scan(file, grid, spacing_for(grid, sides))


def random_network(folder: Path, classes: int) -> Weights:
    """Return a network that takes little time, whose labels mean nothing."""
    options = {**_SMALL, "out_channels": classes}
    file = folder / f"random_network_{classes}.pt"
    if not file.is_file():
        torch.manual_seed(0)
        torch.save(build_network(**options).state_dict(), file)
    return Weights(build_network, options, file, classes)


def smooth_noise(channels: int, shape: Sequence[int]) -> Tensor:
    """Return noise ``(channels, ...)`` of standard deviation about 1, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((channels, 1, *(-(-side // 12) for side in shape)), generator=generator)
    result = torch.empty((channels, *shape))
    for channel, cells in zip(result, coarse, strict=True):
        channel.copy_(functional.interpolate(cells[None], tuple(shape), mode="trilinear")[0, 0])
    return 1.5 * result


def _phantoms(shape: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return image and labels ``(1, ...)``, RAS, of phantoms side by side, all of one size.

    Each is standardised.
    """
    image, labels = torch.zeros(1, *shape), torch.zeros(1, *shape, dtype=torch.uint8)
    size = [min(one, side) for one, side in zip(PHANTOM, shape, strict=True)]
    phantoms = [make_phantom(seed, shape=size) for seed in seeds]
    cells = (range(side // one) for side, one in zip(shape, size, strict=True))
    for index, cell in enumerate(itertools.product(*cells)):
        phantom = phantoms[index % len(phantoms)]
        place = tuple(slice(i * n, (i + 1) * n) for i, n in zip(cell, size, strict=True))
        image[0][place] = torch.from_numpy(
            (phantom.image - phantom.image.mean()) / phantom.image.std()
        )
        labels[0][place] = torch.from_numpy(phantom.labels)
    return image, labels


def _on_grid(values: Tensor, grid: Grid) -> Tensor:
    """Return values of RAS voxels of 1 mm on a grid; labels get no new values."""
    made = Grid(tuple(values.shape[1:]), Affine.from_parts((1.0, 1.0, 1.0)))
    return regrid(values, made, grid, mode="linear" if values.is_floating_point() else "nearest")


def _train(network: nn.Module, patch: Sides, steps: int, rate: float) -> None:
    """Train a network on patches of phantoms that stand side by side."""
    made = Grid(_TRAINING_SHAPE, Affine.from_parts((1.0, 1.0, 1.0)))
    grid = parallel_grid(made, spacing=spacing_for(made, [15 * n // 16 for n in made.shape]))
    image, labels = (_on_grid(one, grid) for one in _phantoms(_TRAINING_SHAPE, _TRAINING_SEEDS))
    loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    started = time.perf_counter()
    for step in range(steps):
        starts = [int(torch.randint(n - t + 1, ())) for n, t in zip(grid.shape, patch, strict=True)]
        place = (slice(None), *(slice(at, at + n) for at, n in zip(starts, patch, strict=True)))
        optimizer.zero_grad()
        value = loss(network(image[place][None]), labels[place][None])
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 24:
            seconds = time.perf_counter() - started
            loss_now = f"loss {value.item():.3f}"
            print(f"  training: {step + 1} of {steps}, {loss_now}, {seconds:.0f} s", flush=True)


def widened(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a BasicUNet in which each channel is there `WIDENED` times."""
    return {name: _widened(name, value) for name, value in weights.items()}


def _widened(name: str, value: Tensor) -> Tensor:
    convolution = value.ndim > 1
    transposed = ".deconv." in name  # (in, out, ...), where others are (out, in, ...)
    first, last = name.startswith("conv_0.conv_0.conv."), name.startswith("final_conv.")
    entering, leaving = (0, 1) if convolution and transposed else (1, 0)
    if not last:
        value = value.repeat_interleave(WIDENED, dim=leaving)
    if convolution and not first:
        value = value.repeat_interleave(WIDENED, dim=entering) / WIDENED
    return value
