"""Slides that do not belong among the others: frozen sections, other stains, normal tissue, recurrences."""

import math
import re
from collections.abc import Callable

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.audit.subject import Subject

_TCGA = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}-(\d\d)[A-Z](?:-\d\d-(DX|TS|BS|MS))?", re.IGNORECASE)
_NEGATED = r"(?<!\bnon)(?<!\bnon-)(?<!\bnon )(?<!\bnot )(?<!\bno )(?<!\bnever )"
_FROZEN = re.compile(rf"{_NEGATED}(?:\bfrozen|\bff\b|\bfresh\b|\bcryo|\bkryo)", re.IGNORECASE)
_NORMAL = re.compile(rf"{_NEGATED}\b(?:normal|adjacent|benign|healthy)|\bnon[- ]?(?:tumou?r|neoplastic)", re.IGNORECASE)
_H_AND_E = re.compile(r"\bh\W{0,4}(?:and\W{0,4})?e\b|\bh(?:a)?ematoxylin\b.*\beosin|\bhes\b", re.IGNORECASE)
_OTHER_STAIN = re.compile(r"(?:^|[-_. ])(ihc|trichrome|masson|giemsa|dapi|ki-?67|pd-?l1|ttf-?1)(?![a-z0-9])", re.I)


def audit_preparation(development: Subject, external: Subject) -> tuple[Finding, ...]:
    """Cohorts of which one is frozen throughout and the other is not at all: a shift of tissue, not of patients.

    Cohorts whose slides say nothing of their preparation, by specimen or by TCGA barcode, are not compared.
    """
    shares = [_frozen_share(subject) for subject in (development, external)]
    if sorted(shares) != [0.0, 1.0]:
        return ()
    frozen, other = (development, external) if shares[0] else (external, development)
    return (
        Finding(
            code="frozen-mixed-in",
            severity="warning",
            where=f"{development.where} and {external.where}",
            what=f"{frozen.name} is frozen sections throughout and {other.name} has none: they look different, and "
            "results show how the method bears the change of preparation, not how it carries over to other patients.",
            evidence=(),
            remedy="Use slides of one preparation in both cohorts, or say so beside the results.",
        ),
    )


def _frozen_share(subject: Subject) -> float:
    """The share of frozen slides among those whose preparation is told; NaN where it is told of none."""
    slides = _slides(subject)
    told = [_is_frozen(slide) for slide in slides if slide[2].strip() or _kind(slide[1])]
    return sum(told) / len(told) if told else math.nan


def _is_h_and_e(stain: str) -> bool:
    return bool(_H_AND_E.search(stain)) and not _OTHER_STAIN.search(stain)


def _is_frozen(slide: "Slide") -> bool:
    _, name, told, _ = slide
    return bool(_FROZEN.search(told)) or _kind(name) in ("TS", "BS", "MS")


def audit_specimens(subject: Subject) -> tuple[Finding, ...]:
    """Frozen, unstained or non-tumour slides, by the columns `specimen`, `sample_type` and `stain` and by slide names.

    TCGA slide barcodes say it too: TS, BS and MS are frozen sections, sample type 10 and above is normal tissue, 02 to
    09 is a recurrence or a metastasis.
    """
    slides = _slides(subject)
    frozen = [slide for slide in slides if _is_frozen(slide)]
    normal = _those(slides, lambda name, told, _: bool(_NORMAL.search(told)) or _sample(name) >= 10)
    later = _those(
        slides,
        lambda name, told, _: 2 <= _sample(name) <= 9 or bool(re.search(r"recurren|metasta", told, re.IGNORECASE)),
    )
    stained = _those(slides, lambda name, _, stain: stain != "" and not _is_h_and_e(stain))
    named = _those(slides, lambda name, _, stain: stain == "" and bool(_OTHER_STAIN.search(name)))
    findings = []
    if frozen and len(frozen) < len(slides):
        findings.append(
            _finding(subject, "frozen-mixed-in", "warning", frozen, len(slides), "frozen sections among others: they "
                     "look different, and differently often in each class", "Exclude them, or use them alone.")
        )  # fmt: skip
    for code, severity, found, what, remedy in (
        ("not-h-and-e", "error", stained, "not stained with H&E", "Give these rows a reason in `exclude`."),
        ("not-h-and-e", "warning", named, "named after another stain than H&E",
         "Look at them; give these rows a reason in `exclude`, or `H&E` in a column `stain`."),
        ("not-tumour", "error", normal, "normal tissue, which cannot show the tumour's mutation",
         "Give these rows a reason in `exclude`."),
        ("not-primary-tumour", "warning", later, "recurrences or metastases: the label may be that of another sample",
         "Make sure that the label belongs to this sample, or exclude the rows."),
    ):  # fmt: skip
        if found:
            findings.append(_finding(subject, code, severity, found, len(slides), what, remedy))
    return tuple(findings)


Slide = tuple[int, str, str, str]  # row, name, what is said of the specimen, stain


def _slides(subject: Subject) -> list[Slide]:
    """The slides of the patients under study."""
    rows = subject.rows[subject.rows["patient_id"].isin(set(subject.studied))]
    said = {
        name: list(rows[name]) if name in rows else [""] * len(rows) for name in ("specimen", "sample_type", "stain")
    }
    return [
        (int(row), slide or path, " ".join((specimen, sample)), stain)
        for row, slide, path, specimen, sample, stain in zip(
            rows.index,
            rows["slide_id"],
            rows["path"],
            said["specimen"],
            said["sample_type"],
            said["stain"],
            strict=True,
        )
    ]


def _those(slides: list[Slide], holds: Callable[[str, str, str], bool]) -> list[Slide]:
    return [slide for slide in slides if holds(slide[1], slide[2], slide[3])]


def _kind(name: str) -> str:
    found = _TCGA.search(name)
    return (found.group(2) or "").upper() if found else ""


def _sample(name: str) -> int:
    found = _TCGA.search(name)
    return int(found.group(1)) if found else 1


def _finding(
    subject: Subject, code: str, severity: str, found: list[Slide], total: int, what: str, remedy: str
) -> Finding:
    return Finding(
        code=code,
        severity="error" if severity == "error" else "warning",
        where=subject.where,
        what=f"{counted(len(found), 'slide')} of {total} {'is' if len(found) == 1 else 'are'} {what}.",
        evidence=tuple(
            f"row {row}: {name} {' '.join((told, stain)).strip()}".strip() for row, name, told, stain in found
        ),
        remedy=remedy,
        rows=tuple(row for row, *_ in found),
        numbers={"slides": len(found), "of": total},
    )
