"""A whole run in miniature: the records that a report is made from, with scores drawn from a seed."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tapfm_eval.cohort.flow import Exclusion, FlowStep
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.report.inputs import RehearsalSummary, ReportInputs
from tapfm_eval.report.palette import weight_colour
from tapfm_eval.report.pictures import CasePictures, Picture, picture
from tapfm_eval.results import (
    AddedValueResult,
    AurocResult,
    BaselineDifference,
    BaselineRow,
    CalibrationResult,
    Call,
    CaseResult,
    ComparisonResult,
    ControlResult,
    DecisionCurveResult,
    FailedCaseResult,
    MacroResult,
    OperatingPointResult,
    PrimaryResult,
    RecalibrationResult,
    RehearsalCheck,
    ReliabilityCurve,
    Results,
    RocBand,
    RocCurve,
    Scale,
    StratifiedResult,
    StudyPart,
    SubgroupResult,
    TriageResult,
    UnitResult,
    UnusedCovariate,
)
from tapfm_eval.statistics.records import Comparison, Estimate
from tapfm_eval.statistics.reliability import ReliabilityBin

ARMS = ("tapfm-hoptimus0", "tapfm-uni-lora", "abmil-hoptimus0", "abmil-hoptimus0-ft")
TARGETS = ("EGFR", "KRAS", "TP53", "ALK")
SCALES: tuple[Scale, ...] = ("as they are", "recalibrated")
PARTS = (("tcga-luad", "validation"), ("tcga-luad", "test"), ("cptac-luad", "external"))
_POSITIVES = {"EGFR": 0.13, "KRAS": 0.3, "TP53": 0.5, "ALK": 0.012, "NULL": 0.13}
_ARM_SPECS = (
    {"backbone": "h-optimus-0", "aggregator": "tapfm", "adapt": "full", "tiles_per_slide": 75},
    {"backbone": "uni", "aggregator": "tapfm", "adapt": {"lora": {"rank": 8}}, "tiles_per_slide": 300},
    {"backbone": "h-optimus-0", "aggregator": "abmil", "adapt": "frozen"},
    {"backbone": "h-optimus-0", "aggregator": "abmil", "adapt": {"last_blocks": 10}, "tiles_per_slide": 75},
)


@dataclass(frozen=True)
class Scores:
    """One arm's scores of the patients with a known label."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


def example_protocol(arms: Sequence[str] = ARMS, targets: Sequence[str] = TARGETS) -> Protocol:
    """The protocol of the example."""
    first, other = arms[0], arms[2 % len(arms)]
    return Protocol.model_validate(
        {
            "format": "tapfm-eval/protocol/1",
            "id": "luad",
            "version": "1.0.0",
            "title": "Driver mutations in lung adenocarcinoma from H&E",
            "intended_use": "Research use. Triage of patients with lung adenocarcinoma for confirmatory sequencing.",
            "seeds": [1],
            "cohorts": {
                "tcga-luad": {"role": "development", "manifest": "tcga.csv", "split": "split-1.csv"},
                "cptac-luad": {"role": "external", "manifest": "cptac.csv"},
            },
            "targets": {target: {} for target in targets},
            "arms": [{"id": arm, **_ARM_SPECS[i % len(_ARM_SPECS)]} for i, arm in enumerate(arms)],
            "analysis": {
                "primary": {"target": targets[0], "cohort": "cptac-luad", "arm": first, "versus": other},
                "families": [{"name": "arms on each target", "comparisons": {"all_against": first}}],
                "operating_points": [{"at_sensitivity": 0.95}, {"at_specificity": 0.95}, "youden"],
                "subgroups": ["sex", "stage", "site", "mpp"],
            },
            "rehearsal": {"planted": dict.fromkeys(targets, 0.9)},
        }
    )


