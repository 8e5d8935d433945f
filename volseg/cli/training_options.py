"""What ``volseg train`` lets a user set, as the settings of a run."""

from __future__ import annotations

from typing import Annotated, Any

from volseg.cli.option_groups import options_under
from volseg.cli.setting_options import named_values

_setting = options_under("Settings, instead of those of the bundle's configs/train.yaml")


def settings(
    fold: Annotated[
        str | None,
        _setting(help="Held out, 0 by default; all: every case is trained on, none held out."),
    ] = None,
    epochs: Annotated[int | None, _setting(help="How long, in epochs.")] = None,
    seconds: Annotated[
        float | None,
        _setting(help="How long, in seconds of training; the learning rate follows them."),
    ] = None,
    learning_rate: Annotated[float | None, _setting(help="The highest.")] = None,
    batch_size: Annotated[int | None, _setting(help="Patches a step.")] = None,
    seed: Annotated[int | None, _setting(help="Of all that is random.")] = None,
    change: Annotated[
        list[str] | None,
        _setting("--set", metavar="NAME=VALUE", help="Any other one, in YAML; may be repeated."),
    ] = None,
) -> dict[str, Any]:
    """Return the settings by name."""
    from volseg.errors import InputError

    own: dict[str, Any] = {
        "fold": int(fold) if fold is not None and fold.isdecimal() else fold,
        "epochs": epochs,
        "seconds": seconds,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "seed": seed,
    }
    if epochs is not None and seconds is not None:
        raise InputError("both --epochs and --seconds say how long to train: give one of them.")
    by_option = {name: value for name, value in own.items() if value is not None}
    others = named_values(change or ())
    for name in by_option.keys() & others.keys():
        raise InputError(
            f"{name} is given by --{name.replace('_', '-')} and by --set: give it once."
        )
    return {"fold": 0, **by_option, **others}
