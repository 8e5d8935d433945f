"""Many volumes: a queue on a shared folder, workers of any kind, results that can be resumed.

The names below are loaded on first use: to look at a queue, or to show how far it is, neither torch
nor MONAI is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_MODULES = {
    "MANIFEST_SUFFIXES": "manifest",
    "CohortCase": "case",
    "CohortFolder": "folder",
    "CohortSettings": "settings",
    "CohortStatus": "status",
    "DaskEngine": "dask_engine",
    "Engine": "engine",
    "Failure": "status",
    "LocalEngine": "local_engine",
    "SlurmEngine": "slurm_engine",
    "WorkerOptions": "worker",
    "cohort_rows": "table",
    "cohort_status": "status",
    "find_cases": "finding",
    "prepare_cohort": "running",
    "read_manifest": "manifest",
    "requeue": "running",
    "run_cohort": "running",
    "work": "worker",
    "write_table": "table",
}

__all__ = [
    "MANIFEST_SUFFIXES",
    "CohortCase",
    "CohortFolder",
    "CohortSettings",
    "CohortStatus",
    "DaskEngine",
    "Engine",
    "Failure",
    "LocalEngine",
    "SlurmEngine",
    "WorkerOptions",
    "cohort_rows",
    "cohort_status",
    "find_cases",
    "prepare_cohort",
    "read_manifest",
    "requeue",
    "run_cohort",
    "work",
    "write_table",
]

if TYPE_CHECKING:
    from volseg.cohort.case import CohortCase
    from volseg.cohort.dask_engine import DaskEngine
    from volseg.cohort.engine import Engine
    from volseg.cohort.finding import find_cases
    from volseg.cohort.folder import CohortFolder
    from volseg.cohort.local_engine import LocalEngine
    from volseg.cohort.manifest import MANIFEST_SUFFIXES, read_manifest
    from volseg.cohort.running import prepare_cohort, requeue, run_cohort
    from volseg.cohort.settings import CohortSettings
    from volseg.cohort.slurm_engine import SlurmEngine
    from volseg.cohort.status import CohortStatus, Failure, cohort_status
    from volseg.cohort.table import cohort_rows, write_table
    from volseg.cohort.worker import WorkerOptions, work


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
