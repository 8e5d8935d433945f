"""Padding by nothing, taken out of exported programs.

Decoders pad what they bring to twice the size to the size of the encoder's features (MONAI's
BasicUNet does), mostly by nothing. An exporter does not see that, and writes gathers that copy all
features, axis by axis.
"""

from __future__ import annotations

import torch
from torch.export import ExportedProgram


def without_idle_padding(program: ExportedProgram) -> ExportedProgram:
    """Return the program, changed in place, without paddings that add nothing."""
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target == torch.ops.aten.pad.default and not any(node.args[1]):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    program.graph_module.recompile()
    return program
