"""What data sets say of the values in their label files: classes, regions, a value to ignore."""

from __future__ import annotations

import json

import pytest

from volseg.bundle import Region
from volseg.errors import InputError
from volseg.planning import (
    LabelScheme,
    named_labels,
    open_dataset,
    scheme_of_regions,
    unnamed_labels,
)

# The example of nnU-Net's documentation/region_based_training.md, and one of its ignore label.
TUMOUR = {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [2, 3], "enhancing": 3}


def described(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))
    return open_dataset(folder).scheme


def test_regions_are_read_as_nnunet_writes_them(data):
    found = described(data, labels={**TUMOUR, "ignore": 4}, regions_class_order=[1, 2, 3])
    assert found.regions == (
        Region("whole_tumor", (1, 2, 3), 1),
        Region("tumor_core", (2, 3), 2),
        Region("enhancing", (3,), 3),
    )
    assert found.labels == {"whole_tumor_rest": 1, "tumor_core_rest": 2, "enhancing": 3}
    assert (found.ignore, found.values) == (4, [0, 1, 2, 3, 4])
    assert found.of_classes() == found
    assert found.describe() == (
        "regions whole_tumor (1, 2, 3), tumor_core (2, 3), enhancing (3); 4 is ignored"
    )


def test_regions_may_be_written_in_an_order_of_their_own(data):
    labels = {"background": 0, "enhancing": 3, "whole": [1, 2, 3], "core": [3, 1]}
    with pytest.raises(InputError, match=r"every value of the region enhancing \(3\)"):
        described(data, labels=labels, regions_class_order=[3, 2, 1])
    labels = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": [3]}
    found = described(data, labels=labels, regions_class_order=[2, 1, 3])
    assert [region.label for region in found.regions] == [2, 1, 3]
    assert found.labels == {"core_rest": 1, "whole_rest": 2, "enhancing": 3}


def test_one_region_of_several_values_is_one_structure(data):
    labels = {"background": 0, "tumour": [1, 2]}
    found = described(data, labels=labels, regions_class_order=[1])
    assert found.structures == {"tumour": (1, 2)}
    assert found.labels == {"tumour": 1, "label_2": 2}


def test_values_become_classes_without_a_gap_and_what_is_ignored_stays_above():
    scheme = scheme_of_regions({"whole": [1, 2, 4], "core": [1, 4], "active": [4]}, ignore=3)
    assert scheme.classes == {0: 0, 1: 1, 2: 2, 4: 3, 3: 255}
    classes = scheme.of_classes()
    assert [(one.values, one.label) for one in classes.regions] == [
        ((1, 2, 3), 2),
        ((1, 3), 1),
        ((3,), 3),
    ]
    assert classes.ignore == 255
    assert LabelScheme({"membrane": 255}, ignore=256).classes == {0: 0, 255: 1, 256: 255}
    assert LabelScheme({"membrane": 1}, ignore=7).classes == {0: 0, 1: 1, 7: 7}
    many = LabelScheme({str(value): value for value in range(1, 300)}, ignore=300)
    assert many.classes[300] == 65535


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"labels": TUMOUR}, "regions_class_order is None; expected the label"),
        ({"labels": TUMOUR, "regions_class_order": [1, 2]}, r"3 regions .* labels for 2"),
        ({"labels": TUMOUR, "regions_class_order": [2, 1, 3]}, "whole_tumor would be written as 2"),
        ({"labels": ["liver"]}, "expected one value for each name"),
        ({"labels": {"background": 0, "liver": True}}, "expected one value for each name"),
        ({"labels": {"background": 0, "liver": 1.5}}, "expected one value for each name"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 1}}, "which is a class, too"),
        ({"labels": {"background": 0, "liver": 1, "ignore": [2, 3]}}, "expected one value"),
        ({"labels": {"background": 0, "a": 2, "b": 1, "c": 1}}, "1 stands for the labels b and c"),
    ],
)
def test_labels_that_cannot_be_planned_for_are_refused(data, content, sentence):
    with pytest.raises(InputError, match=sentence):
        described(data, **content)


def test_labels_are_named_in_a_line():
    assert named_labels("liver, tumour") == {"liver": 1, "tumour": 2}
    assert named_labels("membrane=255") == {"membrane": 255}
    for text in ("liver=1,tumour=1", "liver=0", "liver,liver", "liver=x"):
        with pytest.raises(InputError):
            named_labels(text)


def test_unnamed_labels_are_called_by_their_values_unless_they_number_objects():
    assert unnamed_labels([1, 4]) == {"label_1": 1, "label_4": 4}
    with pytest.raises(InputError, match="213 different values"):
        unnamed_labels(range(1, 214))
    with pytest.raises(InputError, match="hold nothing but 0, the background"):
        unnamed_labels([])
