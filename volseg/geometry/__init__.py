"""Affines, orientation, grids and slice stacks: numbers only, no files and no networks."""

from volseg.geometry.affine import Affine
from volseg.geometry.grid import Grid, index_mapping, require_same_grid
from volseg.geometry.orientation import (
    Reorientation,
    direction_of,
    parse_orientation,
    reorientation,
)
from volseg.geometry.parallel_grids import (
    AxisSampling,
    parallel_grid,
    relate_grids,
    reorientation_onto,
)
from volseg.geometry.slice_stack import SliceStack, StackError, stack_slices

__all__ = [
    "Affine",
    "AxisSampling",
    "Grid",
    "Reorientation",
    "SliceStack",
    "StackError",
    "direction_of",
    "index_mapping",
    "parallel_grid",
    "parse_orientation",
    "relate_grids",
    "reorientation",
    "reorientation_onto",
    "require_same_grid",
    "stack_slices",
]
