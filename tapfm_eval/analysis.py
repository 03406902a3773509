"""Predictions and the analysis plan to all results, as plain data: what is estimated, on whom, in which order."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapfm_eval import statistics
from tapfm_eval.cohort.flow import Exclusion, FlowStep, depart
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.patients import CLIP, expit
from tapfm_eval.predictions.table import patient_scores
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, AllAgainst, AtRule, Primary, Protocol
from tapfm_eval.results import (
    AurocResult,
    CalibrationResult,
    ComparisonResult,
    EvaluatedSplit,
    MacroResult,
    OperatingPointResult,
    PrimaryResult,
    Results,
    RocCurve,
    SubgroupResult,
)
from tapfm_eval.statistics.records import Comparison, Estimate

MIN_EVENTS_FOR_A_TEST = 5
MAX_LEVELS = 8  # a numeric covariate with more different values is cut at its median

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Panel:
    """The patients of one cohort and split with the scores of every arm; all arms share the rows."""

    cohort: str
    split: EvaluatedSplit
    patients: tuple[str, ...]  # one a row
    folds: NDArray[np.int64] | None  # (n,) whose fold's models scored the row; None where one score stands for all
    labels: Floats  # (n, targets), NaN unknown
    scores: Mapping[str, Floats]  # arm -> (n, targets)
    targets: tuple[str, ...]

    def column(self, target: str) -> int:
        """Where a target stands."""
        return self.targets.index(target)


def panels_of(predictions: pd.DataFrame, protocol: Protocol) -> dict[tuple[str, str], Panel]:
    """One panel per cohort and split, from a predictions table.

    Slides are averaged to patients, then seeds within a fold, and on external patients folds as well, always as
    logits. Test and validation patients keep their fold: scores of different fold models are never compared.
    """
    by_patient = patient_scores(predictions)
    targets, arms = tuple(protocol.targets), [arm.id for arm in protocol.arms]
    panels = {}
    for (cohort, split), part in by_patient.groupby(["cohort", "split"], sort=True):
        if split == "train":
            continue
        rows = ["patient_id"] if split == "external" else ["fold", "patient_id"]
        mean = part.groupby(["arm", *rows, "target"], as_index=False).agg(
            label=("label", "first"), logit=("logit", "mean")
        )
        first = mean[mean["arm"] == arms[0]]
        labels = first.pivot(index=rows, columns="target", values="label").reindex(columns=list(targets))
        scores = {}
        for arm in arms:
            wide = mean[mean["arm"] == arm].pivot(index=rows, columns="target", values="logit")
            scores[arm] = expit(wide.reindex(index=labels.index, columns=list(targets)).to_numpy(dtype=np.float64))
        index = labels.index.to_frame(index=False)
        folds = None if split == "external" else index["fold"].to_numpy(dtype=np.int64)
        key = (str(cohort), str(split))
        panels[key] = Panel(
            key[0], _evaluated(key[1]), tuple(map(str, index["patient_id"])),
            None if folds is None or len(np.unique(folds)) == 1 else folds,
            labels.to_numpy(dtype=np.float64), scores, targets,
        )  # fmt: skip
    return panels


def _evaluated(split: str) -> EvaluatedSplit:
    return "external" if split == "external" else "test" if split == "test" else "validation"


def analyse(
    protocol: Protocol, predictions: pd.DataFrame, cohorts: Mapping[str, Cohort], failed: Sequence[Exclusion]
) -> Results:
    """Everything the protocol's analysis plan asks for.

    Args:
        protocol: The protocol as run.
        predictions: All predictions of the run.
        cohorts: The cohorts as loaded from the run's manifests and splits.
        failed: Slides that left the study after that, with their reasons.
    """
    plan, level = protocol.analysis, protocol.analysis.level
    panels = panels_of(predictions, protocol)
    evaluated = [panel for panel in panels.values() if panel.split != "validation"]
    order = list(protocol.cohorts)
    evaluated.sort(key=lambda panel: (order.index(panel.cohort), panel.split))
    arms = tuple(arm.id for arm in protocol.arms)
    flow, exclusions = _flow(protocol, cohorts, failed, evaluated)
    return Results(
        level=level,
        targets=tuple(protocol.targets),
        arms=arms,
        aurocs=tuple(_aurocs(evaluated, cohorts, arms, level, protocol.seeds[0])),
        curves=tuple(_curves(evaluated, arms)),
        macros=tuple(_macros(evaluated, arms, level)),
        primary=None if plan.primary is None else _primary(plan.primary, panels, protocol),
        comparisons=tuple(_comparisons(evaluated, protocol)),
        operating_points=tuple(_operating_points(evaluated, panels, protocol)),
        calibrations=tuple(_calibrations(evaluated, cohorts, arms, level)),
        subgroups=tuple(_subgroups(evaluated, cohorts, protocol)),
        flow=flow,
        exclusions=exclusions,
    )


def missing_estimate(level: float, method: str, reason: str, n: int = 0, positives: int = 0) -> Estimate:
    """An estimate that cannot be had."""
    return Estimate(math.nan, math.nan, math.nan, level, method, n, positives, n, reason)


def _aurocs(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], arms: Sequence[str], level: float, seed: int
) -> Iterator[AurocResult]:
    for panel, target, arm in itertools.product(panels, panels[0].targets if panels else (), arms):
        j = panel.column(target)
        y, s = panel.labels[:, j], panel.scores[arm][:, j]
        if panel.folds is None:
            rng = np.random.default_rng([seed, *panel.cohort.encode(), *target.encode(), *arm.encode()])
            precision = statistics.average_precision(y, s, level=level, rng=rng)
        else:
            reason = "scores of different folds are not pooled"
            known = ~np.isnan(y)
            precision = missing_estimate(level, "bootstrap", reason, int(known.sum()), int((y == 1).sum()))
        yield AurocResult(
            target=target, arm=arm, cohort=panel.cohort, split=panel.split,
            auroc=statistics.auroc(y, s, level=level, strata=panel.folds),
            average_precision=precision,
            negatives=int((y == 0).sum()), missing=int(np.isnan(y).sum()),
            assessed=target in cohorts[panel.cohort].assessed,
        )  # fmt: skip


def _curves(panels: Sequence[Panel], arms: Sequence[str]) -> Iterator[RocCurve]:
    for panel, target, arm in itertools.product(panels, panels[0].targets if panels else (), arms):
        j = panel.column(target)
        fpr, tpr = mean_roc(panel.labels[:, j], panel.scores[arm][:, j], panel.folds)
        yield RocCurve(target, arm, panel.cohort, panel.split, tuple(fpr.tolist()), tuple(tpr.tolist()))


def mean_roc(labels: Floats, scores: Floats, strata: NDArray[np.int64] | None) -> tuple[Floats, Floats]:
    """ROC curve of known labels; over strata the pair-weighted vertical mean, whose area is the pair-weighted AUROC.

    Returns:
        False and true positive rates (points,), ascending; empty where no stratum holds both classes.
    """
    groups = np.zeros(len(labels), dtype=np.int64) if strata is None else strata
    curves, weights = [], []
    for stratum in np.unique(groups):
        rows = (groups == stratum) & ~np.isnan(labels)
        positives, negatives = int((labels[rows] == 1).sum()), int((labels[rows] == 0).sum())
        if min(positives, negatives) > 0:
            curve = statistics.roc_curve(labels[rows], scores[rows])
            x, y = np.r_[0.0, curve.fp[::-1] / negatives, 1.0], np.r_[0.0, curve.tp[::-1] / positives, 1.0]
            at = np.unique(x)
            low = np.array([y[x == value].min() for value in at])
            high = np.array([y[x == value].max() for value in at])
            curves.append((at, low, high))
            weights.append(positives * negatives)
    if not curves:
        return np.empty(0), np.empty(0)
    share = np.asarray(weights) / sum(weights)
    grid = np.unique(np.concatenate([at for at, _, _ in curves]))
    below, above = np.zeros_like(grid), np.zeros_like(grid)
    for weight, (at, low, high) in zip(share, curves, strict=True):
        # between two breakpoints a curve runs from the upper value at the left to the lower value at the right
        left = np.clip(np.searchsorted(at, grid, side="right") - 1, 0, len(at) - 1)
        right = np.minimum(left + 1, len(at) - 1)
        span = np.where(at[right] > at[left], at[right] - at[left], 1.0)
        between = high[left] + (low[right] - high[left]) * (grid - at[left]) / span
        on = at[left] == grid
        below += weight * np.where(on, low[left], between)
        above += weight * np.where(on, high[left], between)
    x, y = np.repeat(grid, 2), np.column_stack([below, above]).ravel()
    x, y = np.r_[0.0, x], np.r_[0.0, y]
    return _without_collinear(x, y)


def _without_collinear(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The same broken line without points that repeat or lie on a straight stretch."""
    fresh = np.r_[True, (np.diff(x) > 0) | (np.diff(y) > 0)]
    x, y = x[fresh], y[fresh]
    if len(x) > 2:
        turn = np.abs((x[1:-1] - x[:-2]) * (y[2:] - y[1:-1]) - (y[1:-1] - y[:-2]) * (x[2:] - x[1:-1])) > 1e-15
        keep = np.r_[True, turn, True]
        x, y = x[keep], y[keep]
    return x, y


