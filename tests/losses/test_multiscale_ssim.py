"""Multi-scale structural similarity against MONAI's metric and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric
from skimage.metrics import structural_similarity

from volseg.errors import ShapeError
from volseg.losses import multiscale_ssim
from volseg.losses.multiscale_ssim import SCALE_WEIGHTS, count_scales


def pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """A blurred image and a noisy copy; their structure terms are above zero at all scales."""
    torch.manual_seed(0)
    pool = torch.nn.functional.avg_pool2d if len(shape) == 4 else torch.nn.functional.avg_pool3d
    image = pool(torch.rand(shape), 5, stride=1, padding=2)
    image = (image - image.min()) / (image.max() - image.min())
    return (image + 0.1 * torch.rand(shape)).clamp(0, 1).to(dtype), image.to(dtype)


@pytest.mark.parametrize("sides", [(16, 20), (11, 21), (12, 16, 14)])
def test_one_scale_is_the_ssim_of_scikit_image(sides):
    prediction, target = pair(1, 1, *sides, dtype=torch.float64)
    expected = structural_similarity(
        prediction[0, 0].numpy(),
        target[0, 0].numpy(),
        gaussian_weights=True,  # truncated to 11 voxels
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
    )
    assert count_scales(sides) == 1
    assert multiscale_ssim(prediction, target).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("sides", "scales"), [((32, 40), 2), ((64, 71), 3), ((176, 177), 5), ((24, 22, 27), 2)]
)
def test_several_scales_are_the_metric_of_monai(sides, scales):
    prediction, target = pair(2, 1, *sides)
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    metric = MultiScaleSSIMMetric(len(sides), weights=weights.tolist(), reduction="none")
    assert count_scales(sides) == scales
    found = multiscale_ssim(prediction, target)
    torch.testing.assert_close(found, metric(prediction, target), atol=1e-4, rtol=0)
    assert found.max() < 0.999


@pytest.mark.parametrize("sides", [(3, 3), (5, 40), (32, 32), (100, 90), (16, 16, 16), (6, 40, 40)])
def test_an_image_is_like_itself_and_less_like_another(sides):
    prediction, target = pair(1, 2, *sides)
    torch.testing.assert_close(multiscale_ssim(target, target), torch.ones(1, 2))
    found = multiscale_ssim(prediction, target)
    assert (found > 0).all()
    assert found.mean() < 0.999
    torch.testing.assert_close(multiscale_ssim(target, prediction), found)


def test_luminance_counts_at_the_coarsest_scale_once():
    # Constant images have no structure: only the luminance differs.
    weights = SCALE_WEIGHTS[:3]
    luminance = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    found = multiscale_ssim(torch.full((1, 1, 64, 64), 0.2), torch.full((1, 1, 64, 64), 0.8))
    assert found.item() == pytest.approx(luminance ** (weights[2] / sum(weights)), abs=1e-4)


def test_the_number_of_scales_follows_the_shortest_side():
    assert [count_scales((side, 500)) for side in (5, 11, 21, 22, 43, 44, 88, 175, 176, 999)] == [
        *[1, 1, 1, 2, 2, 3, 4, 4, 5, 5]
    ]


def test_channels_and_images_are_compared_each_on_their_own():
    prediction, target = pair(2, 3, 24, 24)
    prediction[1, 2] = target[1, 2]
    found = multiscale_ssim(prediction, target)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found[1, 2], torch.tensor(1.0))
    torch.testing.assert_close(found[:1, :1], multiscale_ssim(prediction[:1, :1], target[:1, :1]))


def test_opposite_images_have_a_finite_gradient():
    _, target = pair(1, 1, 32, 32)
    opposite = (1 - target).requires_grad_()
    value = multiscale_ssim(opposite, target)
    value.backward()
    assert 0 < value < 0.1
    assert torch.isfinite(opposite.grad).all()


@pytest.mark.parametrize("sides", [(22, 22), (5, 6, 7)])
def test_the_gradient_is_that_of_the_value(sides):
    prediction, target = pair(1, 1, *sides, dtype=torch.float64)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: multiscale_ssim(x, target), prediction, fast_mode=True
    )


def test_shapes_that_cannot_be_compared_are_refused():
    for first, second in (((1, 1, 8, 8), (1, 1, 8, 9)), ((1, 1, 8, 2), (1, 1, 8, 2))):
        with pytest.raises(ShapeError, match="sides of at least 3"):
            multiscale_ssim(torch.zeros(first), torch.zeros(second))
