"""Converted networks are kept, found, doubted and made anew; nothing of it leaves the machine."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from volseg import atomic
from volseg.errors import InputError, OutputError
from volseg.networks import build_network
from volseg.predictors import (
    check_volume,
    make_predictor,
    network_fingerprint,
    openvino_backend,
    user_cache_folder,
    verified,
)
from volseg.predictors import making as making_module
from volseg.predictors.cache import conversion_cache

TILE = (16, 24)


@pytest.fixture(autouse=True)
def everything_logged(caplog, monkeypatch, tmp_path):
    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / "user"))
    caplog.set_level(logging.INFO, logger="volseg")


_PROGRAMS: dict[object, torch.export.ExportedProgram] = {}
_EXPORT, _CONVERTED = torch.export.export, cache(openvino_backend.convert)


@pytest.fixture(autouse=True)
def each_network_is_converted_once(monkeypatch):
    """What becomes of a conversion is looked at here: only its files are written each time."""

    def exported(network, images):
        key = network_fingerprint(network), images[0].shape
        if key not in _PROGRAMS:  # of a copy, as a test may change the weights of its network
            _PROGRAMS[key] = _EXPORT(copy.deepcopy(network), images)
        return _PROGRAMS[key]

    torch.manual_seed(0)  # networks that tests make without a seed are the same
    monkeypatch.setattr(torch.export, "export", exported)
    monkeypatch.setattr(openvino_backend, "convert", _CONVERTED)


def unet(seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(
        "unet", spatial_dims=2, in_channels=1, out_channels=3, preset="tiny", **options
    ).eval()


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(4, 3, 1)).eval()


def make(network: nn.Module, cache: Path | None, **options):
    return make_predictor(network, tile=TILE, in_channels=1, cache=cache, **options)


def entries(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/entry.json"))


def checks(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "user" / "checks").glob("*.json"))


def logits_of(predictor) -> torch.Tensor:
    return predictor(check_volume(predictor.shapes))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_conversion_is_found_again_and_not_checked_twice(backend, tmp_path, monkeypatch):
    first = logits_of(make(small(), tmp_path, backend=backend))
    assert len(entries(tmp_path)) == 1
    assert not entries(user_cache_folder())

    def never(*_, **__):
        raise AssertionError("not again")

    monkeypatch.setattr(torch.export, "export", never)
    monkeypatch.setattr(making_module, "verified", never)
    assert torch.equal(logits_of(make(small(), tmp_path, backend=backend)), first)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("network.bin", "flip"),
        ("network.bin", "remove"),
        ("network.xml", "truncate"),
        ("entry.json", "truncate"),
        ("entry.json", "remove"),
    ],
)
def test_a_damaged_entry_is_made_anew(name, harm, tmp_path, caplog):
    network = nn.Conv2d(1, 2, 3, padding=1)
    first = logits_of(make(network, tmp_path, backend="openvino"))
    (entry,) = entries(tmp_path)
    content = (entry / name).read_bytes()
    if harm == "flip":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        (entry / name).write_bytes(content)
    elif harm == "truncate":
        (entry / name).write_bytes(content[: len(content) // 2])
    else:
        (entry / name).unlink()
    caplog.clear()
    assert torch.equal(logits_of(make(network, tmp_path, backend="openvino")), first)
    assert "converting Conv2d" in caplog.text
    assert ("is damaged" in caplog.text) == ((name, harm) != ("entry.json", "remove"))
    caplog.clear()
    make(network, tmp_path, backend="openvino")
    assert "converting" not in caplog.text


def test_what_changes_the_logits_gives_another_entry(tmp_path):
    network = nn.Conv2d(1, 2, 3, padding=1)
    make(network, tmp_path)
    with torch.no_grad():
        network.weight[0, 0, 0, 0] += 1e-3
    second = make(network, tmp_path)
    assert len(entries(tmp_path)) == 2
    with torch.no_grad():
        assert torch.allclose(logits_of(second), network(check_volume(second.shapes)), atol=1e-5)
    make_predictor(network, tile=(32, 24), in_channels=1, cache=tmp_path)
    assert len(entries(tmp_path)) == 3


def test_a_fingerprint_is_of_weights_and_structure():
    network = unet()
    same = network_fingerprint(network)
    assert network_fingerprint(unet()) == network_fingerprint(copy.deepcopy(network)) == same
    others = [
        unet(seed=1),
        unet(activation="leakyrelu"),
        nn.Sequential(network),
        copy.deepcopy(network).double(),
    ]
    assert len({same, *(network_fingerprint(other) for other in others)}) == 5
    assert network_fingerprint(network.train()) == same

    class Scaled(nn.Module):  # what only plain attributes tell apart
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, image):
            return image * self.factor

    assert network_fingerprint(Scaled(2.0)) != network_fingerprint(Scaled(3.0))


class Leaky(nn.Module):
    """A network that only what is not registered with torch tells from another."""

    def __init__(self, **attributes) -> None:
        super().__init__()
        vars(self).update(attributes)


def attributes(slope: float) -> dict[str, object]:
    return {
        "private": {"_k": slope},
        "partial": {"act": partial(functional.leaky_relu, negative_slope=slope)},
        "tensor": {"scale": torch.tensor([1.0, slope])},
        "array": {"scale": np.array([1.0, slope])},
        "closure": {"act": lambda image: image * slope},
        "default": {"act": lambda image, slope=slope: image * slope},
        "nested": {"_parts": {"all": [(partial(torch.mul, other=slope),)]}},
        "object": {"options": SimpleNamespace(slope=slope)},
        "method": {"act": nn.LeakyReLU(slope).forward},
        "hidden module": {"layers": [nn.LeakyReLU(slope)]},
    }


@pytest.mark.parametrize("kind", attributes(0.0))
def test_a_fingerprint_is_of_private_values_and_of_what_values_hold(kind):
    first, same, other = (
        network_fingerprint(Leaky(**attributes(slope)[kind])) for slope in (0.1, 0.1, 0.5)
    )
    assert first == same != other


def test_a_fingerprint_is_of_hooks_and_of_which_parts_are_shared():
    first, second = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    prints = {network_fingerprint(nn.Sequential(first, second, last)) for last in (first, second)}
    first.register_forward_hook(lambda module, images, logits: logits * 2)
    prints.add(network_fingerprint(nn.Sequential(first, second, second)))
    assert len(prints) == 3


def test_of_what_nothing_can_be_said_no_two_fingerprints_are_equal():
    network = Leaky(lock=threading.Lock())
    assert network_fingerprint(network) != network_fingerprint(network)


def test_a_network_whose_class_was_typed_in_is_taken_but_not_known_again(tmp_path, monkeypatch):
    """As in a notebook, where the same name may be another class a moment later."""
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    typed = type("Typed", (nn.Sequential,), {"__module__": "__main__"})
    network = typed(*small()).eval()
    assert network_fingerprint(network) != network_fingerprint(network)
    made = make(network, tmp_path)
    with torch.no_grad():
        assert torch.allclose(logits_of(made), network(check_volume(made.shapes)), atol=1e-5)


FINGERPRINTS = """
import torch
from monai.networks import nets
from volseg.networks import build_network, list_networks
from volseg.predictors import network_fingerprint
sides = {"in_channels": 1, "out_channels": 2}
three = {"spatial_dims": 3, **sides}
monai = {
    "SegResNet": three,
    "DynUNet": {
        **three, "kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]
    },
    "SwinUNETR": {**three, "feature_size": 12},
    "UNETR": {**sides, "img_size": 32, "feature_size": 4, "hidden_size": 24, "num_heads": 2},
    "AttentionUnet": {**three, "channels": (4, 8), "strides": (2,)},
    "BasicUNetPlusPlus": {**three, "features": (4, 4, 4, 4, 4, 4)},
}
torch.manual_seed(0)
networks = {name: getattr(nets, name)(**options) for name, options in monai.items()}
for name in list_networks():
    networks[name] = build_network(name, spatial_dims=2, preset="tiny", **sides)
