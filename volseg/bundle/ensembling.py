"""Several bundles as one: a self-contained bundle whose network is the ensemble of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from volseg.atomic import replacing_folder
from volseg.bundle.building import build_parts
from volseg.bundle.composition import Composition, compose, composition_of
from volseg.bundle.creation import TO_BE_STATED, new_bundle, require_free
from volseg.bundle.ensemble_members import Member
from volseg.bundle.folder import Bundle, open_bundle
from volseg.bundle.recipe_book import find_recipe, recipe_book, values_of
from volseg.errors import BundleError, InputError
from volseg.networks import NetworkEnsemble, network_spec, save_weights

# What a user of the first member is told holds for the ensemble, too.
_KEPT = ("task", "intended_use", "data_type", "dicom_segments")
# What is told of each member: an ensemble is made of all of them.
_OF_EACH = ("authors", "copyright", "data_source", "data_licence")
_README = """\
# {name}

{task}: the mean of the probabilities of {count} networks.

    volseg segment INPUT -o OUT --bundle {name}

Its members, whose weights are together in `models/model.pt`:

{members}

Not a medical device; not for diagnosis or treatment.
"""


def make_ensemble(
    folder: str | Path,
    bundles: Sequence[str | Path],
    *,
    values: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    replacing: bool = False,
) -> Bundle:
    """Write a bundle that gives the mean of the probabilities of several, and return it.

    The members read and prepare an image alike, so that this is done once, see the same tiles, and
    decide alike; their networks may differ in all else. A member that is an ensemble itself stands
    for its networks.

    Args:
        folder: Where to make it; its name is the bundle's. Must not exist, or be empty.
        bundles: Names or folders of two members at least, with weights.
        values: What is to hold for the ensemble where members differ, such as ``threshold``,
            ``temperature``, ``tile`` or ``overlap``.
        about: Entries of its metadata besides those of the members.
        files: Texts of other files, by path in the bundle.
        replacing: Whether a bundle that is there is replaced, once this one is whole.

    Raises:
        UnknownNameError: No bundle has this name, or no piece a value of it.
        BundleError: A member is damaged, was not composed, or was edited since.
        InputError: There is one member only, or two differ in what they must share.
        OutputError: The folder is not free or cannot be written.
    """
    if len(bundles) < 2:
        raise InputError(f"an ensemble needs at least two bundles, got {len(bundles)}.")
    target = Path(folder).resolve()
    if not replacing:
        require_free(target)
    opened = [open_bundle(bundle) for bundle in bundles]
    composition = _composition(opened, values or {})
    networks = [network for bundle in opened for network in _networks(bundle)]
    kind = "regions" if composition.regions else "classes"
    told = {key: opened[0].metadata[key] for key in _KEPT if key in opened[0].metadata}
    told |= {key: _of_each(opened, key) for key in _OF_EACH}
    titles = [network_spec(member.network) for member in composition.members]
    described = ", ".join(dict.fromkeys(spec.title for spec in titles))
    told |= {
        "name": target.name,
        "description": f"Ensemble of {len(networks)} networks: {described}.",
        "references": list(dict.fromkeys(spec.paper for spec in titles)),
        "ensemble": [_told(bundle) for bundle in opened],
        **(about or {}),
    }
    readme = _README.format(
        name=target.name,
        task=told.get("task", "segmentation"),
        count=len(networks),
        members="\n".join(map(_line, told["ensemble"])),
    )
    texts = {
        "docs/README.md": readme,
        "LICENSE": _licence(opened),
        **_files(opened),
        **(files or {}),
    }
    with replacing_folder(target, marked_by="configs/metadata.json", only_writing=False) as draft:
        new_bundle(draft, composition, about=told, files=texts)
        save_weights(NetworkEnsemble(networks, kind=kind), draft / "models" / "model.pt")
    return open_bundle(target)


def _networks(bundle: Bundle) -> list[Any]:
    network = build_parts(bundle).network
    return list(network.networks) if isinstance(network, NetworkEnsemble) else [network]


def _of_each(bundles: Sequence[Bundle], key: str) -> str:
    """Return what the metadata of the members say, each text once."""
    texts = [str(bundle.metadata.get(key, TO_BE_STATED)) for bundle in bundles]
    return "; ".join(dict.fromkeys(texts))


def _licence(bundles: Sequence[Bundle]) -> str:
    """Return the licence of the members; where they differ, each under the names it is of."""
    named: dict[str, list[str]] = {}
    for bundle in bundles:
        path = bundle.folder / "LICENSE"
        if not path.is_file():
            path = recipe_book() / "bundle" / "LICENSE"
        named.setdefault(path.read_text(encoding="utf-8"), []).append(bundle.name)
    if len(named) == 1:
        return next(iter(named))
    return "\n".join(f"{', '.join(names)}:\n\n{text}" for text, names in named.items())


def _told(bundle: Bundle) -> dict[str, Any]:
    """Return what the metadata of the ensemble say of a member."""
    training = bundle.metadata.get("training", {})
    told = {
        "name": bundle.metadata.get("name", bundle.name),
        "version": bundle.metadata.get("version", "0"),
        "sha256": bundle.sha256,
        "fold": training.get("fold"),
        "members": bundle.metadata.get("ensemble"),
    }
    return {key: value for key, value in told.items() if value is not None}


def _line(told: Mapping[str, Any]) -> str:
    held_out = f", not trained on fold {told['fold']}" if "fold" in told else ""
    return f"- {told['name']} {told['version']}{held_out}"


def _composition(bundles: Sequence[Bundle], values: Mapping[str, Any]) -> Composition:
    """Return what the ensemble is composed of."""
    compositions = [composition_of(bundle.metadata, bundle.name) for bundle in bundles]
    contents = [_inference(bundle) for bundle in bundles]
    members: list[Member] = []
    for composition, content in zip(compositions, contents, strict=True):
        dims = find_recipe(composition.recipe).spatial_dims
        members += composition.members or (Member.of(composition.network, dims, content),)
    shared = [
        _shared(content, composition, values)
        for composition, content in zip(compositions, contents, strict=True)
    ]
    for bundle, own in zip(bundles[1:], shared[1:], strict=True):
        _require_alike(bundles[0], shared[0], bundle, own)
    first = compositions[0]
    texts = compose(first)
    known = values_of(texts["inference.yaml"]) | values_of(texts["evaluate.yaml"])
    kept = {name: value for name, value in first.values.items() if name in known}
    reasons = {name: reason for name, reason in first.reasons.items() if name in kept}
    ensemble = replace(first, values={**kept, **values}, reasons=reasons, members=tuple(members))
    composed = _shared(yaml.safe_load(compose(ensemble)["inference.yaml"]), ensemble, values)
    changed = sorted(key for key in composed | shared[0] if composed.get(key) != shared[0].get(key))
    if changed:
        raise BundleError(
            f"{bundles[0].config('inference')} is not what the bundle was composed of (first at "
            f"{changed[0]}): it was edited, or composed by another version of volseg. Compose it "
            "again, or give its name to volseg segment --bundle along with the others."
        )
    return ensemble


def _inference(bundle: Bundle) -> dict[str, Any]:
    path = bundle.config("inference")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BundleError(f"{path} cannot be parsed ({error}).") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds a {type(content).__name__}, expected sections.")
    return content


def _shared(
    content: Mapping[str, Any], composition: Composition, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the members of an ensemble have in common: all but networks and what is set."""
    own = {"network_def", *values}
    if not composition.members:
        dims = find_recipe(composition.recipe).spatial_dims
        own |= set(Member.of(composition.network, dims, content).values)
    return {key: value for key, value in content.items() if key not in own}


