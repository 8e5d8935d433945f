import json
import logging

import numpy as np
import pytest

from volseg.errors import InputError, ShapeError
from volseg.postprocess import (
    CloseGaps,
    DecisionTable,
    FillHoles,
    KeepLargest,
    RemoveSmallComponents,
    apply_rules,
    choose_rules,
    propose_rules,
)


def cases(count=6):
    """Class 1 is one organ with false islands; class 2 is a pair with false specks and holes."""
    references, predictions = [], []
    for case in range(count):
        reference = np.zeros((24, 24, 6), np.uint8)
        reference[2:10, 2:10, 1:5] = 1
        reference[14:20, 2:8, 1:5] = reference[14:20, 14:20, 1:5] = 2
        prediction = reference.copy()
        prediction[2:5, 16 : 19 + case % 2, 2] = 1
        prediction[22, 22, 3] = 2
        prediction[16, 4, 2 + case % 2] = 0
        references.append(reference)
        predictions.append(prediction)
    return predictions, references


CANDIDATES = [KeepLargest(), RemoveSmallComponents(min_size_voxels=5), FillHoles()]


def test_each_class_gets_the_rules_that_help_it():
    predictions, references = cases()
    table = choose_rules(predictions, references, CANDIDATES, margin=0.0005)
    assert set(map(repr, table.rules)) == set(
        map(
            repr,
            [
                KeepLargest(
                    classes=(1,)
                ),  # of its two islands, one is too large for the other rule
                RemoveSmallComponents(classes=(2,), min_size_voxels=5),
                FillHoles(classes=(2,)),
            ],
        )
    )
    for prediction, reference in zip(predictions, references, strict=True):
        np.testing.assert_array_equal(apply_rules(prediction, table.rules), reference)
    assert [(o.label, o.cases, o.mean_after) for o in table.outcomes] == [(1, 6, 1.0), (2, 6, 1.0)]
    assert all(o.mean_before < 1 for o in table.outcomes)


def test_sizes_are_tried_on_the_volume_that_they_are_applied_by():
    """Of a tilted grid voxels are smaller than the product of the spacing."""
    predictions, references = cases()  # islands of 9 and 12 voxels in class 1
    spacings, volumes = [(1.0, 1.0, 1.25)] * 6, [1.0] * 6
    rule = RemoveSmallComponents(classes=(1,), min_size_mm3=12.5)
    tilted = choose_rules(
        predictions, references, [rule], spacings=spacings, voxel_volumes=volumes, margin=0.0005
    )
    assert tilted.outcomes[0].mean_after == 1
    upright = choose_rules(predictions, references, [rule], spacings=spacings, margin=0.0005)
    assert upright.outcomes[0].mean_after < 1
    proposed = [
        rule
        for rule in propose_rules(references, spacings=spacings, voxel_volumes=volumes)
        if isinstance(rule, RemoveSmallComponents)
    ]
    assert proposed[-1].min_size_mm3 == {1: 77, 2: 43}  # 0.3 of 256 and 144, in two digits


def test_masks_may_be_booleans():
    predictions, references = ([labels > 0 for labels in maps] for maps in cases())
    found = choose_rules(predictions, references, CANDIDATES, margin=0.0005)
    as_numbers = choose_rules(
        [mask.astype(np.uint8) for mask in predictions],
        [mask.astype(np.uint8) for mask in references],
        CANDIDATES,
        margin=0.0005,
    )
    assert found == as_numbers


def test_labels_may_have_the_other_order_of_bytes():
    """As nibabel maps the files of old scanners into memory."""
    predictions, references = cases()
    turned = [labels.astype(">u2") for labels in references]
    found = choose_rules(predictions, turned, CANDIDATES, margin=0.0005)
    assert found == choose_rules(predictions, references, CANDIDATES, margin=0.0005)


def test_every_decision_is_in_the_table():
    predictions, references = cases()
    table = choose_rules(predictions, references, CANDIDATES, margin=0.0005)
    first = {(d.classes, d.rule.kind): d for d in table.decisions if d.round == 1}
    assert len(first) == 6
    pair = first[(2,), "keep_largest"]
    assert not pair.chosen
    assert pair.worse_cases == pair.cases == 6
    assert pair.mean_with == pytest.approx(2 * 144 / (144 + 288))
    fill = first[(2,), "fill_holes"]
    assert fill.mean_without == pytest.approx(2 * 287 / (288 + 288))
    assert fill.mean_with == pytest.approx(2 * 288 / (289 + 288))
    assert [d.round for d in table.decisions if d.chosen and d.classes == (2,)] == [1, 2]


