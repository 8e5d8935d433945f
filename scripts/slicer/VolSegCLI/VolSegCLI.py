#!/usr/bin/env python-real
"""Command-line module of 3D Slicer: a volume in, its label map out, through volseg."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# In the source tree, and where Slicer installs modules.
sys.path[:0] = [str(_HERE.parent / "VolSeg"), str(_HERE.parent / "qt-scripted-modules")]

from VolSegLib.child_process import child_environment  # noqa: E402
from VolSegLib.errors import VolSegError  # noqa: E402
from VolSegLib.installation import find_volseg  # noqa: E402
from VolSegLib.local import LocalVolSeg  # noqa: E402
from VolSegLib.steps import Steps  # noqa: E402

_NAME = "VolSeg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module as Slicer does, and return its exit code.

    Progress goes to the standard output, as elements that Slicer looks for; what went wrong is a
    sentence on the standard error.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--xml"]:
        print(_HERE.joinpath("VolSegCLI.xml").read_text(encoding="utf-8"), end="")
        return 0
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _tell(f"<filter-start><filter-name>{_NAME}</filter-name></filter-start>")
    try:
        with contextlib.closing(_segment(options)) as steps:
            for progress in steps:
                if progress is None:
                    time.sleep(0.01)
                elif progress.fraction is not None:
                    _tell(f"<filter-progress>{progress.fraction:.4f}</filter-progress>")
    except VolSegError as error:
        print(error, file=sys.stderr)
        return 1
    _tell(f"<filter-end><filter-name>{_NAME}</filter-name></filter-end>")
    return 0


def _segment(options: argparse.Namespace) -> Steps[None]:
    """Step until the label map is written."""
    environment = child_environment(os.environ)
    program = yield from find_volseg(options.program, environment)
    volseg = LocalVolSeg(program, environment)
    further = {"device": options.device, "memory": options.memory}
    with tempfile.TemporaryDirectory(prefix="VolSeg-") as folder:
        result = yield from volseg.segment_files(
            options.bundle,
            {"image": options.input},
            Path(folder),
            {name: value for name, value in further.items() if value},
        )
        yield from volseg.convert(result.labels, options.output)
    for remark in result.remarks:
        print(remark, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="VolSegCLI", description=__doc__)
    parser.add_argument("input", type=Path, help="the volume")
    parser.add_argument("output", type=Path, help="the label map")
    parser.add_argument("--bundle", required=True, help="name or folder of a bundle")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--memory", default="", help="the most that may be used, such as 8GB")
    parser.add_argument("--program", default="", help="the program volseg")
    return parser


def _tell(element: str) -> None:
    print(element, flush=True)


if __name__ == "__main__":
    sys.exit(main())
