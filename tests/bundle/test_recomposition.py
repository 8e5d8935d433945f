"""A bundle composed again: the new files, a new version, nothing of its owner's lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

import volseg.atomic
from volseg.bundle import composition_of, open_bundle, recompose, verify_bundle, with_cleaning
from volseg.errors import BundleError, OutputError, UnknownNameError


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def other_overlap(bundle):
    composition = composition_of(bundle.metadata, bundle.name)
    return replace(composition, values={**composition.values, "overlap": 0.125})


def test_a_value_is_changed_and_the_version_says_why(tiny_bundle):
    before = open_bundle(tiny_bundle)
    train = (tiny_bundle / "configs" / "train.yaml").read_text()
    after = recompose(before, other_overlap(before), "less overlap", files={"configs/a.txt": "b"})
    assert after.metadata["version"] == "0.1.1"
    assert after.metadata["changelog"] == {"0.1.0": "first release", "0.1.1": "less overlap"}
    assert composition_of(after.metadata, "").values["overlap"] == 0.125
    assert yaml.safe_load((tiny_bundle / "configs" / "inference.yaml").read_text())[
        "overlap"
    ] == pytest.approx(0.125)
    assert (tiny_bundle / "configs" / "train.yaml").read_text() == train
    assert (tiny_bundle / "configs" / "a.txt").read_text() == "b"
    assert [check.name for check in verify_bundle(tiny_bundle) if not check.passed] == []
    # Asked once more there is nothing to do.
    files = contents(tiny_bundle)
    again = recompose(after, other_overlap(after), "less overlap", files={"configs/a.txt": "b"})
    assert again.metadata["version"] == "0.1.1"
    assert contents(tiny_bundle) == files


def test_what_its_owner_edited_is_not_lost(tiny_bundle):
    train, inference = (tiny_bundle / "configs" / f"{name}.yaml" for name in ("train", "inference"))
    train.write_text(train.read_text() + "# mine\n")
    bundle = open_bundle(tiny_bundle)
    after = recompose(bundle, other_overlap(bundle), "less overlap")
    assert train.read_text().endswith("# mine\n")
    # An edit in the file that would be written stops it, and nothing is written.
    inference.write_text(inference.read_text() + "# mine\n")
    files = contents(tiny_bundle)
    before = composition_of(bundle.metadata, "")
    with pytest.raises(BundleError, match=r"inference\.yaml is not what .* change it by hand"):
        recompose(after, before, "as it was")
    assert contents(tiny_bundle) == files
    renewed = recompose(after, before, "as it was", renew=True)
    assert "# mine" not in train.read_text() + inference.read_text()
    assert renewed.metadata["version"] == "0.1.2"


def test_what_fails_on_the_way_leaves_the_bundle_as_it_was(tiny_bundle, monkeypatch):
    """Nothing is replaced before all of it is on the disk; the metadata are replaced last."""
    bundle = open_bundle(tiny_bundle)
    files = contents(tiny_bundle)
    # A folder where a file is to be: found when the second of three files is written.
    (tiny_bundle / "configs" / "a.txt").mkdir()
    with pytest.raises(OutputError, match=r"a\.txt: it is a folder"):
        recompose(bundle, other_overlap(bundle), "less", files={"configs/a.txt": "b"})
    assert contents(tiny_bundle) == files

    flushed = []

    def interrupted(path):
        flushed.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(volseg.atomic, "_flush_to_disk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recompose(bundle, other_overlap(bundle), "less")
    assert len(flushed) == 1
    assert contents(tiny_bundle) == files


def test_a_bundle_of_somebody_else_is_refused(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    composition = composition_of(bundle.metadata, bundle.name)
    del bundle.metadata["composition"]
    with pytest.raises(BundleError, match="do not say what it was composed of"):
        recompose(bundle, composition, "taken over")


def test_cleaning_is_exchanged_with_the_values_that_only_it_had(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    composition = composition_of(bundle.metadata, bundle.name)
    values = {**composition.values, "single_objects": [1]}
    first = recompose(bundle, replace(composition, values=values), "one object")
    cleaned = with_cleaning(composition_of(first.metadata, ""), "inference/decision_table")
    assert cleaned.values == composition.values
    second = recompose(first, cleaned, "by decision")
    inference = yaml.safe_load((tiny_bundle / "configs" / "inference.yaml").read_text())
    assert "single_objects" not in inference
    assert inference["cleaning"]["rules_file"] == "configs/postprocessing.json"
    assert composition_of(second.metadata, "") == cleaned
    with pytest.raises(UnknownNameError, match="unknown cleaning 'inference/start'"):
        with_cleaning(composition, "inference/start")
