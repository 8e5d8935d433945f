"""The panel of the module: its .ui, and what its buttons do."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from in_slicer import InThisProcess

from volseg.io import as_image

pytest.importorskip("slicer_core", reason="slicer-core has no wheel for this platform")
import slicer

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6.QtUiTools", exc_type=ImportError, reason="Qt cannot be loaded here")
import windows


@pytest.fixture(scope="module")
def application():
    application = windows.application()
    yield application
    application.shutdown()  # what draws without windows does not find one


@pytest.fixture
def said(monkeypatch) -> SimpleNamespace:
    """What the user is shown in windows, and answers."""
    said = SimpleNamespace(errors=[], questions=[], answer=True)
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_: said.errors.append(text))

    def ask(text, *_):
        said.questions.append(text)
        return said.answer

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    return said


@pytest.fixture
def module(application, scene, said, monkeypatch, tmp_path):
    """VolSeg.py, imported as Slicer does."""
    for name, one in windows.make_modules(tmp_path / "settings.ini").items():
        monkeypatch.setitem(sys.modules, name, one)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer, "app", windows.make_app(), raising=False)
    monkeypatch.setattr(slicer, "qMRMLNodeComboBox", new_selector, raising=False)
    monkeypatch.delitem(sys.modules, "VolSeg", raising=False)
    import VolSeg

    yield VolSeg
    sys.modules.pop("VolSeg", None)


def new_selector():
    return windows.LikePythonQt(windows.qMRMLNodeComboBox())


@pytest.fixture
def panel(module):
    """A panel that was set up, and is taken down."""
    panel = module.VolSegWidget()
    panel.setup()
    yield panel
    panel.cleanup()


@pytest.fixture
def connected(panel, in_this_process: InThisProcess):
    """A panel with the bundle of a volseg in this process."""

    def connect(_):
        bundles = yield from in_this_process.bundles()
        return in_this_process, bundles

    panel.logic.connect = connect
    panel.enter()
    wait_for(panel)
    return panel


def wait_for(panel, at_each_beat=lambda: None) -> None:
    """Let Qt's own timers drive the panel until nothing runs."""
    windows.run_until(lambda: at_each_beat() or not panel._driver.running)


def a_volume(add_volume, seed=0):
    voxels = np.random.default_rng(seed).normal(100, 10, (16, 18, 20)).astype(np.float32)
    return add_volume(voxels, np.diag([-1.0, 1.0, 1.2, 1.0]))


def test_the_loader_takes_the_file_without_a_word(application, extension):
    from PySide6.QtCore import qInstallMessageHandler

    words: list[str] = []
    before = qInstallMessageHandler(lambda *parts: words.append(parts[-1]))
    try:
        panel = windows.load_panel(extension / "VolSeg" / "Resources" / "UI" / "VolSeg.ui")
    finally:
        qInstallMessageHandler(before)
    assert [word for word in words if not word.startswith("QObject::connect")] == []
    tree = ElementTree.parse(extension / "VolSeg" / "Resources" / "UI" / "VolSeg.ui")
    names = [one.get("name") for one in tree.iter("widget")]
    assert len(set(names)) == len(names)
    for name in names[1:]:
        assert panel.findChild(windows.QWidget, name) is not None, name
    # All classes of Slicer's own are declared, and connections join what is there.
    declared = {one.findtext("class") for one in tree.iter("customwidget")}
    used = {one.get("class") for one in tree.iter("widget")}
    assert {one for one in used if not one.startswith("Q")} == declared
    for one in tree.iter("connection"):
        assert {one.findtext("sender"), one.findtext("receiver")} <= set(names)


def test_every_control_of_the_file_is_used(extension):
    tree = ElementTree.parse(extension / "VolSeg" / "Resources" / "UI" / "VolSeg.ui")
    code = (extension / "VolSeg" / "VolSeg.py").read_text()
    controls = ("QPushButton", "QComboBox", "QLineEdit", "ctkPathLineEdit", "qMRMLNodeComboBox")
    for one in tree.iter("widget"):
        if one.get("class") in controls:
            assert f"self.ui.{one.get('name')}." in code, one.get("name")


