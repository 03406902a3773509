"""Whether there are enough patients: for selecting epochs, for the primary endpoint, for an interval worth printing."""

import math
from collections.abc import Sequence

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.audit.subject import Subject
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.statistics.intervals import newcombe5_limits, score_terms

PLANNED = 0.8  # the AUROC at which interval widths are expected
FEWEST_TO_TEST = 5  # patients of each class: below it the analysis prints an interval but no test
WIDE = 0.3  # width of an interval that tells little: 0.65 to 0.95 around 0.8


def expected_width(positives: int, negatives: int, level: float) -> float:
    """Width of the interval around an AUROC of 0.8, by Newcombe's method 5 (2006); NaN where a class is absent.

    >>> round(expected_width(10, 85, 0.95), 2)
    0.29
    """
    if not positives or not negatives:
        return math.nan
    lower, upper = newcombe5_limits(PLANNED, *score_terms(positives, negatives), level)
    return float(upper - lower)


def audit_selection(protocol: Protocol, subject: Subject) -> tuple[Finding, ...]:
    """Targets with too few validation patients of a class, in any fold."""
    least = protocol.selection.min_per_class
    found: dict[str, list[str]] = {}
    fewest: dict[str, int] = {}
    for fold, parts in subject.parts.items():
        for target in subject.labels.columns:
            labels = subject.labels.loc[parts["validation"], target]
            counts = int((labels == 1).sum()), int((labels == 0).sum())
            if min(counts) < least:
                found.setdefault(target, []).append(f"fold {fold}: {counts[0]} positive, {counts[1]} negative")
                fewest[target] = min(fewest.get(target, least), *counts)
    return tuple(
        Finding(
            code="selection-too-few",
            severity="error",
            where=f"selection.min_per_class, {subject.name}, {target}",
            what=f"{target} has fewer than {least} validation patients of a class in {counted(len(said), 'fold')}: "
            "epochs would be selected without it there, or on chance.",
            evidence=tuple(said),
            remedy="Make a split that is stratified on this target, use fewer folds, or take the target out."
            if subject.labels[target].nunique() > 1
            else f"The cohort has patients of one class alone: take {target} out.",
            numbers={"fewest": fewest[target], "folds": len(said)},
        )
        for target, said in found.items()
    )


def audit_precision(subject: Subject, level: float) -> tuple[Finding, ...]:
    """Positives of each target in the parts that are evaluated, and the width of the interval to expect."""
    names = list(subject.labels.columns)
    if not names or not len(subject.studied):
        return ()
    tested = subject.studied if subject.split is None else _tested(subject)
    findings: list[Finding] = []
    said: list[str] = []
    numbers: dict[str, float] = {}
    for target in names:
        labels = subject.labels.loc[tested, target]
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
        width = expected_width(positives, negatives, level)
        said.append(f"{target}: {positives} positive, {negatives} negative; {_width_said(width)}")
        said += _by_part(subject, target)
        numbers |= {f"{target}_positives": float(positives), f"{target}_width": width}
        smaller = min(positives, negatives)
        which = "positive" if positives <= negatives else "negative"
        if smaller < FEWEST_TO_TEST or width > WIDE:
            few = smaller < FEWEST_TO_TEST
            findings.append(
                Finding(
                    code="not-estimable" if few else "wide-interval",
                    severity="warning",
                    where=f"{subject.where}, {target}",
                    what=f"{counted(smaller, f'{which} patient')} of {target} in {subject.name}: "
                    + ("its AUROC is not estimable" if not smaller else _width_said(width))
                    + (f"; below {FEWEST_TO_TEST} of each class no comparison is tested." if few else "."),
                    evidence=(f"{positives} positive, {negatives} negative",),
                    remedy="Add patients, unite cohorts, or state beforehand that this target is descriptive.",
                    numbers={"positives": positives, "negatives": negatives, "width": width},
                )
            )
    findings.append(
        Finding(
            code="expected-precision",
            severity="note",
            where=subject.where,
            what=f"Interval widths to expect in {subject.name} at an AUROC of {PLANNED}: "
            + "; ".join(f"{t} {_short(numbers[f'{t}_width'])}" for t in names)
            + ".",
            evidence=tuple(said),
            remedy="Judge before any GPU is booked whether this is precise enough for the question.",
            numbers=numbers,
        )
    )
    return tuple(findings)


def audit_primary(protocol: Protocol, subjects: Sequence[Subject]) -> tuple[Finding, ...]:
    """A primary endpoint on patients too few to test it."""
    primary = protocol.analysis.primary
    subject = next((s for s in subjects if primary is not None and s.name == primary.cohort), None)
    if primary is None or subject is None:
        return ()
    if primary.target in subject.labels:
        tested = subject.studied if subject.split is None else _tested(subject)
        labels = subject.labels.loc[tested, primary.target]
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    else:
        positives = negatives = 0
    if min(positives, negatives) >= FEWEST_TO_TEST:
        return ()
    return (
        Finding(
            code="primary-not-estimable",
            severity="warning" if min(positives, negatives) else "error",
            where="analysis.primary",
            what=f"{primary.target} has {counted(positives, 'positive patient')} and {negatives} negative in "
            f"{primary.cohort}: "
            + (
                f"below {FEWEST_TO_TEST} of each class the primary endpoint is not tested."
                if min(positives, negatives)
                else "the primary endpoint cannot be estimated."
            ),
            evidence=(),
            remedy="Choose another target or cohort for the primary endpoint.",
            numbers={"positives": positives, "negatives": negatives},
        ),
    )


def _tested(subject: Subject) -> list[str]:
    """The patients that are tested in any fold."""
    return sorted({str(patient) for parts in subject.parts.values() for patient in parts["test"]})


def _by_part(subject: Subject, target: str) -> list[str]:
    said = []
    for fold, parts in subject.parts.items():
        counts = [
            f"{part} {int((labels == 1).sum())} of {int(labels.notna().sum())}"
            for part, patients in parts.items()
            for labels in (subject.labels.loc[patients, target],)
        ]
        said.append(f"{target}, fold {fold}, positives: {', '.join(counts)}")
    return said


def _width_said(width: float) -> str:
    return "not estimable" if math.isnan(width) else f"an interval {width:.2f} wide is to be expected"


def _short(width: float) -> str:
    return "not estimable" if math.isnan(width) else f"{width:.2f}"
