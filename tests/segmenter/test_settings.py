"""Settings of a segmenter, exchanged without loading its networks again."""

from __future__ import annotations

import numpy as np
import pytest

from volseg import Segmenter
from volseg.errors import InputError, ShapeError
from volseg.inference import sliding_window


def test_other_settings_give_what_a_new_segmenter_gives(tiny_bundle, monkeypatch):
    made = []
    make = sliding_window.make_predictor

    def counted(*arguments, **options):
        made.append(options["tile"])
        return make(*arguments, **options)

    monkeypatch.setattr(sliding_window, "make_predictor", counted)
    image = tiny_bundle.parent / "data" / "images" / "ball0.nii.gz"
    base = Segmenter(tiny_bundle, settings={"backend": "torch"})
    base.warm_up()
    before = base.segment(image).numpy()
    changes = [{"overlap": 0.75}, {"mirror_axes": [0, 2]}, {"tile": [20, 24, 16]}]
    results = [base.with_settings(change).segment(image).numpy() for change in changes]
    # One predictor does for all settings of one tile.
    assert made == [(16, 16, 16), (20, 24, 16)]
    for change, found in zip(changes, results, strict=True):
        fresh = Segmenter(tiny_bundle, settings={"backend": "torch", **change})
        assert np.array_equal(found, fresh.segment(image).numpy())
        assert not np.array_equal(found, before)
    assert np.array_equal(base.segment(image).numpy(), before)


def test_what_cannot_be_had_is_known_before_the_first_case(tiny_bundle):
    base = Segmenter(tiny_bundle, settings={"backend": "torch"})
    with pytest.raises(ShapeError, match="multiples of 4, got 18 x 16 x 16"):
        base.with_settings({"tile": [18, 16, 16]}).warm_up()
    with pytest.raises(InputError, match="did you mean 'overlap'"):
        base.with_settings({"overlaps": 0.5})
    with pytest.raises(InputError, match="f16"):
        Segmenter(
            tiny_bundle,
            device="cpu",
            settings={"backend": "torch", "precision": "f16", "require_precision": True},
        ).warm_up()


def test_a_warm_segmenter_makes_nothing_more(tiny_bundle, monkeypatch):
    image = tiny_bundle.parent / "data" / "images" / "ball0.nii.gz"
    segmenter = Segmenter([tiny_bundle, tiny_bundle], settings={"backend": "torch"})
    segmenter.warm_up()

    def made_late(*_, **__):
        raise AssertionError

    monkeypatch.setattr(sliding_window, "make_predictor", made_late)
    assert segmenter.segment(image).shape == (1, 20, 24, 16)
