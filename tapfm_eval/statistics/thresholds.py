"""Where to cut: thresholds that a rule picks on validation patients, to be carried unchanged to others.

The rule is always "positive if score >= threshold". What a threshold is worth elsewhere: `operating_points`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Floats, number_of
from tapfm_eval.statistics.single import Rows, known_rows, why_not_two_classes

RULES = ("at_sensitivity", "at_specificity", "at_npv", "at_ppv")  # and the word `youden`
_ROUNDING = 1e-12  # so that 9 of 10 reaches a target of 0.9 whatever the binary rounding


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """Every distinct operating point, thresholds ascending: from everybody positive (-inf) to nobody (+inf)."""

    thresholds: Floats  # (points,) -inf, midpoints between neighbouring distinct scores, +inf
    tp: Floats  # (points,) counts at "positive if score >= threshold"
    fp: Floats
    sensitivity: Floats  # (points,) NaN without positives
    specificity: Floats  # (points,) NaN without negatives
    positives: int
    negatives: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold with the rule that chose it and what it does on the patients that it was chosen on."""

    threshold: float  # positive if score >= threshold; may be -inf (everybody) or inf (nobody); NaN with a reason
    rule: str  # e.g. `at_sensitivity 0.95`
    tp: int  # counts on the patients that it was chosen on; all 0 where there is no such threshold
    fp: int
    tn: int
    fn: int
    sensitivity: float  # on those patients; optimistic, because the threshold was chosen there
    specificity: float
    ppv: float  # NaN where nobody is called positive
    npv: float  # NaN where nobody is called negative
    n: int
    positives: int
    reason: str | None = None


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve:
    """All distinct operating points of one score.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; larger = more likely positive.

    Raises:
        StatisticsError: for malformed arrays.

    >>> curve = roc_curve([0, 1, 1], [0.1, 0.4, 0.8])
    >>> curve.thresholds.tolist(), curve.sensitivity.tolist()
    ([-inf, 0.25, 0.6000000000000001, inf], [1.0, 1.0, 0.5, 0.0])
    """
    return _curve(known_rows(labels, scores))


def threshold_at(labels: ArrayLike, scores: ArrayLike, rule: str | Mapping[str, float]) -> Threshold:
    """The threshold that a rule picks on these (validation) patients; carry it unchanged to other patients.

    Rules: `{"at_sensitivity": 0.95}`: sensitivity at least 0.95 with the best specificity; `{"at_specificity": 0.95}`:
    specificity at least that with the best sensitivity; `{"at_npv": 0.98}`: NPV at least that, ruling out as many
    patients as possible (and at least one); `{"at_ppv": 0.5}`: PPV at least that with the best sensitivity (and at
    least one patient called positive); `"youden"`: largest sensitivity + specificity, of ties the more sensitive.
    Other ties go to the lower threshold. Candidates are midpoints between neighbouring distinct scores and -inf, +inf
    (pROC's `coords`), so a threshold never sits on a score that float rounding could move across it.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; larger = more likely positive.
        rule: `"youden"` or a mapping with exactly one of the names above.

    Returns:
        Threshold; NaN with a reason when a class is absent or no threshold reaches the target.

    Raises:
        StatisticsError: for malformed arrays or an unknown rule.

    >>> threshold_at([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9], {"at_sensitivity": 1.0}).threshold
    0.4
    """
    kind, target = _parsed_rule(rule)
    name = kind if kind == "youden" else f"{kind} {target:g}"
    rows = known_rows(labels, scores)
    reason = why_not_two_classes(rows.positives, rows.negatives)
    if reason is not None:
        return _no_threshold(name, rows, reason)
    curve = _curve(rows)
    tp, fp = curve.tp, curve.fp
    tn, fn = rows.negatives - fp, rows.positives - tp
    sensitivity, specificity = curve.sensitivity, curve.specificity
    if kind == "youden":
        index = sensitivity + specificity
        eligible, first, second = index >= index.max() - _ROUNDING, sensitivity, specificity
    elif kind == "at_sensitivity":
        eligible, first, second = sensitivity >= target - _ROUNDING, specificity, sensitivity
    elif kind == "at_specificity":
        eligible, first, second = specificity >= target - _ROUNDING, sensitivity, specificity
    elif kind == "at_npv":
        eligible, first, second = (tn + fn > 0) & (tn >= (target - _ROUNDING) * (tn + fn)), tn + fn, specificity
    else:
        eligible, first, second = (tp + fp > 0) & (tp >= (target - _ROUNDING) * (tp + fp)), sensitivity, specificity
    if not eligible.any():
        return _no_threshold(name, rows, f"no threshold reaches {name}")
    candidates = np.flatnonzero(eligible)
    best = candidates[np.lexsort((curve.thresholds[candidates], -second[candidates], -first[candidates]))[0]]
    return Threshold(
        threshold=float(curve.thresholds[best]),
        rule=name,
        tp=int(tp[best]),
        fp=int(fp[best]),
        tn=int(tn[best]),
        fn=int(fn[best]),
        sensitivity=float(sensitivity[best]),
        specificity=float(specificity[best]),
        ppv=float(tp[best] / (tp[best] + fp[best])) if tp[best] + fp[best] else math.nan,
        npv=float(tn[best] / (tn[best] + fn[best])) if tn[best] + fn[best] else math.nan,
        n=rows.n,
        positives=rows.positives,
    )


def _curve(rows: Rows) -> RocCurve:
    distinct, place = np.unique(rows.scores, return_inverse=True)
    positives_at = np.bincount(place, weights=rows.positive, minlength=distinct.size)
    rows_at = np.bincount(place, minlength=distinct.size)
    # point i calls positive every distinct score from the i-th upwards; the last point calls none
    tp = np.append(np.cumsum(positives_at[::-1])[::-1], 0.0)
    fp = np.append(np.cumsum((rows_at - positives_at)[::-1])[::-1], 0.0)
    middle = distinct[:-1] / 2 + distinct[1:] / 2
    # between neighbouring floats the midpoint rounds onto one of them; the upper one keeps the rule right
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])
    thresholds = np.concatenate(([-math.inf], middle, [math.inf])) if distinct.size else np.array([math.inf])
    missing = np.full(tp.size, math.nan)
    return RocCurve(
        thresholds=thresholds,
        tp=tp,
        fp=fp,
        sensitivity=tp / rows.positives if rows.positives else missing,
        specificity=(rows.negatives - fp) / rows.negatives if rows.negatives else missing,
        positives=rows.positives,
        negatives=rows.negatives,
    )


def _parsed_rule(rule: str | Mapping[str, float]) -> tuple[str, float]:
    if isinstance(rule, str) and rule == "youden":
        return "youden", math.nan
    if isinstance(rule, Mapping) and len(rule) == 1:
        kind = next(iter(rule))
        target: object = rule[kind]  # as read from a file, whatever the annotation promises
        if kind in RULES and 0 < number_of(target) <= 1:
            return kind, number_of(target)
    raise StatisticsError(
        Problem(
            "rule",
            f"'youden' or one of {', '.join(RULES)} with a share in (0, 1]",
            repr(rule),
            'Write for example {"at_sensitivity": 0.95}.',
        )
    )


def _no_threshold(name: str, rows: Rows, reason: str) -> Threshold:
    nan = math.nan
    return Threshold(nan, name, 0, 0, 0, 0, nan, nan, nan, nan, rows.n, rows.positives, reason)
