"""Where networks compute."""

from __future__ import annotations

import torch

from volseg.errors import InputError


def choose_device(device: str) -> torch.device:
    """Return the torch device called ``device``; ``auto`` takes a GPU if there is one.

    Raises:
        InputError: Unknown, or not present on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"the device {device!r} is not supported: use auto, cpu, cuda or cuda:N.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"the device {device!r} is not there: use --device cpu.")
    return chosen


def free_bytes(device: torch.device) -> int | None:
    """Return what this process can still have of the memory of a GPU; None of the CPU."""
    if device.type == "cpu":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # What torch has set aside there and does not use now.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
