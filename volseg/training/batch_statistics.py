"""Batch normalisation by the statistics of the whole batch, where processes share it.

Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal
covariate shift", ICML 2015. `torch.nn.SyncBatchNorm` is for accelerators only, and counts the
stand-in of a process that has no share of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from volseg.processes import process_count, sum_over_processes


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace batch normalisation in a network by `SharedBatchNorm`, with the same parameters."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, SharedBatchNorm):
                setattr(module, name, SharedBatchNorm(child))


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation by mean and variance over the batches of all processes in training.

    Args:
        layer: The layer it stands for, whose parameters and buffers it takes over.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__(
            layer.num_features,
            layer.eps,
            layer.momentum,
            affine=False,
            track_running_stats=False,
        )
        self.affine, self.track_running_stats = layer.affine, layer.track_running_stats
        self._parameters.update(layer._parameters)
        self._buffers.update(layer._buffers)
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``(batch, channels, *spatial)``."""
        by_batch = self.training or self.running_mean is None
        if not by_batch or process_count() == 1:
            return super().forward(x)
        mean, variance, number = _moments(x)
        if self.training and self.track_running_stats:
            self._move_statistics(mean.detach(), variance.detach(), number.detach())
        shape = (1, -1, *[1] * (x.ndim - 2))
        factor = torch.rsqrt(variance + self.eps).to(mean.dtype)
        if self.affine:
            factor = factor * self.weight
        normalised = (x - mean.view(shape)) * factor.view(shape)
        if self.affine:
            normalised = normalised + self.bias.view(shape)
        return normalised.to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of spatial axes will do."""

    def _move_statistics(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        if self.momentum is None:
            step = 1 / self.num_batches_tracked.to(mean.dtype)
        else:
            step = mean.new_tensor(self.momentum)
        unbiased = variance * (number / (number - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), step)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance of each channel over all processes, and the number of values."""
    axes = [0, *range(2, x.ndim)]
    variance, mean = torch.var_mean(x.float(), axes, correction=0)
    # Moments about zero can be added up; in float64 nothing is lost when they are subtracted.
    mean, variance = mean.double(), variance.double()
    number = mean.new_tensor([x.numel() / x.shape[1]])
    sums = sum_over_processes(torch.cat([number * mean, number * (variance + mean * mean), number]))
    channels = x.shape[1]
    of_all = sums[:channels] / sums[-1]
    squares = sums[channels:-1] / sums[-1]
    return of_all.float(), (squares - of_all * of_all).float(), sums[-1].float()
