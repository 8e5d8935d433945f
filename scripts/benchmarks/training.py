"""Training steps beside a stock loop of MONAI and nnU-Net's trainer: one network, patch and batch.

MONAI's loop has our loss and the like of our augmentation, nnU-Net its own of both.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai import transforms as monai
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from torch import nn

from benchmarks.nnunet_steps import nnunet_loop
from benchmarks.steps import Turns, loop_of_own
from benchmarks.timing import Ratio, ratio, use_threads, write_rows
from readme import header, row, when_and_where, write_section
from volseg.bundle import open_bundle
from volseg.data import RandomDraws, fold_cases, read_datalist
from volseg.losses import DeepSupervisionLoss, DiceCrossEntropyLoss
from volseg.training import AveragedWeights, TrainingStep, build_optimizer, network_to_train
from volseg.training.kept_memory import has_glibc, keep_freed_memory

BATCH_SIZE = 2

# Without these our step is slower by what each brings.
TRICKS = {
    "with torch's layers": {"layers": False},
    "with freed memory given back": {"memory": False},
    "with MONAI's loss": {"loss": False},
    "with torch.compile": {"compile": True},
}


@dataclass(frozen=True)
class TrainingRow:
    """One loop, and how many times the speed of MONAI's it has, by the clock and the processor."""

    loop: str
    steps_per_second: float
    waiting: float
    times: Ratio
    processor_seconds: float
    processor_times: Ratio
    first_loss: float | None


def new_network(parser: ConfigParser) -> nn.Module:
    """Return the network of a bundle with weights that are always the same."""
    torch.manual_seed(0)
    parser.parse(reset=True)
    network: nn.Module = parser.get_parsed_content("network_def")
    return network


def ours(
    parser: ConfigParser,
    *,
    layers: bool = True,
    loss: bool = True,
    compile: bool = False,
    memory: bool = True,
) -> SupervisedTrainer:
    """Return the trainer of a bundle, without validation and files.

    From then on the process keeps what it frees: it should do nothing else.
    """
    if memory and has_glibc():
        keep_freed_memory()
    network = new_network(parser)
    dataset = parser.get_parsed_content("train::dataset")
    draws = RandomDraws(dataset, seed=0)
    if layers or compile:
        network = network_to_train(network, compile=compile)
    else:
        network.to(memory_format=torch.channels_last_3d)
    head = DiceCrossEntropyLoss() if loss else stock_head()
    weights = parser.get_parsed_content("head_weights")
    step = TrainingStep()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(
            dataset, batch_size=BATCH_SIZE, sampler=draws, num_workers=1, persistent_workers=True
        ),
        network=network,
        optimizer=build_optimizer(
            "adamw", network.parameters(), learning_rate=1e-3, weight_decay=0.01, momentum=0.9
        ),
        loss_function=DeepSupervisionLoss(head, weights),
        iteration_update=step,
        decollate=False,
    )
    AveragedWeights(network, momentum=0.005, handle_buffers="update").attach(trainer)
    return trainer


def stock_head() -> nn.Module:
    """Return MONAI's Dice and cross entropy."""
    return DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)


