"""The page of an evaluation in a browser: it reads without a script, sorts, filters and shows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from volseg.cli.main import main
from volseg.evaluation import (
    METRICS,
    ClassScore,
    Evaluation,
    compare_evaluations,
    evaluate_pairs,
    pair_files,
)
from volseg.io import as_image, probabilities_target, write_image, write_segmentation
from volseg.report import Compared, write_evaluation_page

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
LABELS = {"liver": 1, "spleen <b>": 2}


@pytest.fixture
def folder(tmp_path):
    """Four cases, case 2 the worst; of case 3 the spleen is missed; another set; probabilities."""
    random = np.random.default_rng(0)
    for number in range(4):
        labels = np.zeros((24, 20, 6), np.uint8)
        labels[4:12, 4:14, 1:5], labels[16:20, 6:12, 2:4] = 1, 2
        image = as_image(random.normal(100, 9, (1, 24, 20, 6)).astype(np.float32), AFFINE)
        write_image(image, tmp_path / "images" / f"case{number}.nii.gz")
        predicted = np.roll(labels, (0, 1, 3, 0)[number], axis=0)
        if number == 3:
            predicted[predicted == 2] = 0
        sets = {"references": labels, "ours": predicted, "others": np.roll(predicted, 1, axis=1)}
        for name, one in sets.items():
            write_segmentation(one, tmp_path / name / f"case{number}_seg.nii.gz", like=image)
        path = tmp_path / "ours" / f"case{number}_probabilities.nii"
        with probabilities_target(path, like=image, classes=3) as target:
            target[:, :, :, :] = np.stack([0.1 + 0.7 * (predicted == k) for k in range(3)])
    return tmp_path


def order(page) -> list[str]:
    return [cell.inner_text() for cell in page.locator("#cases tbody tr:not([hidden]) th").all()]


def test_the_page_of_the_command(page, folder, capfd):
    words = ["evaluate", folder / "ours", folder / "references", "-o", folder / "out" / "s.html"]
    words += ["--label", "liver=1", "--label", "spleen <b>=2", "--images", folder / "images"]
    words += ["--against", folder / "others", "--probabilities", folder / "ours"]
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in [*words, "--patients", r"case(\d)"]])
    text, errors = capfd.readouterr()
    assert (end.value.code or 0, errors) == (0, "")
    assert "s.html" in text
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "s.csv",
        "s.html",
        "s.json",
        "s_comparison.csv",
        "s_summary.csv",
    ]
    summary = json.loads((folder / "out" / "s.json").read_text())
    assert summary["patients"] == 4
    assert summary["comparison"]["second"] == "others"
    assert set(summary["calibration"]["curves"]) == {"label", "foreground", *LABELS}
    page.goto((folder / "out" / "s.html").as_uri())
    page.screenshot(path=folder / "page.png", full_page=True)
    assert page.inner_text("h1") == "ours"
    assert page.locator("h2").all_inner_texts() == [
        "Summary",
        "Spread over cases",
        "Agreement of volumes",
        "ours against others",
        "Calibration of probabilities",
        "Worst cases first",
        "All cases",
        "How it was computed",
    ]
    assert order(page) == ["case2", "case3", "case1", "case0"]
    assert page.locator("article h3 a").all_inner_texts()[0] == "case2"
    assert page.locator("article image").count() == 4
    assert page.inner_text("table.dense tbody tr:nth-child(2) th") == "spleen <b>"
    # Case 3 misses the spleen: its distance is no number.
    page.select_option("#metric", "hausdorff95_mm")
    cells = page.locator("tr[data-case=case3] td[data-class]").all_inner_texts()
    assert cells == ["0.00", "infinite"]
    page.click("#cases >> text=liver")
    assert order(page)[-1] == "case2"
    page.fill("#filter", "case1")
    assert order(page) == ["case1"]
    assert page.inner_text("#count") == "1 of 4 cases"
    page.uncheck("#areas")
    assert not page.locator(".area").first.is_visible()
    assert page.locator(".line").first.is_visible()


def test_the_page_is_complete_without_a_script(browser, folder):
    evaluation = evaluate_pairs(pair_files(folder / "ours", folder / "references"), labels=LABELS)
    write_evaluation_page(evaluation, folder / "s.html", title="ours")
    with browser.new_context(java_script_enabled=False, offline=True) as context:
        page = context.new_page()
        page.goto((folder / "s.html").as_uri())
        assert page.locator("#cases tbody tr").count() == 4
        assert page.locator("figure svg").count() == len(METRICS) + len(LABELS)
        assert "Its image was not found." in page.inner_text("article")
        assert page.locator("article .area").first.is_visible()
        assert page.locator("text=Calibration of").count() == 0


def test_an_image_beside_pictures_of_labels_is_shown(tmp_path):
    labels = np.zeros((24, 20), np.uint8)
    labels[4:12, 4:14] = 1
    values = np.random.default_rng(0).normal(100, 9, (1, 24, 20)).astype(np.float32)
    image = as_image(values, np.diag([-0.5, -0.5, 1.0]))
    write_image(image, tmp_path / "images" / "a.mha")
    for name in ("ours", "references"):
        write_segmentation(labels, tmp_path / name / "a.png", like=image)
    pairs = pair_files(tmp_path / "ours", tmp_path / "references")
    evaluation = evaluate_pairs(pairs, labels={"cell": 1})
    page = tmp_path / "s.html"
    write_evaluation_page(evaluation, page, title="ours", images=tmp_path / "images")
    assert "data:image/jpeg" in page.read_text()
    assert "the same grid" not in page.read_text()


def test_a_damaged_record_costs_the_image_alone(folder):
    (folder / "ours" / "case2_record.json").write_text("{}")
    evaluation = evaluate_pairs(pair_files(folder / "ours", folder / "references"), labels=LABELS)
    write_evaluation_page(evaluation, folder / "s.html", title="ours")
    text = (folder / "s.html").read_text()
    assert "case2_record.json is no record of a case" in text
    assert text.count("reference and prediction in one plane") == text.count("<article") == 4


def scores(seed: int, cases: int, classes: int) -> Evaluation:
    random = np.random.default_rng(seed)
    rows = []
    for case in range(cases):
        for label in range(1, classes + 1):
            dice, volume = random.beta(9, 1), random.lognormal(3, 0.3)
            values = [dice, dice, dice, *random.gamma(2, 2, 2), *random.normal(0, 0.1, 2)]
            metrics = dict(zip(METRICS, map(float, values), strict=True))
            sizes = {"prediction_ml": float(volume * dice), "reference_ml": float(volume)}
            rows.append(
                ClassScore(f"case{case}", f"class {label}", label, 9, 9, **metrics, **sizes)
            )
    return Evaluation(rows, {f"class {label}": label for label in range(1, classes + 1)}, 1.0)


def test_many_cases_stay_a_small_page(tmp_path):
    first, second = scores(0, 400, 5), scores(1, 400, 5)
    comparison = compare_evaluations(first, second)
    page = tmp_path / "s.html"
    write_evaluation_page(first, page, title="many", compared=Compared(second, comparison))
    text = page.read_text()
    assert len(text) < 600_000
    assert text.count("data-case=") == 400
    assert "points are the cases beyond the whiskers" in text


def test_an_evaluation_of_which_nothing_is_left_is_a_page_all_the_same(tmp_path):
    nothing = Evaluation([], {}, 1.0, failures={"a": "the file is empty."})
    write_evaluation_page(nothing, tmp_path / "s.html", title="nothing")
    assert "The file is empty." in (tmp_path / "s.html").read_text()
    lone = scores(0, 1, 1)
    write_evaluation_page(lone, tmp_path / "s.html", title="one")
    assert "1 case, 1 class;" in (tmp_path / "s.html").read_text()
