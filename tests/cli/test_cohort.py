"""`volseg cohort` as a user meets it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from pyarrow import parquet

from volseg.cli.main import main


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    with pytest.raises(SystemExit) as end:
        main(["cohort", *map(str, words)])
    captured = capfd.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.mark.data
@pytest.mark.slow
def test_real_scans_from_manifest_to_table(data_root, tmp_path, capfd):
    """With a damaged and a missing one among them; then mended, and retried."""
    source = data_root / "msd_hippocampus" / "images"
    names = sorted(path.name for path in source.iterdir())[:3]
    for name in names:
        shutil.copy(source / name, tmp_path / name)
    (tmp_path / "damaged.nii.gz").write_bytes((tmp_path / names[0]).read_bytes()[:3000])
    rows = [f"p{number},{name},{'xy'[number % 2]},0{number}" for number, name in enumerate(names)]
    rows += ["damaged,damaged.nii.gz,x,03", "missing,missing.nii.gz,y,04"]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["case,image,group,patient", *rows, ""]))
    out = tmp_path / "out"
    words = ("-b", "hippocampus_unet", "--backend", "torch")
    code, text, errors = run(capfd, "run", manifest, "-o", out, *words, "--workers", 2)
    assert code == 1, errors
    assert "5 cases: 3 done, 2 failed" in text
    assert "missing: cannot read" in errors
    assert "Traceback" not in errors
    with (out / "table.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["case"] for row in table] == ["p0", "p1", "p2", "damaged", "missing"]
    assert [row["state"] for row in table] == ["done"] * 3 + ["failed"] * 2
    assert [row["patient"] for row in table] == ["00", "01", "02", "03", "04"]
    # A hippocampus has about 3 ml, of which the anterior part is the larger half here.
    for row in table[:3]:
        assert 0.5 < float(row["anterior_volume_ml"]) < 4
        assert row["bundle"].startswith("hippocampus_unet@")
    typed = parquet.read_table(out / "table.parquet").to_pylist()
    assert [row["case"] for row in typed] == [row["case"] for row in table]
    assert typed[0]["anterior_volume_ml"] == float(table[0]["anterior_volume_ml"])
    # The bits are those of `volseg segment`.
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *("segment", *(str(tmp_path / name) for name in names)),
                *(*words, "-o", str(tmp_path / "alone")),
            ]
        )
    capfd.readouterr()
    for number, name in enumerate(names):
        alone = tmp_path / "alone" / name.replace(".nii.gz", "_seg.nii.gz")
        assert (out / "cases" / f"p{number}_seg.nii.gz").read_bytes() == alone.read_bytes()
    # Mended, and retried with nothing said of bundle or options.
    shutil.copy(tmp_path / names[0], tmp_path / "damaged.nii.gz")
    shutil.copy(tmp_path / names[1], tmp_path / "missing.nii.gz")
    code, text, _ = run(capfd, "retry", out, "--json")
    assert code == 0
    assert json.loads(text)["done"] == 5
    code, text, _ = run(capfd, "status", out)
    assert code == 0
    assert text.startswith("5 cases: 5 done")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "none.csv", "-o", "out", "-b", "phantom_unet"), "there is no manifest none.csv"),
        (("run", "m.csv", "-o", "out", "-b", "phantom_une"), "did you mean 'phantom_unet' or"),
        (("run", "m.csv", "-o", "out", "-b", "phantom_unet"), "(is it 'img'?)"),
        (("run", ".", "-o", "out", "-b", "phantom_unet", "--slurm", "x"), "cannot be read at 'x'"),
        (
            ("run", ".", "-o", "out", "-b", "phantom_unet", "--slurm", "mem=8G,exclusive"),
            "cannot be read at 'mem=8G,exclusive'",
        ),
        (
            ("run", ".", "-o", "out", "-b", "phantom_unet", "--slurm", "time=5", "--dask", "x"),
            "--slurm and --dask cannot go together",
        ),
        (
            ("run", ".", "-o", "out", "-b", "phantom_unet", "--series", "1.2"),
            "cannot be the same for many cases",
        ),
        (("run", ".", "-o", "out", "-b", "phantom_unet", "--format", "x"), "format 'x' is not"),
        (("status", "out"), "out holds no cohort: begin one with `volseg cohort run"),
        (("retry", "out"), "out holds no cohort"),
        (("work", "out"), "out holds no cohort"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(capfd, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    Path("m.csv").write_text("case,img\na,b.nii\n")
    code, _, errors = run(capfd, *words)
    assert code == 2
    assert sentence in errors
    assert len([line for line in errors.splitlines() if line.strip()]) == 1
    assert not Path("out").exists()
