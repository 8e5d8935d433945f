"""From volumes in Slicer's scene to segmentations of them, in the same place in the world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from in_slicer import InThisProcess, matrix_of, result_of
from scipy.spatial.transform import Rotation

pytest.importorskip("slicer_core", reason="slicer-core has no wheel for this platform")
from slicer.util import arrayFromSegmentInternalBinaryLabelmap
from VolSegLib.errors import VolSegError
from VolSegLib.label_map import read_label_map
from VolSegLib.results import read_remarks
from VolSegLib.volumes import save_volume
from VolSegLib.workflow import segment_volumes

import slicer
from volseg.io import read_image, write_image
from volseg.quality import Flag, QualityReport

ROTATION = Rotation.from_euler("xyz", [0.3, -0.2, 0.5]).as_matrix()
SHEAR = np.array([[1, 0.1, 0], [0, 1, 0.3], [0, 0, 1]])
PLACES = {
    "straight": np.diag([1.0, 1.2, 1.5]),
    "left-handed": np.diag([-1.0, 1.2, 1.5]),
    "turned": ROTATION @ np.diag([0.8, 1.2, 1.5]),
    "turned and flipped": ROTATION @ np.diag([0.8, -1.2, -1.5])[:, [2, 0, 1]],
    "tilted": ROTATION @ SHEAR @ np.diag([1.0, 1.2, -1.5]),
}


def voxels_of_balls() -> np.ndarray:
    """Two balls in noise, ``(k, j, i)``."""
    k, j, i = np.meshgrid(*(np.arange(side) for side in (18, 24, 20)), indexing="ij")
    noise = np.random.default_rng(0).normal(100, 10, k.shape)
    balls = sum(
        50.0 * value * ((k - 9) ** 2 + (j - centre) ** 2 + (i - 10) ** 2 < 16)
        for value, centre in ((1, 7), (2, 16))
    )
    return (noise + balls).astype(np.float32)


def placed(directions: np.ndarray) -> np.ndarray:
    """An IJK to RAS matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions
    matrix[:3, 3] = [12.25, -30.1, 1 / 3]
    return matrix


def labels_in(node) -> np.ndarray:
    """The label map that all segments of a node share."""
    ids = node.GetSegmentation().GetSegmentIDs()
    found = [arrayFromSegmentInternalBinaryLabelmap(node, one) for one in ids]
    assert all(np.array_equal(one, found[0]) for one in found)
    return found[0]


@pytest.mark.parametrize("place", PLACES)
def test_labels_lie_on_the_voxels_they_were_made_of(scene, add_volume, in_this_process, place):
    matrix = placed(PLACES[place])
    volume = add_volume(voxels_of_balls(), matrix)
    (bundle,) = result_of(in_this_process.bundles())
    node = result_of(segment_volumes(in_this_process, bundle, {bundle.channels[0]: volume}))

    np.testing.assert_allclose(in_this_process.inputs[0], matrix, atol=1e-12)
    labels = labels_in(node)
    expected = in_this_process.segmenter.segment(voxels_of_balls().T, matrix)
    np.testing.assert_array_equal(labels, expected.numpy()[0].T)
    assert len(np.unique(labels)) == 3
    for kind in bundle.segments:
        image = node.GetBinaryLabelmapInternalRepresentation(kind.name)
        np.testing.assert_allclose(matrix_of(image), matrix, atol=1e-12)
        segment = node.GetSegmentation().GetSegment(kind.name)
        assert segment.GetLabelValue() == kind.value
        assert segment.GetName() == kind.name
        assert segment.GetColor() == pytest.approx(kind.color)


def test_slicer_exports_the_same_label_map(scene, add_volume, in_this_process):
    """Slicer's own way from segments to a label map, of values with names."""
    volume = add_volume(voxels_of_balls(), placed(PLACES["turned and flipped"]))
    (bundle,) = result_of(in_this_process.bundles())
    node = result_of(segment_volumes(in_this_process, bundle, {bundle.channels[0]: volume}))
    exported = slicer.vtkMRMLLabelMapVolumeNode()
    scene.AddNode(exported)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ExportAllSegmentsToLabelmapNode(node, exported)
    from slicer.util import arrayFromVolume

    found, matrix = arrayFromVolume(exported), matrix_of(exported)
    labels = labels_in(node)
    for value in (1, 2):
        at_ours = world(labels == value, matrix_of(volume))
        at_theirs = world(found == value, matrix)
        np.testing.assert_allclose(at_theirs, at_ours, atol=1e-6)


