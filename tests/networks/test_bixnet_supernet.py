"""The supernet of the BiX-Net search against the authors' count and against BiO-Net+ and BiX-Net.

Golden numbers: 425,736 parameters were measured on the authors' phase 1 (MIT), 3 channels to 1
class: BiO-Net+ (425,376) and a matrix of 5 x 3 for each of its 24 blocks. Mixing candidates costs
no convolution, so the multiply-accumulates are those of BiO-Net+.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from volseg.errors import InputError
from volseg.networks.bixnet import BiXNet
from volseg.networks.bixnet_supernet import SPEC, BiXNetSupernet
from volseg.networks.counting import count_multiply_accumulates, count_parameters

STAGES, BLOCKS, CANDIDATES, COLUMNS = 6, 4, 5, 3  # of three iterations on four levels


def narrow(**options: object) -> BiXNetSupernet:
    """The published plan, narrow; 32 voxels a side are its smallest input."""
    torch.manual_seed(0)
    return BiXNetSupernet(2, 1, 1, **{"width": 8, "stem_width": 4, **options})


def scores_of(network: BiXNetSupernet) -> torch.Tensor:
    """The selection as (stages, blocks, candidates, columns)."""
    return network.selection.detach().unflatten(0, (STAGES, BLOCKS))


def favour(network: BiXNetSupernet, choices: torch.Tensor) -> BiXNetSupernet:
    """Push the columns so far to ``choices`` (stages, blocks, columns) that noise cannot matter."""
    scores_of(network).zero_().scatter_(2, choices.unsqueeze(2), 100.0)
    return network


def counterparts() -> torch.Tensor:
    """Every column takes the block of the opposite path that has the block's own resolution."""
    return (4 - torch.arange(BLOCKS))[:, None].expand(STAGES, BLOCKS, COLUMNS)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((2, 3, 1), {}, 425_736),
        ((2, 3, 1), {"iterations": 1}, 422_304 + 8 * 15),
        ((3, 1, 1), {}, 1_264_032 + 24 * 15),
        ((2, 3, 1), {"levels": 2, "iterations": 1}, 422_304 - 4 * (41_472 + 192) + 4 * 3),
    ],
)
def test_parameters(arguments, options, expected):
    with torch.device("meta"):
        assert count_parameters(BiXNetSupernet(*arguments, **options)) == expected


def test_mixing_costs_no_convolution():
    with torch.device("meta"):
        network = BiXNetSupernet(2, 3, 1)
    assert count_multiply_accumulates(network, 3, (64, 64)) == 531_322_880


def test_every_block_that_can_choose_learns_to():
    network = narrow().train()
    network(torch.randn(2, 1, 64, 64)).square().mean().backward()
    steps = network.selection.grad.abs().amax(dim=(1, 2)).view(STAGES, BLOCKS)
    assert (steps[1:] > 0).all()
    assert not steps[0].any()  # one source: nothing to choose


def test_scores_start_as_xavier_uniform_of_each_matrix():
    scores = scores_of(narrow()).abs()
    bound = (6 / (CANDIDATES + COLUMNS)) ** 0.5  # Glorot & Bengio 2010, equation 16
    assert scores.max() <= bound
    assert (scores.amax(dim=(2, 3)) > bound / 2).all()


