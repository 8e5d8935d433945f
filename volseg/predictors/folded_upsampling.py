"""Up-convolutions of a U-Net folded into the convolutions after them, in OpenVINO's graph.

A decoder brings features to twice the size by a transposed convolution, joins them with those of
the encoder and convolves all of it. Nothing but sums lies between: so the second convolution, as
far as it sees the first, is one transposed convolution of the features before, with a kernel of 4
in place of 2 and then 3. Of a voxel's ``27 x channels`` products, ``8 x channels before`` remain,
and the larger features are neither computed nor joined. The sums are the same but for rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

# Of the products of a convolution and the transposed one before it, what may remain. Kernels of 4
# run a little slower than those of 3, so a small saving is none.
_WORTHWHILE = 0.7

_CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}


@dataclass(frozen=True)
class _Upsampling:
    """A transposed convolution that enters a `Concat`, with the bias that is added to it."""

    features: Any
    kernel: Tensor  # (channels in, channels out, ...), float64
    bias: Tensor | None  # (channels out), float64
    strides: tuple[int, ...]


def fold_upsampling(model: Any, operators: Any) -> int:
    """Fold all up-convolutions of a model of static shapes, and return how many there were.

    Args:
        model: An `openvino.Model`; changed in place.
        operators: The operators to build with, such as `openvino.opset15`.
    """
    folded = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convolution" and _is_plain(node):
            folded += _fold(node, operators)
    return folded


def _fold(node: Any, operators: Any) -> int:
    joined = node.input_value(0).get_node()
    kernel = _constant(node.input_value(1))
    if kernel is None or joined.get_type_name() != "Concat" or _consumers(joined) != 1:
        return 0
    if joined.get_attributes()["axis"] not in (1, 1 - kernel.ndim):
        return 0
    sizes = [joined.input(i).get_shape()[1] for i in range(joined.get_input_size())]
    parts = kernel.split(sizes, dim=1)
    found = [_upsampling(joined.input_value(i)) for i in range(len(parts))]
    found = [
        one if one is not None and _saves(one, part) else None
        for one, part in zip(found, parts, strict=True)
    ]
    if not any(found):
        return 0
    kept = [i for i, one in enumerate(found) if one is None]
    terms = []
    if kept:
        inputs = [joined.input_value(i) for i in kept]
        features = inputs[0] if len(inputs) == 1 else operators.concat(inputs, axis=1)
        weights = _stored(torch.cat([parts[i] for i in kept], dim=1))
        terms.append(_convolution(features, weights, node, operators))
    sides = node.output(0).get_shape()[2:]
    for one, part in zip(found, parts, strict=True):
        if one is None:
            continue
        terms.append(_transposed(one, part, operators))
        if one.bias is not None and bool(one.bias.any()):
            terms.append(_spread_bias(one.bias, part, sides, operators))
    total = terms[0]
    for term in terms[1:]:
        total = operators.add(total, term)
    _replace(node, total)
    return sum(one is not None for one in found)


def _upsampling(value: Any) -> _Upsampling | None:
    """Return the transposed convolution whose result, or that with a bias, this value is."""
    node, bias = value.get_node(), None
    if node.get_type_name() == "Add" and _consumers(node) == 1:
        added = _constant(node.input_value(1))
        if added is None or added.numel() != added.shape[min(1, added.ndim - 1)]:
            return None  # not one number a channel
        bias, node = added.reshape(-1), node.input_value(0).get_node()
    if node.get_type_name() != "ConvolutionBackpropData" or _consumers(node) != 1:
        return None
    kernel = _constant(node.input_value(1))
    attributes = node.get_attributes()
    strides = tuple(attributes["strides"])
    if (
        kernel is None
        or node.get_input_size() != 2
        or tuple(kernel.shape[2:]) != strides
        or any((*attributes["pads_begin"], *attributes["pads_end"]))
        or any(attributes["output_padding"])
        or any(step != 1 for step in attributes["dilations"])
        or (bias is not None and len(bias) != kernel.shape[1])
    ):
        return None
    return _Upsampling(node.input_value(0), kernel, bias, strides)


def _is_plain(node: Any) -> bool:
    """Return whether a convolution keeps the size: odd kernels, padded by half, steps of one."""
    attributes = node.get_attributes()
    sides = node.input(1).get_shape()[2:]
    pads = [side // 2 for side in sides]
    return (
        len(sides) in _CONVOLVE
        and all(side % 2 for side in sides)
        and list(attributes["pads_begin"]) == list(attributes["pads_end"]) == pads
        and all(step == 1 for step in (*attributes["strides"], *attributes["dilations"]))
    )


def _saves(one: _Upsampling, kernel: Tensor) -> bool:
    """Return whether folding leaves clearly fewer products for each voxel."""
    before, between = one.kernel.shape[:2]
    after = kernel.shape[0]
    taps = math.prod(kernel.shape[2:])
    composed = _composed_sides(one, kernel)
    folded = before * after * math.prod(composed) / math.prod(one.strides)
    return folded <= _WORTHWHILE * (taps * between * after + before * between)


def _composed_sides(one: _Upsampling, kernel: Tensor) -> list[int]:
    return [
        step + side - 1 for step, side in zip(one.strides, tuple(kernel.shape[2:]), strict=True)
    ]


def _transposed(one: _Upsampling, kernel: Tensor, operators: Any) -> Any:
    """Return both convolutions as one: what a single voxel becomes is its kernel."""
    sides = kernel.shape[2:]
    composed = _CONVOLVE[len(sides)](one.kernel, kernel, padding=[side - 1 for side in sides])
    pads = [side // 2 for side in sides]
    return operators.convolution_backprop_data(
        one.features,
        operators.constant(_stored(composed)),
        strides=list(one.strides),
        pads_begin=pads,
        pads_end=pads,
    )


def _spread_bias(bias: Tensor, kernel: Tensor, sides: Any, operators: Any) -> Any:
    """Return what the convolution makes of the bias of the features before it.

    That is one number a channel, but near the faces of the tile, beyond which there are zeros:
    all that can be there is computed on a tile as large as the kernel, and laid out.
    """
    small = bias.reshape(1, -1, *[1] * len(sides)).expand(1, -1, *kernel.shape[2:])
    margins = [side // 2 for side in kernel.shape[2:]]
    spread = operators.constant(_stored(_CONVOLVE[len(sides)](small, kernel, padding=margins)))
    for axis, (side, margin) in enumerate(zip(sides, margins, strict=True), start=2):
        places = np.full(side, margin, np.int64)
        places[:margin] = np.arange(margin)
        places[side - margin :] = np.arange(margin + 1, 2 * margin + 1)
        spread = operators.gather(
            spread, operators.constant(places), operators.constant(np.int64(axis))
        )
    return spread


def _convolution(features: Any, weights: npt.NDArray[Any], like: Any, operators: Any) -> Any:
    attributes = like.get_attributes()
    return operators.convolution(
        features,
        operators.constant(weights),
        strides=list(attributes["strides"]),
        pads_begin=list(attributes["pads_begin"]),
        pads_end=list(attributes["pads_end"]),
        dilations=list(attributes["dilations"]),
    )


def _constant(value: Any) -> Tensor | None:
    """Return a constant of float32 as float64; None if the value is something else."""
    node = value.get_node()
    if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f32":
        return None
    return torch.from_numpy(np.array(node.data, dtype=np.float64))


def _stored(values: Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values.numpy(), dtype=np.float32)


def _consumers(node: Any) -> int:
    return len(node.output(0).get_target_inputs())


def _replace(node: Any, by: Any) -> None:
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(by.output(0))
