"""Options that several commands share, written down once."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import typer

Command = Callable[..., None]


def options_under(heading: str) -> Callable[..., typer.models.OptionInfo]:
    """Return `typer.Option`, for options that ``--help`` shows under a heading of their own."""
    return functools.partial(typer.Option, rich_help_panel=heading)


def given(**groups: Callable[..., Any]) -> Callable[[Command], Command]:
    """Let parameters of a command be made from options of their own.

    Args:
        groups: for each such parameter a function; its parameters become options of the command,
            and what it returns is what the command is called with.
    """

    def decorate(command: Command) -> Command:
        parameters = _parameters(command, without=groups)
        options = {name: _parameters(group) for name, group in groups.items()}

        @functools.wraps(command)
        def run(**values: Any) -> None:
            for name, group in groups.items():
                values[name] = group(**{option: values.pop(option) for option in options[name]})
            command(**values)

        for group in options.values():
            parameters |= group
        signature = inspect.Signature(list(parameters.values()))
        run.__signature__ = signature  # type: ignore[attr-defined] # what typer looks at
        run.__annotations__ = {name: one.annotation for name, one in parameters.items()}
        return run

    return decorate


def _parameters(
    function: Callable[..., Any], *, without: typing.Container[str] = ()
) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function by name, their annotations evaluated."""
    found = {
        name: one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(function).parameters.items()
        if name not in without
    }

    def annotated() -> None:
        """Carry the annotations that can be evaluated."""

    annotated.__annotations__ = {name: one.annotation for name, one in found.items()}
    hints = typing.get_type_hints(annotated, function.__globals__, include_extras=True)
    return {name: one.replace(annotation=hints[name]) for name, one in found.items()}