def example_inputs(
    *,
    rehearsal: bool = False,
    arms: Sequence[str] = ARMS,
    targets: Sequence[str] = TARGETS,
    patients: Mapping[str, int] | None = None,
) -> ReportInputs:
    """A run of `arms` on `targets` in TCGA and CPTAC; a rehearsal adds the target NULL and its checks."""
    counts = {"validation": 49, "test": 51, "external": 211, **(patients or {})}
    shown = (*targets, "NULL") if rehearsal else tuple(targets)
    drawn = {
        (arm, target, split): _scores(arms.index(arm), target, split, counts[split], planted=target != "NULL")
        for arm in arms
        for target in shown
        for _, split in PARTS
    }
    results = Results(
        level=0.95,
        targets=shown,
        arms=tuple(arms),
        aurocs=tuple(
            AurocResult(
                target,
                arm,
                cohort,
                split,
                auroc_estimate(drawn[arm, target, split]),
                _average_precision(drawn[arm, target, split]),
                int((drawn[arm, target, split].labels == 0).sum()),
                counts[split] - len(drawn[arm, target, split].labels),
                assessed=not (target == "ALK" and cohort == "cptac-luad"),
            )
            for cohort, split in PARTS
            for target in shown
            for arm in arms
        ),
        curves=tuple(
            _curve(target, arm, cohort, split, drawn[arm, target, split])
            for cohort, split in PARTS[1:]
            for target in shown
            for arm in arms
            if not (target == "ALK" and cohort == "cptac-luad")
        ),
        macros=tuple(_macro(arm, cohort, split, targets, drawn) for cohort, split in PARTS for arm in arms),
        primary=_primary(arms, targets[0], drawn),
        comparisons=tuple(
            _comparison(target, cohort, split, arms[0], arm, drawn)
            for cohort, split in PARTS[1:]
            for target in shown
            for arm in arms[1:]
            if not (target == "ALK" and cohort == "cptac-luad")
        ),
        operating_points=tuple(
            _operating_point(rule, target, arm, cohort, split, drawn[arm, target, split])
            for rule in ("sensitivity 0.95", "specificity 0.95", "Youden")
            for cohort, split in PARTS
            for target in shown[:3]
            for arm in arms
        ),
        triage=tuple(
            TriageResult(
                "sensitivity 0.95",
                "specificity 0.95",
                target,
                arm,
                cohort,
                split,
                0.12,
                0.55,
                206,
                26,
                _proportion(68 + i, 206),
                _proportion(1, 68 + i),
                _proportion(19, 206),
                _proportion(15, 19),
                _proportion(119 - i, 206),
            )
            for cohort, split in PARTS
            for target in shown[:3]
            for i, arm in enumerate(arms)
        ),
        failed_cases=(
            FailedCaseResult("Youden", targets[0], arms[0], "cptac-luad", "external", 1, 2, 0.81, 0.85, 0.7, 0.71),
        ),
        cases=tuple(_cases(shown[:2], arms[0])),
        recalibrations=(
            *(
                RecalibrationResult(target, arm, -0.31, 0.84, 0.42, 1.31, 48, 9, None)
                for target in targets[:3]
                for arm in arms
            ),
            RecalibrationResult("ALK", arms[0], math.nan, math.nan, math.nan, math.nan, 48, 0, "0 positive patients"),
        ),
        calibrations=tuple(
            _calibration(target, arm, cohort, split, scale, drawn[arm, target, split])
            for cohort, split in PARTS[1:]
            for target in targets[:3]
            for arm in arms
            for scale in SCALES
        ),
        decision_curves=tuple(
            _decision_curve(target, arm, cohort, split, drawn[arm, target, split])
            for cohort, split in PARTS[1:]
            for target in targets[:3]
            for arm in arms
        ),
        subgroups=tuple(
            _subgroup(variable, level, target, arms[0], drawn[arms[0], target, "external"], share)
            for target in shown[:3]
            for variable, level, share in (
                ("sex", "female", 0.5),
                ("sex", "male", 0.5),
                ("stage", "I", 0.6),
                ("stage", "II", 0.2),
                ("stage", "III–IV", 0.2),
                ("mpp", "0.25", 0.9),
                ("mpp", "0.50", 0.02),
            )
        ),
        controls=tuple(
            ControlResult(names, target, "cptac-luad", "external", _plain_estimate(0.5 + 0.04 * i, 0.1))
            for target in targets[:3]
            for i, names in enumerate((("site",), ("smoking",), ("age", "sex", "stage", "smoking")))
        ),
        stratified=tuple(
            StratifiedResult(
                name,
                target,
                arms[0],
                "cptac-luad",
                "external",
                _plain_estimate(0.86, 0.07),
                _plain_estimate(0.83, 0.09),
                4,
            )
            for target in targets[:3]
            for name in ("site", "smoking", "TP53")
        ),
        unused_covariates=(UnusedCovariate("scanner", "tcga-luad", "test", "not recorded"),),
        added_values=tuple(
            AddedValueResult(
                ("age", "sex", "stage", "smoking"),
                target,
                arms[0],
                "cptac-luad",
                "external",
                _plain_estimate(1.21, 0.4),
                31.2,
                0.00002,
                "likelihood ratio",
            )
            for target in targets[:3]
        ),
        baseline=tuple(_baseline(counts)),
        baseline_differences=tuple(_baseline_differences()),
        flow=_flow(targets, counts),
        exclusions=_exclusions(),
    )
    return ReportInputs(
        protocol=example_protocol(arms, targets),
        protocol_sha256="5f0c1f6b1f9fd4c4e5d6f0a92c3a7b8de0135792468ace013579bdf02468ace0",
        run_id="3f9c2ab17d40",
        results=results,
        units=tuple(_unit(arm, i) for i, arm in enumerate(arms)),
        provenance={
            "Software": {"tapfm-eval": "0.1.0", "python": "3.11.2", "torch": "2.9.1", "numpy": "2.4.6"},
            "Source": {"commit": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "uncommitted changes": "no"},
            "Hashes (SHA-256)": {
                "cohorts/tcga-luad/manifest.csv": "9b" * 32,
                "cohorts/tcga-luad/split-1.csv": "1c" * 32,
                "cohorts/cptac-luad/manifest.csv": "e7" * 32,
            },
            "Device": {"device": "cuda:0, NVIDIA H100 80GB", "precision": "bfloat16"},
        },
        rehearsal=_rehearsal(targets) if rehearsal else None,
        pictures=tuple(_pictures(case) for case in results.cases),
    )


