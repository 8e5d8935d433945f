"""Compose a self-contained bundle from the pieces of the recipe book, ``configs/``.

A piece is a few commented sections of a MONAI configuration. A recipe names the pieces for one kind
of image. Composing joins pieces as text, so comments stay; what a user may choose (widths, patch,
epochs, ...) are the one-line entries of the pieces, and choosing replaces that line's value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from volseg.errors import BundleError, InputError, UnknownNameError
from volseg.networks import network_spec

_PACKAGE = Path(__file__).resolve().parent.parent
_ENTRY = re.compile(
    r"^(?P<name>[a-z_]+): (?P<value>[^#\s][^#\n]*?)(?P<comment> +#.*)?$", re.MULTILINE
)
# What a run sets itself, and what the labels decide.
_NOT_VALUES = {
    "bundle_root",
    "channels",
    "classes",
    "fold",
    "handlers",
    "initialize",
    "label_preparation",
}
_COMMENT_COLUMN = 41
_SPATIAL_DIMS = {"volumes": 3, "pictures": 2}


@dataclass(frozen=True)
class Composition:
    """What a bundle is composed of; kept in its metadata, so that it can be composed again.

    Attributes:
        network: Registry name of the network.
        recipe: Name of the recipe.
        labels: Names of the classes in the order of their values, background left out.
        channels: Names of the image channels, in order, which may be files of their own; without
            them an image is one file.
        loss: Name of the loss of one head; the recipe's own by default.
        cleaning: Piece that cleans the label map; the recipe's own by default.
        label_reading: Piece that makes classes of a label file; the recipe's own by default.
        values: One-line entries of the pieces to change, by name.
        reasons: Why some of them are what they are, one line each: their comments.
    """

    network: str
    recipe: str
    labels: tuple[str, ...]
    channels: tuple[str, ...] = ()
    loss: str | None = None
    cleaning: str | None = None
    label_reading: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

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
            "values": dict(self.values),
            **({"reasons": dict(self.reasons)} if self.reasons else {}),
        }

    @classmethod
    def from_metadata(cls, entry: Mapping[str, Any]) -> Composition:
        """Return what `as_metadata` gave."""
        names = {key: tuple(entry.get(key, ())) for key in ("labels", "channels")}
        return cls(**{**entry, **names})


@dataclass(frozen=True)
class Recipe:
    """A file of ``configs/recipes``: the pieces for one kind of image.

    Attributes:
        name: Name of the file.
        about: One line for tables.
        images: ``volumes`` (3D) or ``pictures`` (2D).
        modality: As in the metadata of bundles.
        values_are: What the values are that the network sees.
        loss: Piece of ``configs/losses``, unless another is chosen.
        preparation: Piece that makes the network's input of a file.
        label_reading: Piece that makes classes of a label file.
        cleaning: Piece that cleans the label map.
        training: Pieces that only training needs.
        values: One-line entries that the recipe changes.
    """

    name: str
    about: str
    images: str
    modality: str
    values_are: str
    loss: str
    preparation: str
    label_reading: str
    cleaning: str
    training: Sequence[str]
    values: Mapping[str, Any]

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return _SPATIAL_DIMS[self.images]


def recipe_book() -> Path:
    """Return the folder of the pieces: inside an installed wheel, or beside the package."""
    installed = _PACKAGE / "shipped_configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def list_recipes() -> list[Recipe]:
    """Return the recipes of the book, sorted by name."""
    return [find_recipe(path.stem) for path in sorted((recipe_book() / "recipes").glob("*.yaml"))]


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        UnknownNameError: No recipe has this name; the message lists the nearest ones.
    """
    path = _named("recipe", "recipes", name)
    return Recipe(name=name, **yaml.safe_load(path.read_text(encoding="utf-8")))


def compose(composition: Composition) -> dict[str, str]:
    """Return the text of each configuration of a bundle, by file name.

    Raises:
        UnknownNameError: No network, recipe, loss, cleaning or value has this name.
        InputError: The parts do not go together, or there is no class.
    """
    recipe = find_recipe(composition.recipe)
    _require_trainable(composition.network)
    _require_names(composition.labels)
    _require_channel_names(composition)
    texts = _joined_pieces(composition, recipe)
    _require_values(composition, texts)
    classes = "background, " + ", ".join(composition.labels)
    chosen = {**recipe.values, **composition.values, "classes": 1 + len(composition.labels)}
    if composition.channels:
        chosen["channels"] = list(composition.channels)
        chosen["in_channels"] = len(composition.channels)
    # Tiles as large as the patches of training, unless tuning has found better ones.
    own_patch = yaml.safe_load(_piece(f"images/{recipe.images}"))["patch"]
    chosen.setdefault("tile", chosen.get("patch") or own_patch)
    comments = {**composition.reasons, "classes": classes}
    texts = {name: _with_values(text, chosen, comments) for name, text in texts.items()}
    return {**texts, "logging.conf": (recipe_book() / "bundle" / "logging.conf").read_text("utf-8")}


def with_cleaning(composition: Composition, cleaning: str) -> Composition:
    """Return the composition with another piece that cleans the label map.

    Values that only the piece before had are left out.

    Raises:
        UnknownNameError: No piece that cleans has this name.
    """
    changed = replace(composition, cleaning=cleaning)
    texts = _joined_pieces(changed, find_recipe(changed.recipe)).values()
    known = {name for text in texts for name in _values(text)}
    values = {name: value for name, value in composition.values.items() if name in known}
    return replace(changed, values=values)


