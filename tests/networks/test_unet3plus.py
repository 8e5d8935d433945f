"""UNet 3+ against the paper's count (26.97 M) and its modules.

Golden numbers: 26.97 M is published (Huang 2020, 3 channels to 1 class); deep supervision, the
guidance and all multiply-accumulates were measured on networks of the same layer plan.
"""

from __future__ import annotations

import pytest
import torch

from volseg.errors import InputError
from volseg.networks import count_multiply_accumulates, count_parameters
from volseg.networks.unet3plus import SPEC, UNet3Plus

SIDES = {2: (16, 24), 3: (8, 16, 12)}


def tiny(dims: int, in_channels: int = 1, out_channels: int = 2, **options: object) -> UNet3Plus:
    torch.manual_seed(0)
    return UNet3Plus(dims, in_channels, out_channels, **{**SPEC.presets["tiny"], **options})


def on_meta(dims: int, in_channels: int, out_channels: int, **options: object) -> UNet3Plus:
    with torch.device("meta"):
        return UNet3Plus(dims, in_channels, out_channels, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((2, 3, 1), {}, 26_971_777),
        ((2, 1, 1), {}, 26_970_625),
        ((2, 3, 1), {"deep_supervision": True}, 26_989_637),
        ((2, 3, 1), {"deep_supervision": True, "classification_guidance": True}, 26_991_687),
        ((3, 1, 2), {"channels": (16, 32, 64, 128, 256)}, 5_062_322),
    ],
)
def test_parameters(arguments, options, expected):
    assert count_parameters(on_meta(*arguments, **options)) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "sides", "expected"),
    [
        ((2, 3, 1), {}, (32, 32), 3_088_318_464),
        ((2, 3, 1), {}, (320, 320), 308_831_846_400),
        ((2, 3, 1), {"deep_supervision": True}, (320, 320), 308_932_300_800),
        (
            (2, 3, 1),
            {"deep_supervision": True, "classification_guidance": True},
            (320, 320),
            308_933_120_000,
        ),
    ],
)
def test_multiply_accumulates(arguments, options, sides, expected):
    network = on_meta(*arguments, **options)
    if network.classifier is not None:  # which is not trained by calling it
        network.forward = lambda x: network.segment_and_classify(x)[0]
    found = count_multiply_accumulates(network, arguments[1], sides, training=True)
    assert found == expected


def test_five_heads_are_at_full_resolution():
    heads = on_meta(2, 3, 1, deep_supervision=True).train()(torch.zeros(2, 3, 32, 64).to("meta"))
    assert [head.shape for head in heads] == [(2, 1, 32, 64)] * 5


def test_each_decoder_level_reads_every_level_at_its_own_resolution():
    network = tiny(2).eval()
    shapes: list[list[tuple[int, ...]]] = []
    for decoder in network.decoder:
        shapes.append([])
        for source in decoder.sources:
            source.register_forward_hook(
                lambda _module, inputs, output, seen=shapes[-1]: seen.append(
                    (inputs[0].shape[1], *output.shape[1:])
                )
            )
    network(torch.zeros(1, 1, 16, 16))
    # (channels read, channels given, side, side): encoder above and beside, decoder below (12
    # channels), the deepest encoder level (16).
    assert shapes == [
        [(4, 4, 8, 8), (8, 4, 8, 8), (16, 4, 8, 8)],
        [(4, 4, 16, 16), (12, 4, 16, 16), (16, 4, 16, 16)],
    ]


@pytest.mark.parametrize(("dims", "classes"), [(2, 1), (2, 3), (3, 2)])
def test_the_guidance_makes_background_of_images_without_an_object(dims, classes):
    network = tiny(dims, 1, classes, classification_guidance=True).eval()
    free = tiny(dims, 1, classes).eval()
    free.load_state_dict({k: v for k, v in network.state_dict().items() if "classifier" not in k})
    x = torch.randn(6, 1, *SIDES[dims])
    # Half the images are called empty: the threshold is the median of what separates the two.
    with torch.no_grad():
        _, presence = network.segment_and_classify(x)
        difference = presence[:, 0] - presence[:, 1]
        network.classifier[1].bias[1] += difference.median() + 1e-4
    logits = network(x)
    (same,), presence = network.segment_and_classify(x)
    present = presence.argmax(dim=1)
    assert presence.shape == (6, 2)
    assert present.unique().tolist() == [0, 1]
    assert torch.equal(same, logits)
    torch.testing.assert_close(logits[present == 1], free(x)[present == 1])
    # Whatever the channels are, and far from any threshold.
    rejected = logits[present == 0]
    assert rejected.sigmoid().max() < 1e-6
    if classes > 1:
        assert rejected.softmax(dim=1)[:, 1:].max() < 1e-6
    assert torch.equal(torch.jit.script(network)(x), logits)


def test_guidance_is_trained_by_the_presence_logits_and_by_no_other_way():
    network = tiny(2, deep_supervision=True, classification_guidance=True).train()
    free = tiny(2, deep_supervision=True).train()
    free.load_state_dict({k: v for k, v in network.state_dict().items() if "classifier" not in k})
    x = torch.randn(4, 1, *SIDES[2])
    heads, presence = network.segment_and_classify(x)
    for head, expected in zip(heads, free(x), strict=True):  # a wrong answer stops no gradient
        torch.testing.assert_close(head, expected)
    presence.sum().backward()
    assert network.classifier[1].weight.grad.any()
    with pytest.raises(InputError, match="segment_and_classify"):
        network(x)


def test_without_guidance_there_are_no_presence_logits():
    logits, presence = tiny(2).eval().segment_and_classify(torch.zeros(3, 1, 8, 8))
    assert len(logits) == 1
    assert presence.shape == (3, 0)


def test_one_level_is_refused():
    with pytest.raises(InputError, match="two levels"):
        tiny(2, channels=(8,))


@pytest.mark.parametrize("dims", [2, 3])
def test_deep_supervision_is_a_list_in_training_whose_gradients_reach_everything(dims):
    network = tiny(dims, deep_supervision=True).train()
    heads = network(torch.randn(2, 1, *SIDES[dims]))
    assert isinstance(heads, list)
    assert [head.shape for head in heads] == [(2, 2, *SIDES[dims])] * 3
    sum(head.square().mean() for head in heads).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert isinstance(network.eval()(torch.zeros(1, 1, *SIDES[dims])), torch.Tensor)
