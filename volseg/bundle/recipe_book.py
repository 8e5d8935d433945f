"""The recipe book, ``configs/``: recipes, and the pieces that bundles are composed of.

A piece is a few commented sections of a MONAI configuration. A recipe names the pieces for one kind
of image. What a user may choose (widths, patch, epochs, ...) are the one-line entries of the
pieces; choosing replaces that line's value, and comments stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from volseg.errors import UnknownNameError

_PACKAGE = Path(__file__).resolve().parent.parent
_ENTRY = re.compile(
    r"^(?P<name>[a-z_]+): (?P<value>[^#\s][^#\n]*?)(?P<comment> +#.*)?$", re.MULTILINE
)
# A text, or the start of a number such as 1e-05, in JSON.
_TEXT_OR_POWER = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")|(?<![.\w])(?P<number>\d+)e')
_COMMENT_COLUMN = 41
_SPATIAL_DIMS = {"volumes": 3, "pictures": 2}


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
    path = find_piece("recipe", "recipes", name)
    return Recipe(name=name, **yaml.safe_load(path.read_text(encoding="utf-8")))


def find_piece(kind: str, folder: str, name: str) -> Path:
    """Return the file of a piece.

    Raises:
        UnknownNameError: No piece of the folder has this name.
    """
    known = {path.stem: path for path in (recipe_book() / folder).glob("*.yaml")}
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]


def require_defining(section: str, folder: str, name: str) -> None:
    """Refuse a piece that does not define a section.

    Raises:
        UnknownNameError: No piece that defines it has this name.
    """
    known = [
        f"{folder}/{path.stem}"
        for path in (recipe_book() / folder).glob("*.yaml")
        if re.search(rf"^{section}:", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    if name not in known:
        raise UnknownNameError(section.replace("_", " "), name, known)


@cache
def piece(name: str) -> str:
    """Return the text of a piece."""
    return (recipe_book() / f"{name}.yaml").read_text(encoding="utf-8").strip("\n")


def joined(*pieces: str) -> str:
    """Return the texts of pieces as one."""
    return "\n\n".join(piece(name) for name in pieces) + "\n"


def values_of(text: str) -> set[str]:
    """Return the one-line entries of a text that hold plain values."""
    return {
        entry["name"]
        for entry in _ENTRY.finditer(text)
        if not entry["value"].startswith(("$", '"$', "'@"))
    }


def with_values(text: str, values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Replace the values of one-line entries; comments and columns stay."""
    changeable = values_of(text)

    def line(entry: re.Match[str]) -> str:
        name = entry["name"]
        if name not in values or name not in changeable:
            return entry[0]
        comment = comments.get(name) or (entry["comment"] or "").strip(" #")
        value = _TEXT_OR_POWER.sub(_with_a_point, json.dumps(values[name]))
        written = f"{name}: {value}"
        return f"{written:<{_COMMENT_COLUMN - 1}} # {comment}" if comment else written

    return _ENTRY.sub(line, text)


def _with_a_point(found: re.Match[str]) -> str:
    """Return a text as it is, and a number with a point: YAML reads 1e-05 as a word."""
    return found["text"] or f"{found['number']}.0e"