def _joined_pieces(composition: Composition, recipe: Recipe) -> dict[str, str]:
    """Return the text of each configuration before values are chosen, by file name."""
    network = f"networks/{composition.network}_{recipe.spatial_dims}d"
    loss = composition.loss or recipe.loss
    _named("loss", "losses", loss)
    cleaning = composition.cleaning or recipe.cleaning
    _require_defining("cleaning", "inference", cleaning)
    label_reading = composition.label_reading or recipe.label_reading
    _require_defining("label_reading", "transforms", label_reading)
    images = f"images/{recipe.images}"
    return {
        "train.yaml": _joined(
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
        "inference.yaml": _joined(
            "inference/start",
            images,
            network,
            recipe.preparation,
            cleaning,
            "inference/segment",
        ),
        "evaluate.yaml": _joined(
            "inference/evaluate",
            label_reading,
            "transforms/check_labels",
            "inference/metrics",
        ),
    }


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
    names = ["background", *composition.labels]
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
                "num_channels": len(names),
                "channel_def": {str(value): name for value, name in enumerate(names)},
            }
        },
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


def _require_trainable(network: str) -> None:
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


def _named(kind: str, folder: str, name: str) -> Path:
    known = {path.stem: path for path in (recipe_book() / folder).glob("*.yaml")}
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]


def _require_defining(section: str, folder: str, name: str) -> None:
    """Refuse a piece that does not define a section."""
    known = [
        f"{folder}/{path.stem}"
        for path in (recipe_book() / folder).glob("*.yaml")
        if re.search(rf"^{section}:", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    if name not in known:
        raise UnknownNameError(section.replace("_", " "), name, known)


@cache
def _piece(name: str) -> str:
    return (recipe_book() / f"{name}.yaml").read_text(encoding="utf-8").strip("\n")


def _joined(*pieces: str) -> str:
    return "\n\n".join(_piece(name) for name in pieces) + "\n"


def _values(text: str) -> set[str]:
    """The one-line entries of a text that hold plain values."""
    return {
        entry["name"]
        for entry in _ENTRY.finditer(text)
        if not entry["value"].startswith(("$", '"$', "'@"))
    }


def _require_names(labels: Sequence[str]) -> None:
    """Refuse class names that a comment or a table could not hold, or that say one thing twice."""
    if not labels:
        raise InputError("a bundle needs at least one class besides the background, got none.")
    for name in labels:
        if not name.strip() or not name.isprintable() or name == "background":
            raise InputError(
                f"{name!r} cannot name a class: expected a printable word other than background."
            )
    if len(set(labels)) < len(labels):
        raise InputError(f"the classes {', '.join(labels)} are not all different: name each once.")


def _require_channel_names(composition: Composition) -> None:
    """Refuse names of channels that could not be written in a command, or that are not distinct."""
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


def _require_values(composition: Composition, texts: Mapping[str, str]) -> None:
    """Refuse values that no piece has, of another kind than the piece's own, or that are code.

    Reasons become comments, which end with their line.
    """
    own: dict[str, Any] = {}
    for text in texts.values():
        content = yaml.safe_load(text)
        own |= {name: content[name] for name in _values(text) - _NOT_VALUES}
    for name, value in composition.values.items():
        if name not in own:
            raise UnknownNameError(
                f"value of recipe {composition.recipe} with {composition.network}", name, own
            )
        if not _same_kind(value, own[name]):
            raise InputError(f"{name} is {value!r}; expected a value such as {own[name]!r}.")
    for name, reason in composition.reasons.items():
        if not reason.isprintable():
            raise InputError(f"the reason of {name} is {reason!r}; expected one printable line.")


def _same_kind(value: Any, own: Any) -> bool:
    """Whether a value can stand for a piece's own.

    What has none (null) may become a list of whole numbers, or of lists of them.
    """
    if own is None or isinstance(own, list):
        if value is None:
            return own in (None, [])
        kind = type(own[0]) if own else int
        return isinstance(value, list) and (
            all(_same_kind(one, kind()) for one in value)
            or (own is None and all(_same_kind(one, []) for one in value))
        )
    if isinstance(value, bool) or isinstance(own, bool):
        return isinstance(value, bool) and isinstance(own, bool)
    if isinstance(own, float):
        return isinstance(value, (int, float))
    if isinstance(own, str):
        return isinstance(value, str) and value.isprintable() and value[:1] not in "$@%"
    return isinstance(value, type(own))


def _with_values(text: str, values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Replace the values of one-line entries; comments and columns stay."""
    changeable = _values(text)

    def line(entry: re.Match[str]) -> str:
        name = entry["name"]
        if name not in values or name not in changeable:
            return entry[0]
        comment = comments.get(name) or (entry["comment"] or "").strip(" #")
        # YAML reads 1e-05 as a word, 1.0e-05 as a number.
        value = re.sub(r"(?<![.\d\w\"])(\d+)e(?=[-+]?\d)", r"\1.0e", json.dumps(values[name]))
        written = f"{name}: {value}"
        return f"{written:<{_COMMENT_COLUMN - 1}} # {comment}" if comment else written

    return _ENTRY.sub(line, text)
