"""Progress of ``volseg segment`` as a program reads it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from volseg.cli.main import main


@pytest.fixture
def images(tiny_bundle):
    return tiny_bundle.parent / "data" / "images"


def events_of(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[dict], str]:
    """Exit code, the lines of JSON on standard error, and what else is there."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    lines = capfd.readouterr().err.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return int(end.value.code or 0), events, "\n".join(x for x in lines if not x.startswith("{"))


def test_stages_of_each_case_come_in_order(capfd, tmp_path, tiny_bundle, images):
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"no image")
    inputs = [images / "ball0.nii.gz", damaged]
    code, events, _ = events_of(
        capfd, "segment", *inputs, "-o", tmp_path, "-b", tiny_bundle, "--progress", "lines"
    )
    assert code == 1
    assert [event["stage"] for event in events if event["case"] is None] == ["loading", "loading"]
    of_image = [event for event in events if event["case"] == "ball0"]
    tiles = [(e["done"], e["total"]) for e in of_image if e["stage"] == "segmenting"]
    assert tiles[0] == (0, None)
    assert tiles[-1][0] == tiles[-1][1] > 1
    assert tiles == sorted(tiles, key=lambda pair: pair[0])
    assert of_image[-1]["stage"] == "done"
    assert of_image[-1]["output"] == str(tmp_path / "ball0_seg.nii.gz")
    failed = events[-1]
    assert (failed["case"], failed["stage"]) == ("damaged", "failed")
    assert str(damaged) in failed["error"]


def test_what_stops_all_cases_is_a_line_and_a_sentence(capfd, tmp_path, images):
    code, events, sentence = events_of(
        capfd, "segment", images, "-o", tmp_path, "-b", "absent", "--progress", "lines"
    )
    assert code == 2
    assert events[-1]["stage"] == "failed"
    assert events[-1]["error"].startswith("unknown bundle 'absent'")
    assert sentence == f"error: {events[-1]['error']}"


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_people_get_no_json(capfd, tmp_path, tiny_bundle, images, kind):
    code, events, _ = events_of(
        capfd,
        *("segment", images / "ball0.nii.gz", "-o", tmp_path, "-b", tiny_bundle),
        *("--progress", kind),
    )
    assert (code, events) == (0, [])


def test_a_run_that_nobody_reads_any_more_ends(tmp_path, tiny_bundle, images):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "volseg", "segment", images, "-o", out, "-b", tiny_bundle]
    with subprocess.Popen(
        [*map(str, command), "--progress", "lines"], stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if '"segmenting"' in line:
                break
        process.stderr.close()
        assert process.wait(60) != 0
    assert not out.exists() or len(list(out.iterdir())) < len(list(images.iterdir()))
    assert not list(tmp_path.rglob(".volseg-*"))
