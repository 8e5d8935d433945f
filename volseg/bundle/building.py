"""From a bundle's inference configuration to objects, executing nothing it holds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import nn

from volseg.bundle.allowed import require_allowed
from volseg.bundle.folder import Bundle
from volseg.errors import BundleError, InputError, UnknownNameError, reason_of
from volseg.inference import SlidingWindowInferer
from volseg.networks import load_weights
from volseg.networks.unetplusplus import UNetPlusPlus

_SECTIONS = ("network_def", "preprocessing", "inferer", "postprocessing")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BundleParts:
    """What turns a volume into a label map.

    Attributes:
        network: Network with the bundle's weights, in evaluation mode.
        preprocessing: From ``{"image": path or MetaTensor}`` to network input.
        inferer: ``inferer(batch, network)`` gives logits.
        postprocessing: From ``{"image", "pred"}`` to labels on the source grid under ``pred``.
    """

    network: nn.Module
    preprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    inferer: Callable[..., Any]
    postprocessing: Callable[[dict[str, Any]], dict[str, Any]]


def build_parts(
    bundle: Bundle, *, trust_code: bool = False, settings: Mapping[str, Any] | None = None
) -> BundleParts:
    """Build the network and the transforms that ``configs/inference.yaml`` describes.

    Args:
        bundle: The bundle.
        trust_code: Also evaluate ``$`` expressions and call any ``_target_``: the bundle can
            then run whatever its author wrote.
        settings: Options of the inferer that replace the bundle's own.

    Raises:
        BundleError: A section is missing or wrong, holds code that was not allowed, or the
            weights do not fit, or the network averages regions as if they were classes.
        InputError: The settings are none of the inferer.
    """
    changes = {"inferer": settings} if settings else {}
    built = _build(bundle, "inference", _SECTIONS, trust_code=trust_code, changes=changes)
    _require_one_kind(built["network_def"], built["inferer"], str(bundle.config("inference")))
    network = load_weights(built["network_def"], bundle.weights).eval()
    return BundleParts(
        network=network,
        preprocessing=built["preprocessing"],
        inferer=built["inferer"],
        postprocessing=built["postprocessing"],
    )


def _require_one_kind(network: nn.Module, inferer: Any, path: str) -> None:
    """Refuse a network that averages its heads as if regions were classes."""
    averages_classes = any(
        isinstance(part, UNetPlusPlus)
        and (part.deep_supervision and part.accurate and not part.sigmoid)
        for part in network.modules()
    )
    if averages_classes and not getattr(inferer, "exclusive", True):
        raise BundleError(
            f"{path}: network_def averages the heads of unetplusplus as classes, one a voxel, and "
            "inferer has exclusive: false, regions that may overlap; expected one kind in both: "
            "put overlapping: true into network_def, here and in train.yaml; the weights stay."
        )


def build_inferer(
    bundle: Bundle, *, trust_code: bool = False, settings: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Build the inferer alone; see `build_parts`."""
    changes = {"inferer": settings} if settings else {}
    built = _build(bundle, "inference", ("inferer",), trust_code=trust_code, changes=changes)
    inferer: Callable[..., Any] = built["inferer"]
    return inferer


def build_label_reading(bundle: Bundle) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what makes classes ``(1, ...)`` under ``label`` of the label file named there.

    That is the section ``label_reading`` of ``configs/evaluate.yaml``: label files may hold other
    numbers than the classes (one an object, 255 for foreground).

    Raises:
        BundleError: There is no such section, or it holds code.
    """
    transforms = _build(bundle, "evaluate", ("label_reading",))["label_reading"]
    reading: Callable[[dict[str, Any]], dict[str, Any]] = Compose(transforms)
    return reading


def _build(
    bundle: Bundle,
    config_name: str,
    sections: Sequence[str],
    *,
    trust_code: bool = False,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Build sections of one configuration, with all that they refer to and with changed options."""
    path = bundle.config(config_name)
    try:
        config = ConfigParser.load_config_file(path)
    except Exception as error:
        raise BundleError(f"{path} cannot be parsed ({error}).") from error
    missing = [name for name in sections if name not in config]
    if missing:
        raise BundleError(f"{path} lacks the section {missing[0]!r}: expected {tuple(sections)}.")
    for name, options in (changes or {}).items():
        config[name] = _changed(config[name], options, f"{path}::{name}")
    # Wherever the bundle lies: a transform may refer to it, as `folder: "@bundle_root"`.
    config["bundle_root"] = str(bundle.folder)
    if trust_code:
        _log.warning("executing the code in %s, as allowed by trust_code", path)
        parser = ConfigParser(config)
    else:
        parser = ConfigParser(_checked_sections(config, str(path), sections))
    built = {}
    for name in sections:
        try:
            built[name] = parser.get_parsed_content(name)
        except Exception as error:
            raise BundleError(f"{path}: {name} cannot be built: {reason_of(error)}") from error
    return built


def _changed(section: Any, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a section whose component is built with other options."""
    target = section.get("_target_") if isinstance(section, dict) else None
    if target != "volseg.inference.SlidingWindowInferer":
        raise InputError(
            f"{where} is {target or type(section).__name__}, which does not take the settings "
            f"{', '.join(options)}: they belong to volseg.inference.SlidingWindowInferer."
        )
    known = set(inspect.signature(SlidingWindowInferer).parameters)
    for name in options:
        if name not in known:
            raise UnknownNameError("setting", name, known)
    return {**section, **options}


def _checked_sections(config: dict[str, Any], path: str, sections: Sequence[str]) -> dict[str, Any]:
    """Return only the sections that are needed, each checked, with all that they refer to."""
    checked: dict[str, Any] = {}
    waiting = list(sections)
    while waiting:
        name = waiting.pop()
        if name in checked:
            continue
        if name not in config:
            raise BundleError(f"{path} refers to a section {name!r} that it does not have.")
        checked[name] = config[name]
        waiting.extend(require_allowed(config[name], f"{path}::{name}"))
    return checked
