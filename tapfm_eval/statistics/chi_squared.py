"""One chi-squared test as a record."""

import math
from dataclasses import dataclass

from scipy.special import chdtrc


@dataclass(frozen=True, slots=True)
class ChiSquaredTest:
    """A chi-squared statistic with its p-value; NaN with a `reason` where it is not estimable."""

    statistic: float
    df: int
    p_value: float
    method: str
    reason: str | None = None


def chi_squared_test(statistic: float, df: int, method: str, reason: str | None = None) -> ChiSquaredTest:
    """The test record of a statistic; NaN throughout where a `reason` is given."""
    if reason is not None:
        return ChiSquaredTest(math.nan, df, math.nan, method, reason)
    return ChiSquaredTest(statistic, df, float(chdtrc(df, max(statistic, 0.0))), method)
