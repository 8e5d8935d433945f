"""The gene file: its text, the skip rule, and what is refused."""

from __future__ import annotations

import pytest

from volseg.errors import InputError
from volseg.networks.gene import (
    PUBLISHED_GENE,
    checked_gene,
    format_gene,
    full_gene,
    live_blocks,
    parse_gene,
    read_gene,
)

# The format of the authors' bixnet_gene.txt (MIT), with its first line: the search's score.
TEXT = """0.183_17234509824.000000
enc_0_0_0
enc_0_1_0
dec_0_0_2
dec_0_1_1_0
enc_1_0_2_1
enc_1_1_0
dec_1_0_0
dec_1_1_0_1_2
"""


@pytest.mark.parametrize("gene", [PUBLISHED_GENE, full_gene(1, 1), full_gene(3, 4)])
def test_a_gene_survives_its_text(gene):
    assert parse_gene(format_gene(gene)) == gene


def test_a_text_survives_its_gene(tmp_path):
    assert format_gene(parse_gene(TEXT)) == TEXT.split("\n", 1)[1]
    file = tmp_path / "gene.txt"
    file.write_text(TEXT.replace("\n", "\r\n"), encoding="utf-8")
    assert read_gene(file) == (((0,), (0,)), ((2,), (1, 0)), ((2, 1), (0,)), ((0,), (0, 1, 2)))


def test_the_published_gene_skips_what_its_authors_skip():
    table = ["##..", "#.#.", "##..", "..##", ".##.", "####"]
    assert live_blocks(PUBLISHED_GENE) == tuple(tuple(c == "#" for c in row) for row in table)
    assert sum(map(sum, live_blocks(PUBLISHED_GENE))) == 14


def test_everything_in_the_full_gene_is_live():
    assert all(all(stage) for stage in live_blocks(full_gene(3, 4)))


def test_a_needed_block_needs_the_blocks_before_it_in_its_pass():
    # The last decoder reads level 1 of the encoder, which reads level 0 of the same pass; its
    # first block reads the deepest level through the bridge.
    skip = checked_gene([[[0], [0], [0]], [[2], [0], [0]]])
    assert live_blocks(skip) == ((True, True, False), (True, True, True))
    bridge = checked_gene([[[0], [0], [0]], [[0], [0], [0]]])
    assert live_blocks(bridge) == ((True,) * 3, (True,) * 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "encoder and a decoder stage"),
        (TEXT.replace("dec_0_0_2\n", ""), "lacks dec_0_0"),
        (TEXT + "dec_1_1_0\n", "twice"),
        (TEXT.replace("enc_1_1_0", "enc_1_1"), "lines like"),
        (TEXT.replace("enc_1_1_0", "enc_1_1_x"), "lines like"),
        (TEXT.replace("enc_1_1_0", "enc_1_1_3"), r"sources \[0, 1, 2\]"),
        (TEXT.replace("enc_1_1_0", "enc_1_1_0_0"), "each once"),
        (TEXT.replace("enc_0_1_0", "enc_0_1_1"), "stage 0"),
        ("enc_0_0_0\n", "encoder and a decoder stage"),
    ],
)
def test_a_damaged_gene_is_refused_with_a_sentence(text, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_gene(text)


@pytest.mark.parametrize("gene", [[0, 1], [["a"], ["b"]], [[[0]], [[None]]]])
def test_a_gene_of_another_shape_is_refused(gene):
    with pytest.raises(InputError, match="stages of blocks of sources"):
        checked_gene(gene)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="absent"):
        read_gene(tmp_path / "absent.txt")
    (tmp_path / "gene.txt").write_text("enc\n", encoding="utf-8")
    with pytest.raises(InputError, match="gene.txt: a gene has lines"):
        read_gene(tmp_path / "gene.txt")
