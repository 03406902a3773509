"""What tells a label without the tissue: site, scanner, the patient's other facts, other labels, missingness."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.audit.subject import CLINICAL, SCAN, Subject
from tapfm_eval.audit.tables import (
    SIGNIFICANT,
    Association,
    association,
    associations_adjusted,
    factorised,
    generator,
    p_said,
)
from tapfm_eval.statistics.estimate import auroc
from tapfm_eval.statistics.multiplicity import adjust_p
from tapfm_eval.statistics.records import Estimate

FOLDS = 5
DEALINGS = 10  # of the folds, averaged
PRIOR = 1.0  # patients at the overall prevalence that every level is thought to hold besides its own
EXCLUSIVE = 0.2  # of the patients expected to have both: below it two targets exclude each other
MANY_MISSING = 0.1  # share of patients without a label from which a note becomes a warning


def audit_confounding(subject: Subject, seed: int) -> tuple[Finding, ...]:
    """All findings about what is bound up with the labels of one cohort."""
    return (
        *_site(subject, seed),
        *_scan(subject, seed),
        *_covariates(subject, seed),
        *_pairs(subject),
        *_missing(subject, seed),
    )


def category_auroc(
    labels: NDArray[np.float64], levels: NDArray[np.intp], rng: np.random.Generator, level: float
) -> Estimate:
    """Cross-validated AUROC of one category alone; one row a patient, labels 0 or 1.

    Each patient's score is the share of positives among the other folds' patients of the same category, drawn towards
    the overall share by one patient; patients are compared within folds. It is what a regression on indicators gives,
    in closed form: audits of ten thousand patients at a hundred sites take no time. Value and limits are means over
    ten dealings of the folds, for a single one moves them by a few hundredths.

    Args:
        labels: (n,) 0 or 1, both present at least twice.
        levels: (n,) code of each patient's category.
        rng: Deals the folds, stratified by class.
        level: Confidence level.
    """
    dealt = [_category_auroc(labels, levels, rng, level) for _ in range(DEALINGS)]
    value, lower, upper = (
        float(mean) for mean in np.mean([(one.value, one.lower, one.upper) for one in dealt], axis=0)
    )
    return replace(dealt[0], value=value, lower=lower, upper=upper)


def _category_auroc(
    labels: NDArray[np.float64], levels: NDArray[np.intp], rng: np.random.Generator, level: float
) -> Estimate:
    used = int(min(FOLDS, labels.sum(), (1 - labels).sum()))
    fold = np.empty(labels.size, dtype=np.intp)
    for side in (0.0, 1.0):
        members = rng.permutation(np.flatnonzero(labels == side))
        fold[members] = np.arange(members.size) % used
    scores = np.empty(labels.size)
    size = int(levels.max()) + 1
    for held_out in range(used):
        test, train = fold == held_out, fold != held_out
        positives = np.bincount(levels[train], weights=labels[train], minlength=size)
        patients = np.bincount(levels[train], minlength=size)
        rates = (positives + PRIOR * labels[train].mean()) / (patients + PRIOR)
        scores[test] = np.round(rates[levels[test]], 12)  # equal rates must tie exactly
    return auroc(labels, scores, level=level, strata=fold)


def _site(subject: Subject, seed: int) -> list[Finding]:
    if "site" not in subject.covariates:
        return []
    sites = subject.covariates.loc[subject.studied, "site"]
    where = f"{subject.where}, column site"
    tested = _tested(subject, {"site": sites}, seed)
    bound = [found for found in tested if found.adjusted < SIGNIFICANT]
    findings = []
    if bound:
        findings.append(
            Finding(
                code="site-label-association",
                severity="warning",
                where=where,
                what=f"{_names(bound)} {'depends' if len(bound) == 1 else 'depend'} on the site: a model can score by "
                "recognising the hospital.",
                evidence=tuple(_said(found) for found in bound),
                remedy="Split by site (`tapfm-eval split --scheme site-preserved`) and break results down by site.",
                numbers={found.label: found.v for found in bound},
            )
        )
    alone = _alone(subject, sites, seed, "site")
    if alone:
        findings.append(
            Finding(
                code="site-predicts-label",
                severity="warning",
                where=where,
                what=f"The site alone predicts {', '.join(alone)} above chance.",
                evidence=tuple(f"{target}: {_auroc_said(found)}" for target, found in alone.items()),
                remedy="Compare every model with these AUROCs where sites are on both sides; split by site.",
                numbers={target: found.value for target, found in alone.items()},
            )
        )
    return findings


def _scan(subject: Subject, seed: int) -> list[Finding]:
    """Scanner, resolution, magnification, specimen and annotation, each alone and all together."""
    present = [name for name in SCAN if name in subject.covariates]
    columns = {name: subject.covariates.loc[subject.studied, name] for name in present}
    tested = _tested(subject, columns, seed)
    bound = [found for found in tested if found.adjusted < SIGNIFICANT]
    joint = pd.Series("", index=subject.studied)
    for name in present:
        joint = joint + columns[name] + "|"
    alone = _alone(subject, joint, seed, "scan") if present else {}
    if not bound and not alone:
        return []
    targets = list(dict.fromkeys([*(found.label for found in bound), *alone]))
    made = "scanned or annotated" if "annotated" in present else "scanned"
    said = [_said(found) for found in bound]
    said += [f"{target}: {' and '.join(present)} alone, {_auroc_said(found)}" for target, found in alone.items()]
    return [
        Finding(
            code="scan-predicts-label",
            severity="warning",
            where=subject.where,
            what=f"How slides were {made} tells {', '.join(targets)}: a model can score by recognising that.",
            evidence=tuple(said),
            remedy="Balance the split on these columns, break results down by them, and compare models within them.",
            numbers={
                **{f"{found.label}_{found.variable}_v": found.v for found in bound},
                **{f"{target}_auroc": found.value for target, found in alone.items()},
            },
        )
    ]


def _covariates(subject: Subject, seed: int) -> list[Finding]:
    """Labels bound up with a covariate; biology may explain that of age or stage, of a `batch` nobody can say."""
    columns = {name: _as_category(subject, name) for name in subject.clinical}
    tested = _tested(subject, columns, seed)
    findings = []
    for name in subject.clinical:
        bound = [found for found in tested if found.variable == name and found.adjusted < SIGNIFICANT]
        if not bound:
            continue
        understood = name in CLINICAL or name in subject.subgroups
        findings.append(
            Finding(
                code="covariate-label-association",
                severity="note" if understood else "warning",
                where=f"{subject.where}, column {name}",
                what=f"{_names(bound)} {'depends' if len(bound) == 1 else 'depend'} on {name}: a model can score above "
                "chance by what the tissue shows of it"
                + ("." if understood else ", be it biology or how slides were made."),
                evidence=tuple(_said(found) for found in bound),
                remedy=f"Break results down by {name}, and adjust for it."
                if understood
                else f"Find out what {name} stands for. If it is of the tumour or patient, break results down by it "
                "(`analysis.subgroups`); if it is of how slides were made, balance the split on it or leave it out.",
                numbers={found.label: found.v for found in bound},
            )
        )
    return findings


def _pairs(subject: Subject) -> list[Finding]:
    """Targets that exclude each other or occur together, by Fisher's exact test."""
    labels = subject.labels.loc[subject.studied]
    tested: list[tuple[str, str, NDArray[np.intp], float]] = []
    for first, second in combinations(labels.columns, 2):
        known = labels[[first, second]].dropna()
        a, b = (known[name].to_numpy(dtype=np.intp) for name in (first, second))
        table = np.bincount(2 * a + b, minlength=4).reshape(2, 2)
        if table.sum(axis=0).all() and table.sum(axis=1).all():
            tested.append((first, second, table, float(stats.fisher_exact(table).pvalue)))
    adjusted = adjust_p([p for *_, p in tested])
    findings = []
    for (first, second, table, _), p in zip(tested, adjusted, strict=True):
        if p >= SIGNIFICANT:
            continue
        expected = table[1].sum() * table[:, 1].sum() / table.sum()
        apart = bool(table[1, 1] < expected)
        how = "occur together less often than by chance" if apart else "occur together more often than by chance"
        if table[1, 1] < EXCLUSIVE * expected:
            how = "exclude each other"
        findings.append(
            Finding(
                code="targets-exclusive" if apart else "targets-co-occur",
                severity="note",
                where=subject.where,
                what=f"{first} and {second} {how}: "
                f"{counted(int(table[1, 1]), 'patient has', 'patients have')} both, {expected:.1f} would by chance.",
                evidence=(
                    f"both {table[1, 1]}, {first} alone {table[1, 0]}, {second} alone {table[0, 1]}, "
                    f"neither {table[0, 0]}; Fisher's exact test, adjusted p {p_said(float(p))}",
                ),
                remedy=f"A score for {first} may be "
                + (f"one for the absence of {second}: " if apart else f"one for {second}: ")
                + "look at it within each class of the other.",
                numbers={"both": float(table[1, 1]), "expected": float(expected), "adjusted_p": float(p)},
            )
        )
    return findings


