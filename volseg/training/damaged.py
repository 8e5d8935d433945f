"""Leaving out cases that cannot be used, before a training begins."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from volseg.bundle import Bundle
from volseg.data import fold_cases, read_datalist, write_datalist
from volseg.errors import InputError, reason_of
from volseg.processes import Meeting, process_count, process_rank

_LEFT_OUT = "left_out"


def leave_out_damaged(
    bundle: Bundle, data: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Take the cases out of a bundle's datalist that cannot be read, and return why, by name.

    Every case is read and checked as for a validation: image and label, their grids, the classes.
    Processes that train together share the cases, and all return what any of them found. The
    datalist then says under ``left_out`` which are missing. The Python expressions in the bundle's
    ``configs/train.yaml`` are executed.

    Args:
        bundle: The bundle; its datalist is changed.
        data: The folder the paths in the datalist are relative to.
        progress: Called as ``progress(done, total)`` with cases of this process.

    Raises:
        InputError: The bundle has no datalist, a file is not there, or no case is left.
        OutputError: The datalist cannot be written.
    """
    datalist = bundle.folder / "configs" / "datalist.json"
    cases = read_datalist(datalist)
    parser = ConfigParser(ConfigParser.load_config_file(str(bundle.config("train"))))
    parser["bundle_root"] = str(bundle.folder)
    check: Callable[[Any], Any] = parser.get_parsed_content("validate::preprocessing")
    meeting = Meeting()
    found: dict[str, str] = {}
    files = fold_cases(datalist, data, fold="all", held_out=False)
    share = files[process_rank() :: process_count()]
    for done, case in enumerate(share, start=1):
        try:
            check(dict(case))
        except Exception as error:  # whatever a damaged file makes of a reader
            found[case["case"]] = reason_of(error)
        if progress is not None:
            progress(done, len(share))
    of_all = ChainMap(*meeting.gather(found))
    faults = {case["case"]: of_all[case["case"]] for case in files if case["case"] in of_all}
    if len(faults) == len(files):
        raise InputError(
            f"none of the {len(files)} cases can be used: {next(iter(faults.values()))}"
        )
    if faults and process_rank() == 0:
        about = json.loads(datalist.read_text(encoding="utf-8-sig"))
        about.pop("training")
        left = [case for case in cases if case.case not in faults]
        missing = {**about.get(_LEFT_OUT, {}), **faults}
        write_datalist(left, datalist, about={**about, _LEFT_OUT: missing})
    meeting.gather(None)  # all read the list as it is now
    return faults
