import csv

import numpy as np
import pytest
from scipy import ndimage

from volseg.errors import GeometryError, InputError
from volseg.geometry import Affine
from volseg.metrics import label_statistics
from volseg.report import write_volumes_csv

# Oblique, with uneven spacing.
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * (0.5, 2, 3)
AFFINE[:3, 3] = (10, -20, 30)


def label_map() -> np.ndarray:
    labels = np.zeros((12, 10, 8), np.uint16)
    labels[2:5, 3, 1:4] = 1
    labels[7:9, 5:9, 6] = 300
    labels[11, 9, 7] = 300
    return labels


def test_agrees_with_scipy_and_the_affine():
    labels = label_map()
    rows = label_statistics(labels, AFFINE, names={0: "background", 1: "one", 7: "seven"})
    assert [(row.label, row.name) for row in rows] == [(1, "one"), (7, "seven"), (300, "300")]
    for row in (rows[0], rows[2]):
        assert row.voxels == (labels == row.label).sum()
        assert row.volume_mm3 == pytest.approx(row.voxels * 3.0)
        assert row.volume_ml == pytest.approx(row.voxels * 0.003)
        assert row.area_mm2 is None
        centre = ndimage.center_of_mass(labels == row.label)
        assert row.centroid_mm == pytest.approx((AFFINE @ [*centre, 1])[:3])
        indices = np.argwhere(labels == row.label)
        assert row.first_voxel == tuple(indices.min(axis=0))
        assert row.last_voxel == tuple(indices.max(axis=0))
    assert rows[1].voxels == 0
    assert rows[1].volume_ml == 0
    assert rows[1].centroid_mm is None
    assert rows == label_statistics(labels, Affine(AFFINE), names={1: "one", 7: "seven"})


def test_2d_has_an_area_and_no_volume():
    [row] = label_statistics(label_map()[:, :, 2] > 0, np.diag([0.5, 2, 1]))
    assert (row.voxels, row.area_mm2, row.volume_mm3, row.volume_ml) == (3, 3.0, None, None)
    assert row.centroid_mm == (1.5, 6.0)


def test_the_table_can_be_read_back(tmp_path):
    rows = label_statistics(label_map(), AFFINE, names={7: "seven, the empty one"})
    write_volumes_csv(rows, tmp_path / "new" / "volumes.csv")
    with (tmp_path / "new" / "volumes.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [entry["label"] for entry in table] == ["1", "7", "300"]
    assert table[1]["name"] == "seven, the empty one"
    assert table[1]["centroid_x_mm"] == ""
    assert float(table[0]["centroid_z_mm"]) == pytest.approx(rows[0].centroid_mm[2])
    assert [table[0][f"first_voxel_{axis}"] for axis in "xyz"] == ["2", "3", "1"]
    assert list(table[0])[:5] == ["label", "name", "voxels", "volume_mm3", "volume_ml"]


def test_an_empty_table_has_a_header(tmp_path):
    write_volumes_csv(label_statistics(label_map() * 0, AFFINE), tmp_path / "volumes.csv")
    assert (tmp_path / "volumes.csv").read_text().startswith("label,name,voxels")


def test_unusable_input_is_named():
    with pytest.raises(InputError, match="float32"):
        label_statistics(label_map().astype(np.float32), AFFINE)
    with pytest.raises(GeometryError):
        label_statistics(label_map()[0], AFFINE)