def _missing(subject: Subject, seed: int) -> list[Finding]:
    """Unknown labels among the patients that the manifest keeps, and on what it depends that they are unknown."""
    findings = []
    everyone = subject.labels
    absent = {target: everyone[target].isna() for target in everyone.columns if everyone[target].isna().any()}
    shares = {target: float(gone.mean()) for target, gone in absent.items()}
    for many in (True, False):
        concerned = [target for target, share in shares.items() if (share > MANY_MISSING) == many]
        if concerned:
            findings.append(
                Finding(
                    code="missing-labels",
                    severity="warning" if many else "note",
                    where=subject.where,
                    what=f"{', '.join(concerned)} {'is' if len(concerned) == 1 else 'are'} unknown for up to "
                    f"{max(shares[target] for target in concerned):.1%} of the patients.",
                    evidence=tuple(f"{t}: {int(absent[t].sum())} of {len(everyone)} unknown" for t in concerned),
                    remedy="Say why they are unknown; patients without any label leave the study.",
                    numbers={target: float(absent[target].sum()) for target in concerned},
                )
            )
    names = [name for name in ("site", *SCAN, *subject.clinical) if name in subject.covariates]
    tested: list[Association] = []
    patterns: dict[bytes, str] = {}
    for target, gone in absent.items():
        alike = patterns.setdefault(gone.to_numpy().tobytes(), target)
        if alike != target or gone.all():
            continue  # targets that are missing together are tested once
        for name in names:
            values = _as_category(subject, name, studied=False)
            tested.append(
                association(name, target, values, gone.astype(float), generator(seed, "missing", name, target))
            )
    bound = [found for found in associations_adjusted(tested) if found.adjusted < SIGNIFICANT]
    if bound:
        findings.append(
            Finding(
                code="missing-labels-depend",
                severity="warning",
                where=subject.where,
                what=f"Whether a label is unknown depends on {', '.join(dict.fromkeys(f.variable for f in bound))}: "
                "the patients with a label are not a fair sample of all.",
                evidence=tuple(f"unknown {_said(found)}" for found in bound),
                remedy="Say who was sequenced and why, and read results for those patients only.",
                numbers={f"{found.label}_{found.variable}": found.v for found in bound},
            )
        )
    return findings