def _cases(targets: Sequence[str], arm: str) -> Iterator[CaseResult]:
    calls: tuple[tuple[Call, float], ...] = (
        ("true positive", 0.62), ("false positive", 0.81), ("false negative", 0.07), ("true negative", 0.15),
    )  # fmt: skip
    for target in targets:
        for i, (call, score) in enumerate(calls):
            patient = f"C3L-{target}-{40 - i:05d}"
            yield CaseResult(
                "Youden", target, arm, "cptac-luad", "external", call, patient, f"{patient}-21", score, 0.31, 17 + i
            )


def _pictures(case: CaseResult) -> CasePictures:
    """A made-up slide: a pink blob whose tiles weigh more to the right; a false negative has none."""
    place = (case.target, case.call, case.cohort, case.patient_id, case.slide_id)
    if case.call == "false negative":
        return CasePictures(*place, 0, 0, 0, 0.0, (0.0, 0.0), None, None, (), (), "the slide cannot be read")
    wide, high = (360, 240) if case.call == "true positive" else (200, 300)
    y, x = np.mgrid[0:high, 0:wide]
    tissue = ((x - wide / 2) / (0.42 * wide)) ** 2 + ((y - high / 2) / (0.4 * high)) ** 2 < 1
    shade = 200 + 20 * np.sin(x / 9) * np.cos(y / 7)
    slide = np.full((high, wide, 3), 244.0)
    slide[tissue] = np.stack([shade, shade * 0.62, shade * 0.8], axis=-1)[tissue]
    weights = np.full((high, wide, 3), 248.0)
    for top in range(0, high, 12):
        for left in range(0, wide, 12):
            if tissue[min(top + 6, high - 1), min(left + 6, wide - 1)]:
                weights[top : top + 12, left : left + 12] = weight_colour(left / wide)
    tiles = [_jpeg(np.full((56, 56, 3), (150.0 + 12 * i, 90.0 + 9 * i, 140.0 + 5 * i))) for i in range(8)]
    return CasePictures(
        *place, 5, 1432, 71, 112.0, (21.4, 14.3), _jpeg(slide), _jpeg(weights), tuple(tiles[:4]), tuple(tiles[4:])
    )


