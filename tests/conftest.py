"""Shared fixtures: where the real scans are, and the rule that CI may not do without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data-root",
        type=Path,
        default=REPOSITORY.parent / "shared" / "data",
        help="folder of the real scans (default: ../shared/data beside the repository)",
    )
    parser.addoption(
        "--require-data",
        action="store_true",
        help="fail instead of skipping where the real scans are absent (set by .ci/run)",
    )


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real scans; the test is skipped (or fails under --require-data) without it."""
    root: Path = request.config.getoption("--data-root")
    if not root.is_dir():
        reason = f"the real scans are not at {root}; give their folder with --data-root"
        if request.config.getoption("--require-data") or os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return root.resolve()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY
