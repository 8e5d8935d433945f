"""What tests of reproductions share: the script, a README of their own, tiny pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import reproduce
from reproductions.parts import PartStore
from volseg.bundle import Composition, new_bundle
from volseg.data import Case, write_datalist


class Reproduction:
    """The script with results and a README in a folder of the test."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.readme = folder / "README.md"
        self._patch = patch

    def run(self, row: str, *words: object) -> None:
        """Run a row; its results go to the test's folder."""
        options = ["--results", self.folder / "results", "--threads", torch.get_num_threads()]
        words = (row, *words, *options)
        self._patch.setattr(sys, "argv", ["reproduce.py", *map(str, words)])
        reproduce.main()

    def parts(self, row: str) -> PartStore:
        """Return what is kept of a row."""
        return PartStore(self.folder / "results" / row)

    def table(self, row: str) -> list[list[str]]:
        """Return the cells of the table that a row writes into a README, without training."""
        begin = f"<!-- {row}: begin (written by scripts/reproduce.py {row}) -->"
        self.readme.write_text(f"# Ours\n{begin}\n<!-- {row}: end -->\nThe end\n", "utf-8")
        self.run(row, "--readme", self.readme)
        lines = self.readme.read_text(encoding="utf-8").splitlines()
        assert (lines[0], lines[-1]) == ("# Ours", "The end")
        rows = [line for line in lines if line.startswith("| ")]
        return [line.strip("| ").split(" | ") for line in rows]


@pytest.fixture
def reproduction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reproduction:
    """The script in a folder of its own."""
    return Reproduction(tmp_path, monkeypatch)


@pytest.fixture
def tiny_pictures(tmp_path: Path) -> Callable[..., Path]:
    """Return what makes a bundle of pictures of 32 x 32, two in each of two folds, and its data.

    Their labels are stripes, values 0 and 255; the data are in ``data/`` beside the bundle.
    """

    def make(name: str, recipe: str, label: str, **values: object) -> Path:
        folder = tmp_path / name
        own = {"widths": [4, 8], "patch": [32, 32], "epochs": 1, "workers": 0}
        heads = {"head_weights": [1.0], "backend": "torch"}
        new_bundle(
            folder,
            Composition("unet", recipe, (label,), values={**own, **heads, **values}),
        )
        random = np.random.default_rng(0)
        cases = []
        for index in range(4):
            stripes = (np.arange(32) + index) % 8 < 3
            mask = np.broadcast_to(stripes, (32, 32))
            noisy = np.where(mask, 60, 180) + random.normal(0, 10, mask.shape)
            paths = [f"images/{index}.png", f"labels/{index}.png"]
            for path, values_ in zip(paths, (noisy, np.where(mask, 0, 255)), strict=True):
                file = tmp_path / "data" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(values_, 0, 255).astype(np.uint8)).save(file)
            cases.append(Case(str(index), *paths, str(index), index // 2))
        write_datalist(cases, folder / "configs" / "datalist.json", about={"name": "stripes"})
        return folder

    return make