def _jpeg(pixels: NDArray[np.float64]) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
    return picture(buffer.getvalue())


def auroc_estimate(drawn: Scores, level: float = 0.95) -> Estimate:
    """AUROC by counting pairs, with a wide interval from the rarer class; good enough to be laid out."""
    positives = drawn.scores[drawn.labels == 1]
    negatives = drawn.scores[drawn.labels == 0]
    n, m = len(drawn.labels), len(positives)
    if m == 0 or m == n:
        reason = f"{m} positive and {n - m} negative patients: both classes are needed"
        return Estimate(math.nan, math.nan, math.nan, level, "auto", n, m, n, reason)
    value = float(np.mean(positives[:, None] > negatives[None, :]))
    error = 1.96 * math.sqrt(max(value * (1 - value), 0.02) / min(m, n - m)) / 1.4
    method = "auto: envelope (small sample)" if min(m, n - m) < 20 else "auto: logit-t"
    return Estimate(value, max(0.0, value - 1.2 * error), min(1.0, value + 0.8 * error), level, method, n, m, n)


def _scores(arm: int, target: str, split: str, n: int, *, planted: bool) -> Scores:
    seed = [arm, sum(target.encode()), sum(split.encode())]
    labels_rng, scores_rng = np.random.default_rng(seed[1:]), np.random.default_rng(seed)
    known = n - n // 40
    labels = (labels_rng.random(known) < _POSITIVES.get(target, 0.2)).astype(np.int64)
    if target == "ALK":
        labels[:] = 0
        labels[: 3 if split == "test" else 0] = 1
    effect = (1.7 - 0.25 * (arm % 5)) if planted else 0.0
    logits = scores_rng.normal(size=known) + effect * labels - 1.6
    return Scores(labels, 1 / (1 + np.exp(-logits)))


def _average_precision(drawn: Scores) -> Estimate:
    n, m = len(drawn.labels), int(drawn.labels.sum())
    if m == 0:
        return Estimate(math.nan, math.nan, math.nan, 0.95, "stratified bootstrap", n, m, n, "no positive patient")
    ranked = drawn.labels[np.argsort(-drawn.scores)]
    value = float((np.cumsum(ranked) / np.arange(1, n + 1))[ranked == 1].mean())
    return Estimate(
        value, max(0.0, value - 0.13), min(1.0, value + 0.12), 0.95, "stratified bootstrap, logit scale", n, m, n
    )


def _curve(target: str, arm: str, cohort: str, split: str, drawn: Scores) -> RocCurve:
    m = int(drawn.labels.sum())
    if m in (0, len(drawn.labels)):
        return RocCurve(target, arm, cohort, split, (), ())
    ranked = drawn.labels[np.argsort(-drawn.scores)]
    tpr = np.concatenate([[0.0], np.cumsum(ranked) / m])
    fpr = np.concatenate([[0.0], np.cumsum(1 - ranked) / (len(ranked) - m)])
    grid = np.linspace(0, 1, 41)
    middle = np.interp(grid, fpr, tpr)
    band = RocBand(
        tuple(grid.tolist()),
        tuple(np.clip(middle - 0.12, 0, 1).tolist()),
        tuple(np.clip(middle + 0.09, 0, 1).tolist()),
        0.95,
        "drawn",
    )
    return RocCurve(target, arm, cohort, split, tuple(map(float, fpr)), tuple(map(float, tpr)), band)


def _macro(
    arm: str, cohort: str, split: str, targets: Sequence[str], drawn: Mapping[tuple[str, str, str], Scores]
) -> MacroResult:
    estimates = {target: auroc_estimate(drawn[arm, target, split]) for target in targets}
    used = tuple(t for t, e in estimates.items() if not math.isnan(e.value) and t != "ALK")
    left_out = tuple(t for t in targets if t not in used)
    n = len(drawn[arm, targets[0], split].labels)
    value = float(np.mean([estimates[t].value for t in used]))
    estimate = Estimate(value, value - 0.06, value + 0.05, 0.95, "MOVER over auto limits", n, n, n)
    micro = Estimate(value + 0.03, value - 0.02, value + 0.07, 0.95, "auto: logit-t, clustered", 3 * n, n, n)
    return MacroResult(arm, cohort, split, used, left_out, estimate, micro)


