"""Settings are refused before anything is read, by each way of starting a training."""

from __future__ import annotations

import re

import pytest
import yaml
from monai.bundle import run as bundle_run

from volseg.bundle import open_bundle
from volseg.bundle.setting_rules import RULES
from volseg.cli.main import main
from volseg.errors import InputError, UnknownNameError
from volseg.io import ReadImaged
from volseg.training import train_bundle
from volseg.training.run_settings import differing_settings, require_run_settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0; expected a whole number of at least 1"),
        ({"epochs": True}, "expected a whole number"),
        ({"learning_rate": -1e-3}, "expected a number above 0"),
        ({"learning_rate": float("nan")}, "expected a number above 0"),
        ({"learning_rate": "fast"}, "expected a number above 0"),
        ({"val_overlap": 1.0}, "from 0 to below 1"),
        ({"seed": 2**32}, "expected 0 to 4294967295"),
        ({"fold": "both"}, "the number of a fold, or all"),
        ({"cases": 0}, "of at least 1, or null"),
        ({"rotation": 0.3}, "expected a value such as"),
        ({"augment": "$__import__('os').getcwd()"}, "expected a value such as"),
        ({"optimizer": "sgd"}, "no plain value"),
        ({"spacing": [2.0, 2.0, 2.0]}, "in the inference of the bundle"),
        ({"ignore": 255}, "in the evaluation of the bundle"),
        ({"class_ratios": [1, -1, 0]}, "numbers of at least 0, one a class, or null"),
        ({"region_labels": "one"}, "null, or a list of whole numbers"),
        ({"prepared": "$SCRATCH/prepared"}, "a folder, without variables of a shell, or null"),
    ],
)
def test_values_that_cannot_be_are_refused(tiny_bundle, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        require_run_settings(open_bundle(tiny_bundle), settings)


def test_values_that_can_be_are_taken(tiny_bundle):
    require_run_settings(
        open_bundle(tiny_bundle),
        {"cases": 3, "epochs": 1, "learning_rate": 1, "fold": "all", "patch": [16, 16, 8]},
    )
    require_run_settings(
        open_bundle(tiny_bundle), {"fold": 1, "ignore": None, "class_ratios": [0.5, 0.25, 0.25]}
    )


def test_what_is_null_says_what_else_it_may_be(tiny_bundle):
    entries = yaml.safe_load((tiny_bundle / "configs" / "train.yaml").read_text())
    # Of lists of numbers null needs no rule; of anything else it would refuse whatever is given.
    lists = {"channels", "kernels", "regions", "region_labels", "strides"}
    assert {name for name, value in entries.items() if value is None} - lists <= RULES.keys()


def test_an_unknown_name_is_refused_with_the_nearest_before_anything_is_written(
    tiny_bundle, tmp_path, capfd, monkeypatch
):
    data, out = tiny_bundle.parent / "data", tmp_path / "trained"
    with pytest.raises(UnknownNameError, match="did you mean 'learning_rate'"):
        train_bundle(tiny_bundle, data, out, settings={"lerning_rate": 0.1})
    words = ["train", tiny_bundle, "--data", data, "-o", out, "--set", "lerning_rate=1e-3"]
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in words])
    assert "did you mean 'learning_rate'" in " ".join(capfd.readouterr().err.split())
    assert not out.exists()


def test_the_runner_of_monai_refuses_them_alike(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_bundle)
    for settings, sentence in (
        ({"lerning_rate": 0.1}, "did you mean 'learning_rate'"),
        ({"epochs": 0}, "epochs is 0; expected a whole number of at least 1"),
    ):
        with pytest.raises(RuntimeError) as raised:
            bundle_run(
                config_file="configs/train.yaml",
                dataset_dir=str(tmp_path / "absent"),  # nothing of it is looked at
                output_dir=str(tmp_path / "run"),
                logging_file=False,
                **settings,
            )
        assert sentence in str(raised.value.__cause__)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fold": 9}, r"no case in fold 9; its folds are 0, 1, 2"),
        ({"fold": 1, "cases": 5}, "5 cases were asked for"),
        ({"batch_size": 1}, "batch_size is 1, but 2 processes share each batch"),
        ({"fold": 1}, "case ball4 .* does not exist"),  # a held-out one
    ],
)
def test_what_the_cases_do_not_allow_is_refused_before_an_image_is_read(
    tiny_bundle, tmp_path, monkeypatch, settings, sentence
):
    data, out = tiny_bundle.parent / "data", tmp_path / "trained"
    if settings == {"fold": 1}:
        (data / "labels" / "ball4.nii.gz").unlink()
    if "batch_size" in settings:
        monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun says; the other does not come
    read = []
    monkeypatch.setattr(ReadImaged, "__call__", lambda self, case: read.append(case))
    with pytest.raises(InputError, match=sentence):
        train_bundle(
            tiny_bundle,
            data,
            out,
            fold=settings.get("fold", 0),
            settings={name: value for name, value in settings.items() if name != "fold"},
            skip_damaged=True,
        )
    monkeypatch.chdir(tiny_bundle)
    with pytest.raises(RuntimeError) as raised:
        bundle_run(
            config_file="configs/train.yaml",
            dataset_dir=str(data),
            output_dir=str(out),
            logging_file=False,
            **settings,
        )
    assert re.search(sentence, str(raised.value.__cause__))
    assert not read
    assert not out.exists()


def test_an_option_and_set_do_not_both_give_a_setting(tiny_bundle, tmp_path, capfd):
    words = ["train", tiny_bundle, "--data", tmp_path, "-o", tmp_path / "t"]
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, words), "--epochs", "3", "--set", "epochs=4"])
    assert "give it once" in capfd.readouterr().err


def test_what_differs_is_said():
    before = {"epochs": 3, "loss": {"_target_": "a"}, "seed": 0}
    now = {"epochs": 4, "loss": {"_target_": "b"}, "seed": 0}
    assert differing_settings(before, now) == {
        "epochs": "epochs was 3 and is 4",
        "loss": "loss is another",
    }
