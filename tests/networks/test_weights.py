"""Weights from files that are damaged, foreign or hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from volseg.errors import BundleError, OutputError
from volseg.networks import UNet, load_weights, read_weights, save_weights


class Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.remove, (str(self.victim),)


def test_pickled_code_is_not_executed(tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    torch.save({"a": Hostile(victim)}, tmp_path / "model.pt")
    with pytest.raises(BundleError, match="cannot be loaded|loaded safely"):
        read_weights(tmp_path / "model.pt")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"not a weight file", b"PK\x03\x04 broken"])
def test_damaged_files_are_refused_with_a_sentence(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="model.pt"):
        read_weights(path)


def test_missing_files_and_other_contents_are_refused(tmp_path):
    with pytest.raises(BundleError, match="no weights"):
        read_weights(tmp_path / "model.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(BundleError, match="holds a list"):
        read_weights(tmp_path / "list.pt")


@pytest.mark.parametrize(
    ("saved", "word"),
    [((4, 8, 8), "lacks|unknown"), ((4, 16), "resizes")],
)
def test_weights_of_another_network_name_the_first_wrong_tensor(tmp_path, saved, word):
    save_weights(UNet(2, 1, 2, channels=saved), tmp_path / "model.pt")
    with pytest.raises(BundleError, match=word):
        load_weights(UNet(2, 1, 2, channels=(4, 8)), tmp_path / "model.pt")


def test_half_precision_halves_the_file_and_refuses_what_it_cannot_hold(tmp_path):
    first, second = (UNet(2, 1, 2, channels=(16, 32), norm="batch").eval() for _ in range(2))
    save_weights(first, tmp_path / "full.pt")
    save_weights(first, tmp_path / "half.pt", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.pt").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.65 * sizes[1]
    load_weights(second, tmp_path / "half.pt")
    x = torch.randn(1, 1, 16, 16)
    assert second(x).dtype == torch.float32
    torch.testing.assert_close(second(x), first(x), atol=1e-2, rtol=1e-2)
    first.encoder[0].get_submodule("units.0.norm").running_var.fill_(1e5)
    with pytest.raises(OutputError, match=r"up to 100000, too large for torch.float16"):
        save_weights(first, tmp_path / "half.pt", dtype=torch.float16)


def test_a_failed_write_keeps_the_old_weights(tmp_path, monkeypatch):
    network = UNet(2, 1, 2, channels=(4, 8))
    save_weights(network, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()

    def full_disk(state, target):
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OutputError, match="(?i)no space left"):
        save_weights(network, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
