"""Waits for a job of a server."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

_JOB_SECONDS = 120


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """Wait for the end of a job and return what it is then."""
    deadline = time.monotonic() + _JOB_SECONDS
    while time.monotonic() < deadline:
        status = client.get(f"/v1/jobs/{job}").json()
        if status["state"] in ("done", "failed", "cancelled"):
            return status
        time.sleep(0.05)
    pytest.fail(f"the job did not end: {status}")