def world(mask: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """Where the voxels of a mask ``(k, j, i)`` lie, sorted."""
    places = np.argwhere(mask)[:, ::-1] @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    return places[np.lexsort(np.round(places, 3).T)]


def test_a_segmentation_goes_where_the_transform_of_its_volume_goes(
    scene, add_volume, in_this_process
):
    volume = add_volume(voxels_of_balls(), placed(PLACES["turned"]))
    transform = slicer.vtkMRMLLinearTransformNode()
    scene.AddNode(transform)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    (bundle,) = result_of(in_this_process.bundles())
    node = result_of(segment_volumes(in_this_process, bundle, {bundle.channels[0]: volume}))
    assert node.GetTransformNodeID() == transform.GetID()
    untouched = in_this_process.segmenter.segment(voxels_of_balls().T, matrix_of(volume))
    np.testing.assert_array_equal(labels_in(node), untouched.numpy()[0].T)


def test_segments_of_the_user_are_not_moved_under_another_transform(
    scene, add_volume, in_this_process
):
    volume = add_volume(voxels_of_balls(), placed(PLACES["straight"]))
    (bundle,) = result_of(in_this_process.bundles())
    volumes = {bundle.channels[0]: volume}
    node = result_of(segment_volumes(in_this_process, bundle, volumes))
    transform = slicer.vtkMRMLLinearTransformNode()
    scene.AddNode(transform)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    # What an earlier run made is made anew, so it goes where the volume is.
    result_of(segment_volumes(in_this_process, bundle, volumes, node))
    assert node.GetTransformNodeID() == transform.GetID()

    node.GetSegmentation().AddEmptySegment("mine", "mine")
    volume.SetAndObserveTransformNodeID(None)
    runs = len(in_this_process.inputs)
    with pytest.raises(VolSegError, match="segments mine of .* would move"):
        result_of(segment_volumes(in_this_process, bundle, volumes, node))
    assert node.GetTransformNodeID() == transform.GetID()
    assert len(in_this_process.inputs) == runs


def test_a_second_run_renews_its_segments_and_leaves_the_others(scene, add_volume, in_this_process):
    volume = add_volume(voxels_of_balls(), placed(PLACES["straight"]))
    (bundle,) = result_of(in_this_process.bundles())
    node = result_of(segment_volumes(in_this_process, bundle, {bundle.channels[0]: volume}))
    segmentation = node.GetSegmentation()
    segmentation.AddEmptySegment("mine", "mine")
    segmentation.GetSegment("anterior").SetColor(0.1, 0.2, 0.3)
    before = labels_in_two(node)

    flipped = add_volume(voxels_of_balls()[:, ::-1].copy(), placed(PLACES["turned"]), "other")
    again = result_of(segment_volumes(in_this_process, bundle, {bundle.channels[0]: flipped}, node))
    assert again is node
    assert list(segmentation.GetSegmentIDs()) == ["anterior", "posterior", "mine"]
    assert segmentation.GetSegment("anterior").GetColor() == pytest.approx((0.1, 0.2, 0.3))
    assert not np.array_equal(labels_in_two(node), before)
    image = node.GetBinaryLabelmapInternalRepresentation("posterior")
    np.testing.assert_allclose(matrix_of(image), matrix_of(flipped), atol=1e-12)


def test_surfaces_that_are_shown_follow_the_new_labels(scene, add_volume, in_this_process):
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    factory.RegisterConverterRule(slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule())
    (bundle,) = result_of(in_this_process.bundles())
    channel = bundle.channels[0]
    first = add_volume(voxels_of_balls(), placed(PLACES["straight"]))
    node = result_of(segment_volumes(in_this_process, bundle, {channel: first}))
    assert node.CreateClosedSurfaceRepresentation()
    far = placed(PLACES["straight"])
    far[:3, 3] += 1000
    second = add_volume(voxels_of_balls(), far, "far")
    result_of(segment_volumes(in_this_process, bundle, {channel: second}, node))
    for kind in bundle.segments:
        bounds = node.GetClosedSurfaceInternalRepresentation(kind.name).GetBounds()
        places = world(labels_in(node) == kind.value, far)
        low, high = places.min(0), places.max(0)
        np.testing.assert_allclose(bounds[::2], low, atol=2)
        np.testing.assert_allclose(bounds[1::2], high, atol=2)


def test_surfaces_of_the_user_are_not_overwritten(scene, add_volume, in_this_process):
    """A segmentation that was loaded from surfaces or contours holds nothing else."""
    import vtk

    ball = vtk.vtkSphereSource()
    ball.Update()
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName("drawn")
    scene.AddNode(node)
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "mine", (0, 1, 0), "mine")
    points = node.GetClosedSurfaceInternalRepresentation("mine").GetNumberOfPoints()
    (bundle,) = result_of(in_this_process.bundles())
    volumes = {bundle.channels[0]: add_volume(voxels_of_balls(), placed(PLACES["straight"]))}
    with pytest.raises(VolSegError, match="segments of drawn are stored as Closed surface"):
        result_of(segment_volumes(in_this_process, bundle, volumes, node))
    assert in_this_process.inputs == []
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["mine"]
    assert node.GetClosedSurfaceInternalRepresentation("mine").GetNumberOfPoints() == points
    node.GetSegmentation().RemoveAllSegments()  # nothing is there to be lost
    result_of(segment_volumes(in_this_process, bundle, volumes, node))
    assert len(np.unique(labels_in(node))) == 3


