"""What an analysis says, as plain frozen records: `results.json` is exactly this, and the report renders it."""

from dataclasses import dataclass
from typing import Literal

from tapfm_eval.cohort.flow import Exclusion, FlowStep
from tapfm_eval.statistics.records import Comparison, Estimate

EvaluatedSplit = Literal["validation", "test", "external"]


@dataclass(frozen=True, slots=True)
class AurocResult:
    """Discrimination of one arm on one target among the patients of one cohort's split."""

    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    auroc: Estimate
    average_precision: Estimate
    negatives: int  # patients with label 0; positives are in the estimate
    missing: int  # patients without a known label, left out
    assessed: bool  # False where the cohort has no column for the target


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Empirical ROC curve, from (0, 0) to (1, 1), both axes ascending; empty where a class is missing."""

    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MacroResult:
    """Mean of the targets' AUROCs of one arm."""

    arm: str
    cohort: str
    split: EvaluatedSplit
    targets: tuple[str, ...]  # the targets that could be averaged
    left_out: tuple[str, ...]  # those that could not, for want of a class
    macro: Estimate


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """Difference of two arms on the same patients; `target` is `macro` for the macro-average."""

    family: str
    target: str
    cohort: str
    split: EvaluatedSplit
    arm_a: str
    arm_b: str
    difference: Comparison  # A - B
    p_adjusted: float  # within the family; NaN where no test was made
    adjustment: str  # holm, hochberg or bh


@dataclass(frozen=True, slots=True)
class PrimaryResult:
    """The primary comparison with its verdict in words."""

    target: str
    cohort: str
    arm: str
    versus: str
    hypothesis: str  # superiority, or non-inferiority
    margin: float | None  # of non-inferiority
    one_sided_alpha: float
    arm_auroc: Estimate
    versus_auroc: Estimate
    difference: Comparison  # arm - versus, test as the hypothesis says
    met: bool | None  # None: not estimable
    verdict: str  # one sentence


@dataclass(frozen=True, slots=True)
class OperatingPointResult:
    """A threshold fixed on validation patients and carried unchanged to others."""

    rule: str  # `sensitivity 0.95`, `Youden`
    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    threshold: float  # score at or above which a patient counts as positive; NaN with a reason in the estimates
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate


@dataclass(frozen=True, slots=True)
class SubgroupResult:
    """AUROC among the patients of one level of a covariate."""

    variable: str
    level: str
    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    auroc: Estimate
    heterogeneity_p: float  # of the variable over its estimable levels; the same on each of its rows


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Agreement of scores with observed frequencies, as they are."""

    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    intercept: Estimate
    slope: Estimate
    observed_expected: Estimate
    brier: Estimate


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What training one arm with one seed on one fold came to."""

    arm: str
    seed: int
    fold: int
    epochs: int
    selected_epoch: int  # counted from 1
    validation_metric: float  # macro AUROC at the selected epoch
    metric_targets: tuple[str, ...]
    seconds: float  # wall clock of training and selection; the only figure here that differs between runs
    peak_memory_mb: float
    train_loss: tuple[float, ...]  # per epoch
    validation_loss: tuple[float, ...]
    validation_auroc: tuple[float, ...]  # macro, per epoch


@dataclass(frozen=True, slots=True)
class RehearsalCheck:
    """One thing the rehearsal must show, and whether it did."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that the analysis found, in the order of the protocol."""

    level: float
    targets: tuple[str, ...]
    arms: tuple[str, ...]
    aurocs: tuple[AurocResult, ...]
    curves: tuple[RocCurve, ...]
    macros: tuple[MacroResult, ...]
    primary: PrimaryResult | None
    comparisons: tuple[ComparisonResult, ...]
    operating_points: tuple[OperatingPointResult, ...]
    calibrations: tuple[CalibrationResult, ...]
    subgroups: tuple[SubgroupResult, ...]
    flow: tuple[FlowStep, ...]
    exclusions: tuple[Exclusion, ...]
