"""Compose a self-contained bundle from the pieces of the recipe book, ``configs/``.

Composing joins pieces as text, so comments stay, and replaces the values that were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from volseg.bundle.composition_checks import (
    require_channel_names,
    require_label_reading,
    require_label_values,
    require_names,
    require_trainable,
    require_values,
)
from volseg.bundle.ensemble_members import Member, with_ensemble
from volseg.bundle.recipe_book import (
    Recipe,
    find_piece,
    find_recipe,
    joined,
    piece,
    recipe_book,
    require_defining,
    values_of,
    with_values,
)
from volseg.bundle.regions import Region
from volseg.errors import BundleError, InputError

_OF_REGIONS = "region_"  # begins the names of their losses


@dataclass(frozen=True)
class Composition:
    """What a bundle is composed of; kept in its metadata, so that it can be composed again.

    Attributes:
        network: Registry name of the network.
        recipe: Name of the recipe.
        labels: Names of the classes in the order of their values, background left out.
        regions: Structures that contain each other, made of the classes, in the order in which
            they are written into a label map; without them the classes are the structures.
        ignore: Value of the voxels in the labels that nobody labelled, if there are any.
        channels: Names of the image channels, in order, which may be files of their own; without
            them an image is one file.
        loss: Name of the loss of one head; the recipe's own by default.
        cleaning: Piece that cleans the label map; the recipe's own by default.
        label_reading: Piece that makes classes of a label file; the recipe's own by default.
        values: One-line entries of the pieces to change, by name.
        reasons: Why some of them, and the recipe (by that name), are what they are, one line each;
            those of values are their comments.
        members: The networks of an ensemble, each with its own values; it has configurations for
            inference only, and ``network`` and the values are those of the first.
    """

    network: str
    recipe: str
    labels: tuple[str, ...]
    channels: tuple[str, ...] = ()
    loss: str | None = None
    cleaning: str | None = None
    label_reading: str | None = None
    regions: tuple[Region, ...] = ()
    ignore: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    members: tuple[Member, ...] = ()

    def as_metadata(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "network": self.network,
            "recipe": self.recipe,
            "labels": list(self.labels),
            **({"channels": list(self.channels)} if self.channels else {}),
            **({"loss": self.loss} if self.loss else {}),
            **({"cleaning": self.cleaning} if self.cleaning else {}),
            **({"label_reading": self.label_reading} if self.label_reading else {}),
            **(
                {"regions": [region.as_metadata() for region in self.regions]}
                if self.regions
                else {}
            ),
            **({"ignore": self.ignore} if self.ignore is not None else {}),
            "values": dict(self.values),
            **({"reasons": dict(self.reasons)} if self.reasons else {}),
            **(
                {"members": [member.as_metadata() for member in self.members]}
                if self.members
                else {}
            ),
        }

    @classmethod
    def from_metadata(cls, entry: Mapping[str, Any]) -> Composition:
        """Return what `as_metadata` gave."""
        names = {key: tuple(entry.get(key, ())) for key in ("labels", "channels")}
        regions = tuple(map(Region.from_metadata, entry.get("regions", ())))
        members = tuple(Member(**member) for member in entry.get("members", ()))
        return cls(**{**entry, **names, "regions": regions, "members": members})

    @property
    def out_channels(self) -> int:
        """Channels that the network gives: one a region, or one a class and the background's."""
        return len(self.regions) or 1 + len(self.labels)


def compose(composition: Composition) -> dict[str, str]:
    """Return the text of each configuration of a bundle, by file name.

    Raises:
        UnknownNameError: No network, recipe, loss, cleaning or value has this name.
        InputError: The parts do not go together, or there is no class.
    """
    recipe = find_recipe(composition.recipe)
    require_trainable(composition.network)
    require_names(composition.labels)
    require_channel_names(composition)
    require_label_values(composition)
    texts = _joined_pieces(composition, recipe)
    require_values(composition, texts)
    chosen = {**recipe.values, **composition.values, **_label_values(composition)}
    if composition.channels:
        chosen["channels"] = list(composition.channels)
        chosen["in_channels"] = len(composition.channels)
    # Tiles as large as the patches of training, unless tuning has found better ones.
    own_patch = yaml.safe_load(piece(f"images/{recipe.images}"))["patch"]
    chosen.setdefault("tile", chosen.get("patch") or own_patch)
    comments = {**composition.reasons, **_label_comments(composition)}
    texts = {name: with_values(text, chosen, comments) for name, text in texts.items()}
    reading = composition.label_reading or recipe.label_reading
    require_label_reading(composition, yaml.safe_load(texts["evaluate.yaml"]), reading)
    if composition.members:
        del texts["train.yaml"]
        network, kind = (
            _network(composition, recipe),
            "regions" if composition.regions else "classes",
        )
        texts["inference.yaml"] = with_ensemble(
            texts["inference.yaml"], piece(network), composition.members, kind=kind
        )
    return {**texts, "logging.conf": (recipe_book() / "bundle" / "logging.conf").read_text("utf-8")}


