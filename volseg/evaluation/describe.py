"""How the numbers of an evaluation came about, in sentences for tables and pages."""

from __future__ import annotations

from volseg.evaluation.bootstrap import RESAMPLES
from volseg.evaluation.evaluation import Evaluation


def how_computed(evaluation: Evaluation) -> list[str]:
    """Return the rules that were followed, a sentence each."""
    cases = evaluation.cases
    patients = {evaluation.patient(case) for case in cases}
    alone = "Each case counts as a patient of its own"
    tolerance = f"{evaluation.surface_tolerance_mm:g} {evaluation.length_unit}"
    return [
        *evaluation.empty.sentences(evaluation.length_unit),
        f"Surface Dice counts surfaces within {tolerance} as agreeing.",
        *(
            []
            if evaluation.ignore is None
            else [
                f"Voxels whose reference is {evaluation.ignore} count in no metric, and where they "
                "begin is no surface."
            ]
        ),
        f"Intervals are 95 % confidence intervals of the mean over cases: bias-corrected and "
        f"accelerated bootstrap, {RESAMPLES} draws of patients with all of their cases.",
        f"{len(cases)} cases are of {len(patients)} patients."
        if patients != set(cases)
        else f"{alone}{'.' if evaluation.patients else ': none were named.'}",
    ]
