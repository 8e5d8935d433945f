"""What the first call of a compiled transform costs in a process: compiled anew, and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

_FIRST_CALL = """
import time, torch
from volseg.transforms import RandSpatiald
torch.set_num_threads(1)
case = {"image": torch.rand(1, 128, 128, 128), "label": torch.ones(1, 128, 128, 128).byte()}
transform = RandSpatiald(["image", "label"], mode=("linear", "nearest")).set_random_state(0)
started = time.perf_counter()
transform(case)
print(time.perf_counter() - started)
"""


def first_use() -> tuple[float, float]:
    """Return the seconds of the first call on 128x128x128: with an empty cache, with a full one.

    Imports are not counted.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        anew, kept = (
            float(
                subprocess.run(  # noqa: S603 - the words above, no shell
                    [sys.executable, "-c", _FIRST_CALL],
                    env=environment,
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for _ in range(2)
        )
    return anew, kept
