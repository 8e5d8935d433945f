"""Fingerprints of data whose properties are known, and the cases that cannot be used."""

from __future__ import annotations

import json
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from volseg.errors import InputError
from volseg.io import as_image, write_image
from volseg.metrics import label_offset
from volseg.planning import (
    CaseFaultError,
    CaseFingerprint,
    LabelSize,
    fingerprint,
    fingerprint_case,
    fingerprint_cases,
    open_dataset,
)
from volseg.transforms import fit_standardization

from .conftest import write_case


def test_a_case_is_measured(tmp_path):
    labels = np.zeros((20, 24, 16), np.uint8)
    labels[2:5, 2:5, 2:5] = 1
    labels[10:12, 10:12, 10:12] = 1  # a second part
    labels[14, 14, 3:6] = 3
    values = np.zeros(labels.shape, np.float32)
    values[1:15, 2:16, 1:14] = np.random.default_rng(0).uniform(1, 2, (14, 14, 13))
    values[labels == 3] = 50
    write_case(tmp_path, "a", spacing=(1.0, 0.5, 3.0), labels=labels, values=values, flip=True)
    paths = (tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "a.nii.gz")
    found = fingerprint_case("a", *paths, values=range(4))
    assert (found.shape, found.content) == ((20, 24, 16), (14, 14, 13))
    assert found.content_share == pytest.approx(14 * 14 * 13 / (20 * 24 * 16))
    assert found.spacing == pytest.approx((1.0, 0.5, 3.0))
    assert (found.orientation, found.channels) == ("LAS", 1)
    assert found.labels == {1: LabelSize(35, 2, 27), 3: LabelSize(3, 1, 3)}
    (intensities,) = found.intensities
    inside = values[labels > 0].astype(float)
    assert (intensities.minimum, intensities.maximum) == (0, 50)
    assert intensities.mean == pytest.approx(inside.mean())
    assert intensities.std == pytest.approx(inside.std())
    assert intensities.percentile_99_5 == pytest.approx(np.percentile(inside, 99.5))
    assert found.label_offset is None  # sides of organs differ


def test_labels_beside_a_picture_are_measured(tmp_path):
    """A disc in colour, and its label a pixel to the right (x) and one above (y)."""
    apart = np.indices((60, 72)) - np.reshape([34, 30], (2, 1, 1))
    disc = ((apart**2).sum(0) < 14**2).astype(np.uint8) * 200
    Image.fromarray(np.stack([disc, disc // 2, disc // 3], -1)).save(tmp_path / "image.png")
    Image.fromarray(np.roll(disc, (-1, 1), axis=(0, 1))).save(tmp_path / "label.png")
    found = fingerprint_case("a", tmp_path / "image.png", tmp_path / "label.png")
    assert found.label_offset == pytest.approx((-1, 1), abs=0.04)
    assert CaseFingerprint.from_json(json.loads(json.dumps(found.as_json()))) == found
    Image.fromarray(np.zeros_like(disc)).save(tmp_path / "label.png")
    empty = fingerprint_case("a", tmp_path / "image.png", tmp_path / "label.png")
    assert empty.label_offset is None


def test_labels_beside_a_large_picture_are_measured_in_its_middle(tmp_path, monkeypatch):
    """What is computed there takes more memory than all else of a case."""
    shapes = []

    def measured(image, mask):
        shapes.append((image.shape, mask.shape))
        return label_offset(image, mask)

    monkeypatch.setattr("volseg.planning.case_fingerprint.label_offset", measured)
    apart = np.indices((1500, 72)) - np.reshape([760, 30], (2, 1, 1))
    disc = ((apart**2).sum(0) < 14**2).astype(np.uint8) * 200
    Image.fromarray(disc).save(tmp_path / "image.png")
    Image.fromarray(np.roll(disc, (-1, 1), axis=(0, 1))).save(tmp_path / "label.png")
    found = fingerprint_case("a", tmp_path / "image.png", tmp_path / "label.png")
    assert shapes == [((72, 1024), (72, 1024))]
    assert found.label_offset == pytest.approx((-1, 1), abs=0.04)


def test_pixels_of_pictures_count_as_one_whatever_their_files_say_of_millimetres(tmp_path):
    affine = np.diag([0.14, 0.14, 1.0])
    for name, values in {
        "image": np.random.default_rng(0).normal(size=(300, 280)).astype(np.float32),
        "label": np.ones((300, 280), np.uint8),
    }.items():
        write_image(as_image(values, affine), tmp_path / f"{name}.mha")
    found = fingerprint_case("a", tmp_path / "image.mha", tmp_path / "label.mha")
    assert (found.spacing, found.shape) == ((1.0, 1.0), (300, 280))


def test_axes_are_those_of_the_patient_whatever_the_file_has(tmp_path):
    write_case(tmp_path, "a", shape=(24, 20, 16), spacing=(1.0, 1.5, 2.0))
    for kind in ("images", "labels"):
        stored = nib.load(tmp_path / kind / "a.nii.gz")
        turned = stored.as_reoriented(
            nib.orientations.ornt_transform(
                nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt("SPL")
            )
        )
        nib.save(turned, tmp_path / kind / "b.nii.gz")
    first, second = (
        fingerprint_case(name, *(tmp_path / k / f"{name}.nii.gz" for k in ("images", "labels")))
        for name in "ab"
    )
    assert second.orientation == "SPL"
    assert (first.shape, first.content) == (second.shape, second.content) == ((24, 20, 16),) * 2
    assert first.spacing == pytest.approx(second.spacing)
    assert first.labels == second.labels


def test_a_case_without_foreground_is_measured_as_such(tmp_path):
    write_case(tmp_path, "a", labels=np.zeros((20, 20, 20), np.uint8))
    found = fingerprint_case("a", *(tmp_path / k / "a.nii.gz" for k in ("images", "labels")))
    assert found.labels == {}
    assert found.intensities[0].mean is None


def other_grid(data):
    stored = nib.load(data / "labels" / "case2.nii.gz")
    affine = stored.affine.copy()
    affine[0, 3] += 5
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj), affine), stored.get_filename())


