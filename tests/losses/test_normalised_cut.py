"""The soft normalised cut against the dense formula, and the laws of its value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from volseg.errors import InputError, ShapeError
from volseg.losses import SoftNormalisedCutLoss


def dense(probabilities, image, *, radius=5.0, sigma_intensity=10.0, sigma_distance=4.0):
    """The formula with its N x N matrix, for one image."""
    places = np.stack(np.meshgrid(*map(np.arange, image.shape[1:]), indexing="ij"), axis=-1)
    places = places.reshape(-1, image.ndim - 1)
    features = image.reshape(image.shape[0], -1).T
    distance = ((places[:, None] - places[None]) ** 2).sum(-1)
    difference = ((features[:, None] - features[None]) ** 2).sum(-1)
    w = np.exp(-difference / sigma_intensity**2) * np.exp(-distance / sigma_distance**2)
    w[np.sqrt(distance) >= radius] = 0
    p = probabilities.reshape(probabilities.shape[0], -1)
    ratios = [(pk @ w @ pk) / (pk @ w.sum(1)) for pk in p]
    return len(p) - sum(ratios)


def case(segments: int, channels: int, *sides: int):
    random = torch.Generator().manual_seed(segments)
    logits = torch.randn(2, segments, *sides, generator=random, dtype=torch.float64)
    image = 40 * torch.rand(2, channels, *sides, generator=random, dtype=torch.float64)
    return logits, image


@pytest.mark.parametrize(
    ("sides", "options"),
    [
        ((12, 12), {}),
        ((12, 12), {"radius": 2.5, "sigma_intensity": 30.0, "sigma_distance": 1.0}),
        ((12, 12), {"radius": 0.5}),
        ((3, 14), {"radius": 20.0}),
        ((5, 6, 4), {}),
        ((4, 5, 6), {"radius": 2.0}),
    ],
)
@pytest.mark.parametrize(("segments", "channels"), [(2, 1), (4, 3)])
def test_the_window_gives_the_dense_formula(sides, options, segments, channels):
    logits, image = case(segments, channels, *sides)
    probabilities = logits.softmax(dim=1).numpy()
    expected = np.mean(
        [dense(p, f, **options) for p, f in zip(probabilities, image.numpy(), strict=True)]
    )
    found = SoftNormalisedCutLoss(**options)(logits, image)
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_one_channel_is_one_segment_and_the_rest_the_other():
    logits, image = case(1, 1, 8, 8)
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    loss = SoftNormalisedCutLoss()
    torch.testing.assert_close(loss(logits, image), loss(both, image))


@pytest.mark.parametrize("segments", [2, 5])
def test_uniform_probabilities_cut_all_but_one_segment(segments):
    _, image = case(segments, 1, 9, 7)
    found = SoftNormalisedCutLoss()(torch.zeros(2, segments, 9, 7), image)
    assert found.item() == pytest.approx(segments - 1, abs=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_the_cut_lies_between_nothing_and_the_number_of_segments(scale):
    logits, image = case(4, 1, 10, 10)
    assert 0 <= SoftNormalisedCutLoss()(scale * logits, image) <= 4


def test_the_names_of_the_segments_and_the_order_of_the_images_do_not_matter():
    logits, image = case(4, 3, 8, 9)
    loss = SoftNormalisedCutLoss()
    expected = loss(logits, image)
    torch.testing.assert_close(loss(logits[:, [2, 0, 3, 1]], image), expected)
    torch.testing.assert_close(loss(logits.flip(0), image.flip(0)), expected)
    torch.testing.assert_close(loss(logits, image[:, [1, 2, 0]]), expected)
    torch.testing.assert_close(loss(logits.transpose(2, 3), image.transpose(2, 3)), expected)
    torch.testing.assert_close(loss(logits.flip(2), image.flip(2)), expected)


def test_a_cut_along_the_edge_is_better_than_beside_it_and_much_better_than_anywhere():
    image = torch.zeros(1, 1, 12, 12)
    image[..., 6:] = 255
    loss = SoftNormalisedCutLoss()

    def cut(inside: torch.Tensor) -> float:
        hard = inside.float() * 200 - 100
        return loss(torch.cat([hard, -hard], dim=1), image).item()

    columns = torch.arange(12).expand(1, 1, 12, 12)
    along, beside = cut(columns >= 6), cut(columns >= 4)
    random = cut(torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.5)
    assert along == pytest.approx(0, abs=1e-5)
    assert along < beside < random


def test_the_gradient_is_that_of_the_value():
    logits, image = case(3, 1, 4, 5)
    loss = SoftNormalisedCutLoss(radius=3)
    assert torch.autograd.gradcheck(lambda x: loss(x, image), logits.requires_grad_())


def test_a_segment_that_is_nowhere_leaves_the_loss_finite():
    logits = torch.zeros(1, 3, 6, 6)
    logits[:, 2] = -1000
    logits.requires_grad_()
    value = SoftNormalisedCutLoss()(logits, torch.zeros(1, 1, 6, 6))
    value.backward()
    # Two uniform segments associate to a half each, the third to nothing.
    assert value.item() == pytest.approx(2, abs=1e-5)
    assert torch.isfinite(logits.grad).all()


def test_mixed_precision_is_close_to_full():
    logits, image = (values.float() for values in case(4, 1, 12, 12))
    loss = SoftNormalisedCutLoss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(logits.bfloat16(), image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits, image), atol=0.01, rtol=0)


def test_descent_moves_a_vague_cut_to_the_edge_of_the_image():
    columns = torch.arange(9).expand(1, 1, 9, 9)
    bright = columns >= 3
    torch.manual_seed(0)
    # A cut near column 4, in noise as large as its slope.
    logits = torch.cat([torch.zeros(1, 1, 9, 9), 0.1 * (columns - 4)], dim=1)
    logits = (logits + 0.1 * torch.randn_like(logits)).requires_grad_()
    assert (logits.argmax(dim=1, keepdim=True) == bright).float().mean() < 0.8
    optimizer = torch.optim.Adam([logits], lr=0.3)
    loss = SoftNormalisedCutLoss()
    for _ in range(60):
        optimizer.zero_grad()
        loss(logits, bright * 255).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(dim=1, keepdim=True) == 1, bright)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ShapeError, match=r"\(1, 3, 8, 9\)"):
        SoftNormalisedCutLoss()(torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 9))
    for option in ("radius", "sigma_intensity", "sigma_distance"):
        with pytest.raises(InputError, match=f"{option} is 0"):
            SoftNormalisedCutLoss(**{option: 0.0})