def _difference(a: Scores, b: Scores) -> Comparison:
    first, second = auroc_estimate(a), auroc_estimate(b)
    if math.isnan(first.value) or first.positives < 5:
        reason = first.reason or f"{first.positives} positive patients: no test below 5"
        value = first.value - second.value
        return Comparison(
            value,
            math.nan,
            math.nan,
            0.95,
            math.nan,
            math.nan,
            math.nan,
            "paired DeLong, Satterthwaite t",
            first.n,
            first.positives,
            first.n,
            reason,
        )
    value, error = first.value - second.value, 0.3 / math.sqrt(first.positives)
    p = math.erfc(abs(value / error) / math.sqrt(2))
    return Comparison(
        value,
        value - 2.1 * error,
        value + 2.1 * error,
        0.95,
        value / error,
        first.positives - 0.6,
        p,
        "paired DeLong, Satterthwaite t",
        first.n,
        first.positives,
        first.n,
    )


def _comparison(
    target: str, cohort: str, split: str, a: str, b: str, drawn: Mapping[tuple[str, str, str], Scores]
) -> ComparisonResult:
    difference = _difference(drawn[a, target, split], drawn[b, target, split])
    adjusted = min(1.0, 6 * difference.p_value) if not math.isnan(difference.p_value) else math.nan
    return ComparisonResult("arms on each target", target, cohort, split, a, b, difference, adjusted, "holm")


def _primary(arms: Sequence[str], target: str, drawn: Mapping[tuple[str, str, str], Scores]) -> PrimaryResult:
    arm, versus = arms[0], arms[2 % len(arms)]
    first, second = drawn[arm, target, "external"], drawn[versus, target, "external"]
    difference = _difference(first, second)
    met = difference.lower > 0
    verb = "is superior to" if met else "was not shown to be superior to"
    return PrimaryResult(
        target=target,
        cohort="cptac-luad",
        arm=arm,
        versus=versus,
        hypothesis="superiority",
        margin=None,
        one_sided_alpha=0.025,
        arm_auroc=auroc_estimate(first),
        versus_auroc=auroc_estimate(second),
        difference=difference,
        met=met,
        verdict=f"{arm} {verb} {versus} in AUROC for {target} on cptac-luad.",
    )


def _proportion(hits: int, total: int) -> Estimate:
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan, 0.95, "Wilson", 0, 0, 0, "no such patient")
    p, z2 = hits / total, 3.84
    centre, half = (p + z2 / 2 / total), math.sqrt(z2 * (p * (1 - p) + z2 / 4 / total) / total)
    lower, upper = (centre - half) / (1 + z2 / total), (centre + half) / (1 + z2 / total)
    return Estimate(p, max(0.0, lower), min(1.0, upper), 0.95, "Wilson", total, hits, total)


def _operating_point(rule: str, target: str, arm: str, cohort: str, split: str, drawn: Scores) -> OperatingPointResult:
    threshold = {"sensitivity 0.95": 0.12, "specificity 0.95": 0.55}.get(rule, 0.31)
    called = drawn.scores >= threshold
    positive = drawn.labels == 1
    tp, fp = int((called & positive).sum()), int((called & ~positive).sum())
    fn, tn = int((~called & positive).sum()), int((~called & ~positive).sum())
    return OperatingPointResult(
        rule,
        target,
        arm,
        cohort,
        split,
        threshold,
        tp,
        fp,
        tn,
        fn,
        _proportion(tp, tp + fn),
        _proportion(tn, tn + fp),
        _proportion(tp, tp + fp),
        _proportion(tn, tn + fn),
        _proportion(tn + fn, tp + fp + tn + fn),
    )


def _plain_estimate(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, 0.95, "some method", 206, 26, 206)


