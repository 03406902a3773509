"""Thresholds fixed on validation patients, what they do there and elsewhere, and what failed slides could change."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from tapfm_eval import statistics
from tapfm_eval.analysis.panels import Panel, missing_estimate, studied
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import AtRule, Protocol
from tapfm_eval.results import FailedCaseResult, OperatingPointResult


def operating_points(
    panels: Sequence[Panel], validation: Panel | None, protocol: Protocol
) -> Iterator[OperatingPointResult]:
    """Every rule of the protocol, for every target and arm, on validation patients and carried to `panels`.

    Thresholds are placed on the out-of-fold scores of all folds: a single validation part holds too few positives.
    """
    level = protocol.analysis.level
    if validation is None:
        return
    for rule, target, arm in itertools.product(
        protocol.analysis.operating_points, studied(protocol), [arm.id for arm in protocol.arms]
    ):
        asked: str | dict[str, float] = {rule.rule: rule.value} if isinstance(rule, AtRule) else "youden"
        chosen = statistics.threshold_at(validation.known(target, arm), validation.score(arm, target), asked)
        name = rule_name(rule)
        for panel in (validation, *panels):
            place = (name, target, arm, panel.cohort, panel.split)
            if math.isnan(chosen.threshold):
                empty = missing_estimate(level, "Wilson", f"no threshold on validation patients: {chosen.reason}")
                yield OperatingPointResult(*place, math.nan, 0, 0, 0, 0, empty, empty, empty, empty, empty)
                continue
            point = statistics.operating_point(
                panel.known(target, arm), panel.score(arm, target), chosen.threshold, level=level
            )
            total = point.tp + point.fp + point.tn + point.fn
            yield OperatingPointResult(
                *place, chosen.threshold, point.tp, point.fp, point.tn, point.fn,
                point.sensitivity, point.specificity, point.ppv, point.npv,
                statistics.proportion(point.tn + point.fn, total, level=level),
            )  # fmt: skip


def rule_name(rule: AtRule | str) -> str:
    """An operating point's rule in words: `sensitivity 0.95`, `Youden`."""
    if isinstance(rule, AtRule):
        measure = rule.rule.removeprefix("at_")
        return f"{measure.upper() if measure in ('npv', 'ppv') else measure} {rule.value:g}"
    return "Youden"


def failed_cases(
    points: Sequence[OperatingPointResult], cohorts: Mapping[str, Cohort], lost: Mapping[str, frozenset[str]]
) -> Iterator[FailedCaseResult]:
    """Worst and best case of each operating point over the patients of whom no slide could be used.

    Args:
        points: Operating points, those on validation patients included.
        cohorts: The cohorts of the study.
        lost: Cohort -> patients without a usable slide.
    """
    for point in points:
        cohort = cohorts[point.cohort]
        gone = lost.get(point.cohort, frozenset()) & _meant(cohort, point.split)
        labels = cohort.labels.loc[sorted(gone), point.target]
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
        if positives + negatives == 0 or math.isnan(point.threshold):
            continue
        all_positives = point.true_positives + point.false_negatives + positives
        all_negatives = point.true_negatives + point.false_positives + negatives
        yield FailedCaseResult(
            point.rule, point.target, point.arm, point.cohort, point.split, positives, negatives,
            _share(point.true_positives, all_positives), _share(point.true_positives + positives, all_positives),
            _share(point.true_negatives, all_negatives), _share(point.true_negatives + negatives, all_negatives),
        )  # fmt: skip


def _meant(cohort: Cohort, split: str) -> frozenset[str]:
    """The patients who should have been predicted in a split."""
    if cohort.split is None:
        return frozenset(cohort.patients)
    table = cohort.split.table
    return frozenset(table.loc[table["split"] == split, "patient_id"]) & frozenset(cohort.patients)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