def labels_in_two(node) -> np.ndarray:
    return arrayFromSegmentInternalBinaryLabelmap(node, "anterior").copy()


def test_terminology_is_what_slicer_itself_would_write(scene, add_volume, in_this_process):
    from VolSegLib.bundles import read_bundles
    from VolSegLib.terminology import terminology_entry

    from volseg.bundle import describe_bundle, open_bundle

    (bundle,) = read_bundles([describe_bundle(open_bundle("hippocampus_unet"))])
    logic = slicer.vtkSlicerTerminologiesModuleLogic
    for kind, side in zip(bundle.segments, ("Anterior", "Posterior"), strict=True):
        text = terminology_entry(kind)
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(text, entry)
        assert entry.GetTypeObject().GetCodeValue() == "5366008"
        assert entry.GetTypeObject().GetCodingSchemeDesignator() == "SCT"
        assert entry.GetTypeModifierObject().GetCodeMeaning() == side
        assert logic.SerializeTerminologyEntry(entry) == text


def test_what_cannot_be_segmented_is_refused_with_a_sentence(scene, add_volume, in_this_process):
    (bundle,) = result_of(in_this_process.bundles())
    channel = bundle.channels[0]

    def refusal(*volumes) -> str:
        named = dict(zip((channel, "flair"), volumes, strict=False))
        takes = replace(bundle, channels=tuple(named))
        with pytest.raises(VolSegError) as raised:
            result_of(segment_volumes(in_this_process, takes, named))
        return str(raised.value)

    with pytest.raises(VolSegError, match="takes volumes for MR.* but none were given"):
        result_of(segment_volumes(in_this_process, bundle, {}))

    assert refusal(None) == f"choose a volume for {channel}."
    empty = slicer.vtkMRMLScalarVolumeNode()
    empty.SetName("nothing")
    scene.AddNode(empty)
    assert "nothing is empty" in refusal(empty)
    first = add_volume(voxels_of_balls(), placed(PLACES["straight"]))
    assert "same grid" in refusal(first, add_volume(voxels_of_balls(), placed(PLACES["turned"])))
    moved = add_volume(voxels_of_balls(), placed(PLACES["straight"]), "moved")
    transform = slicer.vtkMRMLLinearTransformNode()
    scene.AddNode(transform)
    moved.SetAndObserveTransformNodeID(transform.GetID())
    assert "different transforms" in refusal(first, moved)
    colours = add_volume(voxels_of_balls(), placed(PLACES["straight"]), "colours")
    colours.GetImageData().AllocateScalars(10, 3)
    assert "3 values a voxel" in refusal(colours)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_volume_that_changes_meanwhile_gets_no_labels(scene, add_volume, in_this_process):
    (bundle,) = result_of(in_this_process.bundles())
    volume = add_volume(voxels_of_balls(), placed(PLACES["straight"]))

    def changed_by(change) -> None:
        steps = segment_volumes(in_this_process, bundle, {bundle.channels[0]: volume})
        while next(steps) is not None:  # its file is written
            pass
        change()
        with pytest.raises(VolSegError, match="scan was changed or removed"):
            result_of(steps)

    changed_by(lambda: volume.SetSpacing(3, 3, 3))
    changed_by(lambda: scene.RemoveNode(volume))
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_sentences_call_volumes_by_their_names(scene, add_volume, in_this_process):
    (bundle,) = result_of(in_this_process.bundles())
    flat = add_volume(np.full((18, 24, 20), 7, np.int16), placed(PLACES["straight"]), "flat")
    with pytest.raises(VolSegError, match="flat: the image is constant") as raised:
        result_of(segment_volumes(in_this_process, bundle, {bundle.channels[0]: flat}))
    assert ".nrrd" not in str(raised.value)


