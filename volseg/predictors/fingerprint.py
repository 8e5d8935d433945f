"""What a network is, in one short string: its weights, its structure and its code."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn


def network_fingerprint(network: nn.Module) -> str:
    """Return a hexadecimal digest that changes with anything that changes the logits.

    That is: parameters and buffers; the class and the plain attributes of every module; the
    source of the classes that are not torch's own (so that a change of the code in a checkout
    counts too).
    """
    digest = hashlib.sha256()
    sources = set()
    for name, module in network.named_modules():
        kind = type(module)
        attributes = {k: v for k, v in vars(module).items() if k[0] != "_" and k != "training"}
        digest.update(
            json.dumps(
                [name, kind.__module__, kind.__qualname__, attributes],
                default=_description,
                sort_keys=True,
            ).encode()
        )
        if not kind.__module__.startswith("torch."):
            sources.add(inspect.getsourcefile(kind))
    for path in sorted(filter(None, sources)):
        if Path(path).is_file():
            digest.update(Path(path).read_bytes())
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _description(value: Any) -> str:
    """Name what JSON has no form for, without addresses in memory."""
    if isinstance(value, torch.dtype | torch.device | torch.Size):
        return str(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))