def _macros(panels: Sequence[Panel], arms: Sequence[str], level: float) -> Iterator[MacroResult]:
    for panel, arm in itertools.product(panels, arms):
        usable = _macro_targets(panel)
        left_out = tuple(t for t in panel.targets if t not in usable and t != NEGATIVE_CONTROL)
        columns = [panel.column(target) for target in usable]
        macro = (
            statistics.macro_auroc(
                panel.labels[:, columns], panel.scores[arm][:, columns], level=level, strata=panel.folds
            )
            if usable
            else missing_estimate(level, "MOVER", "no target with both classes")
        )
        yield MacroResult(arm, panel.cohort, panel.split, usable, left_out, macro)


def _macro_targets(panel: Panel) -> tuple[str, ...]:
    """The targets with both classes in the panel; the rehearsal's negative control is none of the study's."""
    return tuple(
        target
        for j, target in enumerate(panel.targets)
        if target != NEGATIVE_CONTROL and min((panel.labels[:, j] == 1).sum(), (panel.labels[:, j] == 0).sum()) > 0
    )


def _comparisons(panels: Sequence[Panel], protocol: Protocol) -> Iterator[ComparisonResult]:
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
                differences = [_difference(panel, target, a, b, plan.level) for a, b in pairs]
                adjusted = statistics.adjust_p([d.p_value for d in differences], method=plan.multiplicity)
                for (a, b), difference, p in zip(pairs, differences, adjusted, strict=True):
                    yield ComparisonResult(
                        family.name, target, panel.cohort, panel.split, a, b, difference, float(p), plan.multiplicity
                    )


