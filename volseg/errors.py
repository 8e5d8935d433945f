"""The errors volseg raises on purpose.

Each message is one sentence a user can act on: what is wrong, what was found, what was
expected, where, and what to do next. The command line prints it as it is; anything that is
not a `VolsegError` is a bug.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class VolsegError(Exception):
    """Base of every error that is meant for the user."""


class InputError(VolsegError):
    """A file or value given by the user is missing, damaged, unsupported or unusable."""


class GeometryError(InputError):
    """The position of voxels in the world is missing, contradictory or does not match."""


class ShapeError(InputError):
    """An array has a number of channels or a size that cannot be used."""


class BundleError(InputError):
    """A bundle is incomplete, damaged, or holds something volseg will not execute."""


class OutputError(VolsegError):
    """A result could not be written; nothing half-written is left behind."""


class ServerError(VolsegError):
    """A server cannot be reached, refuses, or answers something that cannot be used."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        """Whether the same request may succeed a moment later."""


class MemoryLimitError(VolsegError):
    """Work does not fit into the memory that is there, or that was allowed."""


class MissingPackageError(VolsegError):
    """A feature needs an optional package that is not installed."""

    def __init__(self, feature: str, package: str, extra: str | None = None) -> None:
        # Double quotes are those of every shell; the Python that lacks the package is to get it.
        what = f'"volseg[{extra}]"' if extra else package
        python = sys.executable or "python"
        python = f'"{python}"' if " " in python else python
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed; "
            f"install it with: {python} -m pip install {what}"
        )


class Cancelled(VolsegError):  # noqa: N818 - an outcome the caller asked for, not a fault
    """The caller asked to stop; nothing was written for the case at hand."""


class UnknownNameError(InputError):
    """A name is not in a registry; the message lists the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        near = difflib.get_close_matches(name, self.known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
        super().__init__(
            f"unknown {kind} {name!r}: {hint}known: {', '.join(self.known) or 'none'}."
        )


def first_cause(error: BaseException) -> BaseException:
    """Return what a user is told of a chain of errors: one made for users, or else the first.

    MONAI wraps what a transform or an expression of a configuration has raised, several times.
    """
    while error.__cause__ is not None and not isinstance(error, VolsegError):
        error = error.__cause__
    return error


def reason_of(error: BaseException) -> str:
    """Return `first_cause` as a sentence, which begins with the kind of errors not for users."""
    cause = first_cause(error)
    return str(cause) if isinstance(cause, VolsegError) else f"{type(cause).__name__}: {cause}."