networks["recurrent"] = torch.nn.LSTM(2, 2)
for name, network in networks.items():
    print(name, network_fingerprint(network))
"""


def test_fingerprints_are_the_same_in_every_process(monkeypatch, capsys):
    # Sets of words come in another order in this process than in the other one.
    monkeypatch.setenv("PYTHONHASHSEED", "3" if os.environ.get("PYTHONHASHSEED") == "1" else "1")
    command = [sys.executable, "-c", FINGERPRINTS]
    other = subprocess.run(command, capture_output=True, check=True, text=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MONAI, which are not of the claim
        exec(FINGERPRINTS, {})
    here = capsys.readouterr().out.splitlines()
    assert len(set(here)) > 15
    assert here == other.stdout.splitlines()


def test_a_conversion_with_other_labels_is_refused(tmp_path, caplog):
    network, other = small(0), small(1)
    make(network, tmp_path / "right", backend="openvino")
    make(other, tmp_path / "other", backend="openvino")
    # The entry of the one now holds the other, undamaged, and says of itself that all is well.
    (right,), (wrong,) = entries(tmp_path / "right"), entries(tmp_path / "other")
    wrong = wrong.rename(right.parent / "wrong")
    manifest = json.loads((wrong / "entry.json").read_text())
    verdicts = [json.loads(check.read_text()) for check in checks(tmp_path)]
    claimed = {verdict["check"]: verdict["result"] for verdict in verdicts}
    (wrong / "entry.json").write_text(json.dumps({**manifest, "checks": claimed}))
    right.rename(tmp_path / "set aside")
    wrong.rename(right)

    caplog.clear()
    made = make(network, tmp_path / "right")
    assert made.name.startswith("torch")
    assert "of the foreground voxels" in caplog.text
    assert "torch is used" in caplog.text
    with pytest.raises(InputError, match="other labels on .* of the foreground voxels"):
        make(network, tmp_path / "right", backend="openvino")


def test_each_user_checks_a_conversion_that_came_with_a_bundle(tmp_path, monkeypatch):
    network, seen = small(), []

    def watched(*arguments, **options):
        seen.append(user_cache_folder())
        return verified(*arguments, **options)

    monkeypatch.setattr(making_module, "verified", watched)
    for user in ("one", "other", "one"):
        monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / user))
        make(network, tmp_path / "bundle", backend="openvino")
    assert [folder.parent.name for folder in seen] == ["one", "other"]
    assert len(entries(tmp_path / "bundle")) == 1
    (record,) = (tmp_path / "one" / "checks").glob("*.json")
    record.write_text("damaged")
    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / "one"))
    make(network, tmp_path / "bundle", backend="openvino")
    assert len(seen) == 3


@pytest.mark.parametrize("place", ["more", "../elsewhere", "absolute"])
def test_an_entry_of_other_files_is_made_anew(place, tmp_path, caplog):
    network = nn.Conv2d(1, 2, 3, padding=1)
    make(network, tmp_path / "bundle", backend="openvino")
    (entry,) = entries(tmp_path / "bundle")
    name = str(tmp_path / "elsewhere") if place == "absolute" else place
    (entry / name).write_text("x")
    manifest = json.loads((entry / "entry.json").read_text())
    manifest["files"][name] = hashlib.sha256(b"x").hexdigest()
    (entry / "entry.json").write_text(json.dumps(manifest))
    caplog.clear()
    assert make(network, tmp_path / "bundle").name.startswith("OpenVINO")
    assert "is damaged (entry.json): it is made anew" in caplog.text
    assert set(json.loads((entry / "entry.json").read_text())["files"]) == {
        "network.xml",
        "network.bin",
    }


def test_a_check_is_kept_as_far_as_possible(tmp_path, monkeypatch):
    entry = conversion_cache(tmp_path / "bundle").store(
        "key", ["network"], lambda files: files[0].write_text("network")
    )
    shutil.rmtree(entry.folder)  # by another process
    entry.record("f32", {"labels": 0.0})
    assert entry.recorded("f32") == {"labels": 0.0}
    assert entry.recorded("bf16") == {}
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / "file" / "user"))
    entry.record("f32", {"labels": 0.0})
    assert entry.recorded("f32") == {}


def test_tiles_of_the_caller_are_what_is_compared_on(tmp_path, caplog):
    # Foreground only where the image is above 50, which the synthetic volume never is.
    network = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight[:, 0, 0, 0] = torch.tensor([0.0, 1.0])
        network.bias[:] = torch.tensor([0.0, -50.0])
    tiles = torch.full((1, 1, *TILE), 60.0)
    make(network, tmp_path, backend="openvino", check_tiles=tiles)
    (record,) = checks(tmp_path)
    check = json.loads(record.read_text())["result"]
    assert check["foreground"] == TILE[0] * TILE[1]
    assert check["reason"] == ""


def test_without_a_writable_folder_the_users_is_taken_or_none(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder can be made below a file")
    network = nn.Conv2d(1, 2, 3, padding=1)
    make(network, tmp_path / "file" / "converted")
    assert user_cache_folder() == tmp_path / "user" / "converted"
    assert len(entries(user_cache_folder())) == 1

    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / "file" / "user"))
    predictor = make(network, tmp_path / "file" / "converted")
    assert predictor.name.startswith("OpenVINO")
    with torch.no_grad():
        right = network(check_volume(predictor.shapes))
    assert torch.allclose(logits_of(predictor), right, atol=1e-5)


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_full_disk_leads_to_the_next_folder_and_in_the_end_to_torch(
    tmp_path, temporary, monkeypatch, caplog
):
    bundle, user = tmp_path / "converted", user_cache_folder()
    full = [bundle]
    openvino = openvino_backend.runtime()
    serialize = openvino.serialize

    def disk(model, graph, weights):
        if any(Path(graph).is_relative_to(folder) for folder in full):
            Path(graph).write_text("half")
            raise RuntimeError("Check 'bin_file.good()' failed")  # as OpenVINO does
        serialize(model, graph, weights)

    monkeypatch.setattr(openvino, "serialize", disk)
    network = nn.Conv2d(1, 2, 3, padding=1)
    assert make(network, bundle).name.startswith("OpenVINO")
    assert len(entries(user)) == 1
    full.append(tmp_path / "user")
    shutil.rmtree(user)
    assert make(network, bundle).name.startswith("OpenVINO")
    assert not entries(user)
    gc.collect()
    assert not list(temporary.glob("volseg-*"))

    full.append(temporary)
    assert make(network, bundle).name.startswith("torch")
    assert "torch is used: cannot write a converted network in" in caplog.text
    assert not list(temporary.glob("volseg-*"))
    assert not [path for folder in (bundle, user) for path in folder.rglob("*") if path.is_file()]
    with pytest.raises(OutputError, match="cannot write a converted network"):
        make(network, bundle, backend="openvino")

    def none(**_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    assert make(network, bundle).name.startswith("torch")


def test_the_least_recently_used_entries_go(tmp_path):
    cache = conversion_cache(tmp_path)
    for index in range(18):
        cache.store(f"key{index}", ["network"], lambda files: files[0].write_text("network"))
        os.utime(tmp_path / f"key{index}" / "entry.json", (index, index))
        assert cache.find("key0", ["network"]) is not None  # used, and so kept
    kept = {entry.name for entry in entries(tmp_path)}
    assert len(kept) == 16
    assert {"key0", "key17"} <= kept
    assert not {"key1", "key2"} & kept


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    cache = conversion_cache(tmp_path)
    old, new = tmp_path / ".volseg-0123", tmp_path / ".volseg-4567"
    for draft in (old, new):
        draft.mkdir()
        (draft / "network").write_text("half")
    os.utime(old, (0, 0))
    cache.store("key", ["network"], lambda files: files[0].write_text("network"))
    assert {path.name for path in tmp_path.iterdir()} == {"key", new.name}


def test_who_looks_while_another_process_writes_sees_an_entry_whole_or_not_at_all(
    tmp_path, monkeypatch, caplog
):
    cache, names, found = conversion_cache(tmp_path), ["network", "weights"], []

    def write(files):
        found.append(cache.find("key", names))
        for file in files:
            file.write_text(str(len(found)))
            found.append(cache.find("key", names))

    flush = atomic._flush_to_disk

    def looked_at(path):
        found.append(cache.find("key", names))
        flush(path)

    monkeypatch.setattr(atomic, "_flush_to_disk", looked_at)
    first = cache.store("key", names, write)
    assert not any(found)
    assert cache.find("key", names) == first
    found.clear()
    second = cache.store("key", names, write)  # of a process that began when nothing was there
    assert found
    assert set(found) == {first}
    assert cache.find("key", names) == second
    assert second.folder == first.folder
    assert "damaged" not in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_what_another_process_writes_at_the_last_moment_stays(tmp_path, monkeypatch):
    """It may be in use there already."""
    cache, names = conversion_cache(tmp_path), ["network"]
    first: list[object] = []
    rename = Path.rename

    def beaten(draft, target):
        if Path(target).name == "key" and not first:
            first.append(None)
            first[0] = cache.store("key", names, lambda files: files[0].write_text("first"))
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", beaten)
    second = cache.store("key", names, lambda files: files[0].write_text("second"))
    assert second == first[0]
    assert second.files[0].read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_what_another_process_removes_before_it_is_loaded_is_converted_anew(
    tmp_path, monkeypatch, caplog
):
    network = nn.Conv2d(1, 2, 3, padding=1)
    first = logits_of(make(network, tmp_path, backend="openvino"))
    load, removed = openvino_backend.load, []

    def late(files, *others):
        if not removed:
            removed.append(files)
            shutil.rmtree(files[0].parent)
        return load(files, *others)

    monkeypatch.setattr(openvino_backend, "load", late)
    caplog.clear()
    assert torch.equal(logits_of(make(network, tmp_path, backend="openvino")), first)
    assert "it is converted anew" in caplog.text
    assert len(entries(tmp_path)) == 1


WATCHED = """
import os, pathlib, sys
home = pathlib.Path(os.environ["HOME"]) / "intel"
home.mkdir()
(home / "openvino_telemetry").write_text("1")  # its consent, as it keeps it
calls = []
watched = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen", "os.fork")
sys.addaudithook(lambda event, arguments: calls.append(event) if event in watched else None)
import torch
import volseg.predictors
assert not {"openvino", "onnxruntime"} & sys.modules.keys()
if sys.argv[1] == "openvino first":
    import openvino
    import time
    time.sleep(1)
    assert calls, "OpenVINO has no telemetry any more: runtime() can be simpler"
calls.clear()
network = torch.nn.Conv2d(1, 2, 1)
volseg.predictors.make_predictor(network, tile=(8, 8), in_channels=1, backend="openvino")
assert "openvino" in sys.modules
assert not calls, calls
"""


@pytest.mark.parametrize("order", ["volseg first", "openvino first"])
def test_nothing_is_sent_over_the_network(order, tmp_path):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "TF_BUILD", "JENKINS_URL")
    }
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, order],
        env={
            **environment,
            "HOME": str(tmp_path),
            "VOLSEG_CACHE": str(tmp_path / "cache"),
            # Whatever would be sent ends here.
            "https_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
