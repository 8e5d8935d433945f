"""Standardised uptake values, against the arithmetic of their definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from volseg.errors import InputError
from volseg.io import read_image

GE, PHILIPS = (0x0009, "GEMS_PETD_01"), (0x7053, "Philips PET Private Group")
# Kind and value by the number of the element.
Private = dict[int, tuple[str, str]]
DOSE, HALF_LIFE, WEIGHT = 3.7e8, 6586.2, 75.0


def pet(synthetic: Any, folder: Path, drug: dict[str, Any] | None = None, **tags: Any) -> Any:
    """Write a PET of an hour after the injection; tags of None are left out."""
    item = pydicom.Dataset()
    injected = {
        "RadionuclideTotalDose": DOSE,
        "RadionuclideHalfLife": HALF_LIFE,
        "RadiopharmaceuticalStartTime": "100000.00",
        **(drug or {}),
    }
    for name, value in injected.items():
        setattr(item, name, value)
    stated = {
        "Modality": "PT",
        "Units": "BQML",
        "CorrectedImage": ["NORM", "ATTN", "DECY"],
        "DecayCorrection": "START",
        "PatientWeight": WEIGHT,
        "SeriesDate": "20200102",
        "SeriesTime": "110000",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "110000",
        "RadiopharmaceuticalInformationSequence": [item],
        **tags,
    }
    series = synthetic(
        kind="uint16",
        bits=15,
        scale=lambda number: (0.5 + number, 0.0),
        tags={name: value for name, value in stated.items() if value is not None},
    )
    return series.write(folder).values


def add_private(folder: Path, creator: tuple[int, str], elements: Private) -> None:
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        block = dataset.private_block(*creator, create=True)
        for number, (kind, value) in elements.items():
            block.add_new(number, kind, value)
        dataset.save_as(file)


def after(seconds: float) -> float:
    return 1000 * WEIGHT / (DOSE * 2 ** (-seconds / HALF_LIFE))


@pytest.mark.parametrize(
    ("drug", "tags", "factor"),
    [
        ({}, {}, after(3600)),
        ({"RadiopharmaceuticalStartDateTime": "20200102103000"}, {}, after(1800)),
        ({"RadiopharmaceuticalStartTime": "230000"}, {"SeriesTime": "010000"}, after(7200)),
        ({}, {"DecayCorrection": "ADMIN"}, after(0)),
        # Made from another series later: the acquisition counts.
        ({}, {"SeriesTime": "170000"}, after(3600)),
        ({}, {"SeriesTime": "170000", "AcquisitionDateTime": "20200102103000.5"}, after(1800.5)),
        ({}, {"SeriesTime": "170000", "AcquisitionDateTime": "20200102103000+0100"}, after(1800)),
        ({}, {"Units": "GML"}, 1.0),
    ],
)
def test_values_are_activity_for_weight_and_dose(
    synthetic: Any, tmp_path: Path, drug: dict[str, Any], tags: dict[str, Any], factor: float
) -> None:
    activity = pet(synthetic, tmp_path, drug, **tags)
    image = read_image(tmp_path, suv=True)
    np.testing.assert_allclose(image.numpy(), activity * factor, rtol=1e-6)
    assert image.meta["unit"] == "g/ml"
    np.testing.assert_allclose(read_image(tmp_path).numpy(), activity, rtol=1e-6)


@pytest.mark.parametrize(
    ("creator", "elements", "tags", "factor"),
    [
        (GE, {0x0D: ("DT", "20200102104500")}, {"SeriesTime": "170000"}, after(2700)),
        (PHILIPS, {0x00: ("DS", "0.0005"), 0x09: ("DS", "0")}, {"Units": "CNTS"}, 5e-4),
        *(
            (
                PHILIPS,
                {0x00: ("DS", none), 0x09: ("DS", "1.5")},
                {"Units": "CNTS"},
                1.5 * after(3600),
            )
            for none in ("0", "")
        ),
    ],
)
def test_what_manufacturers_state_is_used(
    synthetic: Any,
    tmp_path: Path,
    creator: tuple[int, str],
    elements: Private,
    tags: dict[str, Any],
    factor: float,
) -> None:
    activity = pet(synthetic, tmp_path, **tags)
    add_private(tmp_path, creator, elements)
    np.testing.assert_allclose(read_image(tmp_path, suv=True).numpy(), activity * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("drug", "tags", "words"),
    [
        ({}, {"Units": None}, "states no Units"),
        ({}, {"Units": "PROPCPS"}, "Units are 'PROPCPS'"),
        ({}, {"Units": "GML", "SUVType": "LBM"}, "SUV of type LBM"),
        ({}, {"CorrectedImage": ["ATTN"]}, "not corrected for DECY"),
        ({}, {"DecayCorrection": "NONE"}, "DecayCorrection is 'NONE'"),
        ({}, {"PatientWeight": None}, "PatientWeight is None"),
        ({"RadionuclideTotalDose": 0}, {}, "RadionuclideTotalDose is 0"),
        ({"RadiopharmaceuticalStartTime": ""}, {}, "RadiopharmaceuticalStartTime"),
        ({"RadiopharmaceuticalStartDateTime": "20200102120000"}, {}, "after the injection"),
        ({}, {"SeriesTime": None, "AcquisitionTime": None}, "states no SeriesTime"),
    ],
)
def test_what_cannot_be_known_is_refused(
    synthetic: Any, tmp_path: Path, drug: dict[str, Any], tags: dict[str, Any], words: str
) -> None:
    pet(synthetic, tmp_path, drug, **tags)
    with pytest.raises(InputError, match=words) as caught:
        read_image(tmp_path, suv=True)
    assert "\n" not in str(caught.value)


def test_counts_need_a_factor(synthetic: Any, tmp_path: Path) -> None:
    pet(synthetic, tmp_path, Units="CNTS")
    add_private(tmp_path, PHILIPS, {0x00: ("DS", "0"), 0x09: ("DS", "")})
    with pytest.raises(InputError, match="'CNTS' without a factor"):
        read_image(tmp_path, suv=True)


def test_pet_beside_ct_becomes_suv_alone(synthetic: Any, tmp_path: Path) -> None:
    activity = pet(synthetic, tmp_path / "pet")
    synthetic(kind="int16").write(tmp_path / "ct")
    pair = {"ct": tmp_path / "ct", "pet": tmp_path / "pet"}
    image = read_image(pair, suv={"PET": True})
    np.testing.assert_array_equal(image.numpy()[:1], read_image(pair["ct"]).numpy())
    np.testing.assert_allclose(image.numpy()[1:], activity * after(3600), rtol=1e-6)
    with pytest.raises(InputError, match="cannot give SUV of .*ct"):
        read_image(pair, suv=True)
