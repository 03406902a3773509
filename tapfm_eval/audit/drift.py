"""Parts of a split that differ, and external cohorts that differ from the development cohort."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.audit.subject import SCAN, Subject
from tapfm_eval.audit.tables import (
    Difference,
    adjusted_together,
    category_difference,
    generator,
    number_difference,
    signed,
)

LARGE = 0.25  # standardised difference worth a note whatever its p-value
_PAIRS = (("train", "validation"), ("train", "test"))


def audit_split(subject: Subject, seed: int) -> tuple[Finding, ...]:
    """Variables in which train differs from validation or test, over all folds, adjusted together.

    Sites are left out where the split keeps them apart by design.
    """
    split = subject.split
    if split is None:
        return ()
    found: list[Difference] = []
    for fold, parts in subject.parts.items():
        for first, second in _PAIRS:
            if len(parts[first]) and len(parts[second]):
                between = f"fold {fold}, {first} and {second}"
                variables = _variables(subject, with_site=split.scheme != "site-preserved")
                found += _differences(subject, parts[first], subject, parts[second], between, variables, seed)
    tested = adjusted_together(found)
    drifted = [difference for difference in tested if difference.significant]
    large = [d for d in tested if not d.significant and abs(d.smd) >= LARGE]
    findings = [
        Finding(
            code="split-drift",
            severity="warning",
            where=f"{split.path}, {variable}",
            what=f"{variable} differs between parts of the split by more than chance, in "
            f"{counted(len(same), 'comparison')}; the largest standardised difference is {signed(_largest(same).smd)}.",
            evidence=tuple(difference.said for difference in same),
            remedy=f"Make the split again with `tapfm-eval split`, or read results by {variable}.",
            numbers=_numbers(_largest(same)),
        )
        for variable, same in _by_variable(drifted).items()
    ]
    if large:
        largest = _largest(large)
        findings.append(
            Finding(
                code="split-drift",
                severity="note",
                where=str(split.path),
                what=f"The largest standardised difference between parts is {signed(largest.smd)} ({largest.variable}, "
                f"{largest.between}); {len(large)} of {len(tested)} comparisons reach {LARGE} without being more than "
                "chance may explain.",
                evidence=tuple(d.said for d in sorted(large, key=lambda d: -abs(d.smd))),
                remedy="Small parts differ by chance: read results by these variables with care.",
                numbers=_numbers(largest),
            )
        )
    return tuple(findings)


def audit_shift(development: Subject, external: Subject, seed: int) -> tuple[Finding, ...]:
    """Variables in which an external cohort differs from the development cohort, adjusted together."""
    variables = [name for name in _variables(development, with_site=False) if name in _variables(external, False)]
    between = f"{development.name} and {external.name}"
    tested = adjusted_together(
        _differences(development, development.studied, external, external.studied, between, variables, seed)
    )
    findings = []
    for difference in tested:
        if difference.significant:
            label = difference.variable in development.labels
            findings.append(
                Finding(
                    code="cohort-shift",
                    severity="warning" if label else "note",
                    where=f"{external.where}, {difference.variable}",
                    what=f"{'Prevalence of ' if label else ''}{difference.variable} differs between {between}: "
                    f"{difference.counts}{f' have {difference.level}' if difference.level and not label else ''}, "
                    f"standardised difference {signed(difference.smd)}.",
                    evidence=(difference.said,),
                    remedy="Thresholds and calibration may not carry over: read predictive values at each cohort's own "
                    "prevalence."
                    if label
                    else f"Read external results by {difference.variable}.",
                    numbers=_numbers(difference),
                )
            )
    return tuple(findings)


def _variables(subject: Subject, with_site: bool) -> list[str]:
    names = [*subject.labels.columns, *(["site"] if with_site else []), *SCAN, *subject.clinical]
    return [name for name in dict.fromkeys(names) if name in subject.labels or name in subject.covariates]


def _differences(
    first: Subject,
    of_first: pd.Index,
    second: Subject,
    of_second: pd.Index,
    between: str,
    variables: Sequence[str],
    seed: int,
) -> list[Difference]:
    found = []
    for name in variables:
        rng = generator(seed, name, between)
        if name in first.labels:
            if any(set(subject.labels[name].dropna()) == {1.0} for subject in (first, second)):
                continue  # positives alone are known of that cohort: it has no prevalence
            a, b = (s.labels.loc[who, name].dropna() for s, who in ((first, of_first), (second, of_second)))
            known = [part.map(lambda label: f"{label:.0f}") for part in (a, b)]
            difference = category_difference(name, between, known[0], known[1], rng)
            # of two levels that differ alike, the mutated one is shown
            found.append(difference if difference.level != "0" else _positive(difference, a, b))
            continue
        a, b = (s.covariates.loc[who, name] for s, who in ((first, of_first), (second, of_second)))
        if a.dtype.kind != b.dtype.kind:  # few different numbers in one cohort, many in the other
            try:
                a, b = (part.replace("", math.nan).astype(float) for part in (a, b))
            except ValueError:
                continue  # the columns share a name, not a meaning
        if a.dtype.kind == "f":
            found.append(number_difference(name, between, a, b))
        else:
            found.append(category_difference(name, between, a, b, rng))
    return found


def _positive(shown: Difference, first: "pd.Series[float]", second: "pd.Series[float]") -> Difference:
    counts = f"{int(first.sum())} of {len(first)} and {int(second.sum())} of {len(second)}"
    return Difference(
        shown.variable, shown.between, "1", -shown.smd, -shown.upper, -shown.lower, shown.p_value, shown.adjusted,
        shown.method, counts,
    )  # fmt: skip


def _by_variable(differences: Iterable[Difference]) -> dict[str, list[Difference]]:
    found: dict[str, list[Difference]] = {}
    for difference in differences:
        found.setdefault(difference.variable, []).append(difference)
    return found


def _largest(differences: Sequence[Difference]) -> Difference:
    return max(differences, key=lambda difference: -1.0 if math.isnan(difference.smd) else abs(difference.smd))


def _numbers(difference: Difference) -> dict[str, float]:
    return {
        "standardised_difference": difference.smd,
        "lower": difference.lower,
        "upper": difference.upper,
        "adjusted_p": difference.adjusted,
    }
