"""A paired difference from the two AUROCs' own limits: for few positives, and arms whose scores spread differently."""

from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from tapfm_eval.statistics.covariance import AurocCovariance
from tapfm_eval.statistics.estimate import limits_of
from tapfm_eval.statistics.hypotheses import Question
from tapfm_eval.statistics.proportions import mover_distance
from tapfm_eval.statistics.records import Comparison

_HIGHEST = 1.0 - 1e-9  # level beyond which limits are not sought


def by_own_limits(aurocs: AurocCovariance, by_test: Comparison, question: Question) -> Comparison:
    """Give the comparison of two arms on one target by the method of variance estimates recovery (MOVER).

    With the arms' own `auto` limits l, u and the correlation r of the two AUROCs, the lower limit of A - B lies
    sqrt((A - lA)^2 + (uB - B)^2 - 2 r (A - lA)(uB - B)) below it, the upper one likewise. The p-value is the smallest
    alpha at which the interval decides, so that interval and test agree; it is never below 5e-10. A correlation that
    is not estimable counts as 0, which is wider than any that two scores of the same patients are likely to have.

    Source: Zou 2007 (doi:10.1037/1082-989X.12.4.399); Zou & Donner 2008 (doi:10.1002/sim.3095).
    """
    first, second = (float(value) for value in aurocs.aurocs[:, 0])
    variances = np.diag(aurocs.covariance)
    alive = bool((variances > 0).all())
    correlation = float(aurocs.covariance[0, 1] / np.sqrt(variances.prod())) if alive else 0.0
    value = first - second

    def limits(level: float) -> tuple[float, float]:
        a, b = (limits_of(aurocs, arm, 0, level, "auto") for arm in range(2))
        down = mover_distance(first - a.lower, b.upper - second, correlation)
        up = mover_distance(a.upper - first, second - b.lower, correlation)
        return max(value - down, -1.0), min(value + up, 1.0)

    def above(null: float) -> float:
        """Give the one-sided p-value that A - B exceeds `null`."""
        side, sign = (0, 1.0) if value > null else (1, -1.0)

        def distance(level: float) -> float:
            return sign * (limits(level)[side] - null)

        if value == null or distance(1e-9) <= 0:
            return 0.5
        tail = (1.0 - _HIGHEST) / 2.0
        if distance(_HIGHEST) < 0:
            tail = (1.0 - float(brentq(distance, 1e-9, _HIGHEST, xtol=1e-12))) / 2.0
        return tail if side == 0 else 1.0 - tail

    match question.hypothesis:
        case "superiority" | "non-inferiority":
            p_value = above(-question.margin)
        case "inferiority":
            p_value = 1.0 - above(0.0)
        case "equivalence":
            p_value = max(above(-question.margin), 1.0 - above(question.margin))
        case _:
            one_sided = above(0.0)
            p_value = min(2.0 * min(one_sided, 1.0 - one_sided), 1.0)
    lower, upper = limits(question.level)
    return replace(by_test, lower=lower, upper=upper, p_value=p_value, df=np.nan, reason=None)
