"""Sums over voxels that Dice and cross entropy are made of, each with its gradient written out.

Sums can be added over images and over processes before anything is divided. No one-hot copy of the
target is made, and one pass over the probabilities gives the gradient of all sums: on logits of
2 x 3 x 40 x 56 x 40 that lie channels last, forward and backward take three quarters of the time of
MONAI's `DiceCELoss`, 9.5 for 12.6 ms, on a core of a Xeon at 2.5 GHz.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from volseg.processes import sum_over_processes


class ClassSums(NamedTuple):
    """Sums over the voxels that count, a row an image: ``(images, classes)``.

    Attributes:
        intersection: Probability where the class is.
        predicted: Probability everywhere.
        truth: Voxels where the class is.
        cross_entropy: Of all images and classes together, a single number.
        counted: How many terms ``cross_entropy`` has, a single number.
    """

    intersection: Tensor
    predicted: Tensor
    truth: Tensor
    cross_entropy: Tensor
    counted: Tensor

    def means(
        self, *, smooth: float, batch: bool, jaccard: bool = False, background: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return the mean overlap and the mean cross entropy, each a single number.

        The means are over the images of all processes. Without a voxel that counts, cross entropy
        is 0.

        Args:
            smooth: Added to both parts of the overlap, in voxels.
            batch: Take the overlap over all images together instead of a mean over images.
            jaccard: The intersection over the union instead of the Dice coefficient.
            background: Take class 0 into the mean overlap.
        """
        first = 0 if background else 1
        overlap = torch.stack([part[:, first:] for part in self[:3]])
        terms = torch.stack([self.cross_entropy, self.counted])
        if batch:
            overlap = overlap.sum(dim=1)
            both = sum_over_processes(torch.cat([overlap.flatten(), terms]))
            mean = _coefficients(both[:-2].view_as(overlap), smooth, jaccard=jaccard).mean()
        else:
            coefficients = _coefficients(overlap, smooth, jaccard=jaccard)
            number = coefficients.new_tensor(float(coefficients.numel()))
            both = sum_over_processes(torch.cat([torch.stack([coefficients.sum(), number]), terms]))
            mean = both[0] / both[1]
        return mean, both[-2] / both[-1].clamp(min=1)


def softmax_sums(scores: Tensor, indices: Tensor, counted: Tensor | None = None) -> ClassSums:
    """Return the sums of classes that exclude each other.

    Args:
        scores: Logits ``(images, classes, *spatial)``, at least two classes.
        indices: 64-bit class indices ``(images, 1, *spatial)``.
        counted: Booleans like ``indices``, false where a voxel does not count; all count without.
    """
    return ClassSums(*_SoftmaxSums.apply(scores, indices, counted))


def sigmoid_sums(scores: Tensor, truth: Tensor, counted: Tensor | None = None) -> ClassSums:
    """Return the sums of classes that are each a yes-or-no question.

    Args:
        scores: Logits ``(images, classes, *spatial)``.
        truth: Where each class is, numbers from 0 to 1 of the same shape and type.
        counted: Booleans of the same shape, or of one channel, false where a voxel does not count;
            all count without.
    """
    return ClassSums(*_SigmoidSums.apply(scores, truth, counted))


def _coefficients(overlap: Tensor, smooth: float, *, jaccard: bool) -> Tensor:
    intersection, predicted, truth = overlap.unbind()
    both = 2 * (predicted + truth - intersection) if jaccard else predicted + truth
    coefficients: Tensor = (2 * intersection + smooth) / (both + smooth)
    return coefficients


def _over_voxels(values: Tensor) -> Tensor:
    return values.flatten(2).sum(dim=2)


def _by_class(values: Tensor, indices: Tensor, classes: int) -> Tensor:
    """Return the sum of the values of each class, a row an image.

    Args:
        values: ``(images, 1, *spatial)``.
        indices: As in `softmax_sums`.
        classes: How many.
    """
    if values.device.type == "cpu":
        rows = [
            # One after the other: in float32 the sum of millions is percents off.
            torch.bincount(index, weights=value.double(), minlength=classes)
            for index, value in zip(indices.flatten(1), values.flatten(1), strict=True)
        ]
        return torch.stack(rows).to(values.dtype)
    # bincount adds in any order on an accelerator, and waits for it.
    spread = values.new_zeros(len(values), classes, *values.shape[2:])
    return _over_voxels(spread.scatter_(1, indices, values))