def not_finite(data):
    stored = nib.load(data / "images" / "case2.nii.gz")
    values = stored.get_fdata(dtype=np.float32)
    values[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(values, stored.affine), stored.get_filename())


def unknown_label(data):
    labels = np.zeros((24, 20, 16), np.uint8)
    labels[2, 2, 2] = 9
    write_case(data, "case2", labels=labels)


def interpolated_label(data):
    stored = nib.load(data / "labels" / "case2.nii.gz")
    values = np.asarray(stored.dataobj).astype(np.float32) / 2
    nib.save(nib.Nifti1Image(values, stored.affine), stored.get_filename())


def damaged(data):
    path = data / "images" / "case2.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])


def duplicate(data):
    write_case(data, "case2", seed=0)


def other_channels(data):
    stored = nib.load(data / "images" / "case2.nii.gz")
    values = np.repeat(np.asarray(stored.dataobj)[..., np.newaxis], 2, axis=-1)
    nib.save(nib.Nifti1Image(values, stored.affine), stored.get_filename())


@pytest.mark.parametrize(
    ("spoil", "kind", "sentence"),
    [
        (other_grid, "geometry", "up to 5 mm apart"),
        (not_finite, "values", "1 values that are NaN"),
        (unknown_label, "labels", "holds 9, which no class stands for"),
        (interpolated_label, "labels", "not all whole numbers"),
        (damaged, "unreadable", "case2"),
        (duplicate, "duplicate", "the same image as case0"),
        (other_channels, "channels", "2 channels, but most have 3 and 1"),
    ],
)
def test_a_case_that_cannot_be_used_is_named_and_left_out(data, spoil, kind, sentence):
    spoil(data)
    found = fingerprint_cases(open_dataset(data).files, values=range(3))
    assert [case.case for case in found.cases] == [f"case{i}" for i in (0, 1, 3, 4, 5)]
    (fault,) = found.faults
    assert (fault.case, fault.kind) == ("case2", kind)
    assert sentence in fault.sentence
    kept = json.loads(found.text())
    assert tuple(map(CaseFingerprint.from_json, kept["cases"])) == found.cases
    assert kept["faults"] == [{"case": "case2", "kind": kind, "sentence": fault.sentence}]


def test_a_channel_that_tells_nothing_cannot_be_standardised_image_by_image(data):
    """The opacity of one picture, then of all."""
    noise = np.random.default_rng(0).normal(size=(6, 24, 20, 16)).astype(np.float32)
    for index, first in enumerate(noise):
        second = np.full_like(first, 255) if index == 0 else first[::-1]
        write_two_channels(data / "images" / f"case{index}.nii.gz", first, second)
    files = open_dataset(data).files
    found = fingerprint_cases(files)
    assert [case.case for case in found.cases] == [f"case{i}" for i in range(1, 6)]
    (fault,) = found.faults
    assert (fault.case, fault.kind) == ("case0", "values")
    assert "channel 2 of 2 of its image holds 255 everywhere" in fault.sentence
    assert len(fingerprint_cases(files, constant_channels=True).cases) == 6
    for index, first in enumerate(noise):
        opaque = np.full_like(first, 255)
        write_two_channels(data / "images" / f"case{index}.nii.gz", first, opaque)
    unknown = data / "labels" / "case0.nii.gz"
    unknown.write_bytes(b"rarer than the fault of the others")
    with pytest.raises(InputError, match="case1: channel 2 of 2 of its image holds 255"):
        fingerprint_cases(files)


