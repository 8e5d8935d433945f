"""From what a data set looks like to what its bundle is composed of, with the reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from statistics import median

from volseg.bundle import Composition
from volseg.errors import InputError
from volseg.job_limits import memory_of_job
from volseg.planning.choices import (
    Choices,
    choose_augmentation,
    choose_cache,
    choose_label_offset,
    choose_label_values,
    choose_network,
    choose_patches,
    choose_sampling,
    choose_spacing,
)
from volseg.planning.fingerprint import Fingerprint
from volseg.planning.label_scheme import LabelScheme
from volseg.planning.network_plan import NetworkPlan, plan_network
from volseg.planning.presets import Preset
from volseg.planning.step_memory import StepMemory, composed_step_memory
from volseg.planning.target_grid import median_shape

#: The recipe whose intensities are fitted on the data set before: of CT, as in nnU-Net.
FITTED_RECIPE = "ct_foreground"
# Below this part of the voxels, the box of what is not 0 is what was left of a larger image.
_MASKED = 0.75
_CACHE_OF_MEMORY = 0.5
# A patch with less of the image than this misses what only the whole shows.
_SMALL_VIEW = 0.25
_STEP_DOWN = 0.9


@dataclass(frozen=True)
class Wishes:
    """What is not left to the plan.

    Attributes:
        preset: Kind and largest size of the network.
        scheme: What the values in the label files stand for.
        memory: Bytes that a training step may take.
        channels: Names of the image channels; none if they have none.
        modality: ``CT``, ``MR`` or any other; empty if it is not known.
        spacing: Of the network's grid, in mm; the plan's own without it.
        folds: Into how many the cases are dealt.
        largest_fold: Cases of the one with the most; as many in each without it.
    """

    preset: Preset
    scheme: LabelScheme
    memory: int
    channels: tuple[str, ...] = ()
    modality: str = ""
    spacing: tuple[float, ...] | None = None
    folds: int = 5
    largest_fold: int | None = None


@dataclass(frozen=True)
class Plan:
    """What the bundle of a data set is composed of.

    Attributes:
        composition: With a reason for the recipe and for each value.
        memory: What a training step takes.
        remarks: What somebody should know before training, a sentence each.
    """

    composition: Composition
    memory: StepMemory
    remarks: tuple[str, ...]


def make_plan(fingerprint: Fingerprint, wishes: Wishes) -> Plan:
    """Return the plan for a data set.

    Where a training step would take more memory than it may, the network becomes smaller.

    Raises:
        MemoryLimitError: No network fits.
        InputError: The names do not go with the data.
    """
    shared = Choices()
    spacing = choose_spacing(shared, fingerprint, wishes.spacing)
    sampled = [case.spacing for case in fingerprint.cases]
    image = median_shape(sampled, [case.content for case in fingerprint.cases], spacing)
    choose_sampling(shared, len(wishes.scheme.labels))
    cache = int(_CACHE_OF_MEMORY * memory_of_job())
    held_out = wishes.largest_fold or math.ceil(len(fingerprint.cases) / wishes.folds)
    choose_cache(shared, fingerprint, spacing, held_out=held_out, memory=cache)
    if wishes.channels and len(wishes.channels) != fingerprint.channels:
        raise InputError(
            f"the images have {fingerprint.channels} channels, but these are named: "
            f"{', '.join(wishes.channels)}; name each."
        )
    base = _composition(fingerprint, wishes)
    if base.label_reading is not None:
        choose_label_values(shared, wishes.scheme)
    if not wishes.channels:
        shared.choose("in_channels", fingerprint.channels, "image channels")
    gigabytes = wishes.preset.gigabytes
    limit = f"{gigabytes:.3g} GB, preset {wishes.preset.name}"
    while True:
        choices = deepcopy(shared)
        network = plan_network(
            spacing,
            image,
            wishes.preset,
            gigabytes=gigabytes,
            classes=_stated_labels(wishes.scheme),
            cases=len(fingerprint.cases),
        )
        choose_network(choices, network, wishes.preset, image, limit)
        choose_augmentation(choices, network.topology.patch, spacing, wishes.scheme.labels)
        choose_label_offset(choices, fingerprint)
        choose_patches(choices, network, len(fingerprint.cases), wishes.folds)
        reasons = {**base.reasons, **choices.reasons}
        composition = replace(base, values=choices.values, reasons=reasons)
        memory = composed_step_memory(composition)
        if memory.total <= wishes.memory:
            remarks = tuple(_remarks(fingerprint, network, image, gigabytes, wishes))
            remarks += tuple(_beside(choices))
            return Plan(composition, memory, remarks)
        gigabytes *= min(_STEP_DOWN, wishes.memory / memory.total)
        limit = f"a step in {wishes.memory / 1e9:.3g} GB"


def _stated_labels(scheme: LabelScheme) -> int:
    """Return what nnU-Net takes for the channels of the output where it estimates memory.

    That is the number of labels that a data set states: with the background, also where regions
    have none, and with what is ignored.
    """
    return 1 + len(scheme.structures) + (scheme.ignore is not None)


def _composition(fingerprint: Fingerprint, wishes: Wishes) -> Composition:
    """Return the pieces."""
    recipe, reason = _recipe(fingerprint, wishes.modality)
    consecutive = all(value == place for value, place in wishes.scheme.classes.items())
    mapped = fingerprint.spatial_dims == 2 or not consecutive
    classes = wishes.scheme.of_classes()
    return Composition(
        network=wishes.preset.network,
        recipe=recipe,
        labels=classes.names,
        regions=classes.regions,
        ignore=classes.ignore,
        channels=wishes.channels,
        label_reading="transforms/map_labels" if mapped else None,
        reasons={"recipe": reason},
    )


def _recipe(fingerprint: Fingerprint, modality: str) -> tuple[str, str]:
    """Return the recipe and why it is chosen.

    It follows from the modality and, but for CT, from whether the surroundings were set to 0.
    """
    if fingerprint.spatial_dims == 2:
        return "pictures", "two axes; each picture is standardised by itself"
    if modality.upper() == "CT":
        return FITTED_RECIPE, "CT has one scale: standardised by the foreground of all cases"
    kind, recipe = ("MR", "mr") if modality.upper().startswith("MR") else (modality, "volumes")
    share = median(case.content_share for case in fingerprint.cases)
    masked = share < _MASKED
    reason = (
        f"{kind or 'not known to be CT or MR'}; what is not 0 lies in {share:.0%} of a volume: "
        f"each is standardised by {'what is not 0' if masked else 'all of it'}"
    )
    return f"{recipe}_masked" if masked else recipe, reason


def _beside(choices: Choices) -> Iterator[str]:
    offset = choices.values.get("label_offset")
    if offset:
        yield (
            f"what labels name seems to lie {' and '.join(f'{step:+g}' for step in offset)} pixels "
            "along x and y from where they are in their files; training keeps that when it moves "
            "and mirrors patches. If it is a fault of an export, mend the files and plan again; if "
            "every object has a darker or brighter neighbour on the same side, which can look "
            "alike, set label_offset to [0, 0] in configs/train.yaml."
        )


def _remarks(
    fingerprint: Fingerprint,
    network: NetworkPlan,
    image: Sequence[float],
    gigabytes: float,
    wishes: Wishes,
) -> Iterator[str]:
    """Yield what somebody should know before training."""
    if gigabytes < wishes.preset.gigabytes:
        yield (
            f"the network is smaller than preset {wishes.preset.name} allows, as a training step "
            f"may take {wishes.memory / 1e9:.3g} GB here."
        )
    view = math.prod(network.topology.patch) / math.prod(image)
    if fingerprint.spatial_dims == 3 and view < _SMALL_VIEW:
        yield (
            f"a patch holds {view:.0%} of the median image; if what is sought can only be told "
            "apart from afar, plan a second bundle at a coarser grid (--spacing)."
        )
    if not wishes.modality and fingerprint.spatial_dims == 3:
        kind = "the data do not say what kind of images they are"
        if len(wishes.channels) > 1:
            kind = f"the channels {', '.join(wishes.channels)} are not all CT, nor all MR"
        yield (
            f"{kind}: intensities are standardised channel by channel and image by image; if all "
            "are CT, give --modality CT."
        )
    empty = [case.case for case in fingerprint.cases if not case.labels]
    if empty:
        yield (
            f"{len(empty)} cases hold nothing but background (first: {empty[0]}); they are trained "
            "on as such."
        )
    rare = {
        name: sum(not case.labels.keys().isdisjoint(values) for case in fingerprint.cases)
        for name, values in wishes.scheme.structures.items()
    }
    for name, number in rare.items():
        if number < wishes.folds:
            yield f"{name} is in {number} cases: too few to be in every fold."
