"""The values of a bundle that a plan sets, each with the reason that becomes its comment.

The rules start from nnU-Net 2 (Isensee et al., Nature Methods 2021; MICCAI 2024); where one is
another, its function says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volseg.losses import halving_weights
from volseg.planning.fingerprint import Fingerprint
from volseg.planning.label_scheme import LabelScheme
from volseg.planning.network_plan import NetworkPlan
from volseg.planning.presets import SMALLEST_BATCH, WIDEST, Preset
from volseg.planning.target_grid import target_spacing

# The patch has this many times fewer voxels across its slices than in their plane.
_FLAT_PATCH = 3.0
_LONG_PICTURE = 1.5
_SMALL_ANGLE = 0.2618  # 15 degrees, of pictures that have an up
_SOME_ANGLE = 0.4
_ANY_ANGLE = 3.1416
# Of pictures and of volumes.
_SCALES = {2: (0.75, 1.33), 3: (0.8, 1.25)}
_ELASTIC = {2: 0.5, 3: 0.4}
# Labels lie beside their pictures if they do so by more pixels than this (neighbours of another
# brightness on one side look like a tenth), along axes where it is more standard errors than that,
# in at least so many pictures.
_SMALL_OFFSET, _SURELY, _ENOUGH = 0.25, 4.0, 8
_STEPS = 50
_DIGITS = 6  # of a spacing: those of microscopes are far below a mm
# Two thirds of the patches have background in the middle, a third one of the classes.
_BACKGROUND_TO_FOREGROUND = 2
# Bytes of a voxel of each channel of a case in memory; of its label it is one.
_FLOAT = 4
# Words for the ends of each axis of a patient. Pictures show left and right beside each other, up
# and down above each other, and front and back either way.
_SIDES = ("left", "right", "l", "r", "lh", "rh")
_FACES = ("anterior", "posterior", "ventral", "dorsal")
_HEIGHTS = ("superior", "inferior", "upper", "lower", "cranial", "caudal")
_ENDS = {2: ((*_SIDES, *_FACES), (*_HEIGHTS, *_FACES)), 3: (_SIDES, _FACES, _HEIGHTS)}
# A word begins at a capital after a small letter, too, and ends at a digit; but L1 is a word.
_WORD = re.compile(r"[A-Za-z][0-9]+|[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass
class Choices:
    """Values of a bundle, and why they are what they are."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def choose(self, name: str, value: Any, reason: str) -> None:
        """Set a value."""
        self.values[name] = value
        self.reasons[name] = reason


def choose_spacing(
    choices: Choices, fingerprint: Fingerprint, wished: Sequence[float] | None
) -> tuple[float, ...]:
    """Choose the spacing of the network's grid and return it; pictures keep their pixels."""
    spacings = [case.spacing for case in fingerprint.cases]
    shapes = [case.content for case in fingerprint.cases]
    if fingerprint.spatial_dims == 2:
        return (1.0, 1.0)
    if wished is not None:
        spacing, why = tuple(float(step) for step in wished), "as asked for"
    else:
        found = target_spacing(spacings, shapes)
        spacing = tuple(float(f"{step:.{_DIGITS}g}") for step in found)
        finer = [m > f for m, f in zip(np.median(spacings, axis=0), found, strict=True)]
        why = f"median of {len(spacings)} cases"
        if any(finer):
            why += f"; across the thick slices ({'xyz'[finer.index(True)]}) the finest tenth"
    choices.choose("spacing", list(spacing), f"mm; {why}")
    return spacing


def choose_network(
    choices: Choices,
    network: NetworkPlan,
    preset: Preset,
    image: Sequence[float],
    limit: str,
) -> None:
    """Choose patch, batch and levels.

    nnU-Net leaves the coarsest head out of the loss; here each counts half as much as the one
    before, so that no weight is without a gradient.

    Args:
        choices: Takes the choices.
        network: As planned.
        preset: What it was planned by.
        image: Median size on the network's grid.
        limit: What kept the patch from being larger.
    """
    topology = network.topology
    patch = topology.patch
    median = " x ".join(f"{side:g}" for side in image)
    if all(side >= whole for side, whole in zip(patch, image, strict=True)):
        why = f"as large as the median image, {median}"
    else:
        why = f"largest for {limit}; median image {median}"
    choices.choose("patch", list(patch), why)
    share = f"{preset.covered:.0%} of the voxels of the data set"
    if network.batch_for_memory == SMALLEST_BATCH:
        why = "patches; as large a patch as possible comes first"
    elif network.batch == SMALLEST_BATCH:
        why = f"patches, the fewest; more would hold over {share}"
    elif network.batch < network.batch_for_memory:
        why = f"a batch holds at most {share}"
    else:
        why = "patches; what memory the patch leaves"
    choices.choose("batch_size", network.batch, why)
    widest = WIDEST[len(topology.patch)]
    choices.choose(
        "widths",
        list(network.widths),
        f"feature maps a level, doubled up to {widest}",
    )
    if network.blocks:
        choices.choose("blocks", list(network.blocks), "residual blocks a level, as published")
    choices.choose(
        "strides",
        [list(step) for step in topology.strides],
        "into each level; axes of about equally long voxels are halved together",
    )
    choices.choose(
        "kernels",
        [list(kernel) for kernel in topology.kernels],
        "of each level; 1 across slices twice as far apart as pixels, or more",
    )
    heads = len(topology.strides) - 1
    choices.choose(
        "head_weights",
        [round(weight, 4) for weight in halving_weights(heads)],
        "of the loss, full resolution first; each half of the one before",
    )


