"""What every loss asks of its logits and its target, and each class as a yes-or-no question."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from volseg.errors import InputError, ShapeError, UnknownNameError

ACTIVATIONS = ("softmax", "sigmoid")


def full_precision(values: Tensor) -> Tensor:
    """Return the values as a plain tensor in float32, or in float64 if they are.

    Sums over a volume are wrong in 16 bits. MONAI's `MetaTensor` carries its affine and its history
    through every operation; a loss needs neither.
    """
    plain = values.as_subclass(Tensor)
    return plain if plain.dtype == torch.float64 else plain.float()


def require_activation(activation: str) -> None:
    """Refuse anything but ``softmax`` and ``sigmoid``.

    Raises:
        UnknownNameError: No such activation.
    """
    if activation not in ACTIVATIONS:
        raise UnknownNameError("activation", activation, ACTIVATIONS)


def require_same_grid(
    logits: Tensor, target: Tensor, *, channels: int | None, holding: str
) -> None:
    """Refuse a target that does not lie on the grid of the logits.

    Args:
        logits: ``(batch, classes, *spatial)`` in 2D or 3D.
        target: ``(batch, channels, *spatial)``.
        channels: Channels the target must have; any number if None.
        holding: What they hold, for the message.

    Raises:
        ShapeError: Either has another shape.
    """
    if logits.ndim not in (4, 5) or 0 in logits.shape:
        raise ShapeError(
            f"the logits have the shape {tuple(logits.shape)}; expected (batch, classes, x, y) or "
            "(batch, classes, x, y, z): add the missing axes, or unbind stacked heads to a list."
        )
    expected = (logits.shape[0], channels or target.shape[1:2].numel(), *logits.shape[2:])
    if tuple(target.shape) != expected:
        raise ShapeError(
            f"the target has the shape {tuple(target.shape)} for logits of the shape "
            f"{tuple(logits.shape)}; expected {expected}, holding {holding}."
        )


def class_indices(target: Tensor, classes: int) -> Tensor:
    """Return the target as 64-bit class indices.

    Args:
        target: Indices as integers, or as floating-point numbers that hold integers.
        classes: Channels of the logits; one channel stands for background (0) and foreground (1).

    Raises:
        InputError: A value is not one of the indices.
    """
    highest = max(1, classes - 1)
    plain = target.as_subclass(Tensor)
    indices = plain.long()
    wrong = (indices != plain) | (indices < 0) | (indices > highest)
    # On an accelerator, an index out of range would end the process without a reason.
    if wrong.any():
        raise InputError(
            f"the target holds the value {plain[wrong][0].item():g}; expected class indices, "
            f"integers from 0 to {highest}: look at the labels, and at their interpolation, which "
            "must be nearest neighbour."
        )
    return indices


def one_against_rest(
    logits: Tensor, target: Tensor, *, activation: str, include_background: bool
) -> tuple[Tensor, Tensor]:
    """Return the log-odds of every class and where the class is, channel by channel.

    The log-odds are those numbers whose sigmoid is the probability of the class, so one binary loss
    serves all cases and never takes the logarithm of a rounded probability.

    Args:
        logits: ``(batch, classes, *spatial)``. One channel is the foreground, its activation always
            the sigmoid; of several, channel 0 is the background.
        target: Class indices ``(batch, 1, *spatial)``.
        activation: ``softmax`` (classes exclude each other) or ``sigmoid`` (each on its own).
        include_background: Keep channel 0 of several channels.

    Returns:
        Both ``(batch, channels, *spatial)`` in full precision, channels being the foreground
        classes, behind the background where it is included.

    Raises:
        ShapeError: The target does not lie on the grid of the logits.
        InputError: The target holds something else than class indices.
    """
    require_same_grid(logits, target, channels=1, holding="class indices")
    scores = full_precision(logits)
    classes = scores.shape[1]
    indices = class_indices(target, classes)
    if classes == 1:
        return scores, indices.to(scores.dtype)
    truth = F.one_hot(indices[:, 0], classes).movedim(-1, 1).to(scores.dtype)
    if activation == "softmax":
        scores = scores - _logsumexp_of_the_others(scores)
    first = 0 if include_background else 1
    return scores[:, first:], truth[:, first:]


def _logsumexp_of_the_others(scores: Tensor) -> Tensor:
    """Return, for each channel, the logarithm of the summed exponentials of all other channels."""
    nothing = torch.full_like(scores[:, :1], -torch.inf)
    before = torch.logcumsumexp(scores[:, :-1], dim=1)
    after = torch.logcumsumexp(scores[:, 1:].flip(1), dim=1).flip(1)
    return torch.logaddexp(torch.cat([nothing, before], 1), torch.cat([after, nothing], 1))
