"""The networks of an ensemble in a configuration: written out, each with its own values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from volseg.bundle.recipe_book import piece

_SECTION = "network_def"
_HEAD = """\
# Several networks, one after the other; the mean of their probabilities counts (the softmax of
# each, over its mirrored tiles where there are any). models/model.pt holds the weights of all.
"""


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    Attributes:
        network: Registry name.
        spatial_dims: 2 or 3.
        values: The values of the network's piece, all of them.
    """

    network: str
    spatial_dims: int
    values: Mapping[str, Any]

    def as_metadata(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "network": self.network,
            "spatial_dims": self.spatial_dims,
            "values": dict(self.values),
        }

    @classmethod
    def of(cls, network: str, spatial_dims: int, inference: Mapping[str, Any]) -> Member:
        """Return the network that the configuration of a bundle's inference has."""
        own = yaml.safe_load(_piece(network, spatial_dims))
        # An entry that the piece has got since says what the network was built with before.
        values = {name: inference.get(name, own[name]) for name in own if name != _SECTION}
        return cls(network, spatial_dims, values)

    def definition(self, kind: str) -> dict[str, Any]:
        """Return what builds the network, its values in place; channels are the bundle's.

        Args:
            kind: What they are: ``classes`` or ``regions``.
        """
        content = yaml.safe_load(_piece(self.network, self.spatial_dims))
        # Members that were composed before the piece of UNet++ had this entry lack it.
        values = {**self.values, "overlapping": kind == "regions"}
        filled: dict[str, Any] = _filled(content[_SECTION], values)
        return filled


def with_ensemble(text: str, network: str, members: Sequence[Member], *, kind: str) -> str:
    """Return the configuration of a network's inference with an ensemble in its place.

    Args:
        text: The configuration.
        network: The piece of the network in it, before values were chosen.
        members: The networks of the ensemble.
        kind: What their channels are: ``classes`` or ``regions``.
    """
    ensemble = {
        _SECTION: {
            "_target_": "volseg.networks.NetworkEnsemble",
            "kind": kind,
            "networks": [member.definition(kind) for member in members],
        }
    }
    written = yaml.safe_dump(ensemble, sort_keys=False, default_flow_style=None, width=100)
    # A piece begins with a comment on the network and ends with the section that builds it.
    first = re.escape(network.partition("\n")[0])
    begin = re.search(rf"^{first}$", text, re.MULTILINE)
    section = re.search(rf"^{_SECTION}:\n(?:[ -].*\n)*", text, re.MULTILINE)
    if begin is None or section is None or section.start() < begin.start():
        raise AssertionError(f"the piece that begins with {first!r} is not in the configuration")
    return text[: begin.start()] + _HEAD + written + text[section.end() :]


def _piece(network: str, spatial_dims: int) -> str:
    return piece(f"networks/{network}_{spatial_dims}d")


def _filled(content: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(content, dict):
        return {key: _filled(value, values) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, values) for value in content]
    if isinstance(content, str) and content.startswith("@") and content[1:] in values:
        return values[content[1:]]
    return content