def _label_values(composition: Composition) -> dict[str, Any]:
    """Return the entries that the labels decide."""
    values: dict[str, Any] = {
        "classes": 1 + len(composition.labels),
        "out_channels": composition.out_channels,
    }
    if composition.regions:
        values["regions"] = [list(region.values) for region in composition.regions]
        values["exclusive"] = False
        values["overlapping"] = True
        values["region_labels"] = [region.label for region in composition.regions]
    if composition.ignore is not None:
        values["ignore"] = composition.ignore
    return values


def _label_comments(composition: Composition) -> dict[str, str]:
    comments = {"classes": "background, " + ", ".join(composition.labels)}
    if composition.regions:
        names = ", ".join(region.name for region in composition.regions)
        comments["out_channels"] = f"of the network, a yes or no each: {names}"
        comments["regions"] = f"classes of each: {names}"
        comments["region_labels"] = "label each is written as; the last one found counts"
    return comments


def with_cleaning(composition: Composition, cleaning: str) -> Composition:
    """Return the composition with another piece that cleans the label map.

    Values that only the piece before had are left out.

    Raises:
        UnknownNameError: No piece that cleans has this name.
    """
    changed = replace(composition, cleaning=cleaning)
    texts = _joined_pieces(changed, find_recipe(changed.recipe)).values()
    known = {name for text in texts for name in values_of(text)}
    values = {name: value for name, value in composition.values.items() if name in known}
    return replace(changed, values=values)


def _joined_pieces(composition: Composition, recipe: Recipe) -> dict[str, str]:
    """Return the text of each configuration before values are chosen, by file name."""
    network = _network(composition, recipe)
    loss = composition.loss or (_OF_REGIONS if composition.regions else "") + recipe.loss
    find_piece("loss", "losses", loss)
    if bool(composition.regions) != loss.startswith(_OF_REGIONS):
        raise InputError(
            f"the loss {loss} is one of classes that exclude each other; expected one of regions: "
            f"choose {_OF_REGIONS}{loss}."
            if composition.regions
            else f"the loss {loss} is one of regions; expected one of classes that exclude each "
            f"other: choose {loss.removeprefix(_OF_REGIONS)}."
        )
    cleaning = composition.cleaning or recipe.cleaning
    require_defining("cleaning", "inference", cleaning)
    label_reading = composition.label_reading or recipe.label_reading
    require_defining("label_reading", "transforms", label_reading)
    images = f"images/{recipe.images}"
    return {
        "train.yaml": joined(
            "training/start",
            images,
            network,
            f"losses/{loss}",
            "training/optimisation",
            recipe.preparation,
            label_reading,
            "transforms/check_labels",
            *recipe.training,
            "transforms/augmentation",
            "training/loop",
        ),
        "inference.yaml": joined(
            "inference/start",
            images,
            network,
            recipe.preparation,
            cleaning,
            "inference/segment",
        ),
        "evaluate.yaml": joined(
            "inference/evaluate",
            label_reading,
            "transforms/check_labels",
            "inference/metrics",
        ),
    }


def _network(composition: Composition, recipe: Recipe) -> str:
    return f"networks/{composition.network}_{recipe.spatial_dims}d"


def network_data_format(composition: Composition) -> dict[str, Any]:
    """Return the section of the metadata that says what goes into the network and what comes out.

    The network is only ever given whole patches, so their size is its input's.
    """
    recipe = find_recipe(composition.recipe)
    inference = yaml.safe_load(compose(composition)["inference.yaml"])
    channels = int(inference["in_channels"])
    shared = {
        "type": "image",
        "spatial_shape": inference["patch"],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
    }
    named = dict(enumerate(["background", *composition.labels]))
    if composition.regions:
        written = {0, *(region.label for region in composition.regions)}
        named = {value: name for value, name in named.items() if value in written}
    channel_names = composition.channels or [recipe.values_are] * channels
    return {
        "inputs": {
            "image": {
                **shared,
                "format": "magnitude" if recipe.modality != "CT" else "hounsfield",
                "modality": recipe.modality,
                "num_channels": channels,
                "channel_def": {str(place): name for place, name in enumerate(channel_names)},
            }
        },
        "outputs": {
            "pred": {
                **shared,
                "format": "segmentation",
                "num_channels": composition.out_channels,
                "channel_def": {str(value): name for value, name in named.items()},
                **_label_description(composition),
            }
        },
    }


def _label_description(composition: Composition) -> dict[str, Any]:
    """Return what ``channel_def`` cannot say of the labels."""
    regions = {region.name: list(region.values) for region in composition.regions}
    return {
        **({"regions": regions} if regions else {}),
        **({"ignore": composition.ignore} if composition.ignore is not None else {}),
    }


def composition_of(metadata: Mapping[str, Any], where: str) -> Composition:
    """Return what a bundle says it was composed of.

    Raises:
        BundleError: Its metadata do not say.
    """
    try:
        return Composition.from_metadata(metadata["composition"])
    except (KeyError, TypeError) as error:
        raise BundleError(f"the metadata of {where} do not say what it was composed of.") from error
