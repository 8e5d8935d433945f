"""How well readers, or repeated measurements, agree on a number such as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from volseg.errors import InputError
from volseg.evaluation.bootstrap import Interval

_NORMAL = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class IntraclassCorrelation:
    """How much of the variance is between subjects and not between readers.

    Attributes:
        value: 1 is perfect agreement; it may be negative.
        interval: Confidence interval.
        subjects: How many.
        readers: How many.
    """

    value: float
    interval: Interval
    subjects: int
    readers: int


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Between which limits 95 % of the differences of two readers lie (Bland and Altman 1986).

    Attributes:
        bias: Mean of second minus first.
        standard_deviation: Of the differences.
        lower: Bias minus 1.96 standard deviations.
        upper: Bias plus 1.96 standard deviations.
        bias_interval: 95 % confidence interval of the bias.
        lower_interval: Of the lower limit.
        upper_interval: Of the upper limit.
        subjects: How many.
    """

    bias: float
    standard_deviation: float
    lower: float
    upper: float
    bias_interval: Interval
    lower_interval: Interval
    upper_interval: Interval
    subjects: int


@dataclass(frozen=True)
class MeasurementError:
    """What repeated measurements of the same thing differ by.

    Attributes:
        within_subject: Standard deviation of measurements of one subject.
        smallest_detectable: Change between two measurements that is beyond 95 % of what error alone
            makes: 1.96 x sqrt(2) x `within_subject`, the coefficient of repeatability.
        subjects: How many were measured more than once.
    """

    within_subject: float
    smallest_detectable: float
    subjects: int


def intraclass_correlation(values: npt.ArrayLike, *, level: float = 0.95) -> IntraclassCorrelation:
    """Return ICC(2,1): two-way random effects, absolute agreement, a single reader.

    As in Shrout and Fleiss, Psychological Bulletin 86 (1979); the interval as in McGraw and Wong,
    Psychological Methods 1 (1996), for ICC(A,1).

    Args:
        values: ``(subjects, readers)``.
        level: Of the interval.

    Raises:
        InputError: There are fewer than two subjects or readers, or values that are not finite.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise InputError(
            f"an intraclass correlation needs finite values of at least two subjects by two "
            f"readers, got the shape {table.shape}."
        )
    n, k = table.shape
    mean = table.mean()
    rows = k * ((table.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((table.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + mean
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    whole = rows + (k - 1) * error + k * (columns - error) / n
    if whole <= 0:  # all values are one
        undefined = float("nan")
        return IntraclassCorrelation(undefined, Interval(undefined, undefined), n, k)
    value = (rows - error) / whole
    return IntraclassCorrelation(
        float(value), _interval((rows, columns, error), value, (n, k), level), n, k
    )


def _interval(
    mean_squares: tuple[float, float, float], value: float, shape: tuple[int, int], level: float
) -> Interval:
    """Return the interval of a correlation of mean squares of subjects, readers and the rest."""
    (rows, columns, error), (n, k) = mean_squares, shape
    if error <= 0 and columns <= 0:
        return Interval(float(value), float(value))
    if value >= 1:
        return Interval(1.0, 1.0)
    share = k * value / (n * (1 - value))
    rest = 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (share * columns + rest * error) ** 2 / (
        (share * columns) ** 2 / (k - 1) + (rest * error) ** 2 / ((n - 1) * (k - 1))
    )
    tail = 1 - (1 - level) / 2
    below = stats.f.ppf(tail, n - 1, freedom)
    above = stats.f.ppf(tail, freedom, n - 1)
    noise = k * columns + (k * n - k - n) * error
    return Interval(
        float(n * (rows - below * error) / (below * noise + n * rows)),
        float(n * (above * rows - error) / (noise + n * above * rows)),
    )


def limits_of_agreement(first: Sequence[float], second: Sequence[float]) -> LimitsOfAgreement:
    """Return the bias and the limits of agreement of two readers, second minus first.

    The intervals are those of Bland and Altman, Statistical Methods in Medical Research 8 (1999).

    Args:
        first: One value a subject.
        second: Of the same subjects, in the same order.

    Raises:
        InputError: The two are not of one length, there are fewer than two subjects, or values that
            are not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2 or not np.isfinite([a, b]).all():
        raise InputError(
            "limits of agreement need finite values of at least two subjects by two readers, got "
            f"the shapes {a.shape} and {b.shape}."
        )
    differences, n = b - a, len(a)
    bias, deviation = float(differences.mean()), float(differences.std(ddof=1))
    student = float(stats.t.ppf(0.975, n - 1))
    of_bias = student * deviation / np.sqrt(n)
    of_limit = student * deviation * np.sqrt(1 / n + _NORMAL**2 / (2 * (n - 1)))
    lower, upper = bias - _NORMAL * deviation, bias + _NORMAL * deviation

    def around(value: float, margin: float) -> Interval:
        return Interval(float(value - margin), float(value + margin))

    return LimitsOfAgreement(
        bias=bias,
        standard_deviation=deviation,
        lower=lower,
        upper=upper,
        bias_interval=around(bias, of_bias),
        lower_interval=around(lower, of_limit),
        upper_interval=around(upper, of_limit),
        subjects=n,
    )


def measurement_error(repeats: Sequence[Sequence[float]]) -> MeasurementError:
    """Return what repeated measurements differ by (Bland and Altman, BMJ 313, 1996).

    Args:
        repeats: The measurements of each subject; those with a single one tell nothing.

    Raises:
        InputError: No subject was measured twice, or a value is not finite.
    """
    repeated = [np.asarray(values, dtype=np.float64) for values in repeats if len(values) > 1]
    if not repeated or not all(np.isfinite(values).all() for values in repeated):
        raise InputError(
            "the measurement error needs at least one subject that was measured twice, in finite "
            "numbers."
        )
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in repeated)
    within = float(np.sqrt(squares / sum(len(values) - 1 for values in repeated)))
    return MeasurementError(within, float(_NORMAL * np.sqrt(2) * within), len(repeated))
