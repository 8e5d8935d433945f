"""Entropy and disagreement against their definitions, on the network's and the source grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from volseg.geometry import Affine, Grid
from volseg.inference import Decision, Slab, Targets, Tiling, restore_slabs, stream_logits
from volseg.inference.uncertainty import Disagreement


def test_entropy_is_that_of_the_probabilities_at_the_source_voxel():
    network = Grid((6, 7, 8), Affine.from_parts([2.0] * 3))
    source = Grid((11, 12, 13), Affine.from_parts([1.1] * 3))
    logits = torch.randn(4, 6, 7, 8) * 3
    for regions, expected_of in (
        (None, lambda p: scipy_entropy(p, axis=0) / np.log(4)),
        ((1, 2, 3, 4), lambda p: scipy_entropy(np.stack([p, 1 - p]), base=2, axis=0).mean(0)),
    ):
        found = np.zeros(source.shape, np.float32)
        probabilities = np.zeros((4, *source.shape), np.float32)
        restore_slabs(
            [Slab(0, 0, 6, logits)],
            Targets(probabilities=probabilities, entropy=found),
            network_grid=network,
            source_grid=source,
            decision=Decision(regions),
        )
        np.testing.assert_allclose(found, expected_of(probabilities.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_disagreement_runs_from_nothing_to_one(kind):
    sure = torch.full((1, 2, 3, 3), -40.0)
    sure[:, 0] = 40.0
    other = sure.flip(1)

    def of(*passes):
        spread = Disagreement(kind)
        for logits in passes:
            spread.add(logits)
        return spread.value()

    vague = torch.randn(1, 2, 3, 3)
    torch.testing.assert_close(of(sure, sure), torch.zeros(1, 1, 3, 3))
    torch.testing.assert_close(of(sure, other), torch.ones(1, 1, 3, 3))
    # Passes that are unsure in the same way do not disagree.
    torch.testing.assert_close(of(vague, vague, vague), torch.zeros(1, 1, 3, 3), atol=1e-6, rtol=0)
    between = of(sure, vague)
    assert ((between > 0) & (between < 1)).all()


def test_disagreement_is_the_jensen_shannon_divergence_of_the_passes():
    passes = [torch.randn(1, 4, 5, 5) for _ in range(3)]
    spread = Disagreement("classes")
    for logits in passes:
        spread.add(logits)
    members = torch.stack([logits.softmax(1) for logits in passes]).double().numpy()
    expected = scipy_entropy(members.mean(0), axis=1) - scipy_entropy(members, axis=2).mean(0)
    np.testing.assert_allclose(spread.value()[:, 0], expected / np.log(3), atol=1e-6)


def test_disagreement_of_a_single_channel_is_that_of_yes_and_no():
    found = []
    for kind in ("classes", "regions"):
        disagreement = Disagreement(kind)
        for value in (2.0, -1.0):
            disagreement.add(torch.full((1, 1, 3), value))
        found.append(disagreement.value())
    torch.testing.assert_close(found[0], found[1])
    assert (found[0] > 0.1).all()


def test_disagreement_is_streamed_beside_the_logits():
    volume = torch.randn(1, 20, 12)
    members = [lambda x: torch.cat([x, -x], 1), lambda x: torch.cat([-2 * x, x], 1)]
    tiling = Tiling.blended([8, 8])
    spread = Disagreement("classes")
    for member in members:
        spread.add(member(volume[None]))
    found = [
        (slab.logits.clone(), slab.disagreement.clone())
        for slab in stream_logits(volume, members, tiling, axis=0, disagreement=True)
    ]
    # Networks that look at one voxel only: tiles make no difference.
    torch.testing.assert_close(
        torch.cat([part for _, part in found]), spread.value()[0, 0], atol=1e-5, rtol=0
    )
    mean = sum(member(volume[None])[0].softmax(0) for member in members) / 2
    torch.testing.assert_close(
        torch.cat([part for part, _ in found], 1).softmax(0), mean, atol=1e-5, rtol=0
    )
