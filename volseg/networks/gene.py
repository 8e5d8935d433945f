"""The gene of a BiX-Net: which sources every block of an unrolled BiO-Net+ reads.

Wang, Xiang, Zhang, Song, Liu, Huang, Cai, "BiX-NAS: Searching Efficient Bi-directional Architecture
for Medical Image Segmentation", MICCAI 2021.

A gene is ``gene[stage][block]``, a tuple of sources. Even stages are encoder passes (block 0 is the
shallowest level), odd stages decoder passes (block 0 is the deepest). Source 0 is the sequential
input, source k > 0 the output of block k - 1 of the stage before. In a gene file each block is one
line ``enc_ITERATION_BLOCK_SOURCE_SOURCE...`` or ``dec_...``, all numbers from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from volseg.errors import InputError

Gene = tuple[tuple[tuple[int, ...], ...], ...]

_PASSES = ("enc", "dec")

# The topology the authors publish (bixnet_gene.txt of their repository): three iterations.
PUBLISHED_GENE: Gene = (
    ((0,), (0,), (0,), (0,)),
    ((2,), (0, 2), (1,), (1, 0)),
    ((3, 1), (1, 0), (2, 1, 0), (0, 2, 3)),
    ((3, 0), (2, 0), (1, 2), (0,)),
    ((3, 2, 4), (4,), (0,), (0, 3)),
    ((3,), (2, 0), (0, 2), (0,)),
)


def full_gene(iterations: int, levels: int) -> Gene:
    """Return the gene in which every block reads everything it can: BiO-Net+.

    Raises:
        InputError: No iteration or no level.
    """
    everything = tuple(range(levels + 1))
    first = ((0,),) * levels
    return checked_gene((first, *((everything,) * levels for _ in range(2 * iterations - 1))))


def checked_gene(gene: Sequence[Sequence[Sequence[int]]]) -> Gene:
    """Return ``gene`` as tuples.

    Raises:
        InputError: It is not a whole number of iterations with the same number of blocks in each
            stage, or a block reads nothing, something twice or something that does not exist.
    """
    try:
        stages = tuple(tuple(tuple(map(int, sources)) for sources in stage) for stage in gene)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a gene is a list of stages of blocks of sources, all whole numbers, got {gene!r}."
        ) from error
    blocks = {len(stage) for stage in stages}
    if not stages or len(stages) % 2 or len(blocks) != 1 or 0 in blocks:
        raise InputError(
            "a gene needs an encoder and a decoder stage an iteration, each with the same number "
            f"of blocks, got stages of {[len(stage) for stage in stages]} blocks."
        )
    for stage, described in enumerate(stages):
        known = {0} if stage == 0 else set(range(len(described) + 1))
        for block, sources in enumerate(described):
            if not sources or len(set(sources)) < len(sources) or not known.issuperset(sources):
                raise InputError(
                    f"block {block} of stage {stage} of the gene must read one or more of the "
                    f"sources {sorted(known)}, each once, got {list(sources)}."
                )
    return stages


def parse_gene(text: str) -> Gene:
    """Return the gene in the text of a gene file; a first line with the search's score is skipped.

    Raises:
        InputError: A line cannot be read, a block is missing, or `checked_gene` refuses.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and not lines[0].startswith(_PASSES):
        lines = lines[1:]
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for line in lines:
        kind, *words = line.split("_")
        if kind not in _PASSES or len(words) < 3 or not all(w.isdecimal() for w in words):
            raise InputError(f"a gene has lines like 'enc_0_1_0' or 'dec_2_1_2_0', got {line!r}.")
        iteration, block, *sources = map(int, words)
        place = (2 * iteration + _PASSES.index(kind), block)
        if place in found:
            raise InputError(f"the gene describes a block twice, the second time in {line!r}.")
        found[place] = tuple(sources)
    stages = 1 + max((stage for stage, _ in found), default=-1)
    blocks = 1 + max((block for _, block in found), default=-1)
    missing = [
        f"{_PASSES[stage % 2]}_{stage // 2}_{block}"
        for stage in range(stages)
        for block in range(blocks)
        if (stage, block) not in found
    ]
    if missing:
        raise InputError(f"the gene lacks {', '.join(missing)}.")
    return checked_gene([[found[stage, b] for b in range(blocks)] for stage in range(stages)])


def format_gene(gene: Gene) -> str:
    """Return the text of a gene file; `parse_gene` gives ``gene`` back."""
    return "".join(
        f"{_PASSES[stage % 2]}_{stage // 2}_{block}_{'_'.join(map(str, sources))}\n"
        for stage, described in enumerate(gene)
        for block, sources in enumerate(described)
    )


def read_gene(path: str | Path) -> Gene:
    """Return the gene in a file.

    Raises:
        InputError: The file cannot be read, or `parse_gene` refuses its text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the gene file {path} cannot be read: {error}.") from error
    try:
        return parse_gene(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def live_blocks(gene: Gene) -> tuple[tuple[bool, ...], ...]:
    """Return for ``[stage][block]`` whether it can reach the head; the others are skipped.

    All blocks of the last stage are needed, and whatever a needed block reads. The sequential input
    of a decoder's first block is, through the bridge, the deepest block of the encoder before it.
    """
    blocks = len(gene[0])
    waiting = [(len(gene) - 1, block) for block in range(blocks)]
    needed: set[tuple[int, int]] = set()
    while waiting:
        stage, block = waiting.pop()
        if (stage, block) in needed:
            continue
        needed.add((stage, block))
        for source in gene[stage][block]:
            if source > 0:
                waiting.append((stage - 1, source - 1))
            elif block > 0:
                waiting.append((stage, block - 1))
            elif stage % 2 == 1:
                waiting.append((stage - 1, blocks - 1))
    return tuple(
        tuple((stage, block) in needed for block in range(blocks)) for stage in range(len(gene))
    )
