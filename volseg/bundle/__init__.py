"""Bundles: find them, build them without executing what they hold, verify them."""

from volseg.bundle.building import BundleParts, build_parts
from volseg.bundle.folder import Bundle, find_bundle, open_bundle, shipped_bundles
from volseg.bundle.verification import Check, verify_bundle

__all__ = [
    "Bundle",
    "BundleParts",
    "Check",
    "build_parts",
    "find_bundle",
    "open_bundle",
    "shipped_bundles",
    "verify_bundle",
]
