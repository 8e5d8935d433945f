"""Every network, beside MONAI's of its kind: evaluation and training steps."""

from __future__ import annotations

import argparse
import inspect
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks import nets
from torch import Tensor, nn

from benchmarks.timing import Run, interleaved, ratio, write_rows
from readme import header, row, when_and_where, write_section
from volseg.errors import ShapeError
from volseg.networks import (
    build_network,
    count_multiply_accumulates,
    count_parameters,
    list_networks,
    network_spec,
)

Builder = Callable[[], nn.Module]

# What a laptop without a graphics card trains in minutes: 1 image channel, 2 classes. A network
# that is not named here is measured with its preset "tiny".
LAPTOP: dict[str, dict[str, Any]] = {
    "unet": {"channels": (16, 32, 64, 128, 256), "norm": "instance"},
    "unet2015": {"channels": (16, 32, 64, 128), "norm": "instance"},
    "unet3d2016": {"channels": (16, 32, 64, 128), "norm": "instance"},
    "resunet": {"channels": (16, 32, 64, 128), "norm": "instance"},
    "resencunet": {"channels": (16, 32, 64, 128, 160), "blocks": (1, 3, 4, 6, 6)},
    "dynunet": {"channels": (16, 32, 64, 128, 160)},
    "mednext": {"channels": 16, "expansion_ratios": (2,) * 9},
    "stunet": {"channels": (16, 32, 64, 128, 128)},
    "vnet": {"variant": "monai"},
    "unetplusplus": {"channels": (16, 32, 64, 128, 256), "norm": "instance"},
    "unet3plus": {"channels": (16, 32, 64, 128, 256)},
    "bionet": {"channels": (16, 32, 64, 128, 256)},
    "bionetplus": {"width": 24, "stem_width": 16},
    "bixnet": {"width": 24, "stem_width": 16},
    "wnet": {"channels": (16, 32, 64, 128, 256)},
    "attentionunet": {"channels": (16, 32, 64, 128, 256)},
    "monai_unet": {"channels": (16, 32, 64, 128, 256), "residual_units": 2},
    "monai_vnet": {"channels": 16},
    "segresnet": {"channels": 16},
    "swinunetr": {"channels": 12},
}
SIZES = {2: 256, 3: 64}

_MONAI_NORMS: dict[str, Any] = {
    "none": None,
    "batch": "batch",
    "instance": ("instance", {"affine": True}),
}


@dataclass(frozen=True)
class NetworkRow:
    """One network and what it was measured beside; ratios are ours to theirs, seconds to seconds.

    Forward is one evaluation, step one training step: forward, backward and SGD.
    """

    network: str
    dims: int
    preset: str
    size: tuple[int, ...]
    parameters: int
    macs: int
    forward_seconds: float
    step_seconds: float
    beside: str = "-"
    beside_parameters: int | None = None
    beside_macs: int | None = None
    forward_ratio: float | None = None
    step_ratio: float | None = None