def _difference(panel: Panel, target: str, a: str, b: str, level: float) -> Comparison:
    if target == "macro":
        columns = [panel.column(t) for t in _macro_targets(panel)]
        if not columns:
            n, unknown = len(panel.patients), math.nan
            return Comparison(
                unknown, unknown, unknown, level, unknown, unknown, unknown, "MOVER", n, 0, n,
                "no target with both classes",
            )  # fmt: skip
        labels = panel.labels[:, columns]
        difference = statistics.compare_macro_auroc(
            labels, panel.scores[a][:, columns], panel.scores[b][:, columns], level=level, strata=panel.folds
        )
        events = min((min((y == 1).sum(), (y == 0).sum()) for y in labels.T), default=0)
    else:
        j = panel.column(target)
        y = panel.labels[:, j]
        difference = statistics.compare_auroc(
            y, panel.scores[a][:, j], panel.scores[b][:, j], level=level, strata=panel.folds
        )
        events = min((y == 1).sum(), (y == 0).sum())
    return _without_test(difference) if events < MIN_EVENTS_FOR_A_TEST else difference


def _without_test(difference: Comparison) -> Comparison:
    """The difference and its interval without a test, which so few patients cannot carry."""
    reason = difference.reason or f"fewer than {MIN_EVENTS_FOR_A_TEST} patients of a class: no test"
    return replace(difference, statistic=math.nan, df=math.nan, p_value=math.nan, reason=reason)


