"""Packages whose names are loaded at their first use: their import costs nothing before."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def loaded_on_use(package: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose imports stand under ``if TYPE_CHECKING:``.

    They are read from its source, so that each name is stated once, where type checkers see it. A
    name must not be that of a module of the package, which would take its place once it is loaded.

    Args:
        package: Its ``__name__``.
    """
    source = sys.modules[package].__file__
    tree = ast.parse(Path(str(source)).read_text(encoding="utf-8"))
    modules = {
        alias.asname or alias.name: str(statement.module)
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
