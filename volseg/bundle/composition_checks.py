"""What a composition must be: names and values that the recipe book and its files can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from volseg.bundle.recipe_book import values_of
from volseg.bundle.setting_rules import require_settings
from volseg.errors import InputError
from volseg.networks import network_spec

if TYPE_CHECKING:
    from volseg.bundle.composition import Composition

# What a run sets itself, and what the labels decide.
_NOT_VALUES = {
    "bundle_root",
    "channels",
    "classes",
    "exclusive",
    "fold",
    "handlers",
    "ignore",
    "initialize",
    "label_preparation",
    "out_channels",
    "overlapping",
    "region_labels",
    "regions",
}
_HIGHEST_LABEL = 65535


def require_trainable(network: str) -> None:
    """Refuse a network that no recipe can train.

    Raises:
        InputError: It is one of those.
    """
    spec = network_spec(network)
    if spec.valid:
        raise InputError(
            f"{network} has valid convolutions, its logits are smaller than its input, and no "
            "recipe crops the labels to match: choose a padded network such as unet, or build it "
            "from Python with volseg.build_network."
        )
    if spec.training_only:
        raise InputError(
            f"{network} is trained by a method of its own, which no recipe has: build it from "
            "Python with volseg.build_network."
        )


def require_names(labels: Sequence[str]) -> None:
    """Refuse class names that a comment or a table could not hold, or that say one thing twice.

    Raises:
        InputError: One of them is such.
    """
    if not labels:
        raise InputError("a bundle needs at least one class besides the background, got none.")
    for name in labels:
        if not name.strip() or not name.isprintable() or name == "background":
            raise InputError(
                f"{name!r} cannot name a class: expected a printable word other than background."
            )
    if len(set(labels)) < len(labels):
        raise InputError(f"the classes {', '.join(labels)} are not all different: name each once.")


def require_label_values(composition: Composition) -> None:
    """Refuse regions that are not made of the classes, and a class as the value to ignore.

    Raises:
        InputError: They are such, or their loss cannot take them.
    """
    classes = range(1, 1 + len(composition.labels))
    require_names([region.name for region in composition.regions] or composition.labels)
    for region in composition.regions:
        strange = [value for value in region.values if value not in classes]
        if strange:
            raise InputError(
                f"the region {region.name} holds {', '.join(map(str, strange))}; expected values "
                f"of classes, from 1 to {classes[-1]} ({', '.join(composition.labels)})."
            )
    left = set(classes).difference(*(region.values for region in composition.regions))
    if composition.regions and left:
        raise InputError(
            f"no region holds {', '.join(map(str, sorted(left)))}, so that it would be background: "
            "number the classes of the regions from 1 on without a gap (stored_labels and "
            "stored_classes map the values of the files)."
        )
    if composition.ignore is not None and not classes[-1] < composition.ignore <= _HIGHEST_LABEL:
        raise InputError(
            f"the value to ignore is {composition.ignore}; expected one that no class has, above "
            f"{classes[-1]} and at most {_HIGHEST_LABEL}."
        )


def require_label_reading(
    composition: Composition, evaluate: Mapping[str, Any], reading: str
) -> None:
    """Refuse a reading of label files that loses what the regions or the value to ignore need.

    Args:
        composition: What states them.
        evaluate: Values of the configuration of evaluation.
        reading: Name of the piece that reads.

    Raises:
        InputError: It is such.
    """
    stated = composition.regions or composition.ignore is not None
    if stated and "stored_classes" not in evaluate and reading != "transforms/read_labels":
        raise InputError(
            f"{reading} makes one class of all label values, so that no regions and no value to "
            "ignore are left: choose another recipe (volseg bundle recipes), such as pictures."
        )
    table = dict(
        zip(evaluate.get("stored_labels", ()), evaluate.get("stored_classes", ()), strict=False)
    )
    ignore = composition.ignore
    if ignore is not None and table.get(ignore, ignore) != ignore:
        raise InputError(
            f"the value to ignore, {ignore}, would be read as class {table[ignore]}: keep it in "
            f"stored_labels and stored_classes, such as stored_classes={[0, 1, ignore]}."
        )


def require_channel_names(composition: Composition) -> None:
    """Refuse names of channels that could not be written in a command, or that are not distinct.

    Raises:
        InputError: One of them is such.
    """
    for name in composition.channels:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                f"{name!r} cannot name a channel: expected letters, digits and any of _ . + -."
            )
    if len({name.casefold() for name in composition.channels}) < len(composition.channels):
        raise InputError(
            f"the channels {', '.join(composition.channels)} are not all different, upper and "
            "lower case being the same: name each once."
        )
    if composition.channels and "in_channels" in composition.values:
        raise InputError("in_channels is as many as the channels that are named: leave it out.")


def require_values(composition: Composition, texts: Mapping[str, str]) -> None:
    """Refuse values that no piece has, of another kind than the piece's own, or that are code.

    Reasons become comments, which end with their line.

    Raises:
        UnknownNameError: No piece has a value of this name.
        InputError: A value or a reason is of another kind.
    """
    own: dict[str, Any] = {}
    for text in texts.values():
        content = yaml.safe_load(text)
        own |= {name: content[name] for name in values_of(text) - _NOT_VALUES}
    where = f"recipe {composition.recipe} with {composition.network}"
    require_settings(composition.values, own, where=where, what="value")
    for name, reason in composition.reasons.items():
        if not reason.isprintable():
            raise InputError(f"the reason of {name} is {reason!r}; expected one printable line.")
