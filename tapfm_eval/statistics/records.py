"""The two records that every statistic returns: an estimate with its interval, and a comparison of two estimates."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its confidence interval; NaN with a `reason` where it is not estimable."""

    value: float  # the point estimate, never a bootstrap mean
    lower: float  # limits of the two-sided interval at `level`
    upper: float
    level: float  # confidence level, e.g. 0.95
    method: str  # the interval's name, e.g. `auto: envelope (small sample)`
    n: int  # rows used: known label
    positives: int  # of them with label 1
    clusters: int  # patients; equals n where each row is a patient
    reason: str | None = None  # why value or limits are NaN; None unless something is not estimable


@dataclass(frozen=True, slots=True)
class Comparison:
    """A difference A - B with its interval and test; NaN with a `reason` where it is not estimable."""

    value: float  # A - B
    lower: float  # limits of the two-sided interval at `level`
    upper: float
    level: float
    statistic: float  # difference / standard error; the z of a z test and the t of a t test are this same ratio
    df: float  # degrees of freedom; inf for a z test
    p_value: float  # two-sided unless `method` says otherwise
    method: str  # e.g. `paired DeLong, Satterthwaite t`
    n: int
    positives: int
    clusters: int
    reason: str | None = None