def _primary(plan: Primary, panels: Mapping[tuple[str, str], Panel], protocol: Protocol) -> PrimaryResult:
    split = "external" if protocol.cohorts[plan.cohort].role == "external" else "test"
    panel = panels[(plan.cohort, split)]
    j, level = panel.column(plan.target), protocol.analysis.level
    y, a, b = panel.labels[:, j], panel.scores[plan.arm][:, j], panel.scores[plan.versus][:, j]
    margin = None if plan.hypothesis == "superiority" else plan.hypothesis.non_inferiority.margin
    if margin is None:
        difference = statistics.superiority(y, a, b, alpha=plan.one_sided_alpha, strata=panel.folds)
    else:
        difference = statistics.non_inferiority(y, a, b, margin=margin, alpha=plan.one_sided_alpha, strata=panel.folds)
    if min((y == 1).sum(), (y == 0).sum()) < MIN_EVENTS_FOR_A_TEST:
        difference = _without_test(difference)
    met = None if math.isnan(difference.p_value) else difference.p_value < plan.one_sided_alpha
    name = "superiority" if margin is None else "non-inferiority"
    return PrimaryResult(
        target=plan.target, cohort=plan.cohort, arm=plan.arm, versus=plan.versus, hypothesis=name, margin=margin,
        one_sided_alpha=plan.one_sided_alpha,
        arm_auroc=statistics.auroc(y, a, level=level, strata=panel.folds),
        versus_auroc=statistics.auroc(y, b, level=level, strata=panel.folds),
        difference=difference, met=met, verdict=_verdict(plan, name, margin, met, difference),
    )  # fmt: skip


def _verdict(plan: Primary, name: str, margin: float | None, met: bool | None, difference: Comparison) -> str:
    who = f"{plan.arm} to {plan.versus} for {plan.target} in {plan.cohort}"
    bound = "" if margin is None else f" with a margin of {margin:g}"
    if met is None:
        return f"{name.capitalize()} of {who}{bound} could not be tested: {difference.reason}."
    return f"{name.capitalize()} of {who}{bound} was {'shown' if met else 'not shown'}."


def _operating_points(
    panels: Sequence[Panel], all_panels: Mapping[tuple[str, str], Panel], protocol: Protocol
) -> Iterator[OperatingPointResult]:
    level = protocol.analysis.level
    validation = all_panels.get((protocol.development, "validation"))
    if validation is None:
        return
    for rule, target, arm in itertools.product(
        protocol.analysis.operating_points, protocol.targets, [arm.id for arm in protocol.arms]
    ):
        if target == NEGATIVE_CONTROL:
            continue
        j = validation.column(target)
        # out-of-fold scores of all folds: a single validation part holds too few positives to place a threshold
        asked: str | dict[str, float] = {rule.rule: rule.value} if isinstance(rule, AtRule) else "youden"
        chosen = statistics.threshold_at(validation.labels[:, j], validation.scores[arm][:, j], asked)
        for panel in panels:
            y, s = panel.labels[:, j], panel.scores[arm][:, j]
            name = rule_name(rule)
            if math.isnan(chosen.threshold):
                empty = missing_estimate(level, "Wilson", f"no threshold on validation patients: {chosen.reason}")
                yield OperatingPointResult(
                    name, target, arm, panel.cohort, panel.split, math.nan, 0, 0, 0, 0, empty, empty, empty, empty
                )
                continue
            point = statistics.operating_point(y, s, chosen.threshold, level=level)
            yield OperatingPointResult(
                name, target, arm, panel.cohort, panel.split, chosen.threshold, point.tp, point.fp, point.tn, point.fn,
                point.sensitivity, point.specificity, point.ppv, point.npv,
            )  # fmt: skip


def rule_name(rule: AtRule | str) -> str:
    """An operating point's rule in words: `sensitivity 0.95`, `Youden`."""
    if isinstance(rule, AtRule):
        measure = rule.rule.removeprefix("at_")
        return f"{measure.upper() if measure in ('npv', 'ppv') else measure} {rule.value:g}"
    return "Youden"


def _calibrations(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], arms: Sequence[str], level: float
) -> Iterator[CalibrationResult]:
    for panel, target, arm in itertools.product(panels, panels[0].targets if panels else (), arms):
        if target not in cohorts[panel.cohort].assessed or target == NEGATIVE_CONTROL:
            continue
        j = panel.column(target)
        found = statistics.calibration(panel.labels[:, j], panel.scores[arm][:, j], level=level, clip=CLIP)
        yield CalibrationResult(
            target, arm, panel.cohort, panel.split, found.intercept, found.slope, found.oe_ratio, found.brier
        )


