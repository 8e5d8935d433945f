"""Two sets of predictions of the same cases, compared case by case.

For each class and metric the cases count in which both have a finite value. The unit of tests is
the patient (the mean over the cases of one), and p-values are corrected for the number of tests by
the method of S. Holm, Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from volseg.errors import InputError
from volseg.evaluation.bootstrap import Interval, Values, intervals_of_means
from volseg.evaluation.evaluation import Evaluation
from volseg.evaluation.groups import patient_means, rank_test
from volseg.evaluation.metric import METRICS, Better

# Differences of rounding are none.
_TINY = 1e-12


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of one class in both sets; of signed errors their absolute values.

    Attributes:
        name: Of the class.
        metric: Name of its column.
        cases: With a finite value in both.
        patients: They are of.
        left_out: Cases of both with a finite value in one alone, as where the other misses a class.
        first: Mean over these cases.
        second: Mean over the same cases.
        difference: First minus second.
        interval: Of the difference, 95 %, by bootstrap over patients.
        better: Cases in which the first is better.
        worse: Cases in which it is worse; equal in all others.
        rank_effect: Matched-pairs rank-biserial correlation of patients (D. S. Kerby, 2014), the
            ranks in favour of the first minus those against it, from -1 to 1: positive where the
            first is better.
        p: Two-sided, of Wilcoxon's signed-rank test over patients; NaN if there is no difference.
        p_holm: Corrected for all tests of the comparison.
    """

    name: str
    metric: str
    cases: int
    patients: int
    left_out: int
    first: float
    second: float
    difference: float
    interval: Interval
    better: int
    worse: int
    rank_effect: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions of the same cases.

    Attributes:
        names: What the two are called.
        rows: For each class and metric.
        cases: That are in both.
        only_first: Cases that are in the first alone, and so not compared.
        only_second: Cases that are in the second alone.
    """

    names: tuple[str, str]
    rows: list[ComparedMetric]
    cases: list[str]
    only_first: list[str]
    only_second: list[str]

    @property
    def tests(self) -> int:
        """How many tests the p-values are corrected for."""
        return sum(not np.isnan(row.p) for row in self.rows)

    def sentences(self) -> list[str]:
        """Return how the comparison was made, and of which cases it is not."""
        first, second = self.names
        missing = [
            f"Only {name} has {len(cases)} of the cases: {', '.join(cases)}."
            for name, cases in ((first, self.only_first), (second, self.only_second))
            if cases
        ]
        left_out = sum(row.left_out for row in self.rows)
        return [
            f"{first} against {second} in the {len(self.cases)} cases of both; differences are "
            "first minus second, of volume errors those of their absolute values.",
            "p-values are of Wilcoxon's signed-rank test over patients, two-sided, corrected by "
            f"Holm's method for the {self.tests} tests of the table; the effect is the "
            "rank-biserial correlation, positive where the first is better.",
            *missing,
            *(
                [
                    "Where one of the two alone has a finite value, as a distance where the other "
                    f"misses the class, the case is left out of the row ({left_out} times): this "
                    "favours what misses more."
                ]
                if left_out
                else []
            ),
        ]


def compare_evaluations(
    first: Evaluation, second: Evaluation, *, names: tuple[str, str] = ("first", "second")
) -> Comparison:
    """Compare two evaluations of the same cases; patients are those of the first.

    Args:
        first: Of one set of predictions.
        second: Of another, against the same references.
        names: What the two are called.

    Raises:
        InputError: They have no case or class in common, or were made by different rules.
    """
    for what in ("surface_tolerance_mm", "ignore", "empty"):
        if getattr(first, what) != getattr(second, what):
            raise InputError(
                f"{names[0]} and {names[1]} were evaluated by different rules ({what}: "
                f"{getattr(first, what)} and {getattr(second, what)}); evaluate both by the same."
            )
    known = set(second.cases)
    cases = [case for case in first.cases if case in known]
    classes = [name for name in first.labels if name in second.labels]
    for name, evaluation in zip(names, (first, second), strict=True):
        for case, reason in evaluation.failures.items() if not evaluation.rows else ():
            raise InputError(f"no case of {name} could be evaluated ({case}: {reason})")
    if not cases or not classes:
        raise InputError(
            f"{names[0]} and {names[1]} have no {'class' if cases else 'case'} in common: there is "
            "nothing to compare."
        )
    owners = [first.patient(case) for case in cases]
    rows = []
    for name in classes:
        a, b = (_table(evaluation, name, cases) for evaluation in (first, second))
        rows += _compared(name, a, b, owners)
    corrected = holm([row.p for row in rows])
    return Comparison(
        names=names,
        rows=[replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)],
        cases=cases,
        only_first=[case for case in first.cases if case not in known],
        only_second=sorted(known.difference(cases)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number; NaN is no test, and stays.

    Each is multiplied by the number of those that are not smaller, and is at least as large as the
    one before it (S. Holm 1979).
    """
    found = np.asarray(p_values, dtype=np.float64).copy()
    tests = np.flatnonzero(~np.isnan(found))
    order = tests[np.argsort(found[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    found[order] = np.minimum(1, np.maximum.accumulate(found[order] * factors))
    return [float(p) for p in found]


def _table(evaluation: Evaluation, name: str, cases: Sequence[str]) -> Values:
    """Return the values of a class as they are compared, `(cases, metrics)`."""
    rows = {row.case: row for row in evaluation.rows if row.name == name}
    found = np.array([[getattr(rows[case], metric) for metric in METRICS] for case in cases])
    signed = [metric.better is Better.NEARER_ZERO for metric in METRICS.values()]
    found[:, signed] = np.abs(found[:, signed])
    return found


def _compared(
    name: str, first: Values, second: Values, owners: Sequence[str]
) -> list[ComparedMetric]:
    """Return a row for each metric of a class, of values `(cases, metrics)`."""
    finite = np.isfinite(first), np.isfinite(second)
    both = finite[0] & finite[1]
    differences = np.full(first.shape, np.nan)
    np.subtract(first, second, out=differences, where=both)
    differences[np.abs(differences) < _TINY] = 0
    intervals = intervals_of_means(differences, owners)
    rows = []
    for column, (metric, about) in enumerate(METRICS.items()):
        known = both[:, column]
        of_whom = [owner for owner, kept in zip(owners, known, strict=True) if kept]
        difference = differences[known, column]
        gain = difference if about.better is Better.HIGHER else -difference
        mean_a, mean_b, mean = (
            float(one.mean()) if len(one) else float("nan")
            for one in (first[known, column], second[known, column], difference)
        )
        gains = patient_means(list(gain), of_whom) if len(gain) else {}
        test = rank_test(list(gains.values()))
        rows.append(
            ComparedMetric(
                name=name,
                metric=metric,
                cases=len(difference),
                patients=len(gains),
                left_out=int((finite[0] != finite[1])[:, column].sum()),
                first=mean_a,
                second=mean_b,
                difference=mean,
                interval=intervals[column],
                better=int((gain > 0).sum()),
                worse=int((gain < 0).sum()),
                rank_effect=test.effect,
                p=test.p,
                p_holm=test.p,
            )
        )
    return rows