def _require_alike(
    first: Bundle, shared: Mapping[str, Any], other: Bundle, own: Mapping[str, Any]
) -> None:
    """Refuse a member that does not see what the first sees, or decides otherwise.

    Raises:
        InputError: It differs.
    """
    differing = sorted(key for key in shared.keys() | own.keys() if shared.get(key) != own.get(key))
    named = {
        "labels": (first.labels, other.labels),
        "regions": (first.regions, other.regions),
        "channels": (first.channel_files, other.channel_files),
    }
    differing += [name for name, (a, b) in named.items() if a != b]
    if not differing:
        return
    name = differing[0]
    values = [str(one.get(name)) for one in (shared, own)]
    if name in named:
        values = [str(one) for one in named[name]]
    said = f" ({values[0]} and {values[1]})" if max(map(len, values)) < 60 else ""
    raise InputError(
        f"the bundles {first.name} and {other.name} differ in {', '.join(differing)}{said}: the "
        "members of an ensemble must prepare, cut and decide alike. Compose one of them anew, or "
        "say what is to hold for the ensemble (--set NAME=VALUE) where it is a value of inference "
        "alone, such as tile, overlap, threshold or temperature."
    )


def _files(bundles: Sequence[Bundle]) -> dict[str, str]:
    """Return the texts of files that the configuration of inference names, by path in the bundle.

    Raises:
        InputError: Members have different ones.
    """
    found = {}
    for path in bundles[0].named_files("inference"):
        name = f"configs/{path.name}"
        found[name] = path.read_text(encoding="utf-8")
        for other in bundles[1:]:
            file = other.folder / name
            if not file.is_file() or file.read_text(encoding="utf-8") != found[name]:
                raise InputError(
                    f"the bundles {bundles[0].name} and {other.name} differ in {name}: the members "
                    "of an ensemble must prepare, cut and decide alike."
                )
    return found
