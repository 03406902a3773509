"""How wide the interval of each AUROC will be, and what the primary comparison can find, from numbers of patients."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from tapfm_eval import statistics
from tapfm_eval.analysis.comparisons import MIN_EVENTS_FOR_A_TEST
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.randomness import generator
from tapfm_eval.statistics.intervals import newcombe5_limits, score_terms

FEW = 20  # positives or negatives below which the normal approximations mislead, and the study is simulated
REPLICATES = 400
DIFFERENCES = (0.02, 0.03, 0.05, 0.08, 0.10)  # of two true AUROCs
TRUE_DIFFERENCES = (-0.02, 0.0, 0.02)  # under which non-inferiority is asked
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class TargetPrecision:
    """One target in one part: who is there, and what an AUROC of them will tell."""

    cohort: str
    part: str  # test or external
    target: str
    patients: int  # with a known label
    positives: int
    negatives: int
    expected: bool  # True where the protocol only declares the cohort
    auroc: float  # assumed
    lower: float  # limits of the interval to expect around it (Newcombe 2006, method 5); NaN where a class is missing
    upper: float
    power: float  # to tell the assumed AUROC from 0.5, two-sided at 1 - level
    detectable: float  # smallest AUROC that is told from 0.5 with the wanted power
    reason: str | None  # why something is NaN

    @property
    def width(self) -> float:
        """Of the interval to expect."""
        return self.upper - self.lower


@dataclass(frozen=True, slots=True)
class PrimaryPower:
    """What the primary comparison can find."""

    target: str
    cohort: str
    arm: str
    versus: str
    hypothesis: str  # superiority, or non-inferiority
    margin: float | None
    one_sided_alpha: float
    positives: int
    negatives: int
    auroc: float  # assumed for `versus`
    correlation: float  # of the two arms' scores, assumed
    powers: tuple[tuple[float, float], ...]  # true difference arm - versus, power
    needed: float  # positives that give the wanted power at a true difference of `needed_at`; NaN with a reason
    needed_at: float
    method: str
    reason: str | None


def expected_precision(
    protocol: Protocol, cohorts: Mapping[str, Cohort], *, auroc: float, power: float
) -> tuple[TargetPrecision, ...]:
    """A row for each target in the test part of the development cohort and in each external cohort."""
    rows = []
    for name, cohort in cohorts.items():
        part = "external" if cohort.role == "external" else "test"
        for target in protocol.targets:
            patients, positives = _counts(cohort, target)
            rows.append(_row(protocol, name, part, target, patients, positives, auroc, power))
    return tuple(rows)


def primary_power(
    protocol: Protocol, cohorts: Mapping[str, Cohort], *, auroc: float, correlation: float, power: float
) -> PrimaryPower | None:
    """The power of the primary comparison over a range of true differences; None where the protocol has none."""
    plan = protocol.analysis.primary
    if plan is None:
        return None
    patients, positives = _counts(cohorts[plan.cohort], plan.target)
    negatives = patients - positives
    margin = None if plan.hypothesis == "superiority" else plan.hypothesis.non_inferiority.margin
    alpha = plan.one_sided_alpha
    reason = None
    powers: tuple[tuple[float, float], ...] = ()
    needed, needed_at, method = math.nan, 0.05 if margin is None else 0.0, ""
    if min(positives, negatives) < MIN_EVENTS_FOR_A_TEST:
        reason = f"fewer than {MIN_EVENTS_FOR_A_TEST} patients of a class: no test is made"
    else:
        asked = DIFFERENCES if margin is None else TRUE_DIFFERENCES
        usable = [difference for difference in asked if 0.5 <= auroc + difference < 1]
        found = []
        for difference in usable:
            value, method = _power(
                auroc, difference, positives, negatives, margin, alpha, correlation, protocol.seeds[0]
            )
            found.append((difference, value))
        powers = tuple(found)
        if auroc + needed_at < 1:
            needed = _needed(auroc, needed_at, negatives / positives, margin, alpha, correlation, power)
    return PrimaryPower(
        plan.target, plan.cohort, plan.arm, plan.versus, "superiority" if margin is None else "non-inferiority", margin,
        alpha, positives, negatives, auroc, correlation, powers, needed, needed_at, method, reason,
    )  # fmt: skip


def _counts(cohort: Cohort, target: str) -> tuple[int, int]:
    """Patients with a known label, and positives, among those that are tested in any fold, or are external."""
    labels = cohort.labels[target]
    if cohort.split is not None:
        tested = sorted({patient for fold in cohort.folds for patient in cohort.split.patients(fold, "test")})
        labels = labels.loc[tested]
    return int(labels.notna().sum()), int((labels == 1).sum())


def _row(
    protocol: Protocol, cohort: str, part: str, target: str, patients: int, positives: int, auroc: float, power: float
) -> TargetPrecision:
    negatives, level = patients - positives, protocol.analysis.level
    lower = upper = told = detectable = math.nan
    reason = None
    if not positives or not negatives:
        reason = "no patient with a known label" if not patients else "one class alone"
    else:
        lower, upper = (float(limit) for limit in newcombe5_limits(auroc, *score_terms(positives, negatives), level))
        if min(positives, negatives) < FEW:
            rng = generator(protocol.seeds[0], "plan", cohort, part, target)
            study = statistics.expected_interval(
                auroc, positives, negatives, rng=rng, level=level, replicates=REPLICATES
            )
            told, reason = study.excludes_half, study.reason
        else:
            told = statistics.power_auroc(auroc, positives, negatives, alpha=1 - level).power
        found = statistics.detectable_auroc(positives, negatives, power=power, alpha=1 - level)
        detectable, reason = found.auroc, reason or found.reason
    return TargetPrecision(
        cohort, part, target, patients, positives, negatives, protocol.cohorts[cohort].expected is not None, auroc,
        lower, upper, told, detectable, reason,
    )  # fmt: skip


def _power(
    auroc: float, difference: float, positives: int, negatives: int, margin: float | None, alpha: float,
    correlation: float, seed: int,
) -> tuple[float, str]:  # fmt: skip
    if margin is None and min(positives, negatives) < FEW:
        study = statistics.simulated_paired_power(
            auroc + difference, auroc, positives, negatives,
            rng=generator(seed, "plan", "primary", f"{difference:g}"), correlation_positives=correlation,
            correlation_negatives=correlation, alpha=2 * alpha, replicates=REPLICATES,
        )  # fmt: skip
        return study.power, study.method
    moments = statistics.binormal_moments(
        auroc + difference, auroc, correlation_positives=correlation, correlation_negatives=correlation
    )
    if margin is None:
        found = statistics.power_paired_auroc(moments, positives, negatives, alpha=alpha, alternative="one-sided")
        return found.power, found.method
    error = math.sqrt(_variance(moments, positives, negatives))
    return _normal_power((difference + margin) / error, alpha), "normal approximation, binormal scores"


def _needed(
    auroc: float, difference: float, ratio: float, margin: float | None, alpha: float, correlation: float, power: float
) -> float:
    """Positives that give the wanted power, at this many negatives a positive."""
    moments = statistics.binormal_moments(
        auroc + difference, auroc, correlation_positives=correlation, correlation_negatives=correlation
    )
    distance = difference + (margin or 0.0)
    per_positive = _variance(moments, 1.0, ratio)
    return per_positive * ((_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) / distance) ** 2


def _normal_power(distance: float, alpha: float) -> float:
    """That a z test at one-sided `alpha` rejects where the truth lies `distance` standard errors inside."""
    return _NORMAL.cdf(distance - _NORMAL.inv_cdf(1 - alpha))


def _variance(moments: statistics.PairedMoments, positives: float, negatives: float) -> float:
    """Of the difference of the two AUROCs."""
    parts = zip(moments.positive_part, moments.negative_part, strict=True)
    a, b, c = (positive / positives + negative / negatives for positive, negative in parts)
    return a + b - 2 * c
