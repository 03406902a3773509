"""What an audit says: findings as plain records, the list of all kinds, and their JSON. Light: imports no tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

FORMAT = "tapfm-eval/audit/1"

Severity = Literal["error", "warning", "note"]
"""`error` stops a run unless the protocol overrides it; `warning` limits what results mean; `note` is worth knowing."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)

KINDS: Mapping[str, str] = MappingProxyType(
    {
        # what is written in the files
        "manifest-fault": "A manifest breaks the rules of its format",
        "split-fault": "A split file breaks the rules of its format, or does not fit its manifest",
        "label-fault": "A label is neither 0, 1, empty nor mapped",
        "label-conflict": "Rows of one patient have different labels",
        "covariate-conflict": "Rows of one patient have different values of what should be one",
        "columns-taken": "Which columns of a manifest are taken for labels and for covariates",
        "covariates-left-out": "Columns of a manifest are not looked at",
        "column-missing": "A column that the protocol needs is not in the manifest",
        "study-refused": "The cohorts do not fit the protocol",
        "cohort-empty": "A cohort, or a part of its split, has no patient to study",
        "target-not-assessed": "An external cohort has no column for a target",
        # leakage
        "patient-in-two-parts": "A patient is in two parts of a fold",
        "patient-in-two-cohorts": "A patient is in two cohorts",
        "patient-two-ids": "A patient has two ids within a cohort",
        "patients-outside-split": "Labelled patients have no place in the split",
        "not-tested-once": "Folds of a split do not test every patient once",
        "slide-names-other-patient": "A slide's name and its patient id disagree",
        "slide-in-two-cohorts": "A slide is in two cohorts",
        "slide-of-two-patients": "A slide is listed under two patients",
        "slide-twice": "A patient has the same slide twice",
        "slide-same-name": "Slides of different patients have the same file name",
        "site-on-two-sides": "Patients of one site are on two sides of a split",
        "external-site-in-development": "A site of an external cohort is in the development cohort too",
        # drift
        "split-drift": "Parts of a split differ by more than chance",
        "cohort-shift": "An external cohort differs from the development cohort",
        # confounding
        "site-label-association": "A label depends on the site",
        "site-predicts-label": "The site alone predicts a label",
        "scan-predicts-label": "Scan parameters predict a label",
        "covariate-label-association": "A label depends on a covariate of the patient",
        "targets-exclusive": "Two targets occur together less often than by chance, or never",
        "targets-co-occur": "Two targets occur together more often than by chance",
        "missing-labels": "Labels are missing",
        "missing-labels-depend": "Whether a label is missing depends on a covariate",
        # precision
        "selection-too-few": "Selection would rest on a target with too few validation patients of a class",
        "primary-not-estimable": "The primary endpoint cannot be estimated",
        "not-estimable": "A target has too few patients of a class to be tested",
        "wide-interval": "A target has so few patients of a class that its interval will be wide",
        "expected-precision": "Positives of each target in each part, with the interval width to expect",
        # specimens and slides
        "frozen-mixed-in": "Frozen sections are mixed in",
        "not-h-and-e": "Slides that are not H&E are mixed in",
        "not-tumour": "Slides of normal tissue are mixed in",
        "not-primary-tumour": "Slides of recurrences or metastases are mixed in",
        "slide-missing": "Slide files are missing",
        "slide-broken": "Slide files are damaged, unreadable or without a known scale",
        "slide-same-bytes": "Two slide files have the same bytes",
        "slide-look-alike": "Two slides look nearly the same",
        "stain-suspect": "A slide does not have the colours of H&E",
        # the protocol
        "cohort-not-supplied": "The development cohort is only expected yet",
        "backbone-saw-cohort": "A backbone was pretrained on slides of a cohort",
        "backbone-undisclosed": "A backbone may have been pretrained on slides of a cohort",
        "backbone-other-scale": "Tiles are cut at another scale than a backbone takes",
        "licence-forbids-use": "A backbone's licence forbids the intended use",
        "licence-restricts": "A backbone's licence restricts the use of what is trained on it",
        "selects-on-test": "A setting lets test patients influence what is tested on them",
        "primary-on-development": "The primary endpoint is tested on the development cohort",
        "override-unused": "An override names a finding that was not made",
    }
)
"""Every code with what it stands for; docs/audit.md says why each matters and how to mend it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an audit found. `where` and `what` name no patient; ids stand in the evidence alone."""

    code: str  # a key of `KINDS`; what a protocol's `overrides` names
    severity: Severity
    where: str  # file, cohort, or key of the protocol
    what: str  # one sentence
    evidence: tuple[str, ...]  # all lines: which rows, patients, slides; a terminal shows the first ones
    remedy: str  # an instruction
    rows: tuple[int, ...] = ()  # of the file in `where`, as in the file (header: row 1)
    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))  # NaN: not estimable

    def __post_init__(self) -> None:
        assert self.code in KINDS, self.code


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, errors first, then by the order of `KINDS`, place and text; repeated ones once."""
    rank = {code: position for position, code in enumerate(KINDS)}
    found: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        found.setdefault((finding.code, finding.where, finding.what), finding)
    return tuple(sorted(found.values(), key=lambda f: (SEVERITIES.index(f.severity), rank[f.code], f.where, f.what)))


def standing_errors(findings: Iterable[Finding], accepted: Iterable[str]) -> tuple[Finding, ...]:
    """The errors whose code is not accepted by an override."""
    codes = set(accepted)
    return tuple(finding for finding in findings if finding.severity == "error" and finding.code not in codes)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "patient"), counted(2, "patient")
    ('1 patient', '2 patients')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(items: Sequence[str], limit: int = 10) -> str:
    """The first items, separated by commas, and how many more there are."""
    return ", ".join(items[:limit]) + (f", and {len(items) - limit} more" if len(items) > limit else "")


def audit_content(findings: Iterable[Finding], accepted: Mapping[str, str]) -> dict[str, Any]:
    """`audit.json` as plain data: findings, and for each the reason of the override that accepts it.

    Args:
        findings: What was found.
        accepted: Reason by code.
    """
    content = []
    for finding in findings:
        numbers = {name: value if abs(value) < float("inf") else None for name, value in finding.numbers.items()}
        content.append(
            {
                "code": finding.code,
                "severity": finding.severity,
                "where": finding.where,
                "what": finding.what,
                "evidence": list(finding.evidence),
                "rows": list(finding.rows),
                "numbers": numbers,
                "remedy": finding.remedy,
                "accepted": accepted.get(finding.code),
            }
        )
    return {"format": FORMAT, "findings": content}


def findings_of(content: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The findings of an `audit.json`, read back."""
    return tuple(
        Finding(
            code=item["code"],
            severity=item["severity"],
            where=item["where"],
            what=item["what"],
            evidence=tuple(item["evidence"]),
            remedy=item["remedy"],
            rows=tuple(item["rows"]),
            numbers={name: float("nan") if value is None else value for name, value in item["numbers"].items()},
        )
        for item in content["findings"]
    )