def counterparts(name: str, dims: int, options: Mapping[str, Any]) -> dict[str, Builder]:
    """Return MONAI's networks of the same kind as ours, of the same widths where they have any."""
    common = {"spatial_dims": dims, "in_channels": 1, "out_channels": 2}
    channels = options.get("channels")
    widths = list(channels) if isinstance(channels, Sequence) else []
    halvings = [2] * (len(widths) - 1)
    norm = _MONAI_NORMS.get(options.get("norm"))
    deep = options.get("deep_supervision", False)

    def strided(residual_units: int) -> Builder:
        return lambda: nets.UNet(
            **common,
            channels=widths,
            strides=halvings,
            num_res_units=residual_units,
            norm=norm,
            act="relu",
        )

    match name:
        case "unet" if len(widths) == 5:
            basic = {"features": (*widths, widths[0]), "norm": norm, "act": "relu"}
            return {
                "BasicUNet": lambda: nets.BasicUNet(**common, **basic),
                "UNet": strided(0),
            }
        case "unetplusplus" if len(widths) == 5:
            basic = {"features": (*widths, widths[0]), "norm": norm, "act": "relu"}
            return {
                "BasicUNetPlusPlus": lambda: nets.BasicUNetPlusPlus(
                    **common, **basic, deep_supervision=deep
                )
            }
        case "vnet":
            return {"VNet": lambda: nets.VNet(**common)}
        case "resunet":
            return {"UNet, 2 residual units": strided(2)}
        case "resencunet" | "dynunet":
            residual = name == "resencunet"
            plan = {
                "kernel_size": [3] * len(widths),
                "strides": [1, *halvings],
                "upsample_kernel_size": halvings,
                "filters": widths,
                "res_block": residual,
                "deep_supervision": deep,
                "deep_supr_num": max(1, len(widths) - 2),
            }
            label = "DynUNet, residual" if residual else "DynUNet"
            return {label: lambda: nets.DynUNet(**common, **plan)}
        case "mednext" if len(options["blocks"]) == 9:
            blocks, ratios = list(options["blocks"]), list(options["expansion_ratios"])
            plan = {
                "init_filters": options["channels"],
                "blocks_down": blocks[:4],
                "blocks_bottleneck": blocks[4],
                "blocks_up": blocks[5:],
                "encoder_expansion_ratio": ratios[:4],
                "bottleneck_expansion_ratio": ratios[4],
                "decoder_expansion_ratio": ratios[5:],
                "kernel_size": options["kernel_size"],
                "deep_supervision": deep,
                "use_residual_connection": True,
            }
            return {"MedNeXt": lambda: nets.MedNeXt(**common, **plan)}
    return {}


def accepted_size(network: nn.Module, dims: int, side: int) -> tuple[int, ...]:
    """Return the smallest cube from ``side`` up that ``network``, on ``meta``, takes."""
    for longer in range(side, 2 * side + 256):
        size = (longer,) * dims
        try:
            network(torch.empty(1, 1, *size, device="meta"))
        except ShapeError:
            continue
        return size
    raise ShapeError(f"{type(network).__name__} takes no cube of {side} to {longer} voxels.")


def on_meta(build: Builder) -> nn.Module:
    """Return the network without memory, for counting, in evaluation."""
    with torch.device("meta"):
        return build().eval()


def forward(network: nn.Module, image: Tensor) -> Run:
    """Return a function that evaluates ``network`` once."""

    def run() -> object:
        with torch.inference_mode():
            return network(image)

    return run