def test_what_stands_out_stays_with_the_segmentation(scene, add_volume, in_this_process):
    (bundle,) = result_of(in_this_process.bundles())
    volume = add_volume(voxels_of_balls(), placed(PLACES["straight"]))
    flags = (
        Flag("present", "alarm", "nothing was segmented."),
        Flag("spacing", "warning", "the voxels are large."),
        Flag("border", "note", "anterior reaches the edge."),
    )
    report = QualityReport(flags, checked=())

    class Doubtful:
        def segment(self, *given):
            result = yield from in_this_process.segment(*given)
            return replace(result, remarks=read_remarks(report.as_json()["flags"]))

    node = result_of(segment_volumes(Doubtful(), bundle, {bundle.channels[0]: volume}))
    assert node.GetAttribute("VolSeg.Bundle") == f"{bundle.name} {bundle.version}"
    assert node.GetAttribute("VolSeg.Remarks") == "nothing was segmented.\nthe voxels are large."


def test_a_volume_that_cannot_be_written_is_a_sentence(add_volume, tmp_path):
    volume = add_volume(voxels_of_balls(), placed(PLACES["straight"]))
    with pytest.raises(VolSegError, match="cannot be written"):
        save_volume(volume, tmp_path / "absent" / "image.nrrd")


def test_label_maps_are_read_as_they_are_stored(tmp_path):
    rng = np.random.default_rng(1)
    from volseg.io import as_image, write_segmentation

    for dtype in (np.uint8, np.uint16):
        labels = rng.integers(0, np.iinfo(dtype).max, (5, 4, 3)).astype(dtype)
        for place, directions in PLACES.items():
            path = tmp_path / f"{place}.nii.gz"
            like = as_image(np.zeros(labels.shape, np.float32), placed(directions))
            write_segmentation(labels, path, like=like)
            found, matrix = read_label_map(path)
            np.testing.assert_array_equal(found, labels.T)
            np.testing.assert_allclose(matrix, placed(directions), rtol=1e-6, atol=1e-5)


def test_other_files_than_label_maps_are_refused(tmp_path):
    import gzip

    from volseg.io import as_image

    image = tmp_path / "image.nii.gz"
    write_image(as_image(np.zeros((3, 3, 3), np.float32), np.eye(4)), image)
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(gzip.compress(gzip.decompress(image.read_bytes())[:340]))
    text = tmp_path / "text.nii.gz"
    text.write_text("no image")
    for path in (image, cut, text, tmp_path / "absent.nii.gz"):
        with pytest.raises(VolSegError, match=r"cannot be read|not a label map"):
            read_label_map(path)


@pytest.mark.data
def test_a_real_scan_gives_the_label_map_of_its_file(scene, data_root, tmp_path):
    """Loaded by a reader of Slicer, segmented through the scene: the same bits as from the file."""
    path = sorted((data_root / "msd_hippocampus").glob("images/*.nii.gz"))[0]
    volume = slicer.vtkMRMLScalarVolumeNode()
    scene.AddNode(volume)
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(volume)
    service = InThisProcess("hippocampus_unet")
    (bundle,) = result_of(service.bundles())
    node = result_of(segment_volumes(service, bundle, {bundle.channels[0]: volume}))
    service.segmenter.segment_file(path, tmp_path / "labels.nii.gz")
    expected = read_image(tmp_path / "labels.nii.gz")
    found = labels_in(node)
    assert set(np.unique(found)) == {0, 1, 2}
    ours = as_ras(found.T, matrix_of(volume))
    theirs = as_ras(expected.numpy()[0], np.asarray(expected.affine))
    np.testing.assert_array_equal(ours, theirs)


def as_ras(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Labels with axes turned to run right, anterior, superior: readers turn them differently."""
    import nibabel as nib

    return np.asarray(nib.as_closest_canonical(nib.Nifti1Image(labels, affine)).dataobj)
