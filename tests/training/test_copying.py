"""What is trained is a copy of a bundle, which nothing replaces once it is there."""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import replace

import pytest

from volseg.bundle import composition_of, open_bundle, recompose, write_metadata
from volseg.data import hash_files
from volseg.errors import InputError, OutputError
from volseg.training.copying import copy_to_train


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other_bundle(tiny_bundle, tmp_path):
    """Another bundle, with an entry of its own in its training."""
    folder = tmp_path / "other_bundle"
    shutil.copytree(tiny_bundle, folder)
    with (folder / "configs" / "train.yaml").open("a") as config:
        config.write("mine: 1\n")
    return open_bundle(folder)


@pytest.fixture
def fitted_bundle(tiny_bundle):
    """The tiny bundle, with a standardisation that its configurations name."""
    configs = tiny_bundle / "configs"
    (configs / "standardization.json").write_text("{}")
    for name in ("train.yaml", "inference.yaml"):
        with (configs / name).open("a") as config:
            config.write("standardization: configs/standardization.json\n")
    return open_bundle(tiny_bundle)


@pytest.mark.parametrize("exists", [False, True])
def test_what_was_measured_with_other_weights_is_not_copied(tiny_bundle, tmp_path, exists):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    configs = tiny_bundle / "configs"
    for name in ("quality", "decision", "tuning", "training", "postprocessing"):
        (configs / f"{name}.json").write_text("{}")
    (tiny_bundle / "runs").mkdir()
    bundle = open_bundle(tiny_bundle)
    told = {"training": {"fold": 0}, "eval_metrics": {"dice_anterior": 0.5}}
    metadata = bundle.metadata
    bundle = write_metadata(bundle, {**metadata, **told})
    copied = copy_to_train(bundle, out)
    assert copied.folder == out.resolve()
    assert copied.metadata == metadata
    expected = {path.name for path in configs.iterdir()}
    expected -= {"quality.json", "decision.json", "tuning.json", "training.json"}
    assert {path.name for path in (out / "configs").iterdir()} == expected
    assert not (out / "models").exists()


def test_a_copy_that_was_tuned_stays_as_it_is(tiny_bundle, tmp_path):
    bundle, out = open_bundle(tiny_bundle), tmp_path / "out"
    copied = copy_to_train(bundle, out)
    before = composition_of(copied.metadata, copied.name)
    composition = replace(before, values={**before.values, "overlap": 0.25})
    tuned = recompose(copied, composition, "tuned", files={"configs/tuning.json": "{}"})
    assert tuned.config("inference").read_bytes() != bundle.config("inference").read_bytes()
    write_metadata(tuned, {**tuned.metadata, "eval_metrics": {"dice_anterior": 0.5}})
    as_tuned = files_of(out)
    assert copy_to_train(bundle, out).metadata["eval_metrics"] == {"dice_anterior": 0.5}
    assert files_of(out) == as_tuned


def test_the_copy_of_another_bundle_is_refused_and_left(tiny_bundle, other_bundle, tmp_path):
    bundle, out = open_bundle(tiny_bundle), tmp_path / "out"
    copy_to_train(bundle, out)
    before = files_of(out)
    said = rf"{out} was begun from {bundle.folder}, not from {other_bundle.folder}: give that"
    with pytest.raises(OutputError, match=said):
        copy_to_train(other_bundle, out)
    assert files_of(out) == before


@pytest.mark.parametrize(
    "name", ["train.yaml", "inference.yaml", "datalist.json", "standardization.json"]
)
def test_a_bundle_that_was_changed_since_is_refused(fitted_bundle, tmp_path, name):
    bundle, out = fitted_bundle, tmp_path / "out"
    copy_to_train(bundle, out)
    before = files_of(out)
    with (bundle.folder / "configs" / name).open("a") as config:
        config.write("\n")
    with pytest.raises(OutputError, match=rf"{out} was begun from {bundle.folder} before its"):
        copy_to_train(bundle, out)
    assert files_of(out) == before


