"""Does augmentation help: bundles trained with and without it, all else the same.

Each arm is a copy of the bundle in the output folder, trained by MONAI's own runner in a process of
its own and measured on the cases it was not trained on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yaml

from measure import data_set
from readme import header, row, when_and_where, write_section
from volseg.atomic import replacing
from volseg.bundle import Bundle, open_bundle
from volseg.data import fold_cases, read_datalist
from volseg.errors import BundleError, OutputError, VolsegError
from volseg.training import CheckpointEveryEpoch, measure_bundle, read_run_record

BUNDLES = ("hippocampus_unet", "membrane_unet")
ARMS = {False: "without", True: "with"}

# What a line of a training's output has in it to be shown.
_PROGRESS = "epoch "


@dataclass(frozen=True)
class Arm:
    """One trained and measured copy of a bundle.

    Attributes:
        seconds: Of the training.
        seen: Patches the network was trained on.
        dice: By class and case; None where neither map holds the class.
    """

    bundle: str
    augment: bool
    cases: int | None
    patches: int
    epochs: int
    fold: int
    seed: int
    threads: int
    seconds: float
    seen: int
    dice: dict[str, dict[str, float | None]]

    def mean(self, name: str) -> float:
        """Return the mean Dice of a class over the cases that hold it."""
        return fmean(value for value in self.dice[name].values() if value is not None)


def reproduce_arm(
    bundle: Bundle, data: Path, folder: Path, *, settings: Mapping[str, Any], threads: int
) -> Arm:
    """Train and measure a copy of a bundle, or return what was found when it was finished before.

    Args:
        bundle: What is trained.
        data: The folder the paths in its datalist start from.
        folder: Becomes the copy.
        settings: Entries of its training configuration to set, with `augment` among them.
        threads: Of torch in training.

    Raises:
        BundleError: The bundle lacks one of the settings.
        InputError: A file of the data is not there.
        VolsegError: Training failed.
        OutputError: The folder holds an arm of another configuration.
    """
    configuration = _configuration(bundle)
    for name in settings:
        if name not in configuration:
            raise BundleError(
                f"{bundle.config('train')} has no entry {name!r}, so that setting it would change "
                "nothing; compose the bundle again."
            )
    # The data are there, or it is said before hours of training.
    datalist, fold = bundle.folder / "configs" / "datalist.json", settings["fold"]
    fold_cases(datalist, data, fold=fold, held_out=True)
    trained = len(fold_cases(datalist, data, fold=fold, held_out=False, number=settings["cases"]))
    _prepare(bundle, folder, settings)
    finished = folder / "result.json"
    if finished.is_file():
        print(f"{folder}: finished before", flush=True)
        return Arm(**json.loads(finished.read_text(encoding="utf-8")))
    _train(folder, data, threads)
    run = folder / "runs" / f"fold{settings['fold']}"
    record = read_run_record(run)
    copy = open_bundle(folder)
    with replacing(copy.weights) as temporary:
        shutil.copyfile(run / CheckpointEveryEpoch.WEIGHTS, temporary)
    evaluation = measure_bundle(
        folder,
        data,
        fold=settings["fold"],
        progress=lambda done, total: print(f"{folder}: measured {done} of {total}", flush=True),
    )
    dice: dict[str, dict[str, float | None]] = {}
    for score in evaluation.rows:
        value = score.dice if math.isfinite(score.dice) else None
        dice.setdefault(score.name, {})[score.case] = value
    arm = Arm(
        bundle=bundle.folder.name,
        threads=threads,
        seconds=record["seconds"],
        seen=record["epochs"] * settings["patches"] * trained,
        dice=dice,
        **settings,
    )
    with replacing(finished) as temporary:
        temporary.write_text(json.dumps(asdict(arm), indent=2) + "\n", encoding="utf-8")
    return arm


def table(pairs: Sequence[tuple[Arm, Arm]], *, threads: int, options: str) -> list[str]:
    """Return the lines of the README's section, from the arms without and with augmentation.

    `options` are those of the command that trains them.
    """
    lines = header(
        [
            *["bundle", "class", "training cases", "patches seen", "held-out cases"],
            *["Dice without", "Dice with", "gain", "cases that gain"],
        ]
    )
    for without, augmented in pairs:
        for name, cases in without.dice.items():
            gains = [
                after - before
                for case, before in cases.items()
                if before is not None and (after := augmented.dice[name][case]) is not None
            ]
            cells = [
                f"`{without.bundle}`",
                name,
                str(without.cases or "all"),
                f"{without.seen:,}",
                str(len(gains)),
                f"{without.mean(name):.4f}",
                f"{augmented.mean(name):.4f}",
                f"{augmented.mean(name) - without.mean(name):+.4f}",
                f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
            ]
            lines.append(row(cells))
    seeds = ", ".join(sorted({str(arm.seed) for pair in pairs for arm in pair}))
    minutes = sum(arm.seconds for pair in pairs for arm in pair) / 60
    return [
        *lines,
        "",
        "Both arms see the same number of patches, one training run each (seed "
        f"{seeds}); without augmentation only where a patch lies is random. Trained in "
        f"{minutes:.0f} minutes, by `python scripts/reproduce.py augmentation{options}`. On "
        f"{when_and_where(threads)}.",
    ]


def run(arguments: argparse.Namespace) -> None:
    """Train and measure what is not finished, and print, store or publish the table."""
    pairs = []
    for name, cases in itertools.product(arguments.bundles, _numbers(arguments.cases)):
        bundle = open_bundle(name)
        data = arguments.data / (data_set(bundle.folder.name) or ".")
        settings = _settings(bundle, cases, arguments)
        arms = [
            reproduce_arm(
                bundle,
                data,
                arguments.output / bundle.folder.name / (f"{cases or 'all'}_cases_{label}"),
                settings={**settings, "augment": augment},
                threads=arguments.threads,
            )
            for augment, label in ARMS.items()
        ]
        pairs.append((arms[0], arms[1]))
    chosen = {"cases": arguments.cases or [], "epochs": [arguments.epochs or ""]}
    options = "".join(
        f" --{name} {' '.join(map(str, values))}" for name, values in chosen.items() if any(values)
    )
    lines = table(pairs, threads=arguments.threads, options=options)
    print("\n".join(lines))
    if arguments.readme:
        write_section("augmentation", "scripts/reproduce.py augmentation", lines)


def _numbers(cases: Sequence[int] | None) -> list[int | None]:
    return [number or None for number in cases or (0,)]


def _settings(bundle: Bundle, cases: int | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the entries to set; few cases are cut as many patches of an epoch as all of them."""
    own = _configuration(bundle)
    patches = own["patches"]
    if cases is not None:
        listed = read_datalist(bundle.folder / "configs" / "datalist.json")
        patches = round(patches * sum(case.fold != arguments.fold for case in listed) / cases)
    return {
        "cases": cases,
        "patches": patches,
        "epochs": arguments.epochs or own["epochs"],
        "fold": arguments.fold,
        "seed": arguments.seed,
    }


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the arguments of ``augmentation``."""
    parser = commands.add_parser("augmentation", help="bundles trained with and without it")
    parser.add_argument(
        "--data", type=Path, required=True, help="holds msd_hippocampus/ and others"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="holds, or will hold, a folder for each arm"
    )
    parser.add_argument(
        "--bundles",
        nargs="+",
        default=BUNDLES,
        metavar="BUNDLE",
        help="names or folders; the data of a folder that is not shipped are DATA itself",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        type=int,
        help="to train on, a row each; all if absent (0 among numbers), the patches are as many",
    )
    parser.add_argument("--epochs", type=int, help="of both arms; the bundle's own if absent")
    parser.add_argument("--fold", type=int, default=0, help="held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="of torch in training"
    )
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.set_defaults(run=run)


def _configuration(bundle: Bundle) -> dict[str, Any]:
    configuration: dict[str, Any] = yaml.safe_load(bundle.config("train").read_text("utf-8"))
    return configuration


def _prepare(bundle: Bundle, folder: Path, settings: Mapping[str, Any]) -> None:
    """Copy the bundle, or see that the folder is the copy that is wanted."""
    overrides = folder / "configs" / "overrides.yaml"
    if not overrides.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{folder} exists and is no arm of a reproduction: choose another.")
        left_out = shutil.ignore_patterns("runs", "models", "predictions", "evaluation")
        shutil.copytree(bundle.folder, folder, ignore=left_out, dirs_exist_ok=True)
        with replacing(overrides) as temporary:
            temporary.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
        return
    found = yaml.safe_load(overrides.read_text(encoding="utf-8"))
    configurations = [
        source.config("train").read_bytes() for source in (bundle, open_bundle(folder))
    ]
    if found != dict(settings) or configurations[0] != configurations[1]:
        raise OutputError(
            f"{folder} was begun with {found} and its own configs/train.yaml, which are not those "
            f"asked for ({dict(settings)} and {bundle.config('train')}): choose another output "
            "folder, or move that one away."
        )


def _train(folder: Path, data: Path, threads: int) -> None:
    """Run the training of a bundle as a user would; its output goes to ``train.log``, too."""
    command = [
        *[sys.executable, "-m", "monai.bundle", "run"],
        *["--config_file", "['configs/train.yaml', 'configs/overrides.yaml']"],
        *["--dataset_dir", str(data.resolve())],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    log = folder / "train.log"
    with (
        log.open("a", encoding="utf-8") as stream,
        subprocess.Popen(  # noqa: S603 - the words above, no shell
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        for line in process.stdout or ():
            stream.write(line)
            stream.flush()
            if _PROGRESS in line:
                print(f"{folder}: {line.strip()}", flush=True)
    if process.returncode:
        raise VolsegError(f"training {folder} ended with {process.returncode}; {log} says why.")