def training_step(network: nn.Module, image: Tensor) -> Run:
    """Return a function that takes one step on the mean square of all logits."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def run() -> object:
        optimizer.zero_grad()
        logits = network(image)
        heads = logits if isinstance(logits, (list, tuple)) else [logits]
        sum(head.square().mean() for head in heads).backward()
        return optimizer.step()

    return run


def measure_network(
    name: str, dims: int, *, preset: str, side: int, repeats: int, channels_last: bool
) -> Iterator[NetworkRow]:
    """Yield a row for each counterpart of a network, or one row without."""
    spec = network_spec(name)
    if preset == "laptop" and name not in LAPTOP:
        preset = "tiny"
    options = LAPTOP[name] if preset == "laptop" else dict(spec.presets[preset])
    accepted = inspect.signature(spec.build).parameters.values()
    defaults = {one.name: one.default for one in accepted if one.default is not one.empty}
    others = counterparts(name, dims, {**defaults, **options})
    builders: list[Builder] = [
        lambda: build_network(name, spatial_dims=dims, in_channels=1, out_channels=2, **options),
        *others.values(),
    ]
    planned = [on_meta(build) for build in builders]
    size = accepted_size(planned[0], dims, side)
    parameters = [count_parameters(network) for network in planned]
    macs = [count_multiply_accumulates(network, 1, size) for network in planned]

    torch.manual_seed(0)
    layout = torch.contiguous_format
    if channels_last:
        layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    image = torch.randn(1, 1, *size).to(memory_format=layout)
    networks = [build().to(memory_format=layout) for build in builders]
    forwards = interleaved([forward(network.eval(), image) for network in networks], repeats)
    steps = interleaved([training_step(network.train(), image) for network in networks], repeats)
    own = NetworkRow(
        network=name,
        dims=dims,
        preset=preset,
        size=size,
        parameters=parameters[0],
        macs=macs[0],
        forward_seconds=statistics.median(forwards[0]),
        step_seconds=statistics.median(steps[0]),
    )
    if not others:
        yield own
    for index, beside in enumerate(others, start=1):
        yield NetworkRow(
            **{
                **asdict(own),
                "beside": f"MONAI {beside}",
                "beside_parameters": parameters[index],
                "beside_macs": macs[index],
                "forward_ratio": ratio(forwards[0], forwards[index]).median,
                "step_ratio": ratio(steps[0], steps[index]).median,
            }
        )


def networks_table(rows: Sequence[NetworkRow], *, preset: str, channels_last: bool) -> list[str]:
    """Return the lines of the README's table."""
    counted = ["parameters", "MACs"]
    lines = header(
        [
            *["network", "input", *counted, "forward, s", "step, s"],
            *["beside", *counted, "forward, ratio", "step, ratio"],
        ]
    )
    for one in rows:
        note = "" if one.preset == preset else f" ({one.preset})"
        cells = [
            f"`{one.network}`{note}",
            "x".join(map(str, one.size)),
            *_counts(one.parameters, one.macs),
            f"{one.forward_seconds:.3f}",
            f"{one.step_seconds:.3f}",
            one.beside,
            *_counts(one.beside_parameters, one.beside_macs),
            "-" if one.forward_ratio is None else f"{one.forward_ratio:.2f}",
            "-" if one.step_ratio is None else f"{one.step_ratio:.2f}",
        ]
        lines.append(row(cells))
    return [
        *lines,
        "",
        f"Ratios are our seconds to theirs, below 1 where ours is faster; medians of turns taken "
        "one after the other. Rows differ in parameters and MACs where MONAI's network is another "
        "one; `vnet` is the variant that MONAI has, and a step of `wnet` trains its segmenting "
        f"half. One image of 1 channel, 2 classes, configuration `{preset}` of "
        f"`scripts/benchmark.py`, {'channels last' if channels_last else 'channels first'}. On "
        f"{when_and_where(torch.get_num_threads())}.",
    ]


def _counts(parameters: int | None, macs: int | None) -> tuple[str, str]:
    if parameters is None or macs is None:
        return "-", "-"
    return f"{parameters:,}", f"{macs / 1e9:.3f} G"


def run(arguments: argparse.Namespace) -> None:
    """Measure the networks asked for, and print, store or publish the table."""
    rows: list[NetworkRow] = []
    for dims in arguments.dims:
        for name in arguments.names:
            found = measure_network(
                name,
                dims,
                preset=arguments.preset,
                side=arguments.size or SIZES[dims],
                repeats=arguments.repeats,
                channels_last=arguments.channels_last,
            )
            rows += found
            print(f"measured {name} in {dims}D", flush=True)
    lines = networks_table(rows, preset=arguments.preset, channels_last=arguments.channels_last)
    print("\n".join(lines))
    if arguments.json:
        write_rows(arguments.json, rows)
    if arguments.readme:
        write_section("networks", "scripts/benchmark.py networks", lines)


def add(commands: Any) -> None:
    """Add the arguments of ``networks``."""
    parser = commands.add_parser("networks", help="every network, beside MONAI's of its kind")
    parser.add_argument(
        "--names", nargs="+", default=list_networks(), choices=list_networks(), metavar="NAME"
    )
    parser.add_argument("--dims", nargs="+", type=int, default=[2, 3], choices=[2, 3])
    parser.add_argument("--preset", default="laptop", choices=["laptop", "reference", "tiny"])
    parser.add_argument("--size", type=int, help="voxels a side; 256 in 2D and 64 in 3D if absent")
    parser.add_argument("--repeats", type=int, default=7, help="turns each network is timed")
    parser.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="memory layout of images and weights; torch's own default is channels first",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.set_defaults(run=run)