def stock(parser: ConfigParser, cases: Sequence[Mapping[str, Any]]) -> SupervisedTrainer:
    """Return a trainer as MONAI's tutorials write it, of the same augmentation as the bundle's."""
    patch = parser.get_parsed_content("patch")
    both = ["image", "label"]
    transform = monai.Compose(
        [
            monai.LoadImaged(both, ensure_channel_first=True),
            monai.EnsureTyped(both),
            monai.Orientationd(both, axcodes="RAS", labels=None),
            monai.Spacingd(both, pixdim=(1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
            monai.NormalizeIntensityd("image"),
            monai.SpatialPadd(both, spatial_size=patch),
            monai.RandCropByPosNegLabeld(both, "label", spatial_size=patch, num_samples=1),
            monai.RandFlipd(both, prob=0.5, spatial_axis=0),
            monai.RandAffined(
                both,
                prob=0.9,
                rotate_range=(0.4, 0.4, 0.4),
                scale_range=((-0.2, 0.25),) * 3,
                translate_range=(3, 3, 3),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            monai.Rand3DElasticd(
                both,
                prob=0.4,
                sigma_range=(5, 8),
                magnitude_range=(100, 200),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            monai.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            monai.RandScaleIntensityd("image", prob=0.3, factors=0.2),
            monai.RandShiftIntensityd("image", prob=0.3, offsets=0.2),
            monai.RandGaussianNoised("image", prob=0.2, std=0.15),
            monai.RandGaussianSmoothd(
                "image", prob=0.15, sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0), sigma_z=(0.4, 1.0)
            ),
        ]
    )
    network = new_network(parser)
    weights = parser.get_parsed_content("head_weights")
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(
            CacheDataset(cases, transform, progress=False),
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=1,
            persistent_workers=True,
        ),
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01),
        loss_function=DeepSupervisionLoss(stock_head(), weights),
        decollate=False,
    )


def built(name: str, bundle: Path, data: Path, number: int) -> tuple[SupervisedTrainer, float]:
    """Return the trainer of a loop, and the loss of a batch before anything is trained.

    Args:
        name: ``MONAI``, ``volseg`` or ``volseg, `` and one of `TRICKS`.
        bundle: Its folder.
        data: The folder of its data set.
        number: Cases.
    """
    parser = parser_of(bundle, data, number)
    if name == "MONAI":
        datalist = bundle / "configs" / "datalist.json"
        cases = fold_cases(datalist, data, fold=0, held_out=False, number=number)
        trainer = stock(parser, cases)
    else:
        trainer = ours(parser, **TRICKS.get(name.removeprefix("volseg, "), {}))
    patch = parser.get_parsed_content("patch")
    classes = parser.get_parsed_content("classes")
    torch.manual_seed(1)
    image = torch.randn(BATCH_SIZE, 1, *patch)
    label = torch.randint(0, classes, (BATCH_SIZE, 1, *patch)).float()
    with torch.no_grad():
        loss = trainer.loss_function(trainer.network.train()(image), label)
    return trainer, float(loss)


def parser_of(bundle: Path, data: Path, number: int) -> ConfigParser:
    """Return the training of a bundle with so many cases of its data set, on the CPU."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.yaml"))
    parser.config["bundle_root"] = str(bundle)
    parser.config["dataset_dir"] = str(data)
    parser.config["cases"] = number
    parser.config["device"] = torch.device("cpu")
    return parser


def measure(arguments: argparse.Namespace) -> list[TrainingRow]:
    """Run the loops in turns, each in a process of its own."""
    bundle = open_bundle(arguments.bundle)
    number = BATCH_SIZE * arguments.steps
    names = ["volseg", "MONAI", *(f"volseg, {name}" for name in arguments.tricks)]
    with ExitStack() as stack:
        own = {
            name: stack.enter_context(
                loop_of_own(
                    built, name, bundle.folder, arguments.data, number, threads=arguments.threads
                )
            )
            for name in names
        }
        loops: dict[str, Turns] = {**own}
        if arguments.nnunet is not None:
            parser = parser_of(bundle.folder, arguments.data, number)
            classes = parser.get_parsed_content("classes")
            loop = nnunet_loop(
                arguments.nnunet,
                read_datalist(bundle.folder / "configs" / "datalist.json"),
                arguments.data,
                labels={f"class {value}": value for value in range(1, classes)},
                given=_given_to_nnunet(parser, arguments.threads),
                steps=arguments.steps,
            )
            loops["nnU-Net 2"] = stack.enter_context(loop)
        return _measured(
            loops, {name: loop.first_loss for name, loop in own.items()}, arguments.repeats
        )


def _given_to_nnunet(parser: ConfigParser, threads: int) -> dict[str, Any]:
    """Return what nnU-Net's trainer trains: the network of the bundle on its patches."""
    network = {
        name: parser.get_parsed_content(f"network_def::{name}")
        for name in parser.get("network_def")
        if name != "_target_"
    }
    weights = parser.get_parsed_content("head_weights")
    patch = parser.get_parsed_content("patch")
    given = {"network": network, "weights": weights, "patch": patch}
    return {**given, "batch_size": BATCH_SIZE, "threads": threads}


def _measured(
    loops: Mapping[str, Turns], losses: Mapping[str, float], repeats: int
) -> list[TrainingRow]:
    """Run the loops in turns and return a row of each."""
    for loop in loops.values():  # compiled loops, caches and workers
        loop.run()
        loop.seconds.clear()
        loop.waited.clear()
        loop.processor.clear()
    order = list(loops.values())
    for turn in range(repeats):
        for loop in order if turn % 2 == 0 else order[::-1]:
            loop.run()
    return [
        TrainingRow(
            loop=name,
            steps_per_second=1 / statistics.median(loop.seconds),
            waiting=statistics.median(loop.waited),
            times=ratio(loops["MONAI"].seconds, loop.seconds),
            processor_seconds=statistics.median(loop.processor),
            processor_times=ratio(loops["MONAI"].processor, loop.processor),
            first_loss=losses.get(name),
        )
        for name, loop in loops.items()
    ]


def table(rows: Sequence[TrainingRow]) -> list[str]:
    """Return the rows as a table."""
    names = [
        "loop",
        "steps a second",
        "waiting for batches",
        "times MONAI's speed",
        "processor seconds a step",
        "MONAI's to these",
        "first loss",
    ]
    return header(names) + [
        row(
            [
                one.loop,
                f"{one.steps_per_second:.2f}",
                f"{100 * one.waiting:.1f} %",
                str(one.times),
                f"{one.processor_seconds:.2f}",
                str(one.processor_times),
                "its own" if one.first_loss is None else f"{one.first_loss:.6f}",
            ]
        )
        for one in rows
    ]


def run(arguments: argparse.Namespace) -> None:
    """Measure, print and write."""
    use_threads(arguments.threads)
    rows = measure(arguments)
    lines = table(rows)
    print("\n".join(lines))
    if arguments.json is not None:
        write_rows(arguments.json, rows)
    if arguments.readme:
        what = (
            f"{arguments.bundle}: batches of {BATCH_SIZE} patches, {arguments.repeats} turns of "
            f"{arguments.steps} steps each, one worker; {when_and_where(arguments.threads)}"
        )
        write_section("training", "scripts/benchmark.py training", [*lines, "", what])


def add(commands: Any) -> None:
    """Add the sub-command."""
    parser = commands.add_parser("training", help="training steps beside MONAI's and nnU-Net's")
    parser.add_argument("--data", type=Path, required=True, help="folder of the bundle's data set")
    parser.add_argument("--bundle", default="hippocampus_unet", help="in 3D, one image channel")
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--repeats", type=int, default=4, help="turns of each loop")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tricks", nargs="*", default=[], choices=TRICKS, help="measured, too")
    parser.add_argument(
        "--nnunet", type=Path, metavar="FOLDER", help="of nnU-Net; measures it, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.set_defaults(run=run)
