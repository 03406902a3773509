"""What an analysis says, as plain frozen records: `results.json` is exactly this, and the report renders it."""

from dataclasses import dataclass
from typing import Literal

from tapfm_eval.cohort.flow import Exclusion, FlowStep
from tapfm_eval.statistics.records import Comparison, Estimate
from tapfm_eval.statistics.reliability import ReliabilityBin

EvaluatedSplit = Literal["validation", "test", "external"]
StudyPart = Literal["train", "validation", "test", "external", "all"]
Call = Literal["true positive", "false positive", "false negative", "true negative"]
Scale = Literal["as they are", "recalibrated"]  # of scores: the model's own, or after a fit on validation patients


@dataclass(frozen=True, slots=True)
class AurocResult:
    """Discrimination of one arm on one target among the patients of one cohort's split."""

    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    auroc: Estimate
    average_precision: Estimate
    negatives: int  # patients with label 0
    missing: int  # patients without a known label, left out
    assessed: bool  # False where the cohort has no column for the target

    @property
    def positives(self) -> int:
        """Patients with label 1; an AUROC over folds leaves out those of folds without the other class."""
        return self.average_precision.positives

    @property
    def known(self) -> int:
        """Patients with a known label."""
        return self.positives + self.negatives


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Empirical ROC curve, from (0, 0) to (1, 1), both axes ascending; empty where a class is missing."""

    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    band: "RocBand | None" = None  # None where a class is missing


@dataclass(frozen=True, slots=True)
class RocBand:
    """Limits of the sensitivity at each of a few false positive rates, each by itself and not for the whole curve."""

    false_positive_rate: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    level: float
    method: str


@dataclass(frozen=True, slots=True)
class MacroResult:
    """Mean of the targets' AUROCs of one arm, and the AUROC of all its pairs of patient and target."""

    arm: str
    cohort: str
    split: EvaluatedSplit
    targets: tuple[str, ...]  # the targets that could be averaged
    left_out: tuple[str, ...]  # those that could not, for want of a class
    macro: Estimate
    micro: Estimate  # n and positives count pairs, clusters count patients


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
    p_adjusted: float  # within family, target and part; NaN where no test was made
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
    """A threshold fixed on validation patients and carried unchanged to others, or declared by a user of `score`."""

    rule: str  # `sensitivity 0.95`, `Youden`; `declared 0.4`
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
    avoided: Estimate  # share of patients below the threshold: confirmatory tests that rule-out would save

    @property
    def declared(self) -> bool:
        """Whether a user stated the threshold; no validation patient fixed it."""
        return self.rule.startswith("declared ")


@dataclass(frozen=True, slots=True)
class TriageResult:
    """Two thresholds together: patients ruled out, ruled in, and left to the confirmatory test."""

    rule_out: str  # rule of the lower threshold
    rule_in: str
    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    lower: float  # a patient below it is ruled out
    upper: float  # a patient at or above it is ruled in
    n: int
    positives: int
    ruled_out: Estimate  # share of patients
    missed: Estimate  # share of the ruled out who are positive
    ruled_in: Estimate  # share of patients
    confirmed: Estimate  # share of the ruled in who are positive
    left: Estimate  # share of patients between the thresholds


@dataclass(frozen=True, slots=True)
class FailedCaseResult:
    """An operating point if every patient without a usable slide had been called wrongly, or rightly."""

    rule: str
    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    failed_positives: int  # patients with label 1 of whom no slide could be used
    failed_negatives: int
    worst_sensitivity: float
    best_sensitivity: float
    worst_specificity: float
    best_specificity: float


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One patient whose slide is shown: how the lead arm called them at a threshold fixed on validation patients."""

    rule: str  # of the threshold
    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    call: Call
    patient_id: str
    slide_id: str  # the patient's slide that speaks most for the call
    score: float  # of the patient
    threshold: float
    alike: int  # patients with the same call, of whom this is the middle one or, of wrong calls, the gravest


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
    tested: bool  # whether the level took part in the test of heterogeneity
    heterogeneity_p: float  # over the tested levels of the variable; the same on each of its rows


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Agreement of scores with observed frequencies."""

    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    scale: Scale
    intercept: Estimate
    slope: Estimate
    observed_expected: Estimate
    brier: Estimate
    bins: tuple[ReliabilityBin, ...]  # tenths of the patients by score, ascending
    curve: "ReliabilityCurve | None"  # None where it cannot be smoothed


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """Locally linear observed share against score, and its mean distance from the diagonal over patients."""

    predicted: tuple[float, ...]  # ascending
    observed: tuple[float, ...]
    mean_distance: float  # integrated calibration index