@pytest.mark.parametrize(
    ("training", "soft"),
    [(False, False), (True, False), (False, True)],  # soft in training is noise
)
def test_a_block_reads_the_mean_of_its_sequential_input_and_its_choices(training, soft):
    network = narrow().train(training)
    choices = torch.randint(CANDIDATES, (STAGES, BLOCKS, COLUMNS))
    choices[3, 2] = 1  # all columns the same
    choices[4, 1] = torch.tensor([0, 3, 3])
    choices[5, 3] = torch.tensor([4, 2, 1])
    if not soft:
        favour(network, choices)
    inputs: dict[tuple[int, int], torch.Tensor] = {}
    outputs: dict[tuple[int, int], torch.Tensor] = {}
    for decoder, path in enumerate((network.encoder, network.decoder)):
        for block, pair in enumerate(path):

            def record(_pair, read, output, decoder=decoder, block=block):
                x, iteration = read
                inputs[2 * iteration + decoder, block] = x
                outputs[2 * iteration + decoder, block] = output

            pair.register_forward_hook(record)
    bridges: list[torch.Tensor] = []
    network.bridge.register_forward_hook(lambda _module, _read, output: bridges.append(output))
    starts: list[torch.Tensor] = []
    network.stem.register_forward_hook(lambda _module, _read, output: starts.append(output))

    def to(x: torch.Tensor, side: int, corners: bool) -> torch.Tensor:
        return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=corners)

    with torch.no_grad():
        network(torch.randn(2, 1, 64, 64))
        for stage in range(1, STAGES):
            for block in range(BLOCKS):
                found = inputs[stage, block]
                if stage % 2:
                    deeper = bridges[stage // 2] if block == 0 else outputs[stage, block - 1]
                    x = to(deeper, found.shape[-1], corners=True)
                else:
                    x = functional.max_pool2d(outputs[stage, block - 1] if block else starts[0], 2)
                skips = [
                    to(outputs[stage - 1, skip], found.shape[-1], corners=False)
                    for skip in range(BLOCKS)
                ]
                candidates = torch.stack([x, *skips], dim=-1)
                scores = scores_of(network)[stage, block]
                _, place, shared = scores.argmax(0).unique(return_inverse=True, return_counts=True)
                mixtures = candidates @ scores.softmax(dim=0)  # (batch, channels, x, y, columns)
                expected = ((mixtures / shared[place]).sum(-1) + x) / (len(shared) + 1)
                if not soft:
                    kept = {int(choice) for choice in choices[stage, block]}
                    chosen = [candidates[..., choice] for choice in kept]
                    expected = torch.stack([x, *chosen]).mean(dim=0)
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for block in range(BLOCKS):  # the first encoder pass has nothing to hear from
        x = functional.max_pool2d(outputs[0, block - 1] if block else starts[0], 2)
        assert torch.equal(inputs[0, block], x)


def test_noise_acts_in_training_only_and_comes_from_the_generator_of_torch():
    network = narrow(norm="instance")
    x = torch.randn(2, 1, 64, 64)

    def logits(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return network(x)

    network.train()
    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    network.eval()
    before = torch.get_rng_state()
    assert torch.equal(network(x), network(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_narrowed_gene_is_a_bixnet_of_at_most_three_sources_a_block():
    network = narrow()
    gene = network.narrowed_gene()
    assert gene[0] == ((0,),) * BLOCKS
    for stage, scores in list(zip(gene, scores_of(network), strict=True))[1:]:
        for sources, matrix in zip(stage, scores, strict=True):
            assert 1 <= len(sources) <= COLUMNS
            assert set(sources) == {int(column.argmax()) for column in matrix.T}
    searched = BiXNet(2, 1, 1, gene=gene, width=8, stem_width=4).train()
    searched(torch.randn(2, 1, 64, 64)).mean().backward()
    assert all(p.grad is not None for p in searched.head.parameters())


@pytest.mark.parametrize("sequential", [True, False])
def test_candidates_are_numbered_as_the_sources_of_a_gene(sequential):
    choices = counterparts()
    network = favour(narrow(), torch.zeros_like(choices) if sequential else choices).eval()
    gene = network.narrowed_gene()
    expected = ((0,),) * BLOCKS if sequential else ((4,), (3,), (2,), (1,))
    assert gene == (((0,),) * BLOCKS, *(expected for _ in range(STAGES - 1)))
    # A gene with the sequential input that the supernet always adds is the same function.
    both = [[sorted({0, *sources}) for sources in stage] for stage in gene]
    searched = BiXNet(2, 1, 1, gene=both, width=8, stem_width=4).eval()
    state = network.state_dict()
    searched.load_state_dict({name: state[name] for name in searched.state_dict()})
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(network(x), searched(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"levels": 1}, "at least two levels, got levels=1"), ({"iterations": 0}, "decoder stage")],
)
def test_options_out_of_range_are_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        narrow(**options)


def test_the_reference_preset_has_the_published_count():
    with torch.device("meta"):
        network = BiXNetSupernet(**SPEC.reference_input, **SPEC.presets["reference"])
    assert count_parameters(network) == SPEC.reference_parameters
