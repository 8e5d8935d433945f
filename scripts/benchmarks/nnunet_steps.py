"""Steps of nnU-Net's trainer, in its own environment, in turns with loops of this process."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import monai

from reproductions.nnunet import CONFIGURATION, NnUNet
from volseg.data import Case
from volseg.errors import VolsegError

_REPOSITORY = Path(__file__).resolve().parents[2]
_TRAINER_FILE = Path(__file__).with_name("nnunet_steps_trainer.py")
_TOOK = "steps: "


@dataclass
class NnUNetLoop:
    """nnU-Net's trainer, run some steps at a time, and what its steps and waits took.

    Attributes:
        asked: Where the number of steps is written.
        answered: Where the answers come from, among what nnU-Net prints.
        log: What it printed.
        steps: Of a turn.
    """

    asked: IO[str]
    answered: IO[str]
    log: Path
    steps: int
    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Take the steps of a turn.

        Raises:
            VolsegError: nnU-Net ended.
        """
        self.asked.write(f"{self.steps}\n")
        self.asked.flush()
        with self.log.open("a", encoding="utf-8") as log:
            for line in self.answered:
                log.write(line)
                if line.startswith(_TOOK):
                    took = json.loads(line.removeprefix(_TOOK))
                    self.seconds.append(took["seconds"] / self.steps)
                    self.waited.append(took["waited"] / took["seconds"])
                    self.processor.append(took["processor"] / self.steps)
                    return
        raise VolsegError(f"nnU-Net ended before its steps were taken; {self.log} says why.")


@contextmanager
def nnunet_loop(
    home: Path,
    cases: Sequence[Case],
    data: Path,
    *,
    labels: Mapping[str, int],
    given: Mapping[str, Any],
    steps: int,
) -> Iterator[NnUNetLoop]:
    """Start nnU-Net's trainer in an environment of its own, and end it at the end.

    Args:
        home: Holds, or will hold, the environment and nnU-Net's data.
        cases: Of all folds.
        data: The folder their paths are relative to.
        labels: Names and values in the label files, without background.
        given: ``network``, ``weights`` of its heads, ``patch``, ``batch_size`` and ``threads``.
        steps: Of a turn.

    Raises:
        VolsegError: nnU-Net cannot be installed or prepared.
    """
    system = NnUNet(home.resolve(), given["threads"])
    system.install(more={"monai": monai.__version__})  # which volseg's network is built of
    system.prepare(cases, data, labels=labels, name="benchmark", channel="MRI")
    system.add_trainer(_TRAINER_FILE)
    environment = system.environment(name="steps")
    environment |= {"VOLSEG_STEPS": json.dumps(given), "PYTHONPATH": str(_REPOSITORY)}
    shutil.rmtree(environment["nnUNet_results"], ignore_errors=True)
    words = ["1", CONFIGURATION, "0", "-tr", "StepsTrainer", "-device", "cpu"]
    log = home / "steps.txt"
    log.unlink(missing_ok=True)
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(  # noqa: S603 - the words above, no shell
            [str(system.program("nnUNetv2_train")), *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield NnUNetLoop(process.stdin, process.stdout, log, steps)
        finally:
            process.kill()
