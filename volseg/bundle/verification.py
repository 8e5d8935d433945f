"""Whether a bundle is complete, safe, and does what its metadata says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import torch
from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties
from torch import nn

from volseg.bundle.building import build_parts
from volseg.bundle.folder import Bundle, open_bundle
from volseg.errors import VolsegError

SCHEMA = Path(__file__).with_name("metadata_schema.json")

_FILES = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.yaml",
    "configs/logging.conf",
    "docs/README.md",
    "models/model.pt",
)


@dataclass(frozen=True)
class Check:
    """One finding about a bundle."""

    name: str
    passed: bool
    detail: str


def verify_bundle(bundle: str | Path) -> list[Check]:
    """Check a bundle without executing any code it holds.

    Files, metadata against the schema, the property tables of MONAI's workflows (by their
    identifiers), safe building, weights that fit, the output of the network against the channels
    the metadata declares, and limits of quality, if there are any, against their schema.

    Args:
        bundle: Name of a shipped bundle or a bundle folder.

    Raises:
        InputError: There is no such bundle, or its metadata cannot be read at all.
    """
    opened = open_bundle(bundle)
    network = cache(lambda: build_parts(opened).network)  # built once for both checks
    checks: list[tuple[str, Callable[[Bundle], str]]] = [
        ("files", _files),
        ("metadata schema", _schema),
        ("version in changelog", _changelog),
        ("inference properties", lambda b: _properties(b, "inference", InferProperties)),
        ("training properties", _training),
        ("safe building and weights", lambda _: _building(network())),
        ("network output", lambda b: _network_output(b, network())),
        ("quality limits", _quality),
    ]
    return list(_run(opened, checks))


def _run(bundle: Bundle, checks: list[tuple[str, Callable[[Bundle], str]]]) -> Iterator[Check]:
    for name, check in checks:
        try:
            yield Check(name, True, check(bundle))
        except (VolsegError, _Failed) as error:
            yield Check(name, False, str(error))
        except Exception as error:  # a damaged bundle breaks a check in any way: a finding too
            yield Check(name, False, f"{type(error).__name__}: {error}")


class _Failed(Exception):  # noqa: N818 - the outcome of a check, never seen outside
    pass


def _files(bundle: Bundle) -> str:
    missing = [name for name in _FILES if not (bundle.folder / name).is_file()]
    if missing:
        raise _Failed(f"missing: {', '.join(missing)}")
    return f"all {len(_FILES)} there"


def _schema(bundle: Bundle) -> str:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    errors = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(bundle.metadata),
        key=lambda error: list(map(str, error.absolute_path)),
    )
    if errors:
        where = " / ".join(map(str, errors[0].absolute_path)) or "top level"
        raise _Failed(f"{len(errors)} deviations; first at {where}: {errors[0].message}")
    return "valid"


def _changelog(bundle: Bundle) -> str:
    version = bundle.metadata.get("version")
    if version not in bundle.metadata.get("changelog", {}):
        raise _Failed(f"version {version!r} is not in the changelog")
    return str(version)


def _properties(bundle: Bundle, config: str, table: dict[str, dict[str, Any]]) -> str:
    parser = ConfigParser(ConfigParser.load_config_file(bundle.config(config)))
    required = [entry["id"] for entry in table.values() if entry["required"]]
    missing = [identifier for identifier in required if identifier not in parser]
    if missing:
        raise _Failed(f"configs/{config} lacks {', '.join(missing)}")
    return f"all {len(required)} required identifiers"


def _training(bundle: Bundle) -> str:
    if "ensemble" in bundle.metadata:
        return "an ensemble: its members were trained"
    return _properties(bundle, "train", TrainProperties)


def _building(network: nn.Module) -> str:
    return f"{sum(p.numel() for p in network.parameters()):,} parameters"


def _network_output(bundle: Bundle, network: nn.Module) -> str:
    image = bundle.metadata["network_data_format"]["inputs"]["image"]
    outputs = bundle.metadata["network_data_format"]["outputs"]["pred"]
    classes = len(outputs.get("regions") or outputs["channel_def"])
    sides = [side if isinstance(side, int) else 64 for side in image["spatial_shape"]]
    with torch.inference_mode():
        logits = network(torch.zeros(1, image["num_channels"], *sides))
    if tuple(logits.shape) != (1, classes, *sides):
        raise _Failed(
            f"the network gives {tuple(logits.shape)}, the metadata declare {(1, classes, *sides)}"
        )
    if not torch.isfinite(logits).all():
        raise _Failed("the network gives values that are not finite")
    return f"{classes} channels for an input of {' x '.join(map(str, sides))}"


def _quality(bundle: Bundle) -> str:
    limits = bundle.quality
    if limits is None:
        return "none learned: see `volseg bundle quality`"
    strange = {measure.label for measure in limits.limits} - {"", *bundle.labels}
    if strange:
        raise _Failed(f"of classes the bundle does not have: {', '.join(sorted(strange))}")
    return f"{len(limits.limits)} measures of {limits.about['cases']} cases"