def _calibration(target: str, arm: str, cohort: str, split: str, scale: Scale, drawn: Scores) -> CalibrationResult:
    scores = drawn.scores if scale == "as they are" else 0.1 + 0.7 * drawn.scores
    n, m = len(drawn.labels), int(drawn.labels.sum())
    brier = float(((scores - drawn.labels) ** 2).mean())
    ratio = m / float(scores.sum())

    def estimate(value: float, half: float, method: str) -> Estimate:
        return Estimate(value, value - half, value + half, 0.95, method, n, m, n)

    order = np.argsort(scores)
    bins = tuple(
        ReliabilityBin(len(rows), float(scores[rows].mean()), _proportion(int(drawn.labels[rows].sum()), len(rows)))
        for rows in np.array_split(order, 10)
    )
    curve = ReliabilityCurve((0.1, 0.4, 0.8), (0.08, 0.35, 0.9), 0.041)
    return CalibrationResult(
        target,
        arm,
        cohort,
        split,
        scale,
        estimate(math.log(max(ratio, 0.01)), 0.4, "binomial GLM"),
        estimate(0.94 + 0.03 * len(arm) % 0.2, 0.31, "binomial GLM"),
        estimate(ratio, 0.2, "binomial GLM"),
        estimate(brier, 0.021, "bootstrap"),
        bins,
        curve,
    )


def _decision_curve(target: str, arm: str, cohort: str, split: str, drawn: Scores) -> DecisionCurveResult:
    n, m = len(drawn.labels), int(drawn.labels.sum())
    risks = np.linspace(0.01, 0.99, 99)
    price = risks / (1 - risks)
    called = drawn.scores[:, None] >= risks
    benefit = (called & (drawn.labels == 1)[:, None]).mean(axis=0) - price * (
        called & (drawn.labels == 0)[:, None]
    ).mean(axis=0)
    everybody = m / n - (1 - m / n) * price
    return DecisionCurveResult(
        target, arm, cohort, split, "recalibrated", n, m, tuple(risks.tolist()), tuple(benefit.tolist()),
        tuple((benefit - 0.03).tolist()), tuple((benefit + 0.03).tolist()), tuple(everybody.tolist()),
        tuple((benefit - everybody - 0.03).tolist()), tuple((benefit - everybody + 0.03).tolist()),
    )  # fmt: skip