def test_the_module_introduces_itself(module):
    parent = SimpleNamespace()
    module.VolSeg(parent)
    assert (parent.title, parent.categories) == ("VolSeg", ["Segmentation"])
    assert "not a medical device" in parent.helpText


def test_the_tests_for_inside_of_slicer_pass(module):
    module.VolSegTest("runTest").runTest()


def test_apply_waits_for_a_volume(connected, add_volume):
    ui = connected.ui
    assert ui.bundleSelector.currentText == "tiny_bundle"
    assert ui.descriptionLabel.text
    assert (ui.applyButton.enabled, ui.cancelButton.enabled) == (False, False)
    (selector,) = connected._selectors.values()
    selector.setCurrentNode(a_volume(add_volume))
    assert ui.applyButton.enabled
    selector.setCurrentNode(None)
    assert not ui.applyButton.enabled


def test_apply_makes_a_segmentation_and_then_renews_it(connected, add_volume, said, scene):
    ui = connected.ui
    (selector,) = connected._selectors.values()
    selector.setCurrentNode(a_volume(add_volume))
    ui.applyButton.click()
    assert (ui.applyButton.enabled, ui.cancelButton.enabled) == (False, True)
    wait_for(connected)
    assert said.errors == []
    node = ui.outputSelector.currentNode()
    assert node.GetName() == "scan tiny_bundle"
    assert list(node.GetSegmentation().GetSegmentIDs()) == ["anterior", "posterior"]
    assert ui.statusLabel.text.splitlines()[0] == "scan tiny_bundle is there."
    remarks = node.GetAttribute("VolSeg.Remarks")
    assert ui.statusLabel.text.splitlines()[1:] == remarks.splitlines()
    assert (ui.applyButton.enabled, ui.cancelButton.enabled) == (True, False)
    ui.applyButton.click()
    wait_for(connected)
    assert ui.outputSelector.currentNode() is node
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_a_volume_goes_only_where_the_panel_says(connected, add_volume, said):
    (selector,) = connected._selectors.values()
    selector.setCurrentNode(a_volume(add_volume))
    connected.ui.serverEdit.text = "http://localhost:1"
    connected.ui.serverButton.checked = True
    connected.ui.applyButton.click()
    assert not connected._driver.running
    assert said.errors == ["where volseg runs was changed: press Connect first."]
    connected.ui.connectButton.click()
    wait_for(connected)
    connected.ui.applyButton.click()
    assert connected._driver.running


def test_cancel_and_closing_the_scene_end_what_runs(connected, add_volume, scene):
    (selector,) = connected._selectors.values()
    selector.setCurrentNode(a_volume(add_volume))
    for end in (connected.ui.cancelButton.click, lambda: scene.Clear(0)):
        connected.ui.applyButton.click()
        assert connected._driver.running
        end()
        assert not connected._driver.running
        assert connected.ui.statusLabel.text == "Cancelled; nothing was changed."
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def result_in_steps(result):
    yield None
    return result


def test_a_bundle_with_several_channels_asks_for_each(connected, add_volume, in_this_process):
    (bundle,) = connected._bundles
    first, second = a_volume(add_volume), a_volume(add_volume)
    next(iter(connected._selectors.values())).setCurrentNode(first)
    two = replace(bundle, name="two", channels=("t1", "flair"))
    connected.logic.connect = lambda _: result_in_steps((in_this_process, [bundle, two]))
    connected.ui.connectButton.click()
    wait_for(connected)
    connected.ui.bundleSelector.setCurrentText("two")
    assert [one.currentNode() for one in connected._selectors.values()] == [first, None]
    form = connected._rows.wrapped.layout()
    labels = [form.itemAt(row, form.ItemRole.LabelRole).widget().text() for row in range(2)]
    assert labels == ["t1:", "flair:"]
    assert not connected.ui.applyButton.enabled
    connected._selectors["flair"].setCurrentNode(second)
    assert connected.ui.applyButton.enabled


