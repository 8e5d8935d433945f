"""The settings of a run: entries of ``configs/train.yaml``, checked before anything is read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from monai.bundle import ConfigParser

from volseg.bundle import Bundle, is_setting, open_bundle, require_settings
from volseg.data import fold_cases
from volseg.errors import BundleError, InputError
from volseg.processes import launched_count, process_count
from volseg.training.tracking import require_tracker

T = TypeVar("T")

_FOLDERS = frozenset({"bundle_root", "dataset_dir", "output_dir"})
# Where a run happens and with what, which changes nothing about its result.
_SURROUNDINGS = frozenset(
    _FOLDERS
    | {"datalist", "device", "workers", "cached", "prepared", "resume", "track_with"}
    | {"imports", "settings", "initialize", "run", ConfigParser.meta_key}
)
#: What a run may be told otherwise when it is gone on with: what helps where losses or weights are
#: no longer numbers, and when it is looked at how good it is.
CHANGEABLE = ("learning_rate", "clip_norm", "train_precision", "patience", "val_interval")
# Of those that inference or evaluation has, too: what training has may be another.
_OF_TRAINING = frozenset({"patch", "head_weights", "fold"}) | _SURROUNDINGS

# What says which cases are trained on and held out.
_OF_CASES = ("datalist", "dataset_dir", "fold", "cases")


def require_run_settings(bundle: Bundle, given: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse settings that a training of a bundle cannot have; return all that it then has.

    Args:
        bundle: The bundle.
        given: Values by name, as they would replace those of ``configs/train.yaml``.

    Raises:
        UnknownNameError: A name is not known; the message has the nearest ones.
        InputError: A value is of a wrong kind or out of its range, or would make inference or
            evaluation something else than what is trained for; or there are more processes than
            images in a batch.
        BundleError: The bundle cannot be trained.
    """
    train, inference = (_entries(bundle.config(name)) for name in ("train", "inference"))
    train = {name: value for name, value in train.items() if name not in _FOLDERS}
    where = f"{bundle.folder / 'configs' / 'train.yaml'}"
    require_settings(given, train, where=where)
    evaluation: dict[str, Any] = {}
    with suppress(BundleError):  # not every bundle has one
        evaluation = _entries(bundle.config("evaluate"))
    for what, later in (("inference", inference), ("evaluation", evaluation)):
        for name, value in given.items():
            if name in later and name not in _OF_TRAINING and value != later[name]:
                raise InputError(
                    f"{name} is {value!r} but {later[name]!r} in the {what} of the bundle "
                    f"{bundle.name}, which would not fit what is trained: make the bundle anew "
                    "with `volseg bundle new` (--set, --ignore) or `volseg plan`."
                )
    chosen = {**train, **given}
    if chosen.get("fold") == "all":
        for name, without in (("patience", None), ("final_weights", "last")):
            if chosen.get(name, without) != without:
                raise InputError(
                    f"{name} is {chosen[name]!r}, which needs held-out cases, but fold is 'all': "
                    f"hold out a fold, or set {name} to {without or 'null'}."
                )
    require_tracker(chosen.get("track_with"))
    processes = max(launched_count(), process_count())
    size = chosen.get("batch_size")
    if isinstance(size, int) and size < processes:
        raise InputError(
            f"batch_size is {size}, but {processes} processes share each batch; "
            "expected at least one image for each: take a larger batch_size or fewer processes."
        )
    return chosen


def require_cases(
    datalist: str | Path, data: str | Path, *, fold: int | Literal["all"], number: int | None
) -> None:
    """Refuse a fold without cases and files that are not there, before an image is read.

    Args:
        datalist: File that lists the cases.
        data: Folder that the paths in it are relative to.
        fold: The fold that is held out, or ``all``.
        number: How many of the others are trained on; all without it.

    Raises:
        InputError: There are no such cases, or a file of theirs does not exist.
    """
    if fold != "all":
        fold_cases(datalist, data, fold=fold, held_out=True)
    fold_cases(datalist, data, fold=fold, held_out=False, number=number)


def run_settings(bundle_root: str | Path) -> dict[str, Any]:
    """Return the configuration that is being run, without its surroundings, once it is checked.

    That its cases are there is checked, too.

    For ``configs/train.yaml``, whose first step it is: what MONAI's runner was told on its command
    line has by then replaced what the file says, and an unknown name has become one more entry.

    Args:
        bundle_root: The folder of the bundle.

    Raises:
        UnknownNameError: A name is not known; the message has the nearest ones.
        InputError: A value is of a wrong kind or out of its range, or a case is not there.
    """
    bundle = open_bundle(bundle_root)
    parser = _running_parser()
    running = parser.config
    if not isinstance(running, dict):
        raise TypeError(f"a configuration is an object, found {type(running).__name__}")
    own = _entries(bundle.config("train"))
    given = {
        name: value
        for name, value in running.items()
        if name not in _SURROUNDINGS
        and (name not in own or (is_setting(own[name]) and is_setting(value)))
        and not (name in own and own[name] == value)
    }
    require_run_settings(bundle, given)
    if running.keys() >= set(_OF_CASES):
        datalist, data, fold, number = map(parser.get_parsed_content, _OF_CASES)
        require_cases(datalist, data, fold=fold, number=number)
    return {
        name: _plain(value) for name, value in sorted(running.items()) if name not in _SURROUNDINGS
    }


def class_names(bundle_root: str | Path) -> list[str]:
    """Return the names of what a bundle is judged by: regions, or classes but the background."""
    bundle = open_bundle(bundle_root)
    labels = bundle.labels
    return list(bundle.regions) or sorted(labels, key=lambda name: labels[name])


def attached(handler: T) -> T:
    """Return a handler that has a name of its own in the configuration.

    MONAI's workflows look for validation among the handlers of a training, and want each of them to
    be a component rather than a reference to one.
    """
    return handler


def differing_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return what differs between two configurations, a phrase by name."""
    return {
        name: f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        if is_setting(before.get(name)) and is_setting(now.get(name))
        else f"{name} is another"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }


def _entries(config: Path) -> dict[str, Any]:
    return dict(ConfigParser.load_config_file(str(config)))


def _running_parser() -> ConfigParser:
    """Return the parser that evaluates the expression from which this is called.

    MONAI gives expressions no access to the configuration they are in, so it is looked for among
    the callers.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if isinstance(found := frame.f_locals.get("self"), ConfigParser):
            return found
    raise RuntimeError("no configuration is being run: this is for configs/train.yaml")


def _plain(value: Any) -> Any:
    """Return a value of a configuration as it can be kept in a checkpoint."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
