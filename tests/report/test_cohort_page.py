"""The page of many cases in a browser: outliers first, sorted and filtered, with links."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from volseg.cli.main import main
from volseg.errors import InputError
from volseg.report import find_records, read_further_columns, write_report
from volseg.segmenter import read_record

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


def labels_of(size: int, *, touching: bool = False) -> np.ndarray:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2 : 2 + size, 2:12, 2:12] = 1
    labels[0 if touching else 2, 14:18, 14:18] = 2
    return labels


@pytest.fixture
def folder(make_case, tmp_path: Path) -> Path:
    for index, size in enumerate((8, 9, 8, 7, 9, 8)):
        make_case(labels_of(size), AFFINE, name=f"case {index}")
    make_case(labels_of(2), AFFINE, name="small")
    make_case(labels_of(8, touching=True), AFFINE, name="touching")
    return tmp_path / "out"


def order(page) -> list[str]:
    return [cell.inner_text() for cell in page.locator("#cases tbody tr:not([hidden]) th").all()]


def test_the_table_shows_outliers_first_and_sorts_and_filters(page, folder, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("case,age,group\nsmall,61,a\ncase 3,7,b\n", encoding="utf-8")
    further = read_further_columns(table)
    write_report(find_records([folder]), tmp_path / "report", further=further)
    page.goto((tmp_path / "report" / "index.html").as_uri())
    page.screenshot(path=tmp_path / "cohort.png", full_page=True)
    assert order(page)[:2] == ["touching", "small"]
    assert "Spleen reaches the edge of the image (left)." in page.inner_text("tbody tr")
    page.click("text=liver, mL")
    assert order(page)[:2] == ["small", "case 3"]
    page.click("text=liver, mL")
    assert order(page)[-1] == "small"
    assert page.get_attribute("th:has-text('liver')", "aria-sort") == "descending"
    page.click("text=age")
    assert order(page)[:2] == ["case 3", "small"]  # by number, empty cells last
    page.fill("#filter", "SMALL")
    assert order(page) == ["small"]
    page.fill("#filter", "")
    page.select_option("#severity", "1")
    assert order(page) == ["touching"]
    assert page.inner_text("#count") == "1 of 8 cases"
    assert page.locator("figure").count() == 2
    page.select_option("#severity", "0")
    page.click("#cases >> text=case 3")
    page.wait_for_selector("#statistics")
    assert page.inner_text("h1") == "case 3"
    page.click("text=All cases")
    page.wait_for_selector("#cases")


def test_a_case_without_an_image_is_in_the_table_all_the_same(folder, tmp_path):
    (tmp_path / "images" / "small.nii.gz").unlink()
    (folder / "touching_record.json").write_text("{}")
    outcomes = write_report(find_records([folder]), tmp_path / "report")
    failed = {one.case: one.error for one in outcomes if one.page is None}
    assert list(failed) == ["small", "touching"]
    assert "touching_record.json is no record of a case" in failed["touching"]
    assert "--images" in failed["small"]
    assert not (tmp_path / "report" / "small.html").exists()
    assert ">small</th>" in (tmp_path / "report" / "index.html").read_text()


def test_images_that_have_moved_are_found(folder, tmp_path):
    (tmp_path / "images").rename(tmp_path / "moved")
    outcomes = write_report(find_records([folder]), tmp_path / "r", images=tmp_path / "moved")
    assert all(one.page is not None and one.page.is_file() for one in outcomes)


def test_an_image_is_not_shown_for_another_case(make_case, tmp_path):
    labels = np.zeros((32, 24), np.uint8)
    labels[4:14, 4:14] = 1
    for name in ("a", "b"):
        make_case(labels, np.eye(3), name=name)
    given = tmp_path / "images" / "a.png"
    outcomes = write_report(find_records([tmp_path / "out"]), tmp_path / "report", images=given)
    assert all("a.png cannot be both" in str(one.error) for one in outcomes)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    [one] = write_report(
        find_records([tmp_path / "out" / "a_seg.png"]), tmp_path / "r", images=given
    )
    assert one.error is None


def test_images_that_differ_by_their_folders_are_told_apart(make_case, tmp_path):
    for name in ("a", "b"):
        record = make_case(labels_of(8), AFFINE, name=name)
        image = tmp_path / "tree" / f"sub-{name}" / "ct.nii.gz"
        image.parent.mkdir(parents=True)
        (tmp_path / "images" / f"{name}.nii.gz").rename(image)
        replace(read_record(record), image=str(image)).write(record)
    (tmp_path / "tree").rename(tmp_path / "moved")
    records = find_records([tmp_path / "out"])
    outcomes = write_report(records, tmp_path / "report", images=tmp_path / "moved")
    assert [one.error for one in outcomes] == [None, None]
    outcomes = write_report(records, tmp_path / "again", images=tmp_path / "moved" / "sub-a")
    assert all("ct.nii.gz cannot be both" in str(one.error) for one in outcomes)


def test_a_case_named_as_the_table_does_not_lose_its_page_to_it(make_case, tmp_path):
    for name in ("index", "other"):
        make_case(labels_of(8), AFFINE, name=name)
    outcomes = write_report(find_records([tmp_path / "out"]), tmp_path / "report")
    assert [one.page and one.page.name for one in outcomes] == [None, "other.html"]
    assert "would be index.html" in str(outcomes[0].error)
    assert ">index</th>" in (tmp_path / "report" / "index.html").read_text()


def test_records_are_found_by_what_lies_beside_them(folder, tmp_path):
    record = folder / "small_record.json"
    for given in (record, folder / "small_seg.nii.gz"):
        assert find_records([given]) == {"small": record}
    assert len(find_records([folder, record])) == 8
    (tmp_path / "small_seg.nii.gz").touch()
    with pytest.raises(InputError, match=r"no small_record\.json beside"):
        find_records([tmp_path / "small_seg.nii.gz"])
    with pytest.raises(InputError, match="holds no"):
        find_records([tmp_path / "images"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "small_record.json").write_text("{}")
    with pytest.raises(InputError, match=r"both become small\.html"):
        find_records([folder, other])


def test_a_table_must_name_cases(tmp_path):
    (tmp_path / "table.csv").write_text("name,age\nsmall,61\n")
    with pytest.raises(InputError, match="has no 'case'"):
        read_further_columns(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("case,age,group\nsmall,61,a\n")
    found = read_further_columns(tmp_path / "table.csv", ["group"])
    assert found == {"small": {"group": "a"}}
    with pytest.raises(InputError, match="did you mean 'group'"):
        read_further_columns(tmp_path / "table.csv", ["groups"])


def test_the_command(folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    (tmp_path / "images" / "small.nii.gz").unlink()

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["report", *map(str, words)])
        return (int(end.value.code or 0), *capfd.readouterr())

    out = tmp_path / "report"
    code, text, errors = run(folder.parent, "-o", out)
    assert (code, text) == (1, f"{out / 'index.html'}\n")
    assert errors.startswith("small: the image of small is not at")
    code, text, _ = run(folder / "touching_seg.nii.gz", "-o", out, "--json")
    [row] = json.loads(text)
    assert (code, row) == (
        0,
        {"case": "touching", "page": str(out / "touching.html"), "error": None},
    )
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "x_record.json").write_text("{}")
    for words in ([], [folder], [tmp_path / "nothing", "-o", out], [damaged, "-o", out]):
        code, text, errors = run(*words)
        assert (code, text) == (2, "")
        assert len(errors.splitlines()) == 1
