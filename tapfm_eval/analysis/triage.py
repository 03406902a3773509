"""Two thresholds together: who is ruled out, who is ruled in, and who is left to the confirmatory test."""

import itertools
import math
from collections.abc import Iterator, Sequence

from tapfm_eval import statistics
from tapfm_eval.analysis.panels import missing_estimate
from tapfm_eval.analysis.thresholds import rule_name
from tapfm_eval.protocol.schema import AtRule, Protocol
from tapfm_eval.results import OperatingPointResult, TriageResult

_RULE_OUT, _RULE_IN = ("at_sensitivity", "at_npv"), ("at_specificity", "at_ppv")


def triage(points: Sequence[OperatingPointResult], protocol: Protocol) -> Iterator[TriageResult]:
    """Every rule that rules out beside every rule that rules in, where the protocol has both.

    A patient below the first threshold is ruled out, one at or above the second is ruled in, and those between are left
    to the test. Not estimable where a threshold is, or where the two cross and would call one patient both.
    """
    rules = [rule for rule in protocol.analysis.operating_points if isinstance(rule, AtRule)]
    by_place = {(p.rule, p.target, p.arm, p.cohort, p.split): p for p in points}
    places = dict.fromkeys((p.target, p.arm, p.cohort, p.split) for p in points)
    for out, into in itertools.product(
        [rule_name(rule) for rule in rules if rule.rule in _RULE_OUT],
        [rule_name(rule) for rule in rules if rule.rule in _RULE_IN],
    ):
        for place in places:
            low, high = by_place.get((out, *place)), by_place.get((into, *place))
            if low is not None and high is not None:
                yield _together(low, high, protocol.analysis.level)


def _together(low: OperatingPointResult, high: OperatingPointResult, level: float) -> TriageResult:
    n = low.true_positives + low.false_positives + low.true_negatives + low.false_negatives
    positives = low.true_positives + low.false_negatives
    below, above = low.true_negatives + low.false_negatives, high.true_positives + high.false_positives
    reason = _reason(low, high)
    if reason is not None:
        empty = missing_estimate(level, "Wilson", reason, n, positives)
        shares = [empty] * 5
    else:
        shares = [
            statistics.proportion(part, whole, level=level)
            for part, whole in (
                (below, n), (low.false_negatives, below), (above, n), (high.true_positives, above),
                (n - below - above, n),
            )
        ]  # fmt: skip
    return TriageResult(
        low.rule, high.rule, low.target, low.arm, low.cohort, low.split, low.threshold, high.threshold, n, positives,
        *shares,
    )  # fmt: skip


def _reason(low: OperatingPointResult, high: OperatingPointResult) -> str | None:
    for point in (low, high):
        if math.isnan(point.threshold):
            return point.sensitivity.reason or f"no threshold for {point.rule}"
    if low.threshold > high.threshold:
        return "the thresholds cross: each rule alone decides every patient"
    return None
