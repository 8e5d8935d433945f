"""Planning: from a data set to a bundle that fits it, its images and the machine."""

from volseg.planning.case_fingerprint import (
    CaseFaultError,
    CaseFingerprint,
    Intensities,
    LabelSize,
    fingerprint_case,
)
from volseg.planning.dataset import Dataset, open_dataset
from volseg.planning.fingerprint import Fault, Fingerprint, fingerprint_cases
from volseg.planning.label_scheme import (
    LabelScheme,
    named_labels,
    scheme_of_regions,
    unnamed_labels,
)
from volseg.planning.network_plan import NetworkPlan, plan_network
from volseg.planning.plan import Plan, Wishes, make_plan
from volseg.planning.planned_bundle import write_planned_bundle
from volseg.planning.presets import PRESETS, Preset, find_preset
from volseg.planning.step_memory import (
    StepMemory,
    composed_step_memory,
    step_memory,
    usable_memory,
)
from volseg.planning.target_grid import median_shape, target_spacing
from volseg.planning.topology import Topology, plan_topology

__all__ = [
    "PRESETS",
    "CaseFaultError",
    "CaseFingerprint",
    "Dataset",
    "Fault",
    "Fingerprint",
    "Intensities",
    "LabelScheme",
    "LabelSize",
    "NetworkPlan",
    "Plan",
    "Preset",
    "StepMemory",
    "Topology",
    "Wishes",
    "composed_step_memory",
    "find_preset",
    "fingerprint_case",
    "fingerprint_cases",
    "make_plan",
    "median_shape",
    "named_labels",
    "open_dataset",
    "plan_network",
    "plan_topology",
    "scheme_of_regions",
    "step_memory",
    "target_spacing",
    "unnamed_labels",
    "usable_memory",
    "write_planned_bundle",
]
