"""Bundles: compose them, find them, build them without executing what they hold, verify them."""

from volseg.bundle.building import (
    BundleParts,
    build_inferer,
    build_label_reading,
    build_parts,
)
from volseg.bundle.composition import (
    Composition,
    compose,
    composition_of,
    network_data_format,
    with_cleaning,
)
from volseg.bundle.creation import new_bundle, require_free
from volseg.bundle.description import describe_bundle
from volseg.bundle.folder import Bundle, find_bundle, open_bundle, shipped_bundles
from volseg.bundle.recipe_book import Recipe, find_recipe, list_recipes
from volseg.bundle.recomposition import recompose
from volseg.bundle.verification import Check, verify_bundle

__all__ = [
    "Bundle",
    "BundleParts",
    "Check",
    "Composition",
    "Recipe",
    "build_inferer",
    "build_label_reading",
    "build_parts",
    "compose",
    "composition_of",
    "describe_bundle",
    "find_bundle",
    "find_recipe",
    "list_recipes",
    "network_data_format",
    "new_bundle",
    "open_bundle",
    "recompose",
    "require_free",
    "shipped_bundles",
    "verify_bundle",
    "with_cleaning",
]
