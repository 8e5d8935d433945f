"""nnU-Net 2 on our cases and folds: in an environment of its own, by its own commands.

Its data are linked, not copied; every step is done once and gone on with after an interruption.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from volseg.atomic import write_text
from volseg.data import Case
from volseg.errors import InputError, VolsegError
from volseg.evaluation import Evaluation, evaluate_pairs

VERSION = "2.8.1"
CONFIGURATION = "3d_fullres"
DATA_SET = "Dataset001_volseg"
TRAINER = "TimedTrainer"
SUFFIX = ".nii.gz"

_TRAINER_FILE = Path(__file__).with_name("nnunet_trainer.py")


@dataclass(frozen=True)
class NnUNet:
    """nnU-Net and its folders.

    Attributes:
        home: Holds the environment and what nnU-Net is given and makes.
        threads: Of torch, and processes that preprocess.
        workers: Processes that augment.
        device: ``cpu`` or ``cuda``.
    """

    home: Path
    threads: int
    workers: int = 1
    device: str = "cpu"

    def install(self, more: Mapping[str, str] | None = None) -> None:
        """Make the environment if it is not there, or lacks something.

        Args:
            more: Packages and their versions, besides nnU-Net and torch.

        Raises:
            VolsegError: A command failed.
        """
        environment = self.home / "environment"
        done = environment / "installed.json"
        wanted = {"nnunetv2": VERSION, "torch": torch.__version__.partition("+")[0], **(more or {})}
        found = json.loads(done.read_text(encoding="utf-8")) if done.is_file() else {}
        if not wanted.items() <= found.items():
            self._run(sys.executable, "-m", "venv", environment)
            packages = [f"{name}=={version}" for name, version in wanted.items()]
            self._run(self.program("python"), "-m", "pip", "install", *packages)
            _write_json(done, found | wanted)
        self.add_trainer(_TRAINER_FILE)

    def add_trainer(self, file: Path) -> None:
        """Put a file with a trainer beside nnU-Net's own, where nnU-Net looks first.

        Further on in its search it imports torchvision, which does not load where it was built
        for another torch (CUDA, CPU).
        """
        trainers = "lib/*/site-packages/nnunetv2/training/nnUNetTrainer"
        for folder in (self.home / "environment").glob(trainers):
            shutil.copyfile(file, folder / file.name)

    def prepare(
        self,
        cases: Sequence[Case],
        data: Path,
        *,
        labels: Mapping[str, int],
        name: str,
        channel: str,
    ) -> float:
        """Give it the cases and their folds, have it plan and preprocess; return the seconds.

        Args:
            cases: Of all folds.
            data: The folder their paths are relative to.
            labels: Names and values in the label files, without background.
            name: Of the data.
            channel: What nnU-Net chooses the standardisation by, such as ``MRI`` or ``CT``.

        Raises:
            InputError: A case has several files or is no NIfTI, or other cases were prepared here.
            VolsegError: A command failed.
        """
        done = self.home / "prepared.json"
        folds = self.home / "preprocessed" / DATA_SET / "splits_final.json"
        if not done.is_file():
            write_data_set(
                self.home / "raw", cases, data, labels=labels, name=name, channel=channel
            )
            started = time.monotonic()
            processes = ("-npfp", self.threads, "-np", self.threads)
            planning = ("-d", 1, "-c", CONFIGURATION, "--verify_dataset_integrity", *processes)
            self._run(self.program("nnUNetv2_plan_and_preprocess"), *planning)
            seconds = round(time.monotonic() - started, 1)
            _write_json(folds, splits(cases))
            _write_json(done, {"seconds": seconds})
        if json.loads(folds.read_text(encoding="utf-8")) != splits(cases):
            raise InputError(
                f"{self.home} was prepared for other cases or folds: give another folder with "
                "--nnunet, or remove what is in it but for environment/."
            )
        return float(json.loads(done.read_text(encoding="utf-8"))["seconds"])

    def train(self, fold: int, *, seconds: float, seed: int) -> dict[str, Any]:
        """Train for some seconds, anew if it was interrupted; return what `TimedTrainer` found.

        Raises:
            VolsegError: The command failed.
        """
        done = self._results(seconds, seed) / self._model / f"fold_{fold}" / "timed.json"
        if not done.is_file():
            words = (1, CONFIGURATION, fold, "-tr", TRAINER, "-device", self.device)
            self._run(self.program("nnUNetv2_train"), *words, seconds=seconds, seed=seed)
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return found

    def measure(
        self,
        cases: Sequence[Case],
        data: Path,
        *,
        fold: int,
        seconds: float,
        seed: int,
        labels: Mapping[str, int],
    ) -> Evaluation:
        """Have it predict the held-out cases, mirrored as it does by default, and evaluate them.

        Raises:
            VolsegError: The command failed, or a prediction is not there.
        """
        held_out = [case for case in cases if case.fold == fold]
        images = self.home / f"held_out_fold{fold}"
        for case in held_out:
            _link(data / str(case.image), images / f"{case.case}_0000{SUFFIX}")
        predictions = self._results(seconds, seed) / f"predictions_fold{fold}"
        words = ["-i", images, "-o", predictions, "-d", 1, "-c", CONFIGURATION, "-f", fold]
        words += ["-tr", TRAINER, "-device", self.device, "-npp", 1, "-nps", 1]
        words += ["--continue_prediction", "--disable_progress_bar"]
        self._run(self.program("nnUNetv2_predict"), *words, seconds=seconds, seed=seed)
        return read_predictions(predictions, held_out, data, labels=labels)

    @property
    def _model(self) -> Path:
        return Path(DATA_SET) / f"{TRAINER}__nnUNetPlans__{CONFIGURATION}"

    def program(self, name: str) -> Path:
        """Return the path of a program of the environment."""
        return self.home / "environment" / "bin" / name

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables its programs need.

        Args:
            name: Of the folder of their results.
        """
        return {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "nnUNet_raw": str(self.home / "raw"),
            "nnUNet_preprocessed": str(self.home / "preprocessed"),
            "nnUNet_results": str(self.home / "results" / name),
            "nnUNet_n_proc_DA": str(self.workers),
            "OMP_NUM_THREADS": str(self.threads),
        }

    def _results(self, seconds: float, seed: int) -> Path:
        return self.home / "results" / _name(seconds, seed)

    def _run(self, *words: object, seconds: float = 0, seed: int = 0) -> None:
        """Run a command; what it says goes to ``log.txt``."""
        environment = self.environment(_name(seconds, seed)) | {
            "VOLSEG_SECONDS": str(seconds),
            "VOLSEG_THREADS": str(self.threads),
            "VOLSEG_SEED": str(seed),
        }
        self.home.mkdir(parents=True, exist_ok=True)
        log = self.home / "log.txt"
        command = [str(word) for word in words]
        print(f"nnU-Net: {Path(command[0]).name} {' '.join(command[1:4])} ...", flush=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ {' '.join(command)}\n")
            stream.flush()
            ended = subprocess.run(  # noqa: S603 - the words above, no shell
                command, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False
            )
        if ended.returncode:
            raise VolsegError(
                f"{Path(command[0]).name} ended with {ended.returncode}; {log} says why."
            )


def write_data_set(
    raw: Path,
    cases: Sequence[Case],
    data: Path,
    *,
    labels: Mapping[str, int],
    name: str,
    channel: str,
) -> None:
    """Write cases as nnU-Net wants them in ``nnUNet_raw``, as links to their files.

    Raises:
        InputError: A case has several files, or one that is not compressed NIfTI.
    """
    folder = raw / DATA_SET
    for case in cases:
        for path in case.files:
            if len(case.files) != 2 or not path.endswith(SUFFIX):
                raise InputError(
                    f"{path} of the case {case.case} cannot be given to nnU-Net: expected one "
                    f"image and one label, files that end in {SUFFIX}."
                )
        _link(data / str(case.image), folder / "imagesTr" / f"{case.case}_0000{SUFFIX}")
        _link(data / case.label, folder / "labelsTr" / f"{case.case}{SUFFIX}")
    description = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, **labels},
        "numTraining": len(cases),
        "file_ending": SUFFIX,
        "name": name,
    }
    _write_json(folder / "dataset.json", description)


def splits(cases: Sequence[Case]) -> list[dict[str, list[str]]]:
    """Return the folds of the cases as nnU-Net reads them from ``splits_final.json``."""
    return [
        {
            "train": [case.case for case in cases if case.fold != fold],
            "val": [case.case for case in cases if case.fold == fold],
        }
        for fold in range(1 + max(case.fold for case in cases))
    ]


def read_predictions(
    folder: Path, cases: Sequence[Case], data: Path, *, labels: Mapping[str, int]
) -> Evaluation:
    """Return the scores of its predictions, one of each case.

    Raises:
        VolsegError: A prediction is not there or cannot be compared.
    """
    pairs = [(case.case, folder / f"{case.case}{SUFFIX}", data / case.label) for case in cases]
    evaluation = evaluate_pairs(pairs, labels=labels)
    for case, reason in evaluation.failures.items():
        raise VolsegError(f"nnU-Net's prediction of {case} cannot be evaluated: {reason}")
    return evaluation


def _name(seconds: float, seed: int) -> str:
    return f"{seconds:g}s_seed{seed}"


def _link(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError(f"there is no file {source}: give the folder of the data set.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source.resolve())


def _write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
