"""Slides that do not belong among the others: frozen sections, other stains, normal tissue, recurrences."""

import re
from collections.abc import Callable

from tapfm_eval.audit.findings import Finding, counted, lines
from tapfm_eval.audit.subject import Subject

_TCGA = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}-(\d\d)[A-Z](?:-\d\d-(DX|TS|BS|MS))?", re.IGNORECASE)
_FROZEN = re.compile(r"frozen|\bff\b|\bfresh\b|cryo|kryo", re.IGNORECASE)
_NORMAL = re.compile(r"normal|adjacent|benign|non[- ]?tumou?r|healthy", re.IGNORECASE)
_H_AND_E = re.compile(r"h\s*(&|and|\+|\.)?\s*\.?e\.?|h(a)?ematoxylin.*eosin|hes", re.IGNORECASE)
_OTHER_STAIN = re.compile(r"(?:^|[-_. ])(ihc|trichrome|masson|giemsa|dapi|ki-?67|pd-?l1|ttf-?1)(?=[-_. ]|$)", re.I)


def audit_specimens(subject: Subject) -> tuple[Finding, ...]:
    """Frozen, unstained or non-tumour slides, by the columns `specimen`, `sample_type` and `stain` and by slide names.

    TCGA slide barcodes say it too: TS, BS and MS are frozen sections, sample type 10 and above is normal tissue, 02 to
    09 is a recurrence or a metastasis.
    """
    rows = subject.rows[subject.rows["patient_id"].isin(set(subject.studied))]
    said = {
        name: list(rows[name]) if name in rows else [""] * len(rows) for name in ("specimen", "sample_type", "stain")
    }
    slides = [
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
    frozen = _those(slides, lambda name, told, _: bool(_FROZEN.search(told)) or _kind(name) in ("TS", "BS", "MS"))
    normal = _those(slides, lambda name, told, _: bool(_NORMAL.search(told)) or _sample(name) >= 10)
    later = _those(
        slides,
        lambda name, told, _: 2 <= _sample(name) <= 9 or bool(re.search(r"recurren|metasta", told, re.IGNORECASE)),
    )
    stained = _those(slides, lambda name, _, stain: stain != "" and not _H_AND_E.fullmatch(stain))
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
        evidence=lines(
            [f"row {row}: {name} {' '.join((told, stain)).strip()}".strip() for row, name, told, stain in found]
        ),
        remedy=remedy,
        rows=tuple(row for row, *_ in found),
        numbers={"slides": len(found), "of": total},
    )
