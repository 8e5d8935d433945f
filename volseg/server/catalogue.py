"""The bundles a server offers, by name; those it has trained itself among them."""

from __future__ import annotations

from pathlib import Path

from volseg.bundle import Bundle, open_bundle
from volseg.errors import InputError, UnknownNameError
from volseg.io.dicom.segmentations import Code
from volseg.server.models import BundleDescription, CodeDescription, SegmentDescription


class Catalogue:
    """The bundles that can be asked for.

    Args:
        bundles: names of shipped bundles, or bundle folders; each is called by its folder's name.
        trained: folder of bundles that were trained here; it may grow.

    Raises:
        InputError: a bundle is none, or two have the same name.
    """

    def __init__(self, bundles: tuple[str, ...], trained: Path) -> None:
        self._trained = trained
        self._given: dict[str, Bundle] = {}
        for bundle in map(open_bundle, bundles):
            if bundle.name in self._given:
                raise InputError(f"two bundles are called {bundle.name}: rename the folder of one.")
            describe(bundle)  # says now what is damaged
            self._given[bundle.name] = bundle

    @property
    def bundles(self) -> dict[str, Bundle]:
        """All bundles by name."""
        found = dict(self._given)
        if self._trained.is_dir():
            for folder in sorted(self._trained.iterdir()):
                if (folder / "models" / "model.pt").is_file():
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


def channel_names(bundle: Bundle) -> list[str]:
    """Return the names of a bundle's image channels, in order; of one without names `image`."""
    names = bundle.metadata["network_data_format"]["inputs"]["image"].get("channel_def", {})
    return [str(names.get(str(index), "image")) for index in range(bundle.in_channels)]


def describe(bundle: Bundle) -> BundleDescription:
    """Return what a client needs to know of a bundle.

    Raises:
        BundleError: its metadata is damaged.
    """
    segments = bundle.segments
    return BundleDescription(
        name=bundle.name,
        description=str(bundle.metadata.get("description", "")),
        version=str(bundle.metadata.get("version", "")),
        spatial_dims=bundle.spatial_dims,
        channels=channel_names(bundle),
        labels=bundle.labels,
        segments={
            segment.name: SegmentDescription(
                value=segment.number,
                category=_code(segment.category),
                type=_code(segment.type),
                modifiers=[_code(code) for code in segment.modifiers],
                regions=[_code(code) for code in segment.regions],
            )
            for segment in segments
        },
        colors={segment.name: segment.shown_color for segment in segments},
    )


def _code(code: Code) -> CodeDescription:
    return CodeDescription(value=code.value, scheme=code.scheme, meaning=code.meaning)
