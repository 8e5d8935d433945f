"""What Slicer's windows are made of, as far as the panel needs it, on real widgets of Qt.

PythonQt, which Slicer uses, is not on PyPI; its manners are put on widgets of PySide: properties
are attributes, signals are connected by their signature. Widgets of Slicer's own (qMRML, ctk) are
thin stand-ins that work on the real scene.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    Property,
    QEventLoop,
    QFile,
    QProcessEnvironment,
    QSettings,
    QTimer,
    Signal,
)
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QFormLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)


class LikePythonQt:
    """An object of PySide, used as PythonQt has it."""

    def __init__(self, wrapped: Any) -> None:
        object.__setattr__(self, "wrapped", wrapped)

    def __getattr__(self, name: str) -> Any:
        if name == "name":
            return self.wrapped.objectName()
        if self._is_property(name):
            return self.wrapped.property(name)
        value = getattr(self.wrapped, name)
        if not callable(value):
            return value
        return lambda *arguments: put_on(value(*map(taken_off, arguments)))

    def __setattr__(self, name: str, value: Any) -> None:
        assert self._is_property(name), f"{self.wrapped} has no property {name}"
        self.wrapped.setProperty(name, value)

    def connect(self, signature: str, slot: Callable[..., None]) -> None:
        signal, _, _ = signature.partition("(")
        getattr(self.wrapped, signal).connect(slot)

    def _is_property(self, name: str) -> bool:
        return bool(self.wrapped.metaObject().indexOfProperty(name) >= 0)


def put_on(value: Any) -> Any:
    """Put the manners of PythonQt on what is Qt's."""
    if isinstance(value, list):
        return [put_on(one) for one in value]
    return LikePythonQt(value) if hasattr(value, "metaObject") else value


def taken_off(value: Any) -> Any:
    return value.wrapped if isinstance(value, LikePythonQt) else value


def _plain(kind: str, name: str, default: Any) -> Any:
    """A property that is only kept."""
    return Property(
        kind,
        lambda self: self.__dict__.get(name, default),
        lambda self, value: self.__dict__.__setitem__(name, value),
    )


class qMRMLWidget(QWidget):  # noqa: N801
    """Hands the scene on to the selectors in it, as the connections of the .ui do in Slicer."""

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        for selector in self.findChildren(qMRMLNodeComboBox):
            selector.setMRMLScene(scene)


class ctkCollapsibleButton(QWidget):  # noqa: N801
    """Always open; its heading is painted by Slicer."""

    text = _plain("QString", "text", "")


class ctkPathLineEdit(QLineEdit):  # noqa: N801
    """A line without its button."""

    Dirs = 1
    filters = _plain("int", "filters", 0)
    currentPath = Property("QString", QLineEdit.text, QLineEdit.setText)  # noqa: N815


class qMRMLNodeComboBox(QComboBox):  # noqa: N801
    """Chooses among nodes of the real scene."""

    currentNodeChanged = Signal(object)  # noqa: N815
    nodeTypes = _plain("QStringList", "nodeTypes", ())  # noqa: N815
    addEnabled = _plain("bool", "addEnabled", True)  # noqa: N815
    removeEnabled = _plain("bool", "removeEnabled", True)  # noqa: N815
    renameEnabled = _plain("bool", "renameEnabled", False)  # noqa: N815
    noneEnabled = _plain("bool", "noneEnabled", False)  # noqa: N815
    noneDisplay = _plain("QString", "noneDisplay", "None")  # noqa: N815
    showChildNodeTypes = _plain("bool", "showChildNodeTypes", True)  # noqa: N815

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        self._scene = scene

    def currentNode(self) -> Any:  # noqa: N802
        return self._node

    def setCurrentNode(self, node: Any) -> None:  # noqa: N802
        assert node is None or (self._scene is not None and node.GetScene() is self._scene)
        assert node is None or any(node.IsA(kind) for kind in self.nodeTypes)
        self._node = node
        self.currentNodeChanged.emit(node)


def load_panel(path: Path) -> QWidget:
    """Load a .ui with the loader that Slicer uses."""
    loader = QUiLoader()
    for widget in (qMRMLWidget, qMRMLNodeComboBox, ctkCollapsibleButton, ctkPathLineEdit):
        loader.registerCustomWidget(widget)
    file = QFile(str(path))
    assert file.open(QFile.OpenModeFlag.ReadOnly)
    panel = loader.load(file)
    file.close()
    return panel


def application() -> QApplication:
    """The application that widgets need; there is one a process."""
    return QApplication.instance() or QApplication(["tests"])


def run_until(done: Callable[[], bool], seconds: int = 120) -> None:
    """Run Qt's loop of events until something is so."""
    loop, beat, limit = QEventLoop(), QTimer(), QTimer()
    beat.timeout.connect(lambda: loop.quit() if done() else None)
    limit.timeout.connect(lambda: loop.exit(1))
    beat.start(10)
    limit.start(seconds * 1000)
    assert loop.exec() == 0, f"not so after {seconds} s"


def make_modules(settings: Path) -> dict[str, types.ModuleType]:
    """The modules `qt` and `slicer.ScriptedLoadableModule`, which only the full Slicer has."""

    class Loader:
        def load(self, file: QFile) -> LikePythonQt:
            return LikePythonQt(load_panel(Path(file.fileName())))

    class File(QFile):
        ReadOnly = QFile.OpenModeFlag.ReadOnly

    qt = types.ModuleType("qt")
    vars(qt).update(
        QFile=File,
        QUiLoader=Loader,
        QTimer=lambda: LikePythonQt(QTimer()),
        QWidget=lambda: LikePythonQt(QWidget()),
        QFormLayout=lambda widget: LikePythonQt(QFormLayout(taken_off(widget))),
        QSettings=lambda: QSettings(str(settings), QSettings.Format.IniFormat),
    )

    class ScriptedLoadableModule:
        def __init__(self, parent: Any) -> None:
            self.parent = parent

    class ScriptedLoadableModuleWidget:
        def __init__(self, parent: Any = None) -> None:
            self.window = QWidget()
            self.layout = LikePythonQt(QVBoxLayout(self.window))

        def setup(self) -> None:
            pass

        def resourcePath(self, name: str) -> str:  # noqa: N802
            import VolSeg

            return str(Path(VolSeg.__file__).parent / "Resources" / name)

    class ScriptedLoadableModuleLogic:
        def getParameterNode(self) -> Any:  # noqa: N802
            import slicer

            tag, kind = type(self).__name__, "vtkMRMLScriptedModuleNode"
            node = slicer.mrmlScene.GetSingletonNode(tag, kind)
            if node is None:
                node = slicer.vtkMRMLScriptedModuleNode()
                node.SetSingletonTag(tag)
                node = slicer.mrmlScene.AddNode(node)
            return node

    classes = types.ModuleType("slicer.ScriptedLoadableModule")
    vars(classes).update(
        ScriptedLoadableModule=ScriptedLoadableModule,
        ScriptedLoadableModuleWidget=ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic=ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest=__import__("unittest").TestCase,
    )
    return {"qt": qt, "slicer.ScriptedLoadableModule": classes}


def make_app() -> types.SimpleNamespace:
    """What the module asks of `slicer.app`."""
    return types.SimpleNamespace(startupEnvironment=QProcessEnvironment.systemEnvironment)
