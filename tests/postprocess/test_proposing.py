from __future__ import annotations

import numpy as np
from scipy import ndimage

from volseg.postprocess import RULES, RemoveSmallComponents, propose_rules


def small_sizes(rules, option):
    return [getattr(rule, option) for rule in rules if isinstance(rule, RemoveSmallComponents)]


def test_sizes_are_parts_of_the_typical_structure():
    """The median of the largest component of each case, here by SciPy, in mm³."""
    references = [
        (np.random.default_rng(case).random((30, 24, 20)) > 0.82).astype(np.uint8)
        + 2 * np.pad(np.ones((6 + case, 8, 5), np.uint8), ((0, 24 - case), (0, 16), (0, 15)))
        for case in range(3)
    ]
    references[2][references[2] == 3] = 2
    spacings = [(0.5, 1, 2), (0.5, 1, 3), (1, 1, 1)]
    rules = propose_rules(references, spacings=spacings)
    assert {rule.kind for rule in rules} == set(RULES)
    typical = {}
    for label in (1, 2, 3):
        sizes = []
        for reference, spacing in zip(references, spacings, strict=True):
            parts, count = ndimage.label(reference == label, np.ones((3, 3, 3)))
            if count:
                sizes.append(np.bincount(parts.ravel())[1:].max() * np.prod(spacing))
        typical[label] = np.median(sizes)
    found = small_sizes(rules, "min_size_mm3")
    assert [set(sizes) for sizes in found] == [{1, 2, 3}] * 4
    for part, sizes in zip((0.01, 0.03, 0.1, 0.3), found, strict=True):
        for label, size in sizes.items():
            assert abs(size / (part * typical[label]) - 1) < 0.05  # two digits


def test_pictures_count_pixels():
    picture = np.zeros((20, 20), np.uint8)
    picture[2:12, 3:13] = 4
    rules = propose_rules([picture], spacings=[(0.2, 0.2)])
    assert small_sizes(rules, "min_size_voxels") == [{4: 1.0}, {4: 3.0}, {4: 10.0}, {4: 30.0}]


def test_references_without_a_class_have_no_sizes():
    rules = propose_rules([np.zeros((5, 5, 5), np.uint8)], spacings=[(1, 1, 1)])
    assert small_sizes(rules, "min_size_mm3") == []
    assert rules
