"""A small cohort of phantoms, its expected label maps, and a real SLURM of one machine."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from volseg.cohort import CohortCase, CohortFolder, CohortSettings, prepare_cohort

_START_SECONDS = 60


@pytest.fixture
def images(tiny_bundle: Path) -> list[Path]:
    """Six phantoms; a test may change its own."""
    return sorted((tiny_bundle.parent / "data" / "images").iterdir())


@pytest.fixture
def cases(images: list[Path]) -> list[CohortCase]:
    return [CohortCase(path.name.split(".")[0], str(path)) for path in images]


@pytest.fixture
def settings(tiny_bundle: Path) -> CohortSettings:
    return CohortSettings.of_bundles([tiny_bundle], choices={"clean": True})


@pytest.fixture
def cohort(tmp_path: Path, settings: CohortSettings, cases: list[CohortCase]) -> CohortFolder:
    """A cohort of which nothing is done yet."""
    return prepare_cohort(tmp_path / "out", settings, cases)


@pytest.fixture(scope="session")
def expected(_tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The label map of each phantom, as `volseg segment` writes it, byte for byte."""
    from volseg.segmenter import Segmenter, result_files, segment_to_files

    folder = tmp_path_factory.mktemp("expected")
    segmenter = Segmenter(_tiny_bundle)
    found = {}
    for path in sorted((_tiny_bundle.parent / "data" / "images").iterdir()):
        files = result_files(folder, path.name.split(".")[0], ["nifti"], spatial_dims=3)
        segment_to_files(segmenter, path, files)
        found[path.name.split(".")[0]] = files["nifti"].read_bytes()
    return found


def label_maps(cohort: CohortFolder) -> dict[str, bytes]:
    """The label maps of a cohort by case."""
    found = (cohort.path / "cases").rglob("*_seg.nii.gz")
    return {path.name.removesuffix("_seg.nii.gz"): path.read_bytes() for path in found}


def half_written(cohort: CohortFolder) -> list[Path]:
    """What should never be left behind."""
    return [path for path in cohort.path.rglob("*") if path.name.startswith(".volseg-")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=short Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A SLURM of its own with this machine as its node; Debian: slurm-wlm and munge."""
    paths = f"{os.environ.get('PATH', '')}:/usr/sbin"
    programs = {name: shutil.which(name, path=paths) for name in ("munged", "slurmctld", "slurmd")}
    missing = [name for name, program in programs.items() if program is None]
    reason = f"{', '.join(missing)} not installed: apt-get install slurm-wlm munge"
    if not missing and os.geteuid() != 0:
        missing, reason = ["root"], "daemons of SLURM need root here"
    if missing:
        if request.config.getoption("--require-data") or os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    configuration = _SLURM_CONF.format(
        host=host,
        control=_free_port(),
        node=_free_port(),
        folder=folder,
        cpus=os.cpu_count(),
    )
    (folder / "slurm.conf").write_text(configuration)
    munge = [
        f"--{name}={folder}/munge.{name.split('-')[0]}"
        for name in ("socket", "key-file", "pid-file", "log-file", "seed-file")
    ]
    commands = [
        [programs["munged"], "--force", "--foreground", *munge],
        [programs["slurmctld"], "-D"],
        [programs["slurmd"], "-D", "-N", host],
    ]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as daemons:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        # What another SLURM says of a job that this may run in.
        for name in [name for name in os.environ if name.startswith(("SLURM_JOB", "SBATCH_"))]:
            patch.delenv(name)
        for command in commands:
            log = daemons.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            daemons.callback(process.wait, 30)
            daemons.callback(process.terminate)
            time.sleep(0.5)
        until = time.monotonic() + _START_SECONDS
        asked = ["sinfo", "--noheader", "--format=%t"]
        while (
            subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
            != "idle"
        ):
            assert time.monotonic() < until, (folder / "slurmctld.log").read_text()[-2000:]
            time.sleep(0.3)
        yield folder
