"""Counts of structures that contain each other, beside masks."""

import numpy as np

from volseg.metrics import count_overlaps, count_structure_overlaps


def test_counts_are_those_of_masks_without_what_is_ignored():
    random = np.random.default_rng(0)
    prediction, reference = random.integers(0, 4, (2, 9, 8, 7), dtype=np.uint8)
    reference[random.random(reference.shape) < 0.2] = 255
    structures = {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}
    found = count_structure_overlaps(prediction, reference, structures, ignore=255)
    counted = reference != 255
    for name, values in structures.items():
        masks = (np.isin(labels, values) & counted for labels in (prediction, reference))
        assert found[name] == count_overlaps(*masks, classes=[1])[1]