def test_the_margin_and_the_share_of_worse_cases_decide():
    predictions, references = cases(4)
    strict = choose_rules(predictions, references, [FillHoles()], margin=0.01)
    assert strict.rules == ()
    assert [d.chosen for d in strict.decisions] == [False, False]
    # In one of four cases the second island of class 1 is real.
    references[0] = references[0].copy()
    references[0][2:5, 16:19, 2] = 1
    some = choose_rules(predictions, references, [KeepLargest()], classes=[1], worse_share=0.3)
    assert some.rules == (KeepLargest(classes=(1,)),)
    none = choose_rules(predictions, references, [KeepLargest()], classes=[1], worse_share=0.2)
    assert none.rules == ()
    assert none.decisions[0].worse_cases == 1


def test_a_false_find_that_goes_counts_and_an_absent_class_does_not(caplog):
    present = np.zeros((6, 6), np.uint8)
    present[1:5, 1:5] = 1
    absent, speck = np.zeros_like(present), np.zeros_like(present)
    speck[0, 0] = 1
    with caplog.at_level(logging.WARNING, logger="volseg.postprocess"):
        table = choose_rules(
            [present, speck, absent],
            [present, absent, absent],
            [RemoveSmallComponents(min_size_voxels=4)],
        )
    [decision] = table.decisions
    assert decision.chosen
    assert (decision.cases, decision.mean_without, decision.mean_with) == (2, 0.5, 1.0)


def test_a_region_is_decided_first():
    reference = np.zeros((20, 20), np.uint8)
    reference[2:10, 2:10] = 1
    reference[5:7, 2:10] = 2
    reference[12:15, 2:10] = 2  # a part of class 2 that only the region keeps
    reference[10:12, 4] = 1
    prediction = reference.copy()
    prediction[16:18, 16], prediction[18, 16] = 1, 2
    table = choose_rules(
        [prediction], [reference], [KeepLargest(), KeepLargest(region=(1, 2))], margin=0
    )
    assert table.rules == (KeepLargest(region=(1, 2)),)
    assert table.decisions[0].classes == (1, 2)
    np.testing.assert_array_equal(apply_rules(prediction, table.rules), reference)


def test_any_metric_and_rules_in_mm():
    reference = np.zeros((12, 12), np.uint8)
    reference[2:10, 2:10] = 1
    prediction = reference.copy()
    prediction[:, 5] = 0

    def voxels_right(prediction, reference, classes):
        return {label: float((prediction == reference).mean()) for label in classes}

    table = choose_rules(
        [prediction],
        [reference],
        [CloseGaps(radius_mm=0.5), CloseGaps(radius_mm=2.0)],
        spacings=[(2.0, 2.0)],
        metric=voxels_right,
    )
    assert table.rules == (CloseGaps(radius_mm=2.0, classes=(1,)),)
    assert table.metric == "voxels_right"


def test_the_table_survives_json(tmp_path):
    table = choose_rules(*cases(3), CANDIDATES, classes=[1, 2, 7])
    assert table.outcomes[-1].mean_before is None
    text = json.dumps(table.to_json(), allow_nan=False)
    assert DecisionTable.from_json(json.loads(text)) == table
    table.write(tmp_path / "table.json")
    broken = table.to_json()
    broken["decisions"][0]["chosen"] = "yes"
    with pytest.raises(InputError, match=r"\$.decisions\[0\].chosen"):
        DecisionTable.from_json(broken)


def test_cases_are_asked_for_one_at_a_time():
    predictions, references = cases(3)

    class Files(list):
        asked = 0

        def __getitem__(self, index):
            self.asked += 1
            return super().__getitem__(index)

    files = Files(predictions)
    assert choose_rules(files, references, CANDIDATES, margin=0.0005).rules
    assert files.asked > 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"predictions": []}, InputError, "0 predictions"),
        ({"spacings": [(1, 1, 1)]}, InputError, "1 spacings"),
        ({"margin": -1}, InputError, "margin is -1"),
        ({"worse_share": 2}, InputError, "worse_share is 2"),
        ({"candidates": [FillHoles(region=(1, 9))]}, InputError, "region"),
        ({"predictions": [np.zeros((2, 2), np.uint8)] * 2}, ShapeError, "prediction 0"),
        ({"references": [np.zeros((24, 24, 6), np.float32)] * 2}, InputError, "argmax"),
        ({"references": [np.full((24, 24, 6), -1)] * 2}, InputError, "-1"),
        ({"candidates": [CloseGaps(radius_mm=1.0)]}, InputError, "needs the spacing"),
    ],
)
def test_unusable_options_are_named(change, error, words):
    predictions, references = cases(2)
    options = {"predictions": predictions, "references": references, "candidates": CANDIDATES}
    with pytest.raises(error, match=words):
        choose_rules(**{**options, **change})