def test_a_copy_of_an_earlier_version_is_gone_on_with(fitted_bundle, tmp_path):
    """Its digest was of the configurations and the list of cases alone."""
    out, configs = tmp_path / "out", fitted_bundle.folder / "configs"
    copy_to_train(fitted_bundle, out)
    note = out / "runs" / "copied_from.json"
    now = note.read_text()
    names = ("train.yaml", "inference.yaml", "datalist.json")
    earlier = hash_files(configs / name for name in names)
    assert earlier not in now
    note.write_text(json.dumps({**json.loads(now), "sha256": earlier}))
    copy_to_train(fitted_bundle, out)
    assert note.read_text() == now


def test_results_and_data_in_a_bundle_are_not_copied(tiny_bundle, tmp_path):
    files = (
        "data/images/a.nii.gz",
        "images/a.nii.gz",
        "runs/fold0/run.json",
        "scripts/models/a.py",
    )
    for name in files:
        (tiny_bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny_bundle / name).touch()
    bundle = open_bundle(tiny_bundle)
    for out in (tmp_path / "out", tiny_bundle / "trained"):
        copy_to_train(bundle, out)
        assert [name for name in files if (out / name).exists()] == ["scripts/models/a.py"]
        assert not (out / "trained").exists()


def test_a_copy_that_was_not_made_to_its_end_is_made_again(tiny_bundle, tmp_path, monkeypatch):
    bundle, out = open_bundle(tiny_bundle), tmp_path / "out"

    def copy_some(source, target, **_):
        (target / "configs").mkdir()
        (target / "configs" / "metadata.json").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("volseg.bundle.copying.shutil.copytree", copy_some)
        with pytest.raises(KeyboardInterrupt):
            copy_to_train(bundle, out)
    copied = copy_to_train(bundle, out)
    assert copied.config("train").read_bytes() == bundle.config("train").read_bytes()
    assert copied.metadata["name"] == bundle.metadata["name"]


def test_the_copy_of_a_bundle_that_nobody_may_write_to_is_its_owners(tiny_bundle, tmp_path):
    modes = {path: path.stat().st_mode for path in (tiny_bundle, *tiny_bundle.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        out = copy_to_train(open_bundle(tiny_bundle), tmp_path / "out").folder
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    for path in (out, *out.rglob("*")):
        assert path.stat().st_mode & stat.S_IWUSR, path  # root may write in any case


def test_a_copy_by_an_earlier_version_is_known_by_its_training(tiny_bundle, other_bundle, tmp_path):
    bundle, out = open_bundle(tiny_bundle), tmp_path / "out"
    shutil.copytree(tiny_bundle, out)
    with pytest.raises(OutputError, match=rf"{out} is .* not that of {other_bundle.folder},"):
        copy_to_train(other_bundle, out)
    assert not (out / "runs").exists()
    copy_to_train(bundle, out)
    assert json.loads((out / "runs" / "copied_from.json").read_text())["whole"]
    assert (out / "models" / "model.pt").is_file()


def test_what_is_no_copy_is_refused(tiny_bundle, tmp_path):
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(InputError, match="is the bundle itself"):
        copy_to_train(bundle, tiny_bundle)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    for taken in ("notes", "notes/a.txt"):
        with pytest.raises(OutputError, match="is not a bundle"):
            copy_to_train(bundle, tmp_path / taken)


def test_a_name_that_opens_another_bundle_is_refused(tiny_bundle, tmp_path):
    out = tmp_path / "hippocampus_unet"
    with pytest.raises(OutputError, match="is the name of a bundle that comes with volseg"):
        copy_to_train(open_bundle(tiny_bundle), out)
    assert not out.exists()
    # What an earlier version made under such a name is gone on with.
    copy_to_train(open_bundle(tiny_bundle), tmp_path / "made").folder.rename(out)
    assert copy_to_train(open_bundle(tiny_bundle), out).folder == out
