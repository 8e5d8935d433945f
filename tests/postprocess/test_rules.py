import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volseg.errors import InputError
from volseg.postprocess import (
    RULES,
    CloseGaps,
    DecisionTable,
    FillHoles,
    KeepLargest,
    PostprocessLabelsd,
    RemoveSmallComponents,
    SmoothBoundaries,
    apply_rules,
    read_decision_table,
    rule_from_json,
)

SIZES = st.one_of(
    st.floats(0.1, 1e6),
    st.dictionaries(st.integers(1, 300), st.floats(0.1, 1e6), min_size=1),
)
EVERY_RULE = st.one_of(
    st.builds(FillHoles, region=st.sets(st.integers(1, 9), min_size=1)),
    st.builds(RemoveSmallComponents, min_size_mm3=SIZES, connectivity=st.sampled_from([None, 6])),
    st.builds(RemoveSmallComponents, min_size_voxels=SIZES, never_empty=st.booleans()),
    st.builds(KeepLargest, count=st.integers(1, 9), classes=st.none() | st.just((3, 1))),
    st.builds(CloseGaps, radius_mm=SIZES),
    st.builds(SmoothBoundaries, sigma_mm=SIZES),
)


@given(EVERY_RULE)
def test_json_gives_the_rule_back(rule):
    text = json.dumps(rule.to_json(), allow_nan=False)
    assert rule_from_json(json.loads(text)) == rule


def test_json_is_short_and_names_every_kind():
    rule = RemoveSmallComponents(min_size_mm3={2: 10.0, 1: 50.0})
    assert rule.to_json() == {
        "kind": "remove_small_components",
        "classes": [1, 2],
        "min_size_mm3": {"1": 50.0, "2": 10.0},
    }
    assert all(RULES[kind].kind == kind for kind in RULES)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ("keep_largest", "expected its kind and options"),
        ({"classes": [1]}, "expected its kind and options"),
        ({"kind": "keep_larges"}, "did you mean 'keep_largest'"),
        ({"kind": "keep_largest", "counts": 2}, "did you mean 'count'"),
        ({"kind": "keep_largest", "count": 0}, "at least 1"),
        ({"kind": "keep_largest", "count": {"1": 2}, "classes": [2]}, "the same classes"),
        ({"kind": "keep_largest", "count": {"a": 2}}, r"keys \['a'\]"),
        ({"kind": "keep_largest", "classes": "12"}, "a list of classes"),
        ({"kind": "keep_largest", "classes": [0]}, "background"),
        ({"kind": "keep_largest", "region": []}, "is empty"),
        ({"kind": "fill_holes", "classes": [1], "region": [1, 2]}, "one of them"),
        ({"kind": "remove_small_components"}, "exactly one"),
        ({"kind": "remove_small_components", "min_size_mm3": "9"}, "at least 0"),
        ({"kind": "remove_small_components", "min_size_voxels": 9, "replace_with": -1}, "a class"),
        ({"kind": "close_gaps"}, "lacks its option radius_mm"),
        ({"kind": "smooth_boundaries", "sigma_mm": 0}, "above 0 mm"),
    ],
)
def test_unusable_rules_are_named(plain, words):
    with pytest.raises(InputError, match=words) as error:
        rule_from_json(plain)
    assert str(error.value).count("\n") == 0


def test_a_table_written_by_hand_is_read_and_applied(tmp_path):
    path = tmp_path / "postprocessing.json"
    rules = [{"kind": "fill_holes"}, {"kind": "keep_largest", "classes": [1]}]
    path.write_text(json.dumps({"volseg_postprocessing": 1, "rules": rules}))
    table = read_decision_table(path)
    assert table.rules == (FillHoles(), KeepLargest(classes=(1,)))
    labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]], "u1")
    expected = apply_rules(labels, table.rules)
    assert expected.sum() == 9
    for options in ({"rules": rules}, {"rules": table.rules}, {"rules_file": path}):
        result = PostprocessLabelsd("seg", **options)({"seg": as_tensor(labels)})
        np.testing.assert_array_equal(result["seg"].numpy()[0], expected)
    table.write(path)
    assert read_decision_table(path) == table


def as_tensor(labels):
    import torch

    return torch.from_numpy(labels[None])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "volseg_postprocessing: None"),
        ('{"volseg_postprocessing": 2, "rules": []}', "volseg_postprocessing: 2"),
        ('{"volseg_postprocessing": 1}', "'rules' is a required property"),
        ('{"volseg_postprocessing": 1, "rules": [{"kind": 3}]}', r"\$.rules\[0\].kind"),
        ('{"volseg_postprocessing": 1, "rules": [{"kind": "fill"}]}', "fill_holes"),
        ('{"volseg_postprocessing": 1, "rules": [], "extra": 1}', "'extra' was unexpected"),
    ],
)
def test_unusable_tables_are_named(tmp_path, text, words):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        read_decision_table(path)
    assert str(error.value).count("\n") == 0


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_decision_table(tmp_path / "none.json")


@pytest.mark.parametrize("options", [{}, {"rules": [], "rules_file": "x.json"}])
def test_the_transform_needs_one_source_of_rules(options):
    with pytest.raises(InputError, match="exactly one"):
        PostprocessLabelsd("seg", **options)


def test_an_empty_table_changes_nothing():
    assert DecisionTable.from_json({"volseg_postprocessing": 1, "rules": []}).rules == ()
