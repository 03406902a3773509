"""Arms against each other on the same patients: the families of the protocol, and its primary comparison."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tapfm_eval import statistics
from tapfm_eval.analysis.discrimination import macro_targets
from tapfm_eval.analysis.panels import Panel, missing_estimate
from tapfm_eval.protocol.schema import AllAgainst, Primary, Protocol
from tapfm_eval.results import ComparisonResult, EvaluatedSplit, PrimaryResult
from tapfm_eval.statistics.records import Comparison

MIN_EVENTS_FOR_A_TEST = 5


def comparisons(panels: Sequence[Panel], protocol: Protocol) -> Iterator[ComparisonResult]:
    """Every comparison of every family, p values adjusted within family, target and part."""
    plan = protocol.analysis
    arms = [arm.id for arm in protocol.arms]
    for family in plan.families:
        if isinstance(family.comparisons, AllAgainst):
            reference = family.comparisons.all_against
            pairs = [(reference, arm) for arm in arms if arm != reference]
        else:
            pairs = list(itertools.combinations(arms, 2))
        for panel in panels:
            for target in (*panel.targets, "macro"):
                differences = [paired_difference(panel, target, a, b, plan.level) for a, b in pairs]
                adjusted = statistics.adjust_p([d.p_value for d in differences], method=plan.multiplicity)
                for (a, b), difference, p in zip(pairs, differences, adjusted, strict=True):
                    yield ComparisonResult(
                        family.name, target, panel.cohort, panel.split, a, b, difference, float(p), plan.multiplicity
                    )


def paired_difference(panel: Panel, target: str, a: str, b: str, level: float) -> Comparison:
    """Arm A minus arm B on one target, or on `macro`; without a test where a class has too few patients."""
    if target == "macro":
        usable = macro_targets(panel, a, b)
        if not usable:
            return _missing_comparison(level, "MOVER", "no target with both classes", len(panel.patients))
        labels = panel.matrix(usable, a, b)
        shape = labels.shape
        difference = statistics.compare_macro_auroc(
            labels, panel.score(a, *usable).reshape(shape), panel.score(b, *usable).reshape(shape), level=level,
            strata=panel.folds,
        )  # fmt: skip
        events = min((min((y == 1).sum(), (y == 0).sum()) for y in labels.T), default=0)
    else:
        y = panel.known(target, a, b)
        difference = statistics.compare_auroc(
            y, panel.score(a, target), panel.score(b, target), level=level, strata=panel.folds
        )
        events = min((y == 1).sum(), (y == 0).sum())
    return _without_test(difference) if events < MIN_EVENTS_FOR_A_TEST else difference


def _missing_comparison(level: float, method: str, reason: str, n: int = 0) -> Comparison:
    unknown = math.nan
    return Comparison(
        unknown, unknown, unknown, level, unknown, unknown, unknown, method, n, 0, n, reason
    )  # fmt: skip


def _without_test(difference: Comparison) -> Comparison:
    """The difference and its interval without a test, which so few patients cannot carry."""
    reason = difference.reason or f"fewer than {MIN_EVENTS_FOR_A_TEST} patients of a class: no test"
    return replace(difference, statistic=math.nan, df=math.nan, p_value=math.nan, reason=reason)


def primary_comparison(plan: Primary, panels: Mapping[tuple[str, str], Panel], protocol: Protocol) -> PrimaryResult:
    """The comparison that the study stands or falls with; not estimable, with its reason, where patients lack."""
    split: EvaluatedSplit = "external" if protocol.cohorts[plan.cohort].role == "external" else "test"
    panel = panels.get((plan.cohort, split))
    level = protocol.analysis.level
    margin = None if plan.hypothesis == "superiority" else plan.hypothesis.non_inferiority.margin
    if panel is None:
        reason = f"no {split} patient of {plan.cohort} has a prediction"
        arm_auroc = versus_auroc = missing_estimate(level, "auto", reason)
        difference = _missing_comparison(level, "paired DeLong", reason)
    else:
        y, a, b = panel.known(plan.target, plan.arm, plan.versus), panel.score(plan.arm, plan.target), panel.score(
            plan.versus, plan.target
        )  # fmt: skip
        arm_auroc = statistics.auroc(y, a, level=level, strata=panel.folds)
        versus_auroc = statistics.auroc(y, b, level=level, strata=panel.folds)
        if margin is None:
            difference = statistics.superiority(y, a, b, alpha=plan.one_sided_alpha, strata=panel.folds)
        else:
            difference = statistics.non_inferiority(
                y, a, b, margin=margin, alpha=plan.one_sided_alpha, strata=panel.folds
            )
        if min((y == 1).sum(), (y == 0).sum()) < MIN_EVENTS_FOR_A_TEST:
            difference = _without_test(difference)
    met = None if math.isnan(difference.p_value) else difference.p_value < plan.one_sided_alpha
    name = "superiority" if margin is None else "non-inferiority"
    return PrimaryResult(
        target=plan.target, cohort=plan.cohort, arm=plan.arm, versus=plan.versus, hypothesis=name, margin=margin,
        one_sided_alpha=plan.one_sided_alpha, arm_auroc=arm_auroc, versus_auroc=versus_auroc,
        difference=difference, met=met, verdict=_verdict(plan, name, margin, met, difference),
    )  # fmt: skip


def _verdict(plan: Primary, name: str, margin: float | None, met: bool | None, difference: Comparison) -> str:
    who = f"{plan.arm} to {plan.versus} for {plan.target} in {plan.cohort}"
    bound = "" if margin is None else f" with a margin of {margin:g}"
    if met is None:
        return f"{name.capitalize()} of {who}{bound} could not be tested: {difference.reason}."
    return f"{name.capitalize()} of {who}{bound} was {'shown' if met else 'not shown'}."
