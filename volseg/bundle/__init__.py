"""Bundles: compose them, find them, build them without executing what they hold, verify them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.on_use import loaded_on_use

if TYPE_CHECKING:
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
    from volseg.bundle.copying import copy_bundle
    from volseg.bundle.creation import new_bundle, require_free, require_own_name
    from volseg.bundle.description import describe_bundle
    from volseg.bundle.ensembling import make_ensemble
    from volseg.bundle.folder import (
        Bundle,
        find_bundle,
        open_bundle,
        shipped_bundles,
        write_metadata,
    )
    from volseg.bundle.recipe_book import Recipe, find_recipe, list_recipes
    from volseg.bundle.recomposition import recompose
    from volseg.bundle.regions import Region, make_regions, value_names
    from volseg.bundle.setting_rules import OPTIMIZERS, SCHEDULES, is_setting, require_settings
    from volseg.bundle.verification import Check, verify_bundle

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Bundle",
    "BundleParts",
    "Check",
    "Composition",
    "Recipe",
    "Region",
    "build_inferer",
    "build_label_reading",
    "build_parts",
    "compose",
    "composition_of",
    "copy_bundle",
    "describe_bundle",
    "find_bundle",
    "find_recipe",
    "is_setting",
    "list_recipes",
    "make_ensemble",
    "make_regions",
    "network_data_format",
    "new_bundle",
    "open_bundle",
    "recompose",
    "require_free",
    "require_own_name",
    "require_settings",
    "shipped_bundles",
    "value_names",
    "verify_bundle",
    "with_cleaning",
    "write_metadata",
]

__getattr__ = loaded_on_use(__name__)
