"""The loops of `volseg.transforms.regrid`, compiled on first use and kept on disk."""

import numpy as np

from volseg.compiled import compiled


@compiled
def linear_rows(result, values, planes, rows, voxels, first, last):  # type: ignore[no-untyped-def]
    """Interpolate rows ``first`` to ``last`` of (result planes, result rows).

    `planes`, `rows` and `voxels` each hold, for every one of the result, the one before, the one
    behind and the share of the latter. A row does not depend on which rows are computed with it.
    """
    height = len(rows[0])
    line = np.empty(values.shape[2], np.float32)
    for flat in range(first, last):
        plane, row = flat // height, flat % height
        along, across = planes[2][plane], rows[2][row]
        a = values[planes[0][plane], rows[0][row]]
        b = values[planes[1][plane], rows[0][row]]
        c = values[planes[0][plane], rows[1][row]]
        d = values[planes[1][plane], rows[1][row]]
        for x in range(line.size):
            low = a[x] + along * (b[x] - a[x])
            high = c[x] + along * (d[x] - c[x])
            line[x] = low + across * (high - low)
        target = result[plane, row]
        for x in range(target.size):
            low = line[voxels[0][x]]
            target[x] = low + voxels[2][x] * (line[voxels[1][x]] - low)
