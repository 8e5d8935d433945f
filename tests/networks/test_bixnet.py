"""BiX-Net against the authors' counts and the topology read out of their gene.

Golden numbers: 0.38 M is published (Wang 2021); all were measured on the authors' model (MIT), 3
channels to 1 class; 3D counts are of the same plan.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate, max_pool2d

from volseg.errors import InputError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.bixnet import SPEC, BiXNet
from volseg.networks.gene import PUBLISHED_GENE, format_gene


def tiny(dims: int, in_channels: int = 1, out_channels: int = 2, **options: object) -> BiXNet:
    torch.manual_seed(0)
    return BiXNet(dims, in_channels, out_channels, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, in_channels: int, out_channels: int, **options: object) -> BiXNet:
    with torch.device("meta"):
        return BiXNet(dims, in_channels, out_channels, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((2, 3, 1), {}, 383_904),
        ((2, 3, 1), {"sharing": "released"}, 383_904),
        ((2, 3, 1), {"attention": True}, 384_160),
        ((3, 1, 1), {}, 1_139_616),
    ],
)
def test_parameters(arguments, options, expected):
    assert count_parameters(on_meta(*arguments, **options)) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "sides", "expected"),
    [
        ((2, 3, 1), {}, (64, 64), 433_117_184),
        ((2, 3, 1), {}, (512, 512), 27_719_499_776),
        ((2, 3, 1), {"sharing": "released"}, (64, 64), 433_117_184),
        ((3, 1, 1), {}, (96, 96, 96), 188_949_652_992),
    ],
)
def test_multiply_accumulates(arguments, options, sides, expected):
    network = on_meta(*arguments, **options)
    assert count_multiply_accumulates(network, arguments[1], sides) == expected


def published(dims: int = 2, **options: object) -> BiXNet:
    """The published topology, narrow; 32 voxels a side are its smallest input."""
    torch.manual_seed(0)
    return BiXNet(dims, 1, 1, **{"width": 8, "stem_width": 4, **options})


def randomise_norms(network: BiXNet) -> BiXNet:
    """Give every normalisation a different effect, so that mixing them up shows."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.uniform_(module.bias, 0.0, 0.5)
    return network


@pytest.mark.parametrize("sharing", ["level", "released"])
def test_the_published_gene_is_the_formula_read_out_of_it(sharing):
    network = randomise_norms(published(sharing=sharing)).eval()

    def to(x: torch.Tensor, side: int) -> torch.Tensor:
        return interpolate(x, size=(side, side), mode="bilinear", align_corners=True)

    def block(kind: str, place: int, iteration: int, *sources: torch.Tensor) -> torch.Tensor:
        """E or D at ``place`` in ``iteration`` (from 1), on sources of its own resolution."""
        own = {"E": network.encoder, "D": network.decoder}[kind][place]
        pair, use = own, iteration - 1
        if sharing == "released":
            pair, use = own, 0
            if iteration > 1:
                pair = network.decoder[3]
                use = 1 + 8 * (iteration - 2) + 4 * (kind == "D") + place
        return pair(torch.stack(sources).mean(dim=0), use)

    # For an input of 64: E0 and D3 have 32, E1 and D2 16, E2 and D1 8, E3 and D0 4 pixels a side.
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        stem = max_pool2d(network.stem(x), 2)
        e01 = block("E", 0, 1, stem)
        e11 = block("E", 1, 1, max_pool2d(e01, 2))
        d01 = block("D", 0, 1, to(e11, 4))
        d21 = block("D", 2, 1, to(e01, 16))
        e02 = block("E", 0, 2, to(d21, 32), to(d01, 32))
        e12 = block("E", 1, 2, to(d01, 16), max_pool2d(e02, 2))
        d22 = block("D", 2, 2, to(e02, 16), to(e12, 16))
        d32 = block("D", 3, 2, to(d22, 32))
        e13 = block("E", 1, 3, to(d32, 16))
        e23 = block("E", 2, 3, max_pool2d(e13, 2))
        d03 = block("D", 0, 3, to(e23, 4))
        d13 = block("D", 1, 3, to(e13, 8), to(d03, 8))
        d23 = block("D", 2, 3, to(d13, 16), to(e13, 16))
        d33 = block("D", 3, 3, to(d23, 32))
        expected = network.head(to(d33, 64))
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)


# 14 of the 24 blocks are live; the bridge is not.
DEAD = {"level": (340_320, 383_904), "released": (257_376, 383_904)}


@pytest.mark.parametrize("sharing", ["level", "released"])
def test_skipped_blocks_and_the_unread_bridge_get_no_gradient(sharing):
    network = randomise_norms(published(sharing=sharing, width=48, stem_width=32)).train()
    network(torch.randn(2, 1, 32, 32)).square().mean().backward()
    dead = {n: p for n, p in network.named_parameters() if p.grad is None}
    live, every = DEAD[sharing]
    assert sum(p.numel() for p in dead.values()) == every - live
    assert {n for n, _ in network.named_parameters() if n.startswith("bridge")} <= dead.keys()
    assert not any(n.startswith(("stem", "head", "decoder.3.first.")) for n in dead)
    assert list(network.encoder[3].first.parameters()) == []  # skipped in every iteration


def test_randomising_what_the_gene_does_not_read_changes_nothing():
    network = published().eval()
    x = torch.randn(1, 1, 64, 64)
    expected = network(x)
    for parameter in network.bridge.parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(network(x), expected)
    for parameter in network.encoder[1].parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.equal(network(x), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_input_before_leaves_no_trace(dims):
    sides = {2: ((64, 64), (128, 128)), 3: ((8, 16, 8), (16, 11, 13))}[dims]
    # Two of the same: one that kept the size it saw first would go wrong on the larger one.
    fresh, used = ((published() if dims == 2 else tiny(3, 1, 1)).eval() for _ in range(2))
    used.load_state_dict(fresh.state_dict())
    small, large = (torch.randn(1, 1, *one) for one in sides)
    with torch.no_grad():
        expected = fresh(large)
        used(small)
        assert torch.equal(used(large), expected)
    assert expected.shape == large.shape  # any size from the smallest on


def test_sharing_is_another_network_with_the_same_count():
    level, released = (published(sharing=sharing).eval() for sharing in ("level", "released"))
    pairs = [pair for network in (level, released) for pair in network.decoder]
    assert [len(pair.first_norms.norms) for pair in pairs] == [3, 3, 3, 3, 1, 1, 1, 17]
    names = [{n for n, _ in network.named_parameters()} for network in (level, released)]
    assert names[0] != names[1]


def test_attention_weighs_the_last_features_between_zero_and_one():
    network = published(attention=True).eval()
    gate = network.head[2]
    x = torch.rand(2, 4, 8, 8) + 0.1
    weights = gate(x) / x
    assert 0 < weights.min() <= weights.max() < 1
    torch.testing.assert_close(weights, weights[:, :, :1, :1].expand_as(weights))


def test_a_gene_file_gives_the_topology(tmp_path):
    file = tmp_path / "gene.txt"
    file.write_text(format_gene(PUBLISHED_GENE), encoding="utf-8")
    found, expected = published(gene=file).eval(), published().eval()
    x = torch.randn(1, 1, 32, 32)
    assert torch.equal(found(x), expected(x))
    with pytest.raises(InputError, match="cannot be read"):
        published(gene=str(tmp_path / "absent.txt"))
    with pytest.raises(InputError, match="'level' or 'released'"):
        published(sharing="all")