def write_two_channels(path, first, second):
    affine = nib.load(path).affine
    nib.save(nib.Nifti1Image(np.stack([first, second], axis=-1), affine), path)


def test_no_more_cases_are_read_at_a_time_than_there_is_room_for(data, monkeypatch):
    """A case takes 8 bytes a voxel of its image and of its label; half of the memory is used."""
    pools, pool = [], fingerprint.ThreadPoolExecutor
    monkeypatch.setattr(
        fingerprint, "ThreadPoolExecutor", lambda number: pools.append(number) or pool(number)
    )
    monkeypatch.setattr(fingerprint, "usable_processors", lambda: 16)
    files, case = open_dataset(data).files, 8 * 2 * 24 * 20 * 16
    for room in (0.5, 3, 100):
        monkeypatch.setattr(fingerprint, "memory_of_job", lambda room=room: int(2 * room * case))
        assert len(fingerprint_cases(files).cases) == 6
    fingerprint_cases(files, workers=2)
    assert pools == [1, 3, 16, 2]


def test_without_a_usable_case_the_first_reason_is_told(data):
    with pytest.raises(
        InputError, match="no case can be used for training: case0: .*which no class"
    ):
        fingerprint_cases(open_dataset(data).files, values=[0, 7])


def test_a_missing_file_is_a_fault_of_its_case(data):
    with pytest.raises(CaseFaultError, match="absent"):
        fingerprint_case("a", data / "images" / "absent.nii.gz", data / "labels" / "case0.nii.gz")


def test_after_a_stop_only_what_was_not_seen_is_read(data, tmp_path):
    files = open_dataset(data).files
    journal = tmp_path / "seen.jsonl"

    def stop_after_three(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fingerprint_cases(files, workers=1, journal=journal, progress=stop_after_three)
    with journal.open("a") as file:
        file.write('{"stamp": "half a li')
    seen = [json.loads(line) for line in journal.read_text().splitlines()[:-1]]
    assert len(seen) == 3
    states = []
    resumed = fingerprint_cases(
        files, journal=journal, progress=lambda done, total: states.append((done, total))
    )
    assert states == [(3, 6), (4, 6), (5, 6), (6, 6)]
    assert resumed == fingerprint_cases(files)
    # A file that has changed is read again.
    write_case(data, "case1", seed=11)
    os.utime(data / "images" / "case1.nii.gz", ns=(1, 1))
    states.clear()
    changed = fingerprint_cases(
        files, journal=journal, progress=lambda done, total: states.append((done, total))
    )
    assert states == [(5, 6), (6, 6)]
    assert changed.cases[1].image_hash != resumed.cases[1].image_hash


def test_voxels_that_change_beside_their_header_are_measured_again(data, tmp_path):
    image = data / "images" / "case1.nii.gz"
    header, voxels = (image.with_name(f"case1.{suffix}") for suffix in ("mhd", "raw"))
    sitk.WriteImage(sitk.ReadImage(str(image)), str(header))
    image.unlink()
    files, journal = open_dataset(data).files, tmp_path / "seen.jsonl"
    before = fingerprint_cases(files, journal=journal)
    np.fromfile(voxels, np.float32)[::-1].tofile(voxels)
    os.utime(voxels, (1e9, 1e9))
    after = fingerprint_cases(files, journal=journal)
    same = [old == new for old, new in zip(before.cases, after.cases, strict=True)]
    assert same == [True, False, True, True, True, True]


def test_what_nobody_labelled_is_neither_label_nor_foreground(tmp_path):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:6, 2:6, 2:6], labels[10:] = 1, 255
    values = np.where(labels == 1, 50.0, 1000.0).astype(np.float32)
    values[2, 2, 2] = 60
    write_case(tmp_path, "a", labels=labels, values=values)
    files = [tmp_path / kind / "a.nii.gz" for kind in ("images", "labels")]
    found = fingerprint_case("a", *files, values=[0, 1, 255], ignore=255)
    assert found.labels.keys() == {1}
    assert found.intensities[0].mean == pytest.approx((63 * 50 + 60) / 64)
    fitted = fit_standardization(files[:1], method="foreground", labels=files[1:], ignore=255)
    assert fitted.channels[0].mean == pytest.approx(found.intensities[0].mean)
    journal = tmp_path / "journal.jsonl"
    with_it, without = (
        fingerprint_cases({"a": (files[0], files[1])}, ignore=ignore, journal=journal)
        for ignore in (255, None)
    )
    assert (with_it.label_values, without.label_values) == ([1], [1, 255])
