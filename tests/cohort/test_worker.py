"""What a worker does with cases: done, failed, left, redone; and nothing is lost on the way."""

from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
from pathlib import Path

import pytest

from volseg.cohort import (
    CohortCase,
    CohortFolder,
    cohort_rows,
    cohort_status,
    prepare_cohort,
    requeue,
    work,
)
from volseg.cohort import worker as worker_module
from volseg.cohort.content import stamp_of
from volseg.cohort.outcome import read_outcome, write_outcome
from volseg.cohort.presence import Worker
from volseg.cohort.queue import TicketQueue
from volseg.errors import BundleError, InputError, OutputError, UnknownNameError
from volseg.io.dicom import find_series

from .conftest import half_written, label_maps


def finished_at(cohort: CohortFolder) -> dict[str, int]:
    """When each label map was written."""
    folder = cohort.results("")
    return {path.name[:5]: path.stat().st_mtime_ns for path in folder.glob("*_seg.nii.gz")}


def test_all_cases_are_done_with_the_bits_of_segment(cohort, expected):
    assert work(cohort.path) == 6
    assert label_maps(cohort) == expected
    found = cohort_status(cohort)
    assert (found.done, found.failed, found.waiting, found.workers) == (6, 0, 0, 0)
    assert work(cohort.path) == 0
    assert half_written(cohort) == []


def test_only_what_changed_is_redone(cohort, settings, cases, images):
    work(cohort.path)
    before = finished_at(cohort)
    # One has other content, one is only touched, one has another name.
    shutil.copy(images[1], images[0])
    os.utime(images[2])
    moved = Path(shutil.move(images[3], images[3].with_name("moved.nii.gz")))
    now = [*cases[:3], dataclasses.replace(cases[3], image=str(moved)), *cases[4:]]
    again = prepare_cohort(cohort.path, settings, now)
    queued = {ticket.case for ticket in TicketQueue(again).unfinished()}
    assert queued == {"ball0", "ball2", "ball3"}
    assert work(cohort.path) == 3
    after = finished_at(cohort)
    redone = {name for name in after if after[name] != before[name]}
    assert redone == {"ball0", "ball3"}
    maps = label_maps(cohort)
    assert maps["ball0"] == maps["ball1"]
    # Now all are as they should be, the touched one by its new time.
    prepare_cohort(cohort.path, settings, now)
    assert TicketQueue(again).unfinished() == set()


@pytest.mark.data
def test_of_a_folder_of_series_the_one_that_is_meant_counts(data_root, settings, tmp_path):
    """Another one of the same files is another image; files of others do not matter."""
    folder = tmp_path / "in"
    for name in ("mr_hippocrop_a", "mr_sagittal_rle"):
        shutil.copytree(data_root / "dicom_series" / name / "dicom", folder / name)
    first, second = (series.uid for series in find_series(folder))
    case = CohortCase("case0", str(folder), series=first)
    cohort = prepare_cohort(tmp_path / "out", settings, [case])
    assert work(cohort.path) == 1
    before = finished_at(cohort)
    assert len(before) == 1
    (folder / "mr_sagittal_rle" / "IM-0001-0004-0001.dcm").unlink()
    prepare_cohort(cohort.path, settings, [case])
    assert work(cohort.path) == 1
    assert finished_at(cohort) == before  # it was looked at, and is what it was
    prepare_cohort(cohort.path, settings, [dataclasses.replace(case, series=second)])
    assert work(cohort.path) == 1
    assert finished_at(cohort) != before
    # The table of contents of a disc stands for its folder.
    (folder / "DICOMDIR").touch()
    on_disc = {"image": folder / "DICOMDIR"}
    stamp = stamp_of(on_disc)
    (folder / "mr_hippocrop_a" / "1.dcm").unlink()
    assert stamp_of(on_disc) != stamp


def test_other_options_and_lost_results_are_redone(cohort, settings, cases):
    work(cohort.path)
    (cohort.results("ball4") / "ball4_seg.nii.gz").unlink()
    (cohort.path / "status" / "done" / "ball5.json").write_text("")  # by a power cut
    prepare_cohort(cohort.path, settings, cases)
    assert {ticket.case for ticket in TicketQueue(cohort).unfinished()} == {"ball4", "ball5"}
    other = dataclasses.replace(settings, choices={"settings": {"overlap": 0.1}})
    prepare_cohort(cohort.path, other, cases)
    assert len(TicketQueue(cohort).unfinished()) == 6


def test_another_bundle_is_noticed_before_a_case_is_done(cohort, tiny_bundle):
    metadata = tiny_bundle / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text() + "\n")
    with pytest.raises(BundleError, match="is not the one that the cohort was begun with"):
        work(cohort.path)
    assert cohort_status(cohort).waiting == 6


def test_a_run_with_other_settings_is_refused_while_one_is_at_work(cohort, settings, cases):
    other = dataclasses.replace(settings, choices={"clean": False})
    with TicketQueue(cohort).presence.of(Worker.here()):
        prepare_cohort(cohort.path, settings, cases)  # the same may join
        with pytest.raises(InputError, match="another run is at work"):
            prepare_cohort(cohort.path, other, cases)


