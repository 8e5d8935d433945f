"""The bundles a server offers, by name; those it has trained itself among them."""

from __future__ import annotations

from pathlib import Path

from volseg.bundle import Bundle, describe_bundle, open_bundle
from volseg.errors import InputError, UnknownNameError
from volseg.server.models import BundleDescription


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
        for bundle in map(open_bundle, bundles):
            if bundle.name in self._given:
                raise InputError(f"two bundles are called {bundle.name}: rename the folder of one.")
            describe(bundle)  # says now what is damaged
            if not bundle.weights.is_file():
                raise InputError(f"the bundle {bundle.name} has no weights: train it first.")
            self._given[bundle.name] = bundle

    @property
    def bundles(self) -> dict[str, Bundle]:
        """All bundles by name."""
        found = dict(self._given)
        if self.trained.is_dir():
            for folder in sorted(self.trained.iterdir()):
                found.setdefault(folder.name, open_bundle(folder))
        return found

    def find(self, name: str) -> Bundle:
        """Return the bundle of a name.

        Raises:
            UnknownNameError: there is none; the message lists the nearest.
        """
        known = self.bundles
        if name not in known:
            raise UnknownNameError("bundle", name, known)
        return known[name]


def describe(bundle: Bundle) -> BundleDescription:
    """Return what a client needs to know of a bundle.

    Raises:
        BundleError: its metadata is damaged.
    """
    return BundleDescription.model_validate(describe_bundle(bundle))
