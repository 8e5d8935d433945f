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


def require_smooth(smooth: float) -> None:
    """Refuse what leaves the overlap of two empty masks without a value.

    Raises:
        InputError: The number is not above 0.
    """
    if not smooth > 0:
        raise InputError(f"smooth is {smooth}; expected a number above 0.")


def class_indices(
    target: Tensor, classes: int, ignore: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the target as 64-bit class indices, and where it counts.

    Args:
        target: Indices as integers, or as floating-point numbers that hold integers.
        classes: Channels of the logits; one channel stands for background (0) and foreground (1).
        ignore: Value of voxels that do not count, whose index becomes 0.

    Returns:
        The indices, and booleans of the same shape, or None where all voxels count.

    Raises:
        InputError: A value is not one of the indices.
    """
    highest = max(1, classes - 1)
    plain, counted = _without_ignored(target, ignore)
    indices = plain.long()
    if plain.is_meta:  # shapes without values
        return indices, counted
    # On an accelerator, an index out of range would end the process without a reason, and each
    # question asked of it waits for all its work: there is one.
    lowest_found, highest_found = indices.aminmax()
    found_wrong = (lowest_found < 0) | (highest_found > highest)
    if plain.is_floating_point():
        found_wrong |= (indices.to(plain.dtype) != plain).any()
    if found_wrong:
        wrong = (indices != plain) | (indices < 0) | (indices > highest)
        raise InputError(
            f"the target holds the value {plain[wrong][0].item():g}; expected class indices, "
            f"integers from 0 to {highest}: look at the labels, and at their interpolation, which "
            "must be nearest neighbour."
        )
    return indices, counted


def region_masks(
    scores: Tensor, target: Tensor, ignore: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return where each region is, and where that counts.

    Args:
        scores: Logits ``(batch, regions, *spatial)``.
        target: 0 and 1, a channel a region.
        ignore: Value of voxels that do not count, which become 0.

    Returns:
        The masks in the type of ``scores``, and booleans of the same shape, or None where all
        voxels count.

    Raises:
        ShapeError: The target does not lie on the grid of the logits, or has another number of
            channels.
        InputError: It holds something else than 0 and 1.
    """
    require_same_grid(
        scores, target, channels=scores.shape[1], holding="0 and 1, a channel a region"
    )
    plain, counted = _without_ignored(target, ignore)
    masks = plain.to(scores.dtype)
    if masks.is_meta:
        return masks, counted
    wrong = (masks != 0) & (masks != 1)
    if wrong.any():
        raise InputError(
            f"the target holds the value {masks[wrong][0].item():g}; expected 0 and 1, a channel a "
            "region: look at how regions are made of the labels."
        )
    return masks, counted


def one_against_rest(
    logits: Tensor,
    target: Tensor,
    *,
    activation: str,
    include_background: bool,
    regions: bool = False,
    ignore: int | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the log-odds of every class, where the class is, and where that counts.

    The log-odds are those numbers whose sigmoid is the probability of the class, so one binary loss
    serves all cases and never takes the logarithm of a rounded probability.

    Args:
        logits: ``(batch, classes, *spatial)``. One channel is the foreground, its activation always
            the sigmoid; of several, channel 0 is the background unless they are regions.
        target: Class indices ``(batch, 1, *spatial)``, or regions ``(batch, regions, *spatial)``.
        activation: ``softmax`` (classes exclude each other) or ``sigmoid`` (each on its own).
        include_background: Keep channel 0 of several channels.
        regions: The target holds 0 and 1, a channel for each of the logits; the two options before
            do not matter then.
        ignore: Value of voxels that do not count.

    Returns:
        Log-odds and truth ``(batch, channels, *spatial)`` in full precision, channels being the
        foreground classes, behind the background where it is included, or the regions; and booleans
        that go with them, or None where all voxels count.

    Raises:
        ShapeError: The target does not lie on the grid of the logits.
        InputError: The target holds something else than class indices, or regions.
    """
    scores = full_precision(logits)
    if regions:
        return scores, *region_masks(scores, target, ignore)
    require_same_grid(logits, target, channels=1, holding="class indices")
    classes = scores.shape[1]
    indices, counted = class_indices(target, classes, ignore)
    if classes == 1:
        return scores, indices.to(scores.dtype), counted
    truth = F.one_hot(indices[:, 0], classes).movedim(-1, 1).to(scores.dtype)
    if activation == "softmax":
        scores = scores - _logsumexp_of_the_others(scores)
    first = 0 if include_background else 1
    return scores[:, first:], truth[:, first:], counted


def _without_ignored(target: Tensor, ignore: int | None) -> tuple[Tensor, Tensor | None]:
    plain = target.as_subclass(Tensor)
    if ignore is None:
        return plain, None
    counted = plain != ignore
    return plain.where(counted, 0), counted


def _logsumexp_of_the_others(scores: Tensor) -> Tensor:
    """Return, for each channel, the logarithm of the summed exponentials of all other channels."""
    nothing = torch.full_like(scores[:, :1], -torch.inf)
    before = torch.logcumsumexp(scores[:, :-1], dim=1)
    after = torch.logcumsumexp(scores[:, 1:].flip(1), dim=1).flip(1)
    return torch.logaddexp(torch.cat([nothing, before], 1), torch.cat([after, nothing], 1))
