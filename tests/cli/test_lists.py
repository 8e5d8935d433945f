"""Options that hold several words or numbers."""

from __future__ import annotations

import pytest

from volseg.cli.lists import numbers, words
from volseg.errors import InputError


def test_spaces_around_commas_are_no_part_of_a_word():
    assert words("f32, bf16") == ["f32", "bf16"]
    assert numbers("--overlaps", "0, 0.25", float, example="0,0.5") == [0.0, 0.25]


@pytest.mark.parametrize("text", ["0.5", "0;1", "", "0,"])
def test_what_is_no_number_is_answered_with_an_example(text):
    sentence = f"--folds '{text}' cannot be read: expected numbers .* such as 0,1,2"
    with pytest.raises(InputError, match=sentence):
        numbers("--folds", text, int, example="0,1,2")