def _tested(subject: Subject, columns: dict[str, "pd.Series[str]"], seed: int) -> tuple[Association, ...]:
    """Associations of every target with every column, adjusted together."""
    labels = subject.labels.loc[subject.studied]
    return associations_adjusted(
        [
            association(name, target, values, labels[target], generator(seed, subject.name, name, target))
            for name, values in columns.items()
            for target in labels.columns
        ]
    )


def _alone(subject: Subject, values: "pd.Series[str]", seed: int, what: str) -> dict[str, Estimate]:
    """Targets that one category alone predicts: lower limit above 0.5, at a level that allows for all targets."""
    labels = subject.labels.loc[subject.studied]
    found = {}
    for target in labels.columns:
        known = labels[target].notna() & (values.str.strip("|") != "")
        positive = labels.loc[known, target].to_numpy(dtype=np.float64)
        codes, levels = factorised(values[known])
        if len(levels) < 2 or min(positive.sum(), (1 - positive).sum()) < 2:
            continue
        level = 1 - SIGNIFICANT / len(labels.columns)
        estimate = category_auroc(positive, codes, generator(seed, subject.name, what, target), level)
        if estimate.lower > 0.5:
            found[target] = estimate
    return found


def _as_category(subject: Subject, name: str, studied: bool = True) -> "pd.Series[str]":
    """A covariate as text; a number in thirds of its range of patients."""
    values = subject.covariates[name]
    if studied:
        values = values.loc[subject.studied]
    if values.dtype.kind != "f":
        return values
    cuts = np.nanquantile(values, [1 / 3, 2 / 3]) if values.notna().any() else np.zeros(2)
    low, high = (f"{cut:g}" for cut in cuts)
    return values.map(
        lambda value: "" if math.isnan(value) else f"to {low}" if value <= cuts[0] else f"over {high}"
        if value > cuts[1] else f"to {high}"
    ).astype(str)  # fmt: skip


def _names(found: Sequence[Association]) -> str:
    return ", ".join(dict.fromkeys(one.label for one in found))


def _said(found: Association) -> str:
    return (
        f"{found.label} and {found.variable}: Cramer's V {found.v:.2f} over {counted(found.levels, 'level')} and "
        f"{counted(found.n, 'patient')}, adjusted p {p_said(found.adjusted)}"
    )


def _auroc_said(found: Estimate) -> str:
    return (
        f"cross-validated AUROC {found.value:.2f} ({found.lower:.2f} to {found.upper:.2f}, {found.level:.1%} interval)"
    )
