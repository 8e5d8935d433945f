"""Make a new bundle folder from the recipe book."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from volseg.atomic import replacing, write_text
from volseg.bundle.composition import Composition, compose, network_data_format
from volseg.bundle.folder import Bundle, open_bundle, shipped_bundles
from volseg.bundle.recipe_book import find_recipe, recipe_book
from volseg.bundle.verification import SCHEMA
from volseg.data import LABELS, list_cases, write_datalist
from volseg.errors import InputError, OutputError, first_cause
from volseg.losses import halving_weights
from volseg.networks import network_spec

_SCHEMA_NAME = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_PACKAGES = ("nibabel", "numba", "pytorch-ignite")
#: What the metadata say until their owner does.
TO_BE_STATED = "not stated yet"


def new_bundle(
    folder: str | Path,
    composition: Composition,
    *,
    data: str | Path | None = None,
    patients: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> Bundle:
    """Write a bundle that holds all it needs, ready to be trained, and return it.

    Args:
        folder: Where to make it; its name is the bundle's. Must not exist, or be empty.
        composition: What to compose it of.
        data: Folder with ``images/`` and ``labels/``; the bundle lists its cases in five folds,
            each with its part of every label.
        patients: CSV file with the columns ``case`` and ``patient`` of the data: a patient's cases
            share a fold. Each case is a patient of its own without it.
        about: Entries of the metadata to set, such as ``task``, ``data_source``, ``data_licence``.
        files: Texts of other files to write with it, or of its own in other words, by path in the
            bundle.

    Raises:
        UnknownNameError: The composition names what is not in the book.
        InputError: The patch does not fit the network, or the data cannot be paired.
        OutputError: The folder is not free or cannot be written.
    """
    folder = Path(folder).resolve()
    require_free(folder)
    texts = compose(composition)
    if not composition.members:  # which were trained: they fit
        _require_fitting(composition, texts["inference.yaml"])
    metadata = _metadata(folder.name, composition, about or {})
    readme = (recipe_book() / "bundle" / "README.md").read_text(encoding="utf-8")
    texts = {f"configs/{name}": text for name, text in texts.items()} | {
        "configs/metadata.json": json.dumps(metadata, indent=2) + "\n",
        "docs/README.md": readme.replace("{name}", folder.name).replace("{task}", metadata["task"]),
        "LICENSE": (recipe_book() / "bundle" / "LICENSE").read_text(encoding="utf-8"),
        **(files or {}),
    }
    # Listed before anything is written: data that cannot be paired leave no half bundle.
    listed = None
    if data is not None:
        listed = list_cases(data, patients=patients, channels=composition.channels, stratify=LABELS)
    for name, text in texts.items():
        write_text(folder / name, text)
    with replacing(folder / "configs" / SCHEMA.name) as temporary:
        shutil.copyfile(SCHEMA, temporary)
    if listed is not None:
        cases, described = listed
        write_datalist(cases, folder / "configs" / "datalist.json", about=described)
    return open_bundle(folder)


def require_free(folder: str | Path) -> None:
    """Refuse a folder that cannot become a new bundle.

    Raises:
        OutputError: It is not empty, or has the name of a bundle that comes with volseg.
    """
    folder = Path(folder).resolve()
    require_own_name(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not empty: choose another folder.")


def require_own_name(folder: str | Path) -> None:
    """Refuse a folder whose name opens another bundle.

    Raises:
        OutputError: It has the name of a bundle that comes with volseg.
    """
    name = Path(folder).resolve().name
    if name in shipped_bundles():
        raise OutputError(
            f"{name} is the name of a bundle that comes with volseg: choose another name."
        )


def _require_fitting(composition: Composition, inference: str) -> None:
    """Refuse a patch that the network cannot take, and weights that are not its heads'.

    Nothing is computed: the network is built and run without memory.

    Raises:
        InputError: They do not fit; training would fail much later.
    """
    parser = ConfigParser(yaml.safe_load(inference))
    name, patch, weights = composition.network, parser["patch"], parser["head_weights"]
    with torch.device("meta"):
        try:
            network = parser.get_parsed_content("network_def")
            image = torch.empty(2, parser["in_channels"], *patch)
            network.eval()(image)
            heads = network.train()(image)
        except Exception as error:
            raise InputError(
                f"{name} cannot be built for patches of {' x '.join(map(str, patch))}: "
                f"{first_cause(error)}"
            ) from error
    number = len(heads) if isinstance(heads, list) else 1
    if len(weights) != number:
        fitting = [round(weight, 4) for weight in halving_weights(number)]
        raise InputError(
            f"{name} has {number} heads in training, but head_weights is {weights}: set one a "
            f"head, such as head_weights={fitting}."
        )


def _metadata(name: str, composition: Composition, about: Mapping[str, Any]) -> dict[str, Any]:
    spec = network_spec(composition.network)
    recipe = find_recipe(composition.recipe)
    classes = ", ".join(composition.labels)
    return {
        "schema": _SCHEMA_NAME,
        "version": "0.1.0",
        "changelog": {"0.1.0": "first release"},
        "name": name,
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "volseg": version("volseg"),
            **{package: version(package) for package in _PACKAGES},
        },
        "task": f"segmentation of {classes}",
        "description": f"{spec.title}, {recipe.spatial_dims}D.",
        "intended_use": "Research. Not a medical device; not for diagnosis.",
        "authors": TO_BE_STATED,
        "copyright": TO_BE_STATED,
        "data_source": TO_BE_STATED,
        "data_licence": TO_BE_STATED,
        "references": [spec.paper],
        **about,
        "composition": composition.as_metadata(),
        "network_data_format": network_data_format(composition),
    }
