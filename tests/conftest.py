"""Shared fixtures: where the real scans are, and the rule that CI may not do without them."""

from __future__ import annotations

import compileall
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.absence import report_absence

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Share the cores among the processes of pytest-xdist: more threads than cores crawl.

    The package is compiled first, once: under ``PYTHONDONTWRITEBYTECODE`` each process that a test
    starts would do it anew.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        compileall.compile_dir(REPOSITORY / "volseg", quiet=2)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:  # read by torch when it is imported, and by what the tests start
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests, so that no process waits for one in the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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


def folder_of_all(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that all processes of pytest-xdist have in common."""
    folder = factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep converted networks, and what is known of them, out of the user's cache."""
    folder = folder_of_all(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOLSEG_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real scans; the test is skipped (or fails under --require-data) without it."""
    root: Path = request.config.getoption("--data-root")
    if not root.is_dir():
        reason = f"the real scans are not at {root}; give their folder with --data-root"
        report_absence(request.config, reason)
    return root.resolve()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


# WebGL without a graphics card.
_BROWSER_FLAGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)


@pytest.fixture(scope="module")  # a process can run one Playwright, and no asyncio beside it
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        report_absence(request.config, "Debian's chromium is not installed")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=_BROWSER_FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def tiny_bundle(tmp_path: Path, _tiny_bundle: Path) -> Path:
    """A bundle that trains in seconds: a network of three small levels.

    Its weights are random; ``data/`` beside it holds six crops of 20 x 24 x 16 voxels (bright
    balls in noise, labels 1 and 2) and ``configs/datalist.json`` lists them in three folds.
    """
    for folder in (_tiny_bundle, _tiny_bundle.parent / "data"):
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / _tiny_bundle.name


@pytest.fixture
def unconverted_bundle(tiny_bundle: Path) -> Path:
    """`tiny_bundle`, whose networks are not converted, which takes longer than to train them."""
    from volseg.bundle import composition_of, open_bundle, recompose

    bundle = open_bundle(tiny_bundle)
    before = composition_of(bundle.metadata, bundle.name)
    composition = replace(before, values={**before.values, "backend": "torch"})
    recompose(bundle, composition, "not converted")
    return tiny_bundle


@pytest.fixture(scope="session")
def _tiny_bundle(tmp_path_factory: pytest.TempPathFactory, _cache_of_the_tests: None) -> Path:
    """Make what `tiny_bundle` copies; its network is converted once for all tests."""
    return made_once(tmp_path_factory, "tiny_bundle")


@pytest.fixture
def two_channel_bundle(tmp_path: Path, _two_channel_bundle: Path) -> Path:
    """A bundle like `tiny_bundle` of the channels t1 and flair, each a file of its own.

    ``data/images/`` beside it has a folder for each channel; the balls are dark in flair.
    """
    for folder in (_two_channel_bundle, _two_channel_bundle.parent / "data"):
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / _two_channel_bundle.name


@pytest.fixture(scope="session")
def _two_channel_bundle(
    tmp_path_factory: pytest.TempPathFactory, _cache_of_the_tests: None
) -> Path:
    return made_once(tmp_path_factory, "two_channel_bundle", ("t1", "flair"))


def made_once(factory: pytest.TempPathFactory, name: str, channels: tuple[str, ...] = ()) -> Path:
    """Return this process's copy of a bundle that one process makes for all."""
    first = folder_of_all(factory) / name
    whole = first.with_suffix(".whole")
    with FileLock(first.with_suffix(".lock")):
        if not whole.exists():
            shutil.rmtree(first, ignore_errors=True)  # of a process that failed
            make_tiny_bundle(first / name, channels)
            whole.touch()
    own = factory.mktemp(name)
    shutil.copytree(first, own, dirs_exist_ok=True)
    return own / name


def make_tiny_bundle(folder: Path, channels: tuple[str, ...] = ()) -> Path:
    """Make a bundle of random weights, with data beside it, and convert its network."""
    import numpy as np
    import torch

    from volseg import Segmenter
    from volseg.bundle import Composition, new_bundle
    from volseg.data import Case, fold_cases, write_datalist
    from volseg.io import as_image, write_image, write_segmentation
    from volseg.networks import build_network, save_weights

    values = {"widths": [4, 8, 8], "patch": [16, 16, 16], "epochs": 2, "workers": 0}
    new_bundle(
        folder,
        Composition(
            network="unet",
            recipe="mr_crop",
            labels=("anterior", "posterior"),
            channels=channels,
            values=values,
        ),
    )
    torch.manual_seed(0)
    network = build_network(
        "unet",
        spatial_dims=3,
        in_channels=max(1, len(channels)),
        out_channels=3,
        channels=[4, 8, 8],
        norm="instance",
        activation="leakyrelu",
        deep_supervision=True,
    )
    save_weights(network, folder / "models" / "model.pt")

    random = np.random.default_rng(0)
    data = folder.parent / "data"
    cases = []
    x, y, z = np.meshgrid(*(np.arange(side) for side in (20, 24, 16)), indexing="ij")
    for index in range(6):
        case = f"ball{index}"
        labels = np.zeros(x.shape, np.uint8)
        for value, centre in ((1, 7), (2, 16)):
            shift = random.uniform(-1.5, 1.5, 3)
            distance = (x - 10 - shift[0]) ** 2 + (y - centre - shift[1]) ** 2
            labels[distance + (z - 8 - shift[2]) ** 2 < 16] = value
        files = {channel: f"images/{channel}/{case}.nii.gz" for channel in channels}
        alone = f"images/{case}.nii.gz"
        for sign, name in zip((1, -1), files.values() or [alone], strict=False):
            brightness = sign * 50.0 * labels + random.normal(100, 10, x.shape)
            image = as_image(brightness.astype(np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]))
            write_image(image, data / name)
        write_segmentation(labels, data / "labels" / f"{case}.nii.gz", like=image)
        cases.append(Case(case, files or alone, f"labels/{case}.nii.gz", case, index % 3))
    datalist = folder / "configs" / "datalist.json"
    write_datalist(cases, datalist, about={"name": "balls"})
    Segmenter(folder).segment(fold_cases(datalist, data, fold=0, held_out=True)[0]["image"])
    return folder


_START_SECONDS = 60  # of the daemons of SLURM


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
AuthInfo=socket={folder}/munge.socket,cred_expire=5
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
        report_absence(request.config, reason)
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