@dataclass(frozen=True, slots=True)
class RecalibrationResult:
    """A logistic recalibration of one arm's scores, fitted on validation patients alone."""

    target: str
    arm: str
    intercept: float  # NaN with a reason where no finite fit exists: scores then stay as they are
    slope: float
    slope_lower: float  # on the patients that it was fitted on
    slope_upper: float
    n: int
    positives: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class DecisionCurveResult:
    """Net benefit per patient, in units of true positives, at each threshold risk; treating none is 0."""

    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    scale: Scale
    n: int
    positives: int
    thresholds: tuple[float, ...]
    net_benefit: tuple[float, ...]
    lower: tuple[float, ...]  # at each threshold by itself
    upper: tuple[float, ...]
    treat_all: tuple[float, ...]
    over_all_lower: tuple[float, ...]  # of net benefit less that of treating all, on the same patients
    over_all_upper: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ControlResult:
    """How far covariates get without any slide: a negative control."""

    covariates: tuple[str, ...]
    target: str
    cohort: str
    split: EvaluatedSplit
    auroc: Estimate


@dataclass(frozen=True, slots=True)
class StratifiedResult:
    """What remains of an AUROC when patients are compared within strata of something else only."""

    variable: str  # a covariate, or another target
    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    crude: Estimate  # patients whose stratum is known, compared across strata
    within: Estimate
    missing: int  # patients whose stratum is unknown


@dataclass(frozen=True, slots=True)
class AddedValueResult:
    """Whether the score tells more than clinical covariates do."""

    covariates: tuple[str, ...]
    target: str
    arm: str
    cohort: str
    split: EvaluatedSplit
    log_odds: Estimate  # per standard deviation of the score on the logit scale, covariates held
    chi_squared: float
    p_value: float
    method: str


@dataclass(frozen=True, slots=True)
class UnusedCovariate:
    """A covariate of which no control and no stratum could be made among the patients of one part."""

    variable: str
    cohort: str
    split: EvaluatedSplit
    reason: str


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """One line of a table of patients' characteristics, in one part of a cohort."""

    variable: str
    level: str  # of a category; `mutated` of a target; empty for a number
    cohort: str
    part: StudyPart
    patients: int  # in the part
    known: int  # of whom the variable is known
    count: int  # of them in this level; for a number, all that are known
    median: float  # of a number, else NaN
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True, slots=True)
class BaselineDifference:
    """Standardised difference of a variable between two parts; over folds, that of the fold where it is largest."""

    variable: str
    cohort: str
    part: StudyPart
    reference_cohort: str
    reference_part: StudyPart
    level: str  # whose share the sign speaks of, where there are two; else empty
    smd: float  # of means or shares for one number or two levels, signed; Mahalanobis length for more levels


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
    seconds: float  # wall clock of training and selection; with the memory the only figure that differs between runs
    peak_memory_mb: float  # while this unit trained; NaN where it could not be known
    memory_of: str  # `GPU`, or `process`: what was resident of it, code included and workers not
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
    triage: tuple[TriageResult, ...]
    failed_cases: tuple[FailedCaseResult, ...]
    cases: tuple[CaseResult, ...]
    recalibrations: tuple[RecalibrationResult, ...]
    calibrations: tuple[CalibrationResult, ...]
    decision_curves: tuple[DecisionCurveResult, ...]
    subgroups: tuple[SubgroupResult, ...]
    controls: tuple[ControlResult, ...]
    stratified: tuple[StratifiedResult, ...]
    added_values: tuple[AddedValueResult, ...]
    unused_covariates: tuple[UnusedCovariate, ...]
    baseline: tuple[BaselineRow, ...]
    baseline_differences: tuple[BaselineDifference, ...]
    flow: tuple[FlowStep, ...]
    exclusions: tuple[Exclusion, ...]
