"""Compose a bundle again: other values, other pieces, a new version that says why."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from volseg.atomic import write_together
from volseg.bundle.composition import (
    Composition,
    compose,
    composition_of,
    network_data_format,
)
from volseg.bundle.folder import Bundle, open_bundle
from volseg.errors import BundleError


def recompose(
    bundle: Bundle,
    composition: Composition,
    reason: str,
    *,
    files: Mapping[str, str] | None = None,
    renew: bool = False,
) -> Bundle:
    """Write what a bundle becomes with another composition, and return it.

    Only configurations that the change of composition changes are written, so what its owner
    edited in the others stays. If anything changes, the version is raised, with the reason in the
    changelog. The metadata are replaced last: they never tell of what is not there.

    Args:
        bundle: A bundle that was composed.
        composition: What to compose it of from now on.
        reason: What the changelog says.
        files: Texts of other files to write with it, by path in the bundle.
        renew: Also write configurations that are not what the bundle was composed of: because
            pieces have changed since, or because they were edited, which is lost.

    Raises:
        BundleError: The bundle was not composed, or a configuration to change is not what it was
            composed of.
        UnknownNameError: The composition names what is not in the book.
        OutputError: A file cannot be written; the bundle is as it was.
    """
    composition_of(bundle.metadata, bundle.name)
    after = compose(composition)
    if renew:
        configs = dict(after)
    else:
        before = _as_composed(bundle, after)
        configs = {name: text for name, text in after.items() if text != before[name]}
    texts = {f"configs/{name}": text for name, text in configs.items()} | dict(files or {})
    changed = {name: text for name, text in texts.items() if _read(bundle, name) != text}
    if not changed:
        return bundle
    metadata = dict(bundle.metadata)
    metadata["version"] = _raised(bundle)
    metadata["changelog"] = {**metadata.get("changelog", {}), metadata["version"]: reason}
    metadata["composition"] = composition.as_metadata()
    metadata["network_data_format"] = network_data_format(composition)
    changed["configs/metadata.json"] = json.dumps(metadata, indent=2) + "\n"
    write_together({bundle.folder / name: text for name, text in changed.items()})
    return open_bundle(bundle.folder)


def _as_composed(bundle: Bundle, after: Mapping[str, str]) -> dict[str, str]:
    """Return what the bundle was composed of, where it is about to change; refuse what is not."""
    before = compose(composition_of(bundle.metadata, bundle.name))
    for name, text in before.items():
        if after[name] != text and _read(bundle, f"configs/{name}") != text:
            raise BundleError(
                f"{bundle.folder / 'configs' / name} is not what the bundle was composed of: it "
                "was edited, or composed by another version of volseg, and composing it again "
                "would lose that; change it by hand."
            )
    return before


def _raised(bundle: Bundle) -> str:
    """Return the version after this one: its last number is raised."""
    version = str(bundle.metadata.get("version"))
    parts = re.fullmatch(r"(.*?)(\d+)", version)
    if parts is None:
        raise BundleError(
            f"the version of {bundle.name} is {version!r}; expected one that ends in a number, "
            "such as '0.1.0', to raise it."
        )
    return f"{parts[1]}{int(parts[2]) + 1}"


def _read(bundle: Bundle, name: str) -> str | None:
    path = bundle.folder / name
    return path.read_text(encoding="utf-8") if path.is_file() else None