def test_choices_are_saved_with_the_scene(connected, add_volume, scene, tmp_path):
    (selector,) = connected._selectors.values()
    selector.setCurrentNode(a_volume(add_volume))
    connected.ui.applyButton.click()
    wait_for(connected)
    scene.SetRootDirectory(str(tmp_path))
    for node in (selector.currentNode(), connected.ui.outputSelector.currentNode()):
        storage = node.CreateDefaultStorageNode()
        scene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
        storage.SetFileName(str(tmp_path / f"{node.GetID()}.nrrd"))
        assert storage.WriteData(node)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    scene.Clear(0)
    connected._show_choices()
    assert connected.ui.outputSelector.currentNode() is None
    assert not connected.ui.applyButton.enabled
    assert scene.Import()  # and the panel hears of it
    (selector,) = connected._selectors.values()
    assert selector.currentNode().GetName() == "scan"
    assert connected.ui.outputSelector.currentNode().GetName() == "scan tiny_bundle"
    assert connected.ui.applyButton.enabled


def test_what_goes_wrong_is_shown(panel, said, tmp_path, monkeypatch):
    panel.ui.programEdit.currentPath = str(tmp_path / "absent")
    panel.enter()
    wait_for(panel)
    sentence = panel.ui.statusLabel.text
    assert sentence.startswith(f"{tmp_path}/absent is not volseg")
    assert said.errors == []  # nobody asked for anything yet
    panel.ui.connectButton.click()
    wait_for(panel)
    assert said.errors == [sentence]
    assert panel.ui.connectButton.enabled
    assert panel.ui.deviceSelector.enabled
    panel.ui.serverButton.checked = True
    assert not panel.ui.deviceSelector.enabled
    panel.ui.serverEdit.text = "nowhere"
    panel.ui.connectButton.click()
    wait_for(panel)
    assert said.errors[-1].startswith("'nowhere' is not the address of a server")


def test_choices_are_kept_for_the_next_time(module, panel, tmp_path):
    panel.ui.programEdit.currentPath = str(tmp_path / "absent")
    panel.ui.serverEdit.text = "http://localhost:1"
    panel.ui.tokenEdit.text = "secret"
    panel.ui.serverButton.checked = True
    panel.ui.connectButton.click()
    panel._cancel()
    later = module.VolSegWidget()
    later.setup()
    assert later._settings() == panel._settings()
    assert later.ui.serverButton.checked
    later.cleanup()


def test_commands_are_shown_before_they_are_run(panel, said, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    panel.ui.sourceEdit.currentPath = ""
    panel.ui.createButton.click()
    assert said.errors[-1].startswith("say what to install")
    panel.ui.sourceEdit.currentPath = str(tmp_path)
    said.answer = False
    panel.ui.createButton.click()
    assert str(tmp_path / ".volseg" / "slicer-environment") in said.questions[-1]
    assert not panel._driver.running
    assert not (tmp_path / ".volseg").exists()


def test_two_channels_go_all_the_way_through_a_program(
    panel, add_volume, said, volseg_program, two_channel_bundle
):
    """With volseg in a process of its own, found, listed and run by what the panel shows."""
    panel.ui.programEdit.currentPath = volseg_program
    panel.ui.ownBundleEdit.currentPath = str(two_channel_bundle)
    panel.ui.deviceSelector.setCurrentText("cpu")
    panel.enter()
    wait_for(panel)
    assert said.errors == []
    names = [panel.ui.bundleSelector.itemText(i) for i in range(panel.ui.bundleSelector.count)]
    assert {"hippocampus_unet", "two_channel_bundle"} <= set(names)
    assert "membrane_unet" not in names  # of pictures
    panel.ui.bundleSelector.setCurrentText("two_channel_bundle")
    matrix = np.diag([-1.0, 1.0, 1.2, 1.0])
    volumes = {"flair": a_volume(add_volume, seed=1), "t1": a_volume(add_volume, seed=2)}
    for channel, volume in volumes.items():
        panel._selectors[channel].setCurrentNode(volume)
    panel.ui.applyButton.click()
    shown: set[str] = set()
    wait_for(panel, lambda: shown.add(panel.ui.statusLabel.text))
    assert said.errors == []
    assert {"Loading ...", "Segmenting ..."} <= shown
    node = panel.ui.outputSelector.currentNode()
    found = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "anterior")
    from volseg import Segmenter

    images = {
        channel: as_image(slicer.util.arrayFromVolume(volume).T, matrix)
        for channel, volume in volumes.items()
    }
    expected = Segmenter(two_channel_bundle, device="cpu").segment(images)
    np.testing.assert_array_equal(found, expected.numpy()[0].T)
