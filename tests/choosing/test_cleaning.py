"""Rules are chosen on held-out cases, kept in the bundle, and applied at every door."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import run as bundle_run

from volseg import Segmenter
from volseg.bundle import composition_of, open_bundle, verify_bundle
from volseg.choosing import choose_cleaning, record_cleaning
from volseg.cli.main import main
from volseg.errors import BundleError
from volseg.postprocess import (
    DecisionTable,
    KeepLargest,
    RemoveSmallComponents,
    apply_rules,
    choose_rules,
    propose_rules,
    read_decision_table,
)

RULES = (
    RemoveSmallComponents(classes=(1,), min_size_mm3=30.0),
    KeepLargest(classes=(2,), count=2),
)


def table_of(rules):
    return DecisionTable(rules, metric="dice", cases=2, margin=0.0, worse_share=0.1)


def uncleaned(bundle, case):
    image = bundle.parent / "data" / "images" / f"{case}.nii.gz"
    return Segmenter(bundle, clean=False).segment(image).numpy()[0]


def test_what_is_chosen_is_what_the_cases_say(torch_bundle):
    calls = []
    data = torch_bundle.parent / "data"
    table = choose_cleaning(
        torch_bundle, data, fold=1, margin=0, progress=lambda *call: calls.append(call)
    )
    assert calls == [(1, 2), (2, 2)]
    cases = ("ball1", "ball4")
    predictions = [uncleaned(torch_bundle, case) for case in cases]
    references = [
        np.asarray(nib.load(data / "labels" / f"{case}.nii.gz").dataobj) for case in cases
    ]
    spacings = [(1.0, 1.0, 1.0)] * 2
    candidates = propose_rules(references, spacings=spacings)
    expected = choose_rules(
        predictions, references, candidates, spacings=spacings, classes=[1, 2], margin=0
    )
    assert table == expected
    assert table.rules  # a random network leaves much to clean
    for outcome in table.outcomes:
        assert outcome.mean_after >= outcome.mean_before


def test_the_rules_are_applied_at_every_door(torch_bundle, tmp_path, monkeypatch):
    data = torch_bundle.parent / "data"
    before = uncleaned(torch_bundle, "ball0")
    cleaned = record_cleaning(torch_bundle, table_of(RULES))
    expected = apply_rules(before, RULES, spacing=(1, 1, 1))
    assert not np.array_equal(before, expected)
    assert cleaned.metadata["version"] == "0.1.2"
    assert cleaned.metadata["changelog"]["0.1.2"] == (
        "cleaning chosen on 2 held-out cases: keep largest, remove small components; "
        "weights as before"
    )
    assert composition_of(cleaned.metadata, "").cleaning == "inference/decision_table"
    assert read_decision_table(torch_bundle / "configs" / "postprocessing.json").rules == RULES
    assert [check.name for check in verify_bundle(torch_bundle) if not check.passed] == []
    monkeypatch.chdir(tmp_path)  # the table is found from anywhere
    image = data / "images" / "ball0.nii.gz"
    assert np.array_equal(Segmenter(torch_bundle).segment(image).numpy()[0], expected)
    bundle_run(
        config_file=str(torch_bundle / "configs" / "inference.yaml"),
        bundle_root=str(torch_bundle),
        dataset_dir=str(data / "images"),
        output_dir=str(tmp_path / "run"),
        logging_file=False,
    )
    written = nib.load(tmp_path / "run" / "ball0_seg.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), expected)
    # Other rules are another version, with the same configuration.
    again = record_cleaning(torch_bundle, table_of(RULES[:1]))
    assert again.metadata["version"] == "0.1.3"
    assert len(Segmenter(torch_bundle).bundle.metadata["changelog"]) == 4


def test_a_bundle_that_was_not_composed_keeps_its_cleaning(torch_bundle):
    metadata = torch_bundle / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    del content["composition"]
    metadata.write_text(json.dumps(content))
    inference = (torch_bundle / "configs" / "inference.yaml").read_bytes()
    with pytest.raises(BundleError, match=r"not applied by the bundle: .* do not say"):
        record_cleaning(torch_bundle, DecisionTable(RULES))
    assert (torch_bundle / "configs" / "inference.yaml").read_bytes() == inference
    assert open_bundle(torch_bundle).metadata["version"] == "0.1.1"
    assert read_decision_table(torch_bundle / "configs" / "postprocessing.json").rules == RULES


def test_the_command(torch_bundle, capfd):
    data = torch_bundle.parent / "data"
    words = ["postprocess", "choose", str(torch_bundle), "--data", str(data)]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--margin", "0"])
    captured = capfd.readouterr()
    assert "anterior" in captured.out
    assert "stored as version 0.1.2" in captured.err
    table = read_decision_table(torch_bundle / "configs" / "postprocessing.json")
    expected = apply_rules(uncleaned(torch_bundle, "ball0"), table.rules, spacing=(1, 1, 1))
    found = Segmenter(torch_bundle).segment(data / "images" / "ball0.nii.gz").numpy()[0]
    assert np.array_equal(found, expected)
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--margin", "1", "--json"])
    assert json.loads(capfd.readouterr().out)["rules"] == []