def choose_patches(choices: Choices, network: NetworkPlan, cases: int, folds: int) -> None:
    """Choose how many patches are cut from each image in an epoch.

    nnU-Net has 250 steps an epoch whatever the data. Here an epoch meets every image equally often.
    """
    training = max(1, cases * (folds - 1) // folds) if folds > 1 else cases
    patches = max(1, math.ceil(_STEPS * network.batch / training))
    steps = math.ceil(patches * training / network.batch)
    choices.choose("patches", patches, f"cut from each image in an epoch: {steps} steps")


def choose_sampling(choices: Choices, classes: int) -> None:
    """Choose what lies in the middle of a patch."""
    ratios = [_BACKGROUND_TO_FOREGROUND * classes, *[1] * classes]
    choices.choose(
        "class_ratios",
        ratios,
        "a third of the patches have a class in the middle",
    )


def choose_augmentation(
    choices: Choices, patch: Sequence[int], spacing: Sequence[float], names: Collection[str]
) -> None:
    """Choose mirroring, the largest rotation, scaling and elastic deformation.

    nnU-Net mirrors along every axis; here not along one whose ends classes are called by, such as
    left and right, as a mirrored patch would show one of them under the name of the other; a half
    turn would do the same. It rotates by up to 30 degrees, in a fifth of the patches; here nearly
    every patch is, by less. Thick slices are rotated in their plane alone, by any angle, as there.
    Likewise it scales by more, but a fifth of the patches. It deforms none.
    """
    axes = range(len(patch))
    words = {word.lower() for name in names for word in _WORD.findall(name)}
    kept = [axis for axis in axes if not words.isdisjoint(_ENDS[len(patch)][axis])]
    rotation, why = _largest_rotation(patch, spacing, kept)
    choices.choose("rotation", rotation, f"radians; {why}")
    named = "".join("xyz"[axis] for axis in kept)
    why = f"but {named}, by whose ends classes are called" if kept else "as nnU-Net"
    mirrored = [axis for axis in axes if axis not in kept]
    choices.choose("mirror_axes", mirrored, f"along every axis, {why}")
    scales = list(_SCALES[len(patch)])
    choices.choose("scale", scales, "factors; nnU-Net's are 0.7 to 1.4, in a fifth of the patches")
    choices.choose(
        "elastic",
        _ELASTIC[len(patch)],
        "how often a patch is deformed; never in nnU-Net, but in the original U-Net",
    )


def _largest_rotation(
    patch: Sequence[int], spacing: Sequence[float], kept: Collection[int]
) -> tuple[float | list[float], str]:
    """Return the largest angle, or one an axis, and why.

    Args:
        patch: In voxels.
        spacing: Of them.
        kept: Axes that keep their direction: no half turn may reverse them.
    """
    if len(patch) == 2:
        if kept:
            return _SMALL_ANGLE, "classes are called by the ends of an axis"
        if max(patch) > _LONG_PICTURE * min(patch):
            return _SMALL_ANGLE, "pictures much longer than high have an up"
        return _ANY_ANGLE, "any angle"
    across = max(range(3), key=lambda axis: (spacing[axis], -patch[axis]))
    if max(patch) > _FLAT_PATCH * patch[across]:
        turn = _SOME_ANGLE if any(axis != across for axis in kept) else _ANY_ANGLE
        angles = [turn if axis == across else 0.0 for axis in range(3)]
        return angles, "thick slices stay in their plane"
    return [_SOME_ANGLE] * 3, "nnU-Net's is 0.52, in a fifth of the patches"


def choose_label_offset(choices: Choices, fingerprint: Fingerprint) -> None:
    """Choose by how much labels lie beside their pictures, where mirroring would blur it.

    nnU-Net mirrors and rotates such labels like any other. What has an up is left alone: it has
    sides of its own.
    """
    found = np.array([case.label_offset for case in fingerprint.cases if case.label_offset])
    if fingerprint.spatial_dims != 2 or len(found) < _ENOUGH:
        return
    if choices.values.get("rotation") != _ANY_ANGLE:
        return
    mean = found.mean(axis=0)
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    offset = [round(float(step), 2) for step in np.where(np.abs(mean) > _SURELY * error, mean, 0.0)]
    if math.hypot(*offset) > _SMALL_OFFSET:
        choices.choose("label_offset", offset, f"pixels beside the image, in {len(found)} of them")


def choose_label_values(choices: Choices, scheme: LabelScheme) -> None:
    """Choose which class each value of the label files stands for."""
    ignored = "" if scheme.ignore is None else f"; {scheme.ignore} is ignored"
    choices.choose("stored_labels", [*scheme.classes], f"values in the label files{ignored}")
    choices.choose(
        "stored_classes", [*scheme.classes.values()], "the class each of them stands for"
    )


def choose_cache(
    choices: Choices,
    fingerprint: Fingerprint,
    spacing: Sequence[float],
    *,
    held_out: int,
    memory: int,
) -> None:
    """Choose which part of the held-out cases is kept in memory, and say what all take on the disk.

    As if the largest cases were held out, so that it holds for any fold.

    Args:
        choices: Takes the choice.
        fingerprint: Of the data set.
        spacing: Of the network's grid.
        held_out: Most cases of a fold.
        memory: Bytes that those of one may take.
    """
    prepared, judged = 0.0, []
    for case in fingerprint.cases:
        resampled = math.prod(
            side * step / new
            for side, step, new in zip(case.shape, case.spacing, spacing, strict=True)
        )
        prepared += (_FLOAT * case.channels + 1) * resampled
        # Cases are judged by labels on the grid of the file.
        judged.append(_FLOAT * case.channels * resampled + math.prod(case.shape))
    largest = sum(sorted(judged)[-held_out:])
    share = min(1.0, math.floor(100 * memory / largest) / 100)
    choices.choose(
        "cached", share, f"of the held-out cases in memory; all prepared: {prepared / 1e9:.2g} GB"
    )
