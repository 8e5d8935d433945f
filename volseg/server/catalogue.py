"""The bundles a server offers, by name; those it has trained itself among them."""

from __future__ import annotations

import logging
from pathlib import Path

from volseg.bundle import Bundle, describe_bundle, open_bundle
from volseg.errors import InputError, UnknownNameError, VolsegError
from volseg.server.models import BundleDescription

_log = logging.getLogger(__name__)


class Catalogue:
    """The bundles that can be asked for.

    Args:
        bundles: names of shipped bundles, or bundle folders; each is called by its folder's name.
        trained: folder of bundles that were trained here; it may grow.

    Raises:
        InputError: a bundle is none, or two have the same name.
    """

    def __init__(self, bundles: tuple[str, ...], trained: Path) -> None:
        self.trained = trained
        self._given: dict[str, Bundle] = {}
        self._left_out: set[str] = set()
        for bundle in map(_opened, bundles):
            if bundle.name in self._given:
                raise InputError(f"two bundles are called {bundle.name}: rename the folder of one.")
            self._given[bundle.name] = bundle

    @property
    def bundles(self) -> dict[str, Bundle]:
        """All bundles by name; what was trained here and is damaged is left out."""
        found = dict(self._given)
        if self.trained.is_dir():
            for folder in sorted(self.trained.iterdir()):
                if folder.name in found or folder.name.startswith("."):
                    continue
                try:
                    found[folder.name] = _opened(folder)
                except VolsegError as error:
                    if folder.name not in self._left_out:  # it is said once
                        _log.warning("the trained bundle %s is left out: %s", folder.name, error)
                    self._left_out.add(folder.name)
        return found

    def find(self, name: str) -> Bundle:
        """Return the bundle of a name.

        Raises:
            UnknownNameError: there is none; the message lists the nearest.
        """
        if name in self._given:  # nothing else need be looked at
            return self._given[name]
        known = self.bundles
        if name not in known:
            raise UnknownNameError("bundle", name, known)
        return known[name]


def _opened(place: str | Path) -> Bundle:
    """Return a bundle that can be served.

    Raises:
        InputError: it is none, or is damaged, or has no weights.
    """
    bundle = open_bundle(place)
    describe(bundle)  # says now what is damaged
    if not bundle.weights.is_file():
        raise InputError(f"the bundle {bundle.name} has no weights: train it first.")
    return bundle


def describe(bundle: Bundle) -> BundleDescription:
    """Return what a client needs to know of a bundle.

    Raises:
        BundleError: its metadata is damaged.
    """
    return BundleDescription.model_validate(describe_bundle(bundle))
