"""Every real series that is one volume gets well-formed results that read back as written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from volseg.errors import GeometryError, InputError
from volseg.io.dicom import open_series
from volseg.io.dicom.segmentations import (
    Segment,
    SegmentMeasurements,
    read_dicom_seg,
    read_rtstruct,
    source_slices,
    write_dicom_preview,
    write_dicom_probabilities,
    write_dicom_seg,
    write_measurement_report,
    write_rtstruct,
)

Tool = Callable[..., str]
VOLUMES = [
    "dicom_series/bad_gantry_tilt/dicom",
    "dicom_series/classic_mr_philips/dicom",
    "dicom_series/ct_j2k_20slices/dicom",
    "dicom_series/ct_oblique_anisotropic/dicom",
    "dicom_series/enhanced_mr_philips/dicom",
    "dicom_series/mr_hippocrop_a/dicom",
    "dicom_series/mr_oblique_hitachi/dicom",
    "dicom_series/mr_rgb/dicom",
    "dicom_series/mr_sagittal_jpegls/dicom",
    "dicom_series/mr_sagittal_raw/dicom",
    "dicom_series/mr_sagittal_rle/dicom",
    "dicom_seg/dcmqi_24x38x3/image",
    "dicom_seg/dcmqi_24x38x3/image_multiframe.dcm",
]
SEGMENTS = (Segment(1, "one"), Segment(2, "two"))


@pytest.mark.data
@pytest.mark.parametrize("case", VOLUMES)
def test_results_of_a_real_series(
    data_root: Path,
    tmp_path: Path,
    tool: Tool,
    case: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    source = source_slices(open_series(data_root / case))
    random = np.random.default_rng(0)
    noise = random.normal(size=source.grid.shape)
    labels = (ndimage.gaussian_filter(noise, (12, 12, 1)) > 0).astype(int)
    labels[3:9, 5:16, :2] = 2
    about = {"source": source, "segments": SEGMENTS}
    names = ("seg", "labelmap", "probabilities", "rtstruct", "sr", "preview")
    paths = {name: tmp_path / f"{name}.dcm" for name in names}
    segmentation = write_dicom_seg(labels, paths["seg"], **about)
    write_dicom_seg(labels, paths["labelmap"], encoding="labelmap", compression="rle", **about)
    write_rtstruct(labels, paths["rtstruct"], **about)
    measured = [SegmentMeasurements(one.number, 12.5, mean=-3.25) for one in SEGMENTS]
    write_measurement_report(measured, paths["sr"], segmentation=segmentation, **about)
    shares = np.stack([labels == number for number in range(3)]).astype(np.float32) * 0.6
    write_dicom_probabilities(shares, paths["probabilities"], **about)
    picture = np.zeros((20, 30, 3), np.uint8)
    write_dicom_preview(picture, paths["preview"], source=source)
    for name in ("seg", "probabilities", "rtstruct", "sr", "preview"):
        assert "Error" not in tool("dciodvfy", paths[name])
    for stored in (
        read_dicom_seg(paths["seg"], source=source.grid),
        read_dicom_seg(paths["labelmap"], source=source.grid),
        read_rtstruct(paths["rtstruct"], source=source.grid),
    ):
        np.testing.assert_array_equal(stored.image.values[0], labels)
    kept = read_dicom_seg(paths["probabilities"], source=source.grid).image.values
    np.testing.assert_allclose(kept, shares[1:], atol=0.5 / 255 + 1e-6)


@pytest.mark.data
def test_frames_of_a_multi_frame_file_are_those_of_its_single_frame_twin(
    data_root: Path, tmp_path: Path
) -> None:
    """The same acquisition twice: a SEG of one reads on the other's grid, slice for slice."""
    series = data_root / "dicom_series"
    classic = source_slices(open_series(series / "classic_mr_philips" / "dicom"))
    enhanced = source_slices(open_series(series / "enhanced_mr_philips" / "dicom"))
    labels = np.random.default_rng(0).integers(0, 3, classic.grid.shape).astype(np.uint8)
    for writes, reads in ((classic, enhanced), (enhanced, classic)):
        write_dicom_seg(labels, tmp_path / "seg.dcm", source=writes)
        back = read_dicom_seg(tmp_path / "seg.dcm", source=reads.grid)
        np.testing.assert_array_equal(back.image.values[0], labels)


@pytest.mark.data
def test_series_that_are_no_volume_are_refused(data_root: Path) -> None:
    with pytest.raises(InputError, match="2 time points"):
        source_slices(open_series(data_root / "dicom_series/mr_4d_ge/dicom"))
    with pytest.raises(GeometryError, match="equal gaps"):
        source_slices(open_series(data_root / "dicom_series/bad_slice_increment/dicom"))
