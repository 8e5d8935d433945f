"""Values as NAME=VALUE."""

from __future__ import annotations

import pytest

from volseg.cli.setting_options import named_values
from volseg.errors import InputError


def test_values_are_read_as_yaml_and_numbers_as_people_write_them():
    words = [
        "rate=1e-3",
        "patch=[64, 64, 48]",
        "cases=null",
        "augment=false",
        "name=poly",
        "a= b=c",
    ]
    assert named_values(words) == {
        "rate": 0.001,
        "patch": [64, 64, 48],
        "cases": None,
        "augment": False,
        "name": "poly",
        "a": "b=c",
    }


@pytest.mark.parametrize("words", [["rate"], ["=3"], ["a=[1"], ["a=1", "a=2"]])
def test_what_cannot_be_read_is_refused(words):
    with pytest.raises(InputError, match=r"--set"):
        named_values(words)