def _subgroups(panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol) -> Iterator[SubgroupResult]:
    """Subgroups of one arm: the primary comparison's, else the first."""
    plan = protocol.analysis
    arm = plan.primary.arm if plan.primary is not None else protocol.arms[0].id
    for panel, variable in itertools.product(panels, plan.subgroups):
        covariates = cohorts[panel.cohort].covariates
        if variable not in covariates:
            continue
        values = levels_of(covariates[variable].reindex(list(panel.patients)))
        for j, target in enumerate(panel.targets):
            if target == NEGATIVE_CONTROL or target not in cohorts[panel.cohort].assessed:
                continue
            by_level, p_value = _by_level(panel.labels[:, j], panel.scores[arm][:, j], values, panel.folds, plan.level)
            for name, estimate in by_level:
                yield SubgroupResult(variable, name, target, arm, panel.cohort, panel.split, estimate, p_value)


def _by_level(
    labels: Floats, scores: Floats, groups: NDArray[np.str_], folds: NDArray[np.int64] | None, level: float
) -> tuple[list[tuple[str, Estimate]], float]:
    """AUROC in each level and the p value of their heterogeneity; over folds, within folds."""
    if folds is None:
        found = statistics.subgroup_auroc(labels, scores, groups, level=level)
        return [(part.name, part.auroc) for part in found.levels], found.heterogeneity.p_value
    estimates, tested = [], []
    for name in np.unique(groups):
        rows = groups == name
        y, s, strata = labels[rows], scores[rows], folds[rows]
        estimates.append((str(name), statistics.auroc(y, s, level=level, strata=strata)))
        variance = statistics.auroc_variance(y, s, strata=strata)
        if min((y == 1).sum(), (y == 0).sum()) >= MIN_EVENTS_FOR_A_TEST and variance.variance > 0:
            tested.append(variance)
    if len(tested) < 2:
        return estimates, math.nan
    spread = np.diag([part.variance for part in tested])
    return estimates, statistics.heterogeneity([part.auroc for part in tested], spread).p_value


def levels_of(values: "pd.Series[str] | pd.Series[float]") -> NDArray[np.str_]:
    """A covariate as text levels, `unknown` where empty; numbers of many values are cut at their median."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    text = values.astype(str).to_numpy(dtype=str)
    known = np.array([cell not in ("", "nan", "<NA>") for cell in text], dtype=bool)
    if known.any() and not np.isnan(numbers[known]).any() and len(np.unique(numbers[known])) > MAX_LEVELS:
        cut = float(np.median(numbers[known]))
        text = np.where(numbers <= cut, f"up to {cut:g}", f"above {cut:g}")
    return np.where(known, text, "unknown")


def _flow(
    protocol: Protocol, cohorts: Mapping[str, Cohort], failed: Sequence[Exclusion], panels: Sequence[Panel]
) -> tuple[tuple[FlowStep, ...], tuple[Exclusion, ...]]:
    flow: list[FlowStep] = []
    exclusions: list[Exclusion] = []
    for name, cohort in cohorts.items():
        flow += cohort.flow
        exclusions += cohort.exclusions
        members = list(zip(cohort.slides["patient_id"], cohort.slides["slide_id"], strict=True))
        lost = {failure.slide_id: failure for failure in failed if failure.cohort == name}
        readable = [member for member in members if member[1] not in lost]
        step = depart(name, "with a readable slide that holds tissue", members, readable, "slides",
                      "unreadable, or without tissue")  # fmt: skip
        flow.append(step.step)
        for left in step.exclusions:
            why = lost.get(left.slide_id)
            exclusions.append(replace(left, reason=left.reason if why is None else why.reason))
        for panel in panels:
            if panel.cohort == name:
                patients = set(panel.patients)
                slides = sum(patient in patients for patient, _ in readable)
                external = panel.split == "external"
                gone = (step.step.patients - len(patients), step.step.slides - slides)
                reason = "" if external or not any(gone) else "in training and validation parts only"
                label = "external patients predicted" if external else "test patients predicted"
                flow.append(FlowStep(name, label, len(patients), slides, *gone, reason))
    return tuple(flow), tuple(exclusions)
