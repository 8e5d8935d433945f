"""What a test does where something it needs is not on the machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def report_absence(config: pytest.Config, reason: str) -> NoReturn:
    """Skip the test, or fail it where CI may not do without what is absent."""
    if config.getoption("--require-data") or os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
