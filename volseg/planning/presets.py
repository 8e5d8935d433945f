"""How large a planned network may become: the sizes that nnU-Net 2 published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from volseg.errors import UnknownNameError

# Slots for levels; a network takes as many as it has.
_RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6)


@dataclass(frozen=True)
class Preset:
    """A network and the size it may have.

    The size of a network is the number of values its convolutions give for one patch; nnU-Net
    states how many go with how much memory of a GPU.

    Attributes:
        name: As on the command line.
        network: Registry name of the network.
        blocks: Residual blocks of each level; none for a plain network.
        gigabytes: Memory of a GPU that the preset is for.
        values: Largest number of values a patch, by spatial dimensions, at `batch` patches.
        batch: Patches of a batch that `values` is stated for, by spatial dimensions.
        fitting_batch: Patches of a batch that must fit, by spatial dimensions.
        covered: Share of the voxels of the data set that a batch may hold at most.
    """

    name: str
    network: str
    blocks: tuple[int, ...]
    gigabytes: float
    values: Mapping[int, float]
    batch: Mapping[int, int]
    fitting_batch: Mapping[int, int]
    covered: float


def _residual(name: str, gigabytes: float, values_2d: float, values_3d: float) -> Preset:
    batch = {2: 12, 3: 2}
    values = {2: values_2d, 3: values_3d}
    return Preset(
        name, "resencunet", _RESIDUAL_BLOCKS, gigabytes, values, batch, batch, covered=1.0
    )


#: Widest level, by spatial dimensions, and the width of the first one.
WIDEST = {2: 512, 3: 320}
FIRST_WIDTH = 32
#: Patches of a batch, at least.
SMALLEST_BATCH = 2

# Isensee et al., Nature Methods 2021, and MICCAI 2024 for the residual encoders; the numbers are
# those of nnU-Net 2.8.1 (ExperimentPlanner, nnUNetPlannerResEncM, L and XL).
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="plain",
            network="dynunet",
            blocks=(),
            gigabytes=8,
            values={2: 85e6, 3: 560e6},
            batch={2: 12, 3: 2},
            fitting_batch={2: 2, 3: 2},
            covered=0.05,
        ),
        _residual("M", 8, 135e6, 680e6),
        _residual("L", 24, 380e6, 2100e6),
        _residual("XL", 40, 560e6, 3600e6),
    )
}


def find_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UnknownNameError: No preset has this name.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]