def _baseline(counts: Mapping[str, int]) -> Iterator[BaselineRow]:
    parts: tuple[tuple[str, StudyPart, int], ...] = (
        ("tcga-luad", "train", 401), ("tcga-luad", "validation", counts["validation"]),
        ("tcga-luad", "test", counts["test"]), ("cptac-luad", "external", counts["external"]),
    )  # fmt: skip
    for cohort, part, n in parts:
        yield BaselineRow("EGFR", "mutated", cohort, part, n, n - 2, n // 8, math.nan, math.nan, math.nan)
        yield BaselineRow("age", "", cohort, part, n, n - 3, n - 3, 66.0, 59.0, 73.0)
        for level, share in (("I", 0.5), ("II", 0.3), ("III", 0.2)):
            yield BaselineRow("stage", level, cohort, part, n, n, round(n * share), math.nan, math.nan, math.nan)


def _baseline_differences() -> Iterator[BaselineDifference]:
    compared: tuple[tuple[str, StudyPart], ...] = (
        ("tcga-luad", "validation"), ("tcga-luad", "test"), ("cptac-luad", "external"),
    )  # fmt: skip
    for i, (variable, level) in enumerate((("EGFR", "mutated"), ("age", ""), ("stage", ""))):
        for cohort, part in compared:
            yield BaselineDifference(variable, cohort, part, "tcga-luad", "train", level, 0.11 * i - 0.1)


def _subgroup(variable: str, level: str, target: str, arm: str, drawn: Scores, share: float) -> SubgroupResult:
    rng = np.random.default_rng([sum(variable.encode()), sum(level.encode()), 7])
    chosen = rng.random(len(drawn.labels)) < share
    estimate = auroc_estimate(Scores(drawn.labels[chosen], drawn.scores[chosen]))
    p = {"sex": 0.412, "stage": 0.0374}.get(variable, math.nan)
    tested = min(estimate.positives, estimate.n - estimate.positives) >= 5
    return SubgroupResult(variable, level, target, arm, "cptac-luad", "external", estimate, tested, p)


def _flow(targets: Sequence[str], counts: Mapping[str, int]) -> tuple[FlowStep, ...]:
    test, external = counts["test"], counts["external"]
    tcga = "tcga-luad"
    steps = [
        FlowStep(tcga, "in the manifest", 515, 541, 0, 0, ""),
        FlowStep(tcga, "diagnostic (FFPE) slide", 507, 530, 8, 11, "frozen sections only"),
        FlowStep(tcga, "slide readable at a known scale", 501, 523, 6, 7, "no micrometres per pixel, or not an image"),
        FlowStep(tcga, "enough tissue", 501, 521, 0, 2, "fewer than 10 tissue tiles"),
        FlowStep(tcga, "training", 501 - test - counts["validation"], 418, 0, 0, ""),
        FlowStep(tcga, "validation", counts["validation"], counts["validation"] + 1, 0, 0, ""),
        FlowStep(tcga, "test", test, test + 1, 0, 0, ""),
    ]
    steps += [
        FlowStep(tcga, f"test, analysed for {target}", test - 1, test, 1, 1, "label unknown") for target in targets
    ]
    steps += [
        FlowStep("cptac-luad", "in the manifest", external + 3, 1067, 0, 0, ""),
        FlowStep("cptac-luad", "slide readable at a known scale", external, 1060, 3, 7, "not an image"),
    ]
    steps += [
        FlowStep("cptac-luad", f"analysed for {target}", external - 5, 1030, 5, 30, "label unknown")
        for target in targets[:3]
    ]
    return tuple(steps)


def _exclusions() -> tuple[Exclusion, ...]:
    tcga = [
        Exclusion("tcga-luad", f"TCGA-44-{6140 + i}", f"TCGA-44-{6140 + i}-01Z-00-DX1", "slides", reason)
        for i, reason in enumerate(
            (
                "no micrometres per pixel in the slide, none in the manifest",
                "not an image that OpenSlide can open",
                "TCGA-44-6142-01Z-00-DX1.svs: no such file",
                "fewer than 10 tissue tiles",
                "fewer than 10 tissue tiles",
            )
        )
    ]
    return (*tcga, Exclusion("cptac-luad", "C3L-00001", "", "manifest", "no consent for secondary use"))


def _unit(arm: str, index: int) -> UnitResult:
    epochs = 20 if "tapfm" in arm else 50
    noise = np.random.default_rng([index, 5]).normal(size=(3, epochs)) * 0.012
    steps = np.arange(epochs)
    train = 0.35 + 0.9 * np.exp(-steps / 5) + noise[0]
    validation = 0.6 + 0.6 * np.exp(-steps / 4) + 0.006 * steps + noise[1]
    auroc = 0.81 - 0.02 * (index % 5) - 0.25 * np.exp(-steps / 3) - 0.002 * steps + noise[2]
    best = int(np.argmax(auroc))
    return UnitResult(
        arm,
        1,
        0,
        epochs,
        best + 1,
        float(auroc[best]),
        TARGETS[:3],
        187_200.0 / (index + 1),
        71_503.0 / (1 + index % 3),
        "GPU",
        tuple(map(float, train)),
        tuple(map(float, validation)),
        tuple(map(float, auroc)),
    )


def _rehearsal(targets: Sequence[str]) -> RehearsalSummary:
    checks = [
        RehearsalCheck(
            f"{target}: planted effect found", True, f"tapfm-hoptimus0: 0.91 (0.84–0.96) lies above 0.5 ({i})"
        )
        for i, target in enumerate(targets)
    ]
    checks.append(RehearsalCheck("NULL: nothing found", True, "99.9% interval 0.31–0.66 holds 0.5"))
    return RehearsalSummary(
        planted={target: 0.95 - 0.02 * i for i, target in enumerate(targets)},
        checks=tuple(checks),
        changes=(
            "Slides are synthetic: procedural tissue with a planted effect, at 20x and 40x.",
            "Each backbone is replaced by a small stand-in that keeps its patch size, registers and normalisation.",
            "Training is shortened to 4 epochs on 40 patients.",
            "A target NULL has EGFR’s labels permuted within cohort and split.",
        ),
    )


def with_results(inputs: ReportInputs, **changes: object) -> ReportInputs:
    """The inputs with some of their results exchanged."""
    return replace(inputs, results=replace(inputs.results, **changes))  # type: ignore[arg-type]
