"""What Slicer's build, its catalogue and its other programs read of the extension."""

from __future__ import annotations

import ast
import ctypes
import json
import logging
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

ALLOWED = {"numpy", "slicer", "vtk"}


def python_files(extension: Path) -> list[Path]:
    return sorted(extension.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Names of the packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


def test_nothing_is_imported_that_slicer_does_not_have(extension):
    for path in python_files(extension):
        names = imported(ast.parse(path.read_text())) - set(sys.stdlib_module_names)
        allowed = ALLOWED | {"VolSegLib"} | ({"qt"} if path.name == "VolSeg.py" else set())
        assert names <= allowed, path


def test_slicer_s_oldest_python_can_read_it(extension):
    for path in python_files(extension):
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        future = [
            n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"
        ]
        assert future or path.name == "__init__.py", f"{path} evaluates its annotations"


def test_importing_the_library_loads_nothing_else(extension):
    pytest.importorskip("slicer_core", reason="slicer-core has no wheel for this platform")
    script = (
        "import sys, slicer, vtk, numpy\nfrom vtk.util import numpy_support\n"
        "before = set(sys.modules)\n"
        "import VolSegLib.settings\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded - set(sys.stdlib_module_names)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=extension / "VolSeg",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["VolSegLib"]


def listed(cmake: Path) -> set[Path]:
    """Files that a CMakeLists.txt names."""
    text = cmake.read_text().replace("${MODULE_NAME}", "VolSeg")
    files = {cmake.parent / name for name in re.findall(r"[\w/]+\.(?:py|png|ui|xml)\b", text)}
    name = re.search(r"SlicerMacroBuildScriptedCLI\(\s*NAME (\w+)", text)
    return files | (
        {cmake.parent / f"{name[1]}{end}" for end in (".py", ".xml")} if name else set()
    )


def test_cmake_lists_every_file_that_is_there_and_no_other(extension):
    for folder in ("VolSeg", "VolSegCLI"):
        there = {
            path
            for path in (extension / folder).rglob("*")
            if path.suffix in (".py", ".png", ".ui", ".xml")
        }
        assert listed(extension / folder / "CMakeLists.txt") == there
        assert f"add_subdirectory({folder})" in (extension / "CMakeLists.txt").read_text()


def test_cmake_describes_the_extension(extension):
    text = (extension / "CMakeLists.txt").read_text()
    assert text.index("project(VolSeg)") < text.index("find_package(Slicer REQUIRED)")
    values = dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]+)"\)', text))
    assert set(values) == {
        *("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION"),
        *("ICONURL", "SCREENSHOTURLS", "DEPENDS"),
    }
    for key in ("ICONURL", "SCREENSHOTURLS"):
        owner, branch, path = re.fullmatch(
            r"https://raw\.githubusercontent\.com/(\w+)/SlicerVolSeg/(\w+)/(.+)", values[key]
        ).groups()
        assert (extension / path).is_file()
    entry = json.loads((extension / "VolSeg.json").read_text())
    assert entry["scm_url"] == f"{values['HOMEPAGE']}.git"
    assert values["HOMEPAGE"] == f"https://github.com/{owner}/SlicerVolSeg"
    assert entry["scm_revision"] == branch
    assert entry["category"] == values["CATEGORY"]


def test_the_entry_of_the_catalogue_has_the_keys_of_its_schema(extension):
    """Of slicer-extension-catalog-entry-schema-v1.0.1, which has no others."""
    content = (extension / "VolSeg.json").read_bytes()
    assert b"\r" not in content
    entry = json.loads(content)
    kinds = {
        "$schema": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "category": str,
        "enabled": bool,
        "scm_revision": str,
        "scm_type": str,
        "scm_url": str,
        "tier": int,
    }
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(kinds)
    assert all(isinstance(value, kinds[key]) for key, value in entry.items())
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["tier"] in range(1, 6)


def test_ctk_reads_the_description_without_a_warning(extension, caplog):
    ctk_cli = pytest.importorskip("ctk_cli")
    with caplog.at_level(logging.WARNING):
        module = ctk_cli.CLIModule(str(extension / "VolSegCLI" / "VolSegCLI.xml"))
    assert caplog.records == []
    assert module.title == "VolSeg (command line)"
    positional, options, outputs = module.classifyParameters()
    assert [one.name for one in positional] == ["inputVolume", "outputLabels"]
    assert [one.longflag for one in options] == ["--bundle", "--device", "--program", "--memory"]
    assert outputs == []
    script = (extension / "VolSegCLI" / "VolSegCLI.py").read_text()
    for one in options:
        assert f'"{one.longflag}"' in script


def test_the_description_has_the_order_that_ctk_demands(extension):
    """Of ctkCmdLineModule.xsd, whose sequences are fixed."""
    root = ElementTree.parse(extension / "VolSegCLI" / "VolSegCLI.xml").getroot()
    of_all = ["category", "title", "description", "version", "license", "contributor"]
    assert [one.tag for one in root] == [*of_all, "acknowledgements", *["parameters"] * 3]
    order = ["name", "longflag", "index", "description", "label", "default", "channel", "element"]
    for group in root.iter("parameters"):
        assert [one.tag for one in group[:2]] == ["label", "description"]
        for parameter in group[2:]:
            tags = [one.tag for one in parameter]
            assert tags == sorted(tags, key=order.index)
            assert {"name", "description", "label"} < set(tags)
            assert ("longflag" in tags) != ("index" in tags)


def test_slicer_s_own_parser_takes_the_description(extension):
    parser = SlicersParser()
    text = (extension / "VolSegCLI" / "VolSegCLI.xml").read_text()
    assert parser.parse(text) == (0, "VolSeg (command line)")
    assert parser.parse(text.replace("longflag>", "shortflag>"))[0] != 0
    assert parser.parse(text.replace('encoding="utf-8"', 'encoding="latin-1"'))[0] != 0


class SlicersParser:
    """`ModuleDescriptionParser` of slicer-core, called as C++ would call it."""

    def __init__(self) -> None:
        found = find_spec("slicer_core")
        if found is None:
            pytest.skip("slicer-core has no wheel for this platform")
        folder = Path(found.origin).parent / "third_party.libs"
        library = ctypes.CDLL(str(folder / "libModuleDescriptionParser.so"))
        self._construct = library._ZN17ModuleDescriptionC1Ev
        self._parse = library._ZN23ModuleDescriptionParser5ParseERKSsR17ModuleDescription
        self._title = library._ZNK17ModuleDescription8GetTitleEv
        self._construct.argtypes = self._title.argtypes = [ctypes.c_void_p]
        self._parse.argtypes = [ctypes.c_void_p] * 3
        self._title.restype = ctypes.POINTER(ctypes.c_char_p)  # a std::string holds a pointer

    def parse(self, text: str) -> tuple[int, str]:
        """Return what the parser returns, 0 if it takes the description, and the title."""
        description = ctypes.create_string_buffer(1 << 16)  # more than a ModuleDescription needs
        self._construct(description)
        content = text.encode()

        class Representation(ctypes.Structure):  # of a std::string, as GCC had it before C++11
            _fields_ = (
                ("length", ctypes.c_size_t),
                ("capacity", ctypes.c_size_t),
                ("references", ctypes.c_size_t),
                ("characters", ctypes.c_char * (len(content) + 1)),
            )

        held = Representation(len(content), len(content), 1000, content)
        string = ctypes.c_void_p(ctypes.addressof(held) + Representation.characters.offset)
        this = ctypes.create_string_buffer(64)
        result = self._parse(this, ctypes.byref(string), description)
        return result, self._title(description)[0].decode()
