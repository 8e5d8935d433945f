"""The templates of pages: what comes from files is escaped, whatever it is."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jinja2

_FOLDER = Path(__file__).parent


def render(name: str, **values: Any) -> str:
    """Return a template filled in; values are text, never markup, but for what is marked safe."""
    return _environment().get_template(name).render(style=template_text("style.css"), **values)


def template_text(name: str) -> str:
    """Return a style or a script."""
    return (_FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["sentence"] = _sentence
    return environment


def _sentence(text: str) -> str:
    """Return a message as it stands on its own: with a capital letter."""
    return text[:1].upper() + text[1:]
