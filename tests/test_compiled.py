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
