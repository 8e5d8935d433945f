"""Manifests: three formats, one meaning; what is wrong is said in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from volseg.cohort import read_manifest
from volseg.errors import InputError

ROWS = [
    {"case": "a", "image": "scans/a.nii.gz", "patient": "007", "age": 61},
    {"case": "b", "image": "/data/b.nii.gz", "patient": "008", "age": None},
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # Windows writes a mark
def test_csv_json_and_parquet_say_the_same(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "m.csv").write_text(
        "case,image,patient,age\na,scans/a.nii.gz,007,61\nb,/data/b.nii.gz,008,\n", encoding
    )
    (tmp_path / "m.json").write_text(json.dumps(ROWS), encoding)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "m.parquet")
    by_csv, by_json, by_parquet = (
        read_manifest(tmp_path / f"m.{suffix}") for suffix in ("csv", "json", "parquet")
    )
    assert by_json == by_parquet
    assert [case.image for case in by_csv] == [str(tmp_path / "scans/a.nii.gz"), "/data/b.nii.gz"]
    assert [(case.case, case.image) for case in by_csv] == [(c.case, c.image) for c in by_json]
    # Identifiers keep their zeros; what JSON has as a number stays one.
    assert by_csv[0].columns == {"patient": "007", "age": "61"}
    assert by_json[0].columns == {"patient": "007", "age": 61}


def test_one_column_a_channel(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("case,t1,flair,group,flair_series\na,t1.nii,dicom,x,1.2\n")
    (case,) = read_manifest(tmp_path / "m.csv", channels=["t1", "flair"])
    assert case.paths == {"t1": tmp_path / "t1.nii", "flair": tmp_path / "dicom"}
    assert case.series == {"flair": "1.2"}
    assert case.columns == {"group": "x"}


def test_a_manifest_that_is_a_link_lies_where_the_link_is(tmp_path: Path) -> None:
    """As in a data set of git-annex, whose files are links into its store."""
    for folder in ("study", "store"):
        (tmp_path / folder).mkdir()
    (tmp_path / "store" / "4f0c.csv").write_text("case,image\na,scans/a.nii.gz\n")
    manifest = tmp_path / "study" / "m.csv"
    manifest.symlink_to(tmp_path / "store" / "4f0c.csv")
    (case,) = read_manifest(manifest)
    assert case.image == str(tmp_path / "study" / "scans" / "a.nii.gz")


def test_columns_come_back_from_their_line(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(ROWS))
    for case in read_manifest(tmp_path / "m.json"):
        assert type(case).from_line(case.as_line()) == case


@pytest.mark.parametrize(
    ("text", "channels", "sentence"),
    [
        (
            "Case,images\na,b.nii\n",
            [],
            r"no column 'case' \(is it 'Case'\?\) and no column 'image' \(is it 'images'\?\)",
        ),
        (
            "case,t1,flare\na,b.nii,c.nii\n",
            ["t1", "flair"],
            r"no column 'flair' \(is it 'flare'\?\): expected case and image or one for each",
        ),
        ("case,image\na,b.nii\nA,c.nii\n", [], "would be written to the same files: 'a' "),
        ("case,image\na,\n", [], "row 1 .* has no value in the column 'image'"),
        ("case,image\na/b,c.nii\n", [], r"'a/b' .* cannot name its results \(it holds /\)"),
        ("case,image\n..,c.nii\n", [], "it is no name of a file"),
        (f"case,image\n{'x' * 201},c.nii\n", [], "has 201 bytes; expected at most 200"),
        ("case,image\n", [], "lists no case"),
        ("case,image\na\n", [], "line 2 .* has not as many cells as the first line"),
        ("case,image\na,b,c\n", [], "line 2 .* has not as many cells as the first line"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, text: str, channels: list[str], sentence: str
) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_manifest(tmp_path / "m.csv", channels=channels)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("m.xlsx", "", "expected a name that ends in .csv"),
        ("m.json", "{", "cannot be read as a manifest"),
        ("m.json", '{"case": 1}', "expected a list such as"),
        ("m.json", '[{"case": "a", "image": "b.nii", "c": [1]}]', "'c' in row 1 .* holds a list"),
        ("m.parquet", "no", "cannot be read as a manifest"),
    ],
)
def test_what_is_no_manifest_is_said(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_manifest(tmp_path / name)
    with pytest.raises(InputError, match="there is no manifest"):
        read_manifest(tmp_path / "other.csv")
