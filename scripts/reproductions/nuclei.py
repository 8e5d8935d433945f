"""DSB2018 nuclei: BiX-Net, U-Net and UNet++ by accuracy, parameters, work and time.

All else is the same: recipe, loss, patches, epochs, folds. IoU and Dice are given for each image
and for each two images put together, as the papers of BiO-Net and BiX-Net report them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from readme import header, row
from reproductions.members import Member, failures, measure_member, origin, train_member
from reproductions.parts import Part, PartStore, finished
from volseg.bundle import Bundle, Composition, build_parts, composition_of, new_bundle, open_bundle
from volseg.bundle.recipe_book import find_recipe, piece, values_of
from volseg.evaluation import Evaluation
from volseg.metrics import Overlap, overlaps_of_batches
from volseg.networks import count_multiply_accumulates, count_parameters

NAME = "nuclei"
DATA = "nuclei_dsb2018"
NETWORKS = ("bixnet", "unet", "unetplusplus")
FOLDS = 5
BATCH = 2
_COLUMNS = (
    *("network", "folds", "images", "parameters", "MACs"),
    *("IoU, an image", "IoU, a batch of two", "Dice, an image", "Dice, a batch of two"),
    *("training, s a fold", "inference, s an image"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen."""
    parser.add_argument("--bundle", default="nuclei_bixnet", help="whose recipe and data are used")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="the bundle's own if absent")


def run(arguments: argparse.Namespace, store: PartStore) -> None:
    """Train and measure what is not finished."""
    length = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    for network in arguments.networks:
        for fold in arguments.folds:
            folder = arguments.output / f"{network}_fold{fold}_seed{arguments.seed}"

            def measured(
                network: str = network, fold: int = fold, folder: Path = folder
            ) -> dict[str, Any]:
                bundle = bundle_of(network, arguments.bundle, arguments.output / "bundles")
                member = train_member(
                    bundle.folder,
                    arguments.data,
                    folder,
                    fold=fold,
                    settings={"seed": arguments.seed, **length},
                    device=arguments.device,
                )
                return _measured(member, arguments.data, fold)

            settings = {"network": network, "fold": fold, "seed": arguments.seed, **length}
            store.do(folder.name, settings, measured)


def table(parts: Sequence[Part]) -> list[str]:
    """Return the lines of the README's section."""
    lines = header(_COLUMNS)
    for network in dict.fromkeys([*NETWORKS, *(part.settings["network"] for part in parts)]):
        found = finished(list(parts), network=network)
        folds = {part.settings["fold"] for part in found}
        cells = [f"`{network}`", f"{len(folds)} of {FOLDS}"]
        if found:
            batches = [two for part in found for two in overlaps_of_batches(_overlaps(part), BATCH)]
            images = [one for part in found for one in _overlaps(part)]
            figures = [part.figures for part in found]
            cells += [
                str(len(images)),
                f"{figures[0]['parameters']:,}",
                f"{figures[0]['multiply_accumulates'] / 1e9:.3f} G",
                *(_mean([one.iou for one in some]) for some in (images, batches)),
                *(_mean([one.dice for one in some]) for some in (images, batches)),
                f"{sum(one['seconds'] for one in figures) / len(figures):.0f}",
                f"{sum(one['seconds_an_image'] for one in figures) / len(figures):.2f}",
            ]
        else:
            cells += ["0", *["-"] * 8]
        lines.append(row(cells))
    what = (
        "Out of fold, on the grid of the files; a batch is two images in the order of the list, "
        "its counts of pixels added up. MACs are those of a patch of training. "
    )
    return [*lines, "", origin(parts, NAME, more=what), *failures(parts)]


def bundle_of(network: str, bundle: str | Path, folder: Path) -> Bundle:
    """Return a bundle with this network and all else of another one, made if it is not there.

    Args:
        network: Registry name.
        bundle: The other one.
        folder: Where such bundles are made.

    Raises:
        BundleError: The other one was not composed.
    """
    like = open_bundle(bundle)
    composition = composition_of(like.metadata, like.name)
    if network == composition.network:
        return like
    made = folder / f"{like.name.rpartition('_')[0] or like.name}_{network}"
    if (made / "configs" / "datalist.json").is_file():
        return open_bundle(made)
    dims = find_recipe(composition.recipe).spatial_dims
    own = values_of(piece(f"networks/{composition.network}_{dims}d"))
    values = {name: value for name, value in composition.values.items() if name not in own}
    datalist = (like.folder / "configs" / "datalist.json").read_text(encoding="utf-8")
    return new_bundle(
        made,
        Composition(
            network=network, recipe=composition.recipe, labels=composition.labels, values=values
        ),
        files={"configs/datalist.json": datalist},
    )


def _measured(member: Member, data: Path, fold: int) -> dict[str, Any]:
    started = time.monotonic()
    evaluation = measure_member(member, data, fold)
    seconds = (time.monotonic() - started) / len(evaluation.cases)
    inference = yaml.safe_load(member.bundle.config("inference").read_text(encoding="utf-8"))
    network = build_parts(member.bundle).network
    return {
        **member.about,
        "parameters": count_parameters(network),
        "multiply_accumulates": count_multiply_accumulates(
            network.to("meta"), inference["in_channels"], inference["patch"]
        ),
        "seconds_an_image": round(seconds, 3),
        "overlaps": overlaps_of(evaluation),
    }


def overlaps_of(evaluation: Evaluation) -> dict[str, list[int]]:
    """Return the pixels of each case: common, of the prediction, of the reference."""
    found = {}
    for score in evaluation.rows:
        sizes = (score.prediction_voxels, score.reference_voxels)
        common = 0 if math.isnan(score.dice) else round(score.dice * sum(sizes) / 2)
        found[score.case] = [common, *sizes]
    return found


def _overlaps(part: Part) -> list[Overlap]:
    return [Overlap(*counts) for counts in part.figures["overlaps"].values()]


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    return f"{sum(known) / len(known):.4f}" if known else "-"