def test_what_fails_stops_nothing_else_and_is_tried_when_it_may_succeed(
    cohort, settings, cases, images, expected
):
    images[0].write_bytes(images[0].read_bytes()[:500])
    missing = images[1].rename(images[1].with_name("away"))
    assert work(cohort.path) == 6
    found = cohort_status(cohort)
    assert (found.done, found.failed) == (4, 2)
    assert sorted(failure.example for failure in found.failures) == ["ball0", "ball1"]
    rows = {row["case"]: row for row in cohort_rows(cohort)}
    assert "there is no such file" in rows["ball1"]["error"]
    # The same again would fail again, so it is left; what came back is not.
    prepare_cohort(cohort.path, settings, cases)
    assert TicketQueue(cohort).unfinished() == set()
    missing.rename(images[1])
    prepare_cohort(cohort.path, settings, cases)
    assert work(cohort.path) == 1
    assert label_maps(cohort)["ball1"] == expected["ball1"]
    # And what is asked for by name is done whatever it was.
    assert requeue(cohort) == 1
    assert work(cohort.path) == 1
    with pytest.raises(UnknownNameError, match="did you mean 'ball"):
        requeue(cohort, ["bal2"])


def test_an_outdated_result_does_not_outlive_the_image_it_was_of(cohort, settings, cases, images):
    work(cohort.path)
    images[0].write_bytes(gzip.compress(b"no image"))
    images[1].unlink()
    prepare_cohort(cohort.path, settings, cases)
    work(cohort.path)
    assert cohort_status(cohort).failed == 2
    # Of the one that cannot be looked at nothing is known: what was made of it stays.
    assert sorted(label_maps(cohort)) == ["ball1", "ball2", "ball3", "ball4", "ball5"]


def test_what_is_asked_for_by_name_is_done_again_and_its_former_results_are_known(cohort, images):
    work(cohort.path)
    before = finished_at(cohort)
    (status,) = cohort.path.rglob("done/**/ball1.json")
    written = status.stat().st_mtime_ns
    assert requeue(cohort, ["ball1"]) == 1
    assert status.stat().st_mtime_ns == written  # or it would count as finished just now
    states = {row["case"]: row["state"] for row in cohort_rows(cohort)}
    assert [case for case, state in states.items() if state != "done"] == ["ball1"]
    assert work(cohort.path) == 1
    after = finished_at(cohort)
    assert [case for case in after if after[case] != before[case]] == ["ball1"]
    # An image that was exchanged for one that cannot be read.
    images[0].write_bytes(gzip.compress(b"no image"))
    requeue(cohort, ["ball0"])
    assert work(cohort.path) == 1
    assert cohort_status(cohort).failed == 1
    assert sorted(label_maps(cohort)) == ["ball1", "ball2", "ball3", "ball4", "ball5"]
    assert not (cohort.results("ball0") / "ball0_record.json").exists()


def test_results_of_other_formats_do_not_outlive_the_settings_they_were_of(cohort, settings, cases):
    work(cohort.path)
    folder = cohort.results("ball0")
    expected = sorted(folder.iterdir())
    (folder / "ball0_seg.dcm").write_bytes(b"of a former bundle")
    done = read_outcome(cohort, "ball0")
    files = {**done.files, "dicom-seg": "ball0_seg.dcm"}
    write_outcome(cohort, dataclasses.replace(done, settings="former", files=files))
    prepare_cohort(cohort.path, settings, cases)
    assert work(cohort.path) == 1
    assert sorted(folder.iterdir()) == expected


def test_failures_are_grouped_by_what_was_said(cohort, images):
    for image in images[:3]:
        image.unlink()
    work(cohort.path)
    (failure,) = cohort_status(cohort).failures
    assert (failure.count, failure.example) == (3, "ball0")
    assert str(images[0]) in failure.error
    assert "ball" not in failure.sentence


def test_a_case_that_kills_its_workers_is_given_up(cohort):
    """Two have died with it, and a third that is gone holds it."""
    held = cohort.path / "queue" / "claimed" / "gone" / "2.ball3"
    held.parent.mkdir(parents=True)
    (cohort.path / "queue" / "todo" / "0.ball3").rename(held)
    assert work(cohort.path) == 6
    found = cohort_status(cohort)
    assert (found.done, found.failed) == (5, 1)
    assert "3 workers died with this case" in found.failures[0].error


def test_an_interrupted_case_goes_back_to_the_queue(cohort, monkeypatch, expected):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "segment_to_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            work(cohort.path)
    found = cohort_status(cohort)
    assert (found.waiting, found.running, found.workers) == (6, 0, 0)
    assert work(cohort.path) == 6
    assert label_maps(cohort) == expected


def test_a_full_disk_stops_the_worker_and_fails_no_case(cohort, monkeypatch):
    def full(*_, **__):
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise OutputError("cannot write") from error

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "segment_to_files", full)
        with pytest.raises(OutputError):
            work(cohort.path)
    found = cohort_status(cohort)
    assert (found.waiting, found.failed) == (6, 0)


def test_an_image_that_changes_while_it_is_read_is_not_taken(cohort, monkeypatch, images):
    real = worker_module.segment_to_files

    def changing(segmenter, path, files, **options):
        os.utime(path)
        return real(segmenter, path, files, **options)

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "segment_to_files", changing)
        work(cohort.path)
    found = cohort_status(cohort)
    assert found.failed == 6
    assert "changed while they were read" in found.failures[0].error
    assert list(cohort.results("").iterdir()) == []
