"""What a measurement was made with."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def processor_name() -> str:
    """Return the processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return processor, threads, device and versions, as plain values."""
    name = "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "device": name,
        "volseg": version("volseg"),
        "torch": torch.__version__,
        "openvino": _version("openvino"),
        "python": platform.python_version(),
    }


def today() -> str:
    """Return the date in UTC, as 2026-01-31."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
