"""Module of 3D Slicer that segments volumes with volseg; what it does is in `VolSegLib`."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any, Callable

import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin
from VolSegLib.bundles import Bundle
from VolSegLib.child_process import child_environment
from VolSegLib.errors import VolSegError
from VolSegLib.installation import Creation, plan_creation
from VolSegLib.settings import Settings, connect
from VolSegLib.steps import Driver, Progress, Steps
from VolSegLib.workflow import Service, segment_volumes

_MILLISECONDS_BETWEEN_STEPS = 50


class VolSeg(ScriptedLoadableModule):
    """What Slicer shows of the module in its menus."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "VolSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = ["Segmentations"]
        parent.contributors = ["The volseg team"]
        parent.helpText = (
            "Segments volumes with networks of volseg, which runs in an environment of its own, on "
            "this computer or on a server. Research software, not a medical device."
        )
        parent.acknowledgementText = "volseg is built on MONAI and PyTorch."


class VolSegLogic(ScriptedLoadableModuleLogic):
    """What the widget and scripts ask for; work is a generator of steps: see `VolSegLib.steps`."""

    def connect(self, settings: Settings) -> Steps[tuple[Service, list[Bundle]]]:
        """Step until volseg has listed its bundles, and return both."""
        return connect(settings, slicer.util.startupEnvironment())

    def plan_creation(self, source: str) -> Creation:
        """Return by which commands an environment for volseg would be made."""
        return plan_creation(source, child_environment(slicer.util.startupEnvironment()))

    def create(self, creation: Creation) -> Steps[str]:
        """Step until the environment is made, and return its program."""
        return creation.run(child_environment(slicer.util.startupEnvironment()))

    def segment(
        self,
        service: Service,
        bundle: Bundle,
        volumes: dict[str, Any],
        output: Any = None,
        options: dict[str, str] | None = None,
    ) -> Steps[Any]:
        """Step until volumes are segmented, and return the segmentation node."""
        return segment_volumes(service, bundle, volumes, output, options)


class VolSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel of the module: choices, Apply, progress, Cancel."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self) -> None:
        """Build the panel; nothing is looked for before the module is entered."""
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/VolSeg.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = VolSegLogic()
        self._service: Service | None = None
        self._settings_of_service = Settings()
        self._bundles: list[Bundle] = []
        self._selectors: dict[str, Any] = {}
        self._rows: Any = None
        self._driver = Driver(self._show_progress, self._ended)
        self._timer = qt.QTimer()
        self._timer.setInterval(_MILLISECONDS_BETWEEN_STEPS)
        self._timer.connect("timeout()", self._driver.step)
        for edit in (self.ui.ownBundleEdit, self.ui.sourceEdit):
            edit.filters = edit.Dirs
        self._restore_settings()
        self.ui.bundleSelector.connect("currentIndexChanged(int)", self._show_bundle)
        self.ui.outputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._keep_choices)
        self.ui.serverButton.connect("toggled(bool)", self._update_buttons)
        self.ui.connectButton.connect("clicked(bool)", self._connect)
        self.ui.createButton.connect("clicked(bool)", self._create)
        self.ui.applyButton.connect("clicked(bool)", self._apply)
        self.ui.cancelButton.connect("clicked(bool)", self._cancel)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._cancel)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self._show_choices)
        self._update_buttons()

    def enter(self) -> None:
        """List the bundles when the user first comes here."""
        self._show_choices()
        if self._service is None and not self._driver.running:
            self._look_for_bundles(failed=self._say)

    def cleanup(self) -> None:
        """End what runs, before the panel goes."""
        self._driver.cancel()
        self.removeObservers()

    def _settings(self) -> Settings:
        return Settings(
            on_server=self.ui.serverButton.checked,
            program=self.ui.programEdit.currentPath,
            own_bundle=self.ui.ownBundleEdit.currentPath,
            server=self.ui.serverEdit.text,
            token=self.ui.tokenEdit.text,
        )

    def _restore_settings(self) -> None:
        stored = qt.QSettings()
        on_server = stored.value("VolSeg/server_chosen", "no") == "yes"
        self.ui.serverButton.checked = on_server
        self.ui.localButton.checked = not on_server
        self.ui.programEdit.currentPath = stored.value("VolSeg/program", "")
        self.ui.ownBundleEdit.currentPath = stored.value("VolSeg/own_bundle", "")
        self.ui.serverEdit.text = stored.value("VolSeg/server", "")
        self.ui.tokenEdit.text = stored.value("VolSeg/token", "")
        self.ui.sourceEdit.currentPath = stored.value("VolSeg/source", _source_around())

    def _store_settings(self, settings: Settings) -> None:
        stored = qt.QSettings()
        stored.setValue("VolSeg/server_chosen", "yes" if settings.on_server else "no")
        stored.setValue("VolSeg/program", settings.program)
        stored.setValue("VolSeg/own_bundle", settings.own_bundle)
        stored.setValue("VolSeg/server", settings.server)
        stored.setValue("VolSeg/token", settings.token)
        stored.setValue("VolSeg/source", self.ui.sourceEdit.currentPath)

    def _connect(self, *_: Any) -> None:
        self._look_for_bundles(failed=self._fail)

    def _look_for_bundles(self, failed: Callable[[str], None]) -> None:
        settings = self._settings()
        self._store_settings(settings)
        self._service, self._settings_of_service, self._bundles = None, settings, []
        self.ui.bundleSelector.clear()
        self._start(self.logic.connect(settings), self._connected, failed)

    def _connected(self, found: tuple[Service, list[Bundle]]) -> None:
        self._service, self._bundles = found
        for bundle in self._bundles:
            self.ui.bundleSelector.addItem(bundle.name)
        self._say(f"{len(self._bundles)} bundles are there.")
        self._show_choices()

    def _show_choices(self, *_: Any) -> None:
        """Show what was chosen in this scene, and the bundle that was used last in another one."""
        parameters = self.logic.getParameterNode()
        used_last = qt.QSettings().value("VolSeg/bundle", "")
        self.ui.bundleSelector.setCurrentText(parameters.GetParameter("Bundle") or used_last)
        self._show_bundle(self.ui.bundleSelector.currentIndex)
        self.ui.outputSelector.setCurrentNode(parameters.GetNodeReference("Segmentation"))

    def _keep_choices(self, *_: Any) -> None:
        """Keep in the scene what is chosen, to be there again when it was saved and loaded."""
        scene = slicer.mrmlScene
        if not (scene.IsClosing() or scene.IsImporting()):
            parameters = self.logic.getParameterNode()
            selectors = {"Segmentation": self.ui.outputSelector}
            selectors |= {f"Volume{n}": one for n, one in enumerate(self._selectors.values())}
            for role, selector in selectors.items():
                node = selector.currentNode()
                parameters.SetNodeReferenceID(role, node.GetID() if node else None)
        self._update_buttons()

    def _show_bundle(self, index: int) -> None:
        bundle = self._bundles[index] if 0 <= index < len(self._bundles) else None
        self.ui.descriptionLabel.text = bundle.description if bundle else ""
        if self._rows is not None:
            self._rows.deleteLater()
        self._rows = qt.QWidget()
        self.ui.channelsWidget.layout().addWidget(self._rows)
        form = qt.QFormLayout(self._rows)
        form.setContentsMargins(0, 0, 0, 0)
        self._selectors = {}
        parameters = self.logic.getParameterNode()
        channels = bundle.channels if bundle else ()
        for place, channel in enumerate(channels):
            selector = _volume_selector()
            selector.setCurrentNode(parameters.GetNodeReference(f"Volume{place}"))
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._keep_choices)
            self._selectors[channel] = selector
            form.addRow("Volume:" if len(channels) == 1 else f"{channel}:", selector)
        self._update_buttons()

    def _create(self, *_: Any) -> None:
        try:
            creation = self.logic.plan_creation(self.ui.sourceEdit.currentPath)
        except VolSegError as error:
            self._fail(str(error))
            return
        question = f"This will be run, and needs some gigabytes:\n\n{creation.describe()}"
        if slicer.util.confirmOkCancelDisplay(question, "VolSeg"):
            self._start(self.logic.create(creation), self._created, self._fail)

    def _created(self, program: str) -> None:
        self.ui.localButton.checked = True
        self.ui.programEdit.currentPath = program
        self._connect()

    def _apply(self, *_: Any) -> None:
        if self._settings() != self._settings_of_service:  # not to send a volume anywhere else
            self._fail("where volseg runs was changed: press Connect first.")
            return
        bundle = self._bundles[self.ui.bundleSelector.currentIndex]
        qt.QSettings().setValue("VolSeg/bundle", bundle.name)
        self.logic.getParameterNode().SetParameter("Bundle", bundle.name)
        volumes = {name: selector.currentNode() for name, selector in self._selectors.items()}
        options = {"device": self.ui.deviceSelector.currentText}
        if self.ui.memoryEdit.text.strip():
            options["memory"] = self.ui.memoryEdit.text.strip()
        output = self.ui.outputSelector.currentNode()
        steps = self.logic.segment(self._service, bundle, volumes, output, options)
        self._start(steps, self._applied, self._fail)

    def _applied(self, segmentation: Any) -> None:
        self.ui.outputSelector.setCurrentNode(segmentation)
        remarks = segmentation.GetAttribute("VolSeg.Remarks")
        self._say("\n".join(filter(None, [f"{segmentation.GetName()} is there.", remarks])))

    def _cancel(self, *_: Any) -> None:
        if self._driver.running:
            self._driver.cancel()
            self._say("Cancelled; nothing was changed.")

    def _start(
        self, steps: Steps[Any], done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None:
        self._driver.start(steps, done, failed)
        self._timer.start()
        self._update_buttons()

    def _ended(self) -> None:
        self._timer.stop()
        self._update_buttons()

    def _fail(self, sentence: str) -> None:
        self._say(sentence)
        slicer.util.errorDisplay(sentence, "VolSeg")

    def _say(self, sentence: str) -> None:
        self.ui.statusLabel.text = sentence

    def _show_progress(self, progress: Progress) -> None:
        self._say(f"{progress.stage[:1].upper()}{progress.stage[1:]} ...")
        fraction = progress.fraction
        self.ui.progressBar.maximum = 0 if fraction is None else 100
        self.ui.progressBar.value = 0 if fraction is None else round(100 * fraction)

    def _update_buttons(self, *_: Any) -> None:
        running = self._driver.running
        chosen = [selector.currentNode() for selector in self._selectors.values()]
        self.ui.applyButton.enabled = not running and bool(chosen) and None not in chosen
        self.ui.cancelButton.enabled = running
        self.ui.connectButton.enabled = not running
        self.ui.createButton.enabled = not running
        self.ui.progressBar.visible = running
        for control in (self.ui.deviceSelector, self.ui.memoryEdit):  # a server decides for itself
            control.enabled = not self.ui.serverButton.checked


class VolSegTest(ScriptedLoadableModuleTest):
    """Runs the tests in `Testing/Python` inside of Slicer."""

    def runTest(self) -> None:
        """Run them all; they need no volseg."""
        slicer.mrmlScene.Clear()
        folder = Path(__file__).parent / "Testing" / "Python"
        suite = unittest.defaultTestLoader.discover(str(folder), pattern="*Test.py")
        outcome = unittest.TextTestRunner(verbosity=2).run(suite)
        self.assertTrue(outcome.wasSuccessful())


def _volume_selector() -> Any:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.addEnabled = False
    selector.removeEnabled = False
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    return selector


def _source_around() -> str:
    """Return the folder of volseg's source code where this module lies in it, else nothing."""
    folder = Path(__file__).resolve().parents[3]
    return str(folder) if (folder / "volseg" / "__init__.py").is_file() else ""
