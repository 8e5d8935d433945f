"""Curves in the files of other programs: TensorBoard and MLflow, through MONAI's handlers."""

from __future__ import annotations

from importlib.util import find_spec

from volseg.errors import MissingPackageError

_EXTRAS = {"tensorboard": "tracking", "mlflow": "mlflow"}


def require_tracker(name: str | None) -> None:
    """Refuse to track with a program whose package is not there.

    Raises:
        MissingPackageError: It is not installed.
    """
    if name is not None and find_spec(name) is None:
        raise MissingPackageError(f"tracking with {name}", name, _EXTRAS[name])
