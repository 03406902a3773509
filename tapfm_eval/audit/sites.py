"""Hospitals on two sides: of a split, or of the border between development and external cohorts."""

from collections.abc import Sequence

import pandas as pd

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.audit.subject import SITES, Subject


def audit_sites(subjects: Sequence[Subject]) -> tuple[Finding, ...]:
    """All findings about sites that are where they should not be, or of which that cannot be said."""
    findings = [finding for subject in subjects for finding in _sites(subject)]
    development = [subject for subject in subjects if subject.role == "development"]
    for subject in subjects:
        if subject.role == "external":
            findings += [finding for other in development for finding in _external_sites(subject, other)]
    return tuple(findings)


def _sites(subject: Subject) -> list[Finding]:
    """Sites on two sides: a broken promise of a site-preserved split, and else worth a note.

    The same where a site is unknown, for then nobody can say on which sides it lies.
    """
    if subject.split is None:
        return []
    promised = subject.split.scheme == "site-preserved"
    known = "site" in subject.covariates
    site_of = subject.covariates["site"] if known else pd.Series("", index=subject.labels.index)
    findings = []
    crossing: dict[int, list[str]] = {}
    patients = 0
    for fold in subject.split.folds:
        parts = {part: set(site_of.loc[members]) - {""} for part, members in subject.parts[fold].items()}
        shared = sorted(parts["test"] & (parts["train"] | parts["validation"]))
        if shared:
            crossing[fold] = shared
            patients = max(patients, int(site_of.loc[subject.parts[fold]["test"]].isin(shared).sum()))
    if crossing:
        findings.append(
            Finding(
                code="site-on-two-sides",
                severity="error" if promised else "note",
                where=str(subject.split.path),
                what=f"Sites of test patients also train or select in {counted(len(crossing), 'fold')}"
                + (
                    ", though the split calls itself site-preserved."
                    if promised
                    else ": the model may know the hospital."
                ),
                evidence=tuple(f"fold {fold}: {', '.join(shared)}" for fold, shared in crossing.items()),
                remedy="Make the split again with `tapfm-eval split --scheme site-preserved`.",
                numbers={"folds": len(crossing), "test_patients_at_most": patients},
            )
        )
    unknown = subject.studied[(site_of.loc[subject.studied] == "").to_numpy()]
    if len(unknown):
        findings.append(
            Finding(
                code="site-on-two-sides",
                severity="error" if promised else "note",
                where=f"{subject.where}, column site",
                what=("The split calls itself site-preserved, which cannot be shown" if promised else
                      "Whether sites are on two sides of the split cannot be said")
                + (": " if known else ": there is no column `site`, so ")
                + f"the site of {len(unknown)} of {counted(len(subject.studied), 'patient')} is unknown.",
                evidence=tuple(str(patient) for patient in unknown) if known else (),
                remedy="Fill in the sites, exclude the rows with a reason, or make the split again by another scheme.",
                numbers={"unknown": len(unknown), "of": len(subject.studied)},
            )
        )  # fmt: skip
    return findings


def _external_sites(external: Subject, development: Subject) -> list[Finding]:
    """Sites of both cohorts, by code and by name, whichever column holds which."""
    ours, theirs = (_site_names(subject) for subject in (development, external))
    if ours is None or theirs is None:
        lacking = [subject for subject, names in ((development, ours), (external, theirs)) if names is None]
        return [
            Finding(
                code="external-site-in-development",
                severity="note",
                where=f"{external.where}, column site",
                what=f"Whether {external.name} shares sites with {development.name} was not assessed: the sites of "
                f"{' and '.join(subject.name for subject in lacking)} are not known.",
                evidence=(),
                remedy="Fill in `site` or `site_name`, or say beside the results how far apart the hospitals are.",
            )
        ]
    known = set(ours.to_numpy().ravel()) - {""}
    inside = theirs.isin(known)
    number = int(inside.any(axis=1).sum())
    if not number:
        return []
    # a patient whose code and name are both known there is counted once, under the code
    first = theirs.where(inside, "").apply(lambda names: next(filter(None, names), ""), axis=1)
    counts = first[first != ""].value_counts().sort_index()
    return [
        Finding(
            code="external-site-in-development",
            severity="warning",
            where=f"{external.where}, column site",
            what=f"{counted(len(counts), 'site')} of {external.name} ({counted(number, 'patient')}) "
            f"{'is' if len(counts) == 1 else 'are'} in {development.name} too: these patients are not external.",
            evidence=tuple(f"site {site}: {counted(int(found), 'patient')}" for site, found in counts.items()),
            remedy="Exclude those rows from one of the cohorts, or read the external results without them.",
            numbers={"sites": len(counts), "patients": number},
        )
    ]


def _site_names(subject: Subject) -> pd.DataFrame | None:
    """(patients, columns) what each patient's site is called, lower case; None where nobody's is known."""
    columns = [name for name in SITES if name in subject.covariates]
    names = subject.covariates.loc[subject.studied, columns].apply(lambda column: column.astype(str).str.casefold())
    return names if columns and bool((names != "").to_numpy().any()) else None