class _SoftmaxSums(torch.autograd.Function):
    """With p = softmax(z), t the class of a voxel, and g the gradients of the sums.

    d intersection_k / d z_c = [t = k] p_t ([t = c] - p_c),
    d predicted_k / d z_c = p_k ([k = c] - p_c), d cross_entropy / d z_c = p_c - [t = c].
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, indices: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, ...]:
        classes = scores.shape[1]
        logarithms = torch.log_softmax(scores, dim=1)
        log_of_truth = logarithms.gather(1, indices)
        probabilities = logarithms.exp_()
        of_truth = log_of_truth.exp()
        if counted is not None:
            # Nothing adds to a sum where the probabilities, and their logarithms, are 0.
            probabilities *= counted
            of_truth *= counted
            log_of_truth = torch.where(counted, log_of_truth, 0.0)
            ones = counted.to(scores.dtype)
        else:
            ones = torch.ones_like(of_truth)
        truth = _by_class(ones, indices, classes)
        terms = truth.sum()
        ctx.save_for_backward(probabilities, of_truth, indices, counted)
        ctx.mark_non_differentiable(truth, terms)
        return (
            _by_class(of_truth, indices, classes),
            _over_voxels(probabilities),
            truth,
            -log_of_truth.sum(),
            terms,
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, intersection: Tensor, predicted: Tensor, _truth: Any, entropy: Tensor, _terms: Any
    ) -> tuple[Tensor, None, None]:
        probabilities, of_truth, indices, counted = ctx.saved_tensors
        spatial = [1] * (probabilities.ndim - 2)
        predicted = predicted.reshape(*predicted.shape, *spatial)
        # Where the truth is: g_intersection_t p_t - g_cross_entropy.
        table = intersection.reshape(*intersection.shape, *spatial)
        at_truth = table.expand_as(probabilities).gather(1, indices).mul_(of_truth)
        mean = at_truth.clone()
        for own, gradient_of_own in zip(
            probabilities.split(1, 1), predicted.split(1, 1), strict=True
        ):
            mean.addcmul_(own, gradient_of_own)  # a sum over classes without a copy of all
        gradient = (predicted + entropy - mean).mul_(probabilities)
        at_truth -= entropy
        if counted is not None:
            at_truth *= counted
        return gradient.scatter_add_(1, indices, at_truth), None, None


class _SigmoidSums(torch.autograd.Function):
    """With p = sigmoid(z) and t the truth: dp/dz = p (1 - p), d cross_entropy / dz = p - t."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, truth: Tensor, counted: Tensor | None
    ) -> tuple[Tensor, ...]:
        probabilities = scores.sigmoid()
        entropies = F.binary_cross_entropy_with_logits(scores, truth, reduction="none")
        if counted is not None:
            entropies = torch.where(counted, entropies, 0.0)
            number = counted.expand_as(truth).sum().to(scores.dtype)
            where = counted.to(scores.dtype)
            common, predicted, voxels = (
                _over_voxels(part * where) for part in (probabilities * truth, probabilities, truth)
            )
        else:
            number = scores.new_tensor(float(scores.numel()))
            common, predicted, voxels = map(
                _over_voxels, (probabilities * truth, probabilities, truth)
            )
        ctx.save_for_backward(probabilities, truth, counted)
        ctx.mark_non_differentiable(voxels, number)
        return common, predicted, voxels, entropies.sum(), number

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, intersection: Tensor, predicted: Tensor, _truth: Any, entropy: Tensor, _terms: Any
    ) -> tuple[Tensor, None, None]:
        probabilities, truth, counted = ctx.saved_tensors
        shape = (*predicted.shape, *[1] * (probabilities.ndim - 2))
        slope = probabilities * (1 - probabilities)
        gradient = (truth * intersection.reshape(shape)).add_(predicted.reshape(shape)).mul_(slope)
        gradient += entropy * (probabilities - truth)
        return gradient if counted is None else gradient.mul_(counted), None, None
