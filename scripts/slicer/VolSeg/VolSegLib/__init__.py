"""What the VolSeg module does, without its widgets; imports slicer, vtk, numpy and Python only."""
