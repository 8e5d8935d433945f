"""Tuning keeps the Dice, says all it measured, and changes the bundle last or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import yaml
from monai.bundle import run as bundle_run

from volseg import Segmenter
from volseg.bundle import composition_of, verify_bundle
from volseg.choosing import (
    Setting,
    TuningRow,
    TuningTable,
    choose_row,
    record_tuning,
    tune_bundle,
)
from volseg.choosing.settings import cut_alike, grown_tiles, takes_tiles
from volseg.cli.main import main
from volseg.errors import BundleError, InputError, UnknownNameError
from volseg.inference import Tiling
from volseg.networks import build_network

PRESENT = Setting(tile=(64, 64, 64), overlap=0.5, mirror_axes=(), precision="f32")
# Of the tiny bundle, whose cases are 20 x 24 x 16 voxels.
OPTIONS = {"overlaps": [0.0, 0.75], "precisions": ["f32", "f16"], "device": "cpu"}


def row(dice, seconds, **changes):
    return TuningRow(replace(PRESENT, **changes), cases=2, dice=dice, seconds=seconds)


def contents(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "runs" not in path.parts
    }


def test_the_fastest_within_the_tolerance_is_chosen():
    rows = [
        row(0.9, 8.0),
        row(0.8995, 4.0, overlap=0.25),
        row(0.8990, 2.0, overlap=0.125),
        row(0.8989, 1.0, overlap=0.0),
        row(0.8, 0.5, precision="bf16"),
        TuningRow(replace(PRESENT, tile=(9, 9, 9)), reason="does not fit"),
    ]
    for tolerance, expected in ((0, 0.5), (0.0005, 0.25), (0.001, 0.125), (0.0011, 0.0)):
        assert choose_row(rows, PRESENT, tolerance=tolerance).setting.overlap == expected
    # What differs in the fifth digit is equal.
    fifth = choose_row([row(0.90004, 2.0), row(0.9, 1.0, overlap=0.0)], PRESENT, tolerance=0)
    assert fifth.seconds == 1.0


def test_of_equally_fast_settings_the_nearest_to_the_present_is_chosen():
    others = [
        row(0.9, 1.00, tile=(96, 96, 96), overlap=0.25),
        row(0.9, 1.01, overlap=0.125),
        row(0.9, 1.02, overlap=0.25),
    ]
    chosen = choose_row([*others, row(0.9, 1.04)], PRESENT, tolerance=0)
    assert chosen.setting == PRESENT
    assert choose_row(others, PRESENT, tolerance=0).setting.overlap == 0.25
    slower = choose_row([*others, row(0.9, 1.06)], PRESENT, tolerance=0)
    assert slower.setting.overlap == 0.25


def test_where_nothing_ran_the_first_reason_is_told():
    with pytest.raises(InputError, match="no setting could be measured: no memory"):
        choose_row([TuningRow(PRESENT, reason="no memory")], PRESENT, tolerance=0)


def test_tiles_grow_in_steps_of_the_network_and_no_further_than_the_cases():
    network = build_network(
        "unet", spatial_dims=3, in_channels=1, out_channels=2, channels=[2, 4, 4, 4]
    )
    takes = takes_tiles(network, 1)
    assert grown_tiles((16, 24, 16), (17, 25, 99), takes) == [
        (16, 24, 16),
        (24, 32, 24),
        (24, 32, 32),
    ]
    assert grown_tiles((16, 24, 16), (16, 20, 9), takes) == [(16, 24, 16)]
    # A network of one size only.
    assert grown_tiles((16, 24), (90, 90), lambda tile: tuple(tile) == (16, 24)) == [(16, 24)]


def test_settings_that_cut_all_cases_alike_are_one():
    settings = [replace(PRESENT, overlap=overlap) for overlap in (0.0, 0.125, 0.25, 0.5)]
    shapes = [(64, 64, 60), (100, 64, 64)]
    doubles = cut_alike(settings, shapes, PRESENT)
    # 0, 36 up to an overlap of 28 / 64; one tile more after that.
    assert {setting.overlap: other.overlap for setting, other in doubles.items()} == {
        0.0: 0.25,
        0.125: 0.25,
    }
    tilings = [Tiling.blended((64, 64, 64), overlap=share) for share in (0.0, 0.125, 0.25)]
    cuts = [[one.start for one in tiling.along(0, 100)] for tiling in tilings]
    assert cuts[0] == cuts[1] == cuts[2]
    assert cut_alike(settings, [(64, 64, 64)], PRESENT).keys() == set(settings) - {PRESENT}


def test_every_setting_is_measured_as_a_user_meets_it(torch_bundle):
    before = contents(torch_bundle)
    calls = []
    table = tune_bundle(
        torch_bundle,
        torch_bundle.parent / "data",
        tiles=[[16, 16, 16], [20, 24, 16], [18, 16, 16]],
        progress=lambda done, total, what: calls.append((done, total)),
        mirror=True,
        **OPTIONS,
    )
    assert contents(torch_bundle) == before
    assert table.cases == ("ball0", "ball3")
    assert table.present == Setting((16, 16, 16), 0.5, (), "f32")
    assert len(table.rows) == 1 + 3 * 2 * 2 * 2
    reasons = {row.setting: row.reason for row in table.rows if row.reason}
    for setting, reason in reasons.items():
        if "cuts every case as overlap" in reason:
            assert setting.overlap == 0.0
        elif setting.tile == (18, 16, 16):
            assert "multiples of 4" in reason
        else:
            assert setting.precision == "f16"
            assert "f16" in reason
    measured = [row for row in table.rows if row.reason is None]
    assert {row.setting.mirror_axes for row in measured} == {(), (0,)}
    assert len(measured) == 6
    assert {row.cases for row in measured} == {2}
    assert calls[-1][0] == calls[-1][1]
    # Dice is that of the door a user takes, counted independently.
    for found in measured:
        options = {**found.setting.options(), "backend": "torch"}
        segmenter = Segmenter(torch_bundle, settings=options)
        dice = {name: [] for name in segmenter.labels}
        for case in table.cases:
            data = torch_bundle.parent / "data"
            labels = segmenter.segment(data / "images" / f"{case}.nii.gz").numpy()[0]
            truth = np.asarray(nib.load(data / "labels" / f"{case}.nii.gz").dataobj)
            for name, value in segmenter.labels.items():
                common = ((labels == value) & (truth == value)).sum()
                dice[name].append(2 * common / ((labels == value).sum() + (truth == value).sum()))
        means = {name: np.mean(values) for name, values in dice.items()}
        assert found.dice_of_class == pytest.approx(means)
        assert found.dice == pytest.approx(np.mean(list(means.values())))
        assert found.seconds > 0


def test_the_choice_becomes_the_default_at_every_door(torch_bundle, tmp_path):
    data = torch_bundle.parent / "data"
    table = tune_bundle(torch_bundle, data, tiles=[[20, 24, 16]], **OPTIONS)
    chosen = Setting((20, 24, 16), 0.75, (), "f32")
    image = data / "images" / "ball0.nii.gz"
    before = Segmenter(torch_bundle).segment(image).numpy()[0]
    expected = Segmenter(torch_bundle, settings=chosen.options()).segment(image).numpy()[0]
    assert not np.array_equal(before, expected)
    tuned = record_tuning(torch_bundle, replace(table, chosen=chosen))
    assert tuned.metadata["version"] == "0.1.2"
    entry = tuned.metadata["changelog"]["0.1.2"]
    assert entry.startswith("tuned on 2 cases: tile 20 x 24 x 16, overlap 0.75, not mirrored, f32")
    assert composition_of(tuned.metadata, "").values["tile"] == [20, 24, 16]
    stored = json.loads((torch_bundle / "configs" / "tuning.json").read_text())
    assert stored["stored"] is True
    assert stored["chosen"]["tile"] == [20, 24, 16]
    assert stored["cases"] == ["ball0", "ball3"]
    assert len(stored["rows"]) == len(table.rows)
    assert stored["machine"]["threads"] >= 1
    assert not (torch_bundle / "runs").exists()
    assert [check.name for check in verify_bundle(torch_bundle) if not check.passed] == []
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


@pytest.mark.parametrize(
    ("change", "stays"), [({"overlap": 0.25}, True), ({"mirror_axes": (0,)}, False)]
)
def test_mirrored_tiles_take_away_what_was_usual_of_entropy(torch_bundle, change, stays):
    quality = torch_bundle / "configs" / "quality.json"
    quality.write_text("{}")
    rows = (row(0.8, 1.0), row(0.9, 1.0, **change))
    table = TuningTable(rows, PRESENT, rows[1].setting, ("ball0",), 0.001, {})
    record_tuning(torch_bundle, table)
    assert quality.exists() == stays


def test_an_interruption_leaves_the_bundle_and_what_was_measured(torch_bundle):
    data = torch_bundle.parent / "data"
    before = contents(torch_bundle)

    def interrupt(done, total, what):
        if done == 3:
            raise KeyboardInterrupt

    options = {**OPTIONS, "precisions": ["f32"], "tiles": [[16, 16, 16], [20, 24, 16]]}
    with pytest.raises(KeyboardInterrupt):
        tune_bundle(torch_bundle, data, progress=interrupt, **options)
    assert contents(torch_bundle) == before
    kept = torch_bundle / "runs" / "tuning.jsonl"
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines) + '\n{"setting": {"til')  # killed in the middle of a line
    with pytest.raises(InputError, match="another settings: leave --resume away"):
        tune_bundle(torch_bundle, data, resume=True, **{**options, "mirror": True})
    calls = []
    table = tune_bundle(
        torch_bundle,
        data,
        resume=True,
        progress=lambda done, total, what: calls.append((done, total)),
        **options,
    )
    assert calls[0] == (3, 6)
    seconds = [json.loads(line)["seconds"] for line in lines[1:]]
    again = [json.loads(line)["seconds"] for line in kept.read_text().splitlines()[1:]]
    assert again[:3] == seconds
    assert len(again) == 6
    assert {row.cases for row in table.rows if row.reason is None} == {2}


def test_a_bundle_that_was_not_composed_keeps_its_setting(torch_bundle):
    metadata = torch_bundle / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    del content["composition"]
    metadata.write_text(json.dumps(content))
    before = contents(torch_bundle)
    options = {**OPTIONS, "precisions": ["f32"], "tiles": [[16, 16, 16]]}
    table = tune_bundle(torch_bundle, torch_bundle.parent / "data", **options)
    with pytest.raises(BundleError, match=r"not stored, only the table.*do not say what it was"):
        record_tuning(torch_bundle, table)
    after = contents(torch_bundle)
    written = after.pop(torch_bundle / "configs" / "tuning.json")
    assert json.loads(written)["stored"] is False
    assert after == before


def test_mistakes_are_known_before_anything_is_measured(torch_bundle):
    data = torch_bundle.parent / "data"
    with pytest.raises(UnknownNameError, match="did you mean 'bf16'"):
        tune_bundle(torch_bundle, data, precisions=["bf61"])
    with pytest.raises(InputError, match=r"overlap must be numbers in \[0, 1\)"):
        tune_bundle(torch_bundle, data, overlaps=[1.5])
    with pytest.raises(InputError, match="has 2 sides; expected 3"):
        tune_bundle(torch_bundle, data, tiles=[[16, 16]])
    with pytest.raises(InputError, match="7 cases were asked for"):
        tune_bundle(torch_bundle, data, cases=7)
    config = torch_bundle / "configs" / "inference.yaml"
    content = yaml.safe_load(config.read_text())
    content["inferer"] = {"_target_": "monai.inferers.SimpleInferer"}
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="no setting to tune"):
        tune_bundle(torch_bundle, data)
    assert not (torch_bundle / "runs").exists()


def test_the_command(torch_bundle, capfd):
    words = ["bundle", "tune", torch_bundle, "--data", torch_bundle.parent / "data", "--json"]
    options = ["--cases", 1, "--overlaps", "0.25,0.5", "--tiles", "16,16,16;20,24,16"]
    with pytest.raises(SystemExit, match="0"):
        main([str(word) for word in [*words, *options, "--precisions", "f32", "--device", "cpu"]])
    captured = capfd.readouterr()
    table = json.loads(captured.out)
    assert len(table["rows"]) == 4
    assert "stored as version 0.1.2" in captured.err
    inference = yaml.safe_load((torch_bundle / "configs" / "inference.yaml").read_text())
    assert [inference["tile"], inference["overlap"]] == [
        table["chosen"]["tile"],
        table["chosen"]["overlap"],
    ]
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, words), "--overlaps", "half"])
    assert "--overlaps 'half' cannot be read" in capfd.readouterr().err
