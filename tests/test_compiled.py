import os
import subprocess
import sys

import numpy as np
from numba.core import caching

from volseg.compiled import compiled


def test_loops_run_where_no_folder_can_be_written(monkeypatch):
    """An installation that belongs to another user, and a home that is not there."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    def double(values):
        for i in range(values.size):
            values[i] *= 2

    values = np.arange(3.0)
    compiled(double)(values)
    assert values.tolist() == [0, 2, 4]


LOOP = """
from volseg.compiled import compiled

@compiled
def doubled(values):
    for i in range(values.size):
        values[i] *= 2
    return values
"""
KEEPING = """
import sys, time
import numpy as np
from numba.core.caching import IndexDataCacheFile
from loop import doubled

# What two processes do at once is done slowly, so that they surely do.
kept = IndexDataCacheFile._save_index
def slowly(self, overloads):
    time.sleep(0.5)
    kept(self, overloads)
IndexDataCacheFile._save_index = slowly
doubled(np.arange(3, dtype=sys.argv[1]))
"""
FOUND = """
import numpy as np
from loop import doubled

for name in ("float32", "float64", "int16", "uint8"):
    values = doubled(np.arange(3, dtype=name))
    assert values.tolist() == [0, 2, 4], (name, values)
    (loaded,) = [one for one in doubled.overloads if str(one[0].dtype) == name]
assert not doubled.stats.cache_misses
"""


def test_processes_that_compile_at_once_each_keep_their_own(tmp_path, repository):
    """numba by itself gives the code of two types one file, and later runs the wrong one."""
    (tmp_path / "loop.py").write_text(LOOP)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(tmp_path)])}
    environment.pop("NUMBA_CACHE_DIR", None)
    running = [
        subprocess.Popen([sys.executable, "-c", KEEPING, name], env=environment)
        for name in ("float32", "float64", "int16", "uint8")
    ]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    subprocess.run([sys.executable, "-c", FOUND], env=environment, check=True)


def test_a_forked_process_runs_loops_that_its_parent_has_not_run(tmp_path, repository):
    """So do the workers of a data loader, with a transform that only training has."""
    (tmp_path / "loop.py").write_text(LOOP, encoding="utf-8")
    program = """
import os
import numpy as np
from loop import doubled

doubled(np.arange(3, dtype="float32"))
child = os.fork()
if child == 0:
    os._exit(int(doubled(np.arange(3, dtype="int16")).sum()))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
"""
    environment = os.environ | {"PYTHONPATH": f"{repository}"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
