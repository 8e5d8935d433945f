"""What a network is, in one short string: its weights, its structure and its code."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import logging
import secrets
import types
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# What every module has: described by its parts, or nothing that changes the logits.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# Of recurrent layers: their parameters once more.
_FLAT_WEIGHTS = frozenset({"_flat_weights", "_flat_weight_refs"})
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
# What is made of attributes that lie beside it, in an order that differs from process to process:
# einops's recipes of a pattern (sets of names). Its name is all that is said of it.
_DERIVED = frozenset({"einops.einops.TransformRecipe"})

# Of which it matters only that they are there.
_NAMELESS = (logging.Logger, weakref.ref, types.ModuleType, np.random.RandomState)

_PLAIN = str | int | float | bool | None
_NAMED = torch.dtype | torch.device | torch.layout | torch.memory_format | complex | bytes | Path


def network_fingerprint(network: nn.Module) -> str:
    """Return a hexadecimal digest that changes with anything that changes the logits.

    That is: parameters and buffers; the class, the attributes and the forward hooks of every
    module; the source of the classes that are not torch's own (so that a change of the code in a
    checkout counts too). With an attribute that nothing can be said of, no two digests are equal.
    """
    description = _Description(network)
    digest = hashlib.sha256()
    for name, module in network.named_modules(remove_duplicate=False):
        digest.update(json.dumps([name, description.of_module(module)]).encode())
    for path in sorted(description.sources):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def value_fingerprint(value: Any) -> str:
    """Return a digest of any value, such as a transform: what it holds, and its classes' code.

    With something that nothing can be said of, no two digests are equal.
    """
    description = _Description(nn.Module())
    digest = hashlib.sha256(json.dumps(description(value)).encode())
    for path in sorted(description.sources):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


class _Description:
    """Says of values, in what JSON has a form for, all that tells them apart; no addresses."""

    def __init__(self, network: nn.Module) -> None:
        self.sources: set[str] = set()
        self._modules = {
            id(module): name for name, module in network.named_modules(remove_duplicate=False)
        }
        # By identity; the values are kept, or another could take the place of one.
        self._seen: dict[int, tuple[int, Any]] = {}

    def of_module(self, module: nn.Module) -> list[Any]:
        """Describe a module without those in it."""
        kind = type(module)
        attributes = {
            name: value
            for name, value in vars(module).items()
            if name not in _OF_EVERY_MODULE | _FLAT_WEIGHTS
        }
        return [
            self._of_class(kind),
            self._of_items(sorted(attributes.items())),
            self._of_items(module._parameters.items()),  # also those that are None
            self._of_items(module._buffers.items()),
            [self(value) for hooks in _HOOKS for value in getattr(module, hooks).values()],
        ]

    def __call__(self, value: Any) -> Any:  # noqa: PLR0911 - one a kind of value
        """Describe a value."""
        if isinstance(value, enum.Enum | np.dtype | range | _NAMED):
            return [_name(type(value)), str(value)]
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, Tensor):
            return _tensor(value)
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            return ["array", str(value.dtype), value.shape, _digest(value.tobytes())]
        if isinstance(value, _NAMELESS):
            return _name(type(value))
        if isinstance(value, type):
            return self._of_class(value)
        if isinstance(value, tuple | set | frozenset):  # equal ones may be one and the same
            parts = [self(part) for part in value]
            return ["tuple", *parts] if isinstance(value, tuple) else sorted(map(json.dumps, parts))
        if _name(type(value)) in _DERIVED:
            return _name(type(value))
        if id(value) in self._modules:
            return ["module", self._modules[id(value)]]
        if id(value) in self._seen:
            return ["again", self._seen[id(value)][0]]
        self._seen[id(value)] = (len(self._seen), value)
        return [_name(type(value)), self._of_parts(value)]

    def _of_parts(self, value: Any) -> Any:  # noqa: PLR0911 - likewise
        """Describe what may hold itself."""
        if isinstance(value, nn.Module):  # one that is no part of the network, only used by it
            return [
                [name, self.of_module(part)]
                for name, part in value.named_modules(remove_duplicate=False)
            ]
        if isinstance(value, Mapping):
            return self._of_items(value.items())
        if isinstance(value, list):
            return [self(part) for part in value]
        if isinstance(value, functools.partial):
            return [self(value.func), self(value.args), self(value.keywords)]
        if isinstance(value, types.MethodType):
            return [self(value.__func__), self(value.__self__)]
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if isinstance(value, types.BuiltinFunctionType):
            return [value.__module__, value.__qualname__]
        if hasattr(value, "__dict__"):
            return [self._of_class(type(value)), self._of_items(sorted(vars(value).items()))]
        return secrets.token_hex()

    def _of_items(self, items: Iterable[tuple[Any, Any]]) -> list[Any]:
        return [[self(name), self(value)] for name, value in items]

    def _of_function(self, function: types.FunctionType) -> list[Any]:
        filled = [cell for cell in function.__closure__ or () if cell != types.CellType()]
        return [
            function.__module__,
            function.__qualname__,
            self._of_code(function.__code__),
            self(function.__defaults__),
            self(function.__kwdefaults__),
            [self(cell.cell_contents) for cell in filled],
        ]

    def _of_code(self, code: types.CodeType) -> list[Any]:
        constants = [
            self._of_code(value) if isinstance(value, types.CodeType) else self(value)
            for value in code.co_consts
        ]
        return [code.co_code.hex(), constants, code.co_names]

    def _of_class(self, kind: type) -> str:
        """Name a class, and note where its source is and that of those it is made from."""
        for part in kind.__mro__:
            if part.__module__.split(".")[0] not in ("builtins", "torch", "abc", "typing"):
                try:
                    source = inspect.getsourcefile(part)
                except TypeError:  # of no file
                    source = None
                except OSError:  # typed in, as in a notebook: it may be another the next time
                    return f"{_name(kind)} {secrets.token_hex()}"
                if source and Path(source).is_file():
                    self.sources.add(source)
        return _name(kind)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _tensor(value: Tensor) -> list[Any]:
    plain = value.detach().cpu().contiguous()
    content = plain.reshape(-1).view(torch.uint8).numpy()
    return ["tensor", str(plain.dtype), tuple(plain.shape), _digest(content.data)]


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
