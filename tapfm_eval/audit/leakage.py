"""Patients and slides on two sides of a border that they must not cross."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.audit.identity import barcode, file_key, spelling
from tapfm_eval.audit.subject import Subject

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class _Slide:
    """A row of a manifest, as far as it tells slides and patients apart."""

    cohort: int  # position among the subjects
    row: int
    patient_id: str
    slide_id: str
    path: str
    people: tuple[str, ...]  # what tells whose it is: barcode, and the patient id's spelling
    named: str  # barcode in the slide's name or path; empty if none
    keys: tuple[tuple[str, str], ...]  # what another row of the same slide would share

    @property
    def shown(self) -> str:
        return f"row {self.row}: {self.slide_id or self.path or 'no slide'} of {self.patient_id}"

    @property
    def shown_with_path(self) -> str:
        return f"{self.shown} ({self.path})" if self.slide_id and self.path else self.shown


def audit_leakage(subjects: Sequence[Subject]) -> tuple[Finding, ...]:
    """All findings about patients and slides that are where they should not be."""
    slides = [_slides(position, subject) for position, subject in enumerate(subjects)]
    everything = [slide for found in slides for slide in found]
    findings = _shared_patients(subjects, everything) + _shared_slides(subjects, everything)
    for subject, found in zip(subjects, slides, strict=True):
        findings += _names(subject, found)
        findings += _outside(subject) + _tested_once(subject)
    return tuple(findings)


def _slides(cohort: int, subject: Subject) -> list[_Slide]:
    rows = subject.rows[subject.rows["patient_id"].isin(set(subject.studied))]
    blank = [""] * len(rows)
    md5s, files = (list(rows[name]) if name in rows else blank for name in ("md5", "gdc_file_id"))
    found = []
    cells = zip(rows.index, rows["patient_id"], rows["slide_id"], rows["path"], md5s, files, strict=True)
    for row, patient, slide, path, md5, file in cells:
        own, named = barcode(patient), barcode(slide) or barcode(path)
        keys = (
            ("slide_id", slide.casefold()),
            ("file name", file_key(path)),
            ("md5", md5),
            ("GDC file id", file),
        )
        people = tuple(filter(None, (own or named, spelling(patient))))
        found.append(
            _Slide(cohort, int(row), patient, slide, path, people, named, tuple(key for key in keys if key[1]))
        )
    return found


def _shared_patients(subjects: Sequence[Subject], slides: Iterable[_Slide]) -> list[Finding]:
    """One person in two cohorts, or under two ids in one."""
    across: dict[tuple[int, int], list[str]] = defaultdict(list)
    within: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for person, known in _people(slides):
        cohorts = sorted({cohort for cohort, _ in known})
        for position, first in enumerate(cohorts):
            names = sorted(patient for cohort, patient in known if cohort == first)
            if len(names) > 1:
                within[first].append(tuple(names))
            for second in cohorts[position + 1 :]:
                others = sorted(patient for cohort, patient in known if cohort == second)
                rows = known[first, names[0]].row, known[second, others[0]].row
                across[first, second].append(
                    f"{person}: {' and '.join(names)} (row {rows[0]}) in {subjects[first].name}, "
                    f"{' and '.join(others)} (row {rows[1]}) in {subjects[second].name}"
                )
    findings = [
        Finding(
            code="patient-in-two-cohorts",
            severity="error",
            where=f"{subjects[first].where} and {subjects[second].where}",
            what=f"{counted(len(said), 'patient is', 'patients are')} in {subjects[first].name} and in "
            f"{subjects[second].name}: the second is not independent of the first.",
            evidence=tuple(said),
            remedy="Give their rows in one of the manifests a reason in `exclude`. If they are different people whom "
            "two centres number alike, begin every id with its centre.",
            numbers={"patients": len(said)},
        )
        for (first, second), said in sorted(across.items())
    ]
    for cohort, groups in sorted(within.items()):
        findings += _two_ids(subjects[cohort], groups)
    return findings


def _people(slides: Iterable[_Slide]) -> list[tuple[str, dict[tuple[int, str], _Slide]]]:
    """Who is one person: for each with several ids or cohorts a name, and the first slide under every cohort and id."""
    first: dict[tuple[int, str], _Slide] = {}
    leader: dict[tuple[int, str], tuple[int, str]] = {}
    owner: dict[str, tuple[int, str]] = {}

    def lead(node: tuple[int, str]) -> tuple[int, str]:
        while leader[node] != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for slide in slides:
        node = slide.cohort, slide.patient_id
        first.setdefault(node, slide)
        leader.setdefault(node, node)
        for name in slide.people:
            leader[lead(node)] = lead(owner.setdefault(name, node))
    groups: dict[tuple[int, str], dict[tuple[int, str], _Slide]] = defaultdict(dict)
    for node, slide in first.items():
        groups[lead(node)][node] = slide
    named = [(min(slide.people[0] for slide in known.values()), known) for known in groups.values() if len(known) > 1]
    return sorted(named, key=lambda group: (group[0], sorted(group[1])))


def _two_ids(subject: Subject, groups: list[tuple[str, ...]]) -> list[Finding]:
    torn, together = [], []
    table = subject.split.table if subject.split is not None else None
    names = {name for group in groups for name in group}
    placed: dict[tuple[str, int], str] = {}
    if table is not None:
        concerned = table[table["patient_id"].isin(names)]
        cells = zip(concerned["patient_id"], concerned["fold"], concerned["split"], strict=True)
        placed = {(patient, int(fold)): part for patient, fold, part in cells}
    folds = sorted({fold for _, fold in placed})
    for group in groups:
        sides = [(fold, {placed[name, fold] for name in group if (name, fold) in placed}) for fold in folds]
        crossing = [f"fold {fold}: {' and '.join(sorted(parts))}" for fold, parts in sides if len(parts) > 1]
        if crossing:
            torn.append(f"{' = '.join(group)}: {'; '.join(crossing)}")
        else:
            together.append(" = ".join(group))
    findings = []
    remedy = "Give all rows of the patient one patient_id, then make the split again."
    if torn and subject.split is not None:
        findings.append(
            Finding(
                code="patient-in-two-parts",
                severity="error",
                where=f"{subject.split.path} and {subject.where}",
                what=f"{counted(len(torn), 'patient is', 'patients are')} in two parts of a fold, under two ids.",
                evidence=tuple(torn),
                remedy=remedy,
                numbers={"patients": len(torn)},
            )
        )
    if together:
        findings.append(
            Finding(
                code="patient-two-ids",
                severity="warning",
                where=subject.where,
                what=f"{counted(len(together), 'patient has', 'patients have')} two ids and would count twice.",
                evidence=tuple(together),
                remedy=remedy,
                numbers={"patients": len(together)},
            )
        )
    return findings


def _shared_slides(subjects: Sequence[Subject], slides: Iterable[_Slide]) -> list[Finding]:
    sharing: dict[tuple[str, str], list[_Slide]] = defaultdict(list)
    for slide in slides:
        for key in slide.keys:
            sharing[key].append(slide)
    pairs: dict[tuple[int, int, int, int], tuple[_Slide, _Slide, list[str]]] = {}
    for (kind, _), found in sorted(sharing.items()):
        first = found[0]  # all others are held against the first: n rows give n - 1 pairs
        for second in found[1:]:
            pair = (first.cohort, first.row, second.cohort, second.row)
            pairs.setdefault(pair, (first, second, []))[2].append(kind)
    groups: dict[tuple[str, int, int], list[tuple[str, int, int]]] = defaultdict(list)
    for first, second, kinds in pairs.values():
        if first.cohort != second.cohort:
            certain = set(kinds) != {"file name"}
            code = "slide-in-two-cohorts" if certain or first.named else "slide-same-name"
        elif first.patient_id == second.patient_id:
            code = "slide-twice"
        else:
            code = "slide-same-name" if kinds == ["file name"] else "slide-of-two-patients"
        said = f"{first.shown}; {second.shown}: same {' and '.join(kinds)}"
        groups[code, first.cohort, second.cohort].append((said, first.row, second.row))
    return [_shared_slide(subjects, *key, found) for key, found in sorted(groups.items())]


def _shared_slide(
    subjects: Sequence[Subject], code: str, first: int, second: int, found: list[tuple[str, int, int]]
) -> Finding:
    number = len(found)
    same = first == second
    where = subjects[first].where if same else f"{subjects[first].where} and {subjects[second].where}"
    what = {
        "slide-in-two-cohorts": f"{counted(number, 'slide is', 'slides are')} in {subjects[first].name} and in "
        f"{subjects[second].name}.",
        "slide-of-two-patients": f"{counted(number, 'slide is', 'slides are')} listed under two patients.",
        "slide-twice": f"{counted(number, 'slide is', 'slides are')} listed twice for the same patient.",
        "slide-same-name": f"{counted(number, 'slide shares its', 'slides share their')} file name with a slide of "
        "another patient: perhaps one slide in two folders.",
    }[code]
    remedy = {
        "slide-in-two-cohorts": "Give its rows in one of the manifests a reason in `exclude`.",
        "slide-of-two-patients": "Find out whose slide it is, and give the other row a reason in `exclude`.",
        "slide-twice": "Delete one of the rows: the slide would weigh double in the patient's score.",
        "slide-same-name": "Compare the files (`tapfm-eval audit --slides` compares them); rename or exclude them.",
    }[code]
    return Finding(
        code=code,
        severity="warning" if code in ("slide-twice", "slide-same-name") else "error",
        where=where,
        what=what,
        evidence=tuple(said for said, _, _ in found),
        remedy=remedy,
        rows=tuple(sorted({row for _, one, other in found for row in (one, other)})) if same else (),
        numbers={"slides": number},
    )


def _names(subject: Subject, slides: list[_Slide]) -> list[Finding]:
    """Slides whose name speaks of another patient than their row does."""
    people: dict[str, set[str]] = defaultdict(set)
    for slide in slides:
        if slide.named:
            people[slide.patient_id].add(slide.named)
    contrary = []
    for slide in slides:
        own = barcode(slide.patient_id)
        inside = {code for code in (barcode(slide.slide_id), barcode(slide.path)) if code}
        if (own and inside - {own}) or len(inside) > 1 or (not own and len(people[slide.patient_id]) > 1):
            contrary.append((slide, " and ".join(sorted(inside))))
    borrowed = [] if contrary else _named_after_others(subject, slides)
    findings = []
    for found, severity in ((contrary, "error"), (borrowed, "warning")):
        if found:
            findings.append(
                Finding(
                    code="slide-names-other-patient",
                    severity="error" if severity == "error" else "warning",
                    where=subject.where,
                    what=f"{counted(len(found), 'slide is', 'slides are')} named after another patient than the row "
                    "says: the label may belong to somebody else.",
                    evidence=tuple(f"{slide.shown_with_path}: named after {other}" for slide, other in found),
                    remedy="Correct patient_id, slide_id or path, or give the rows a reason in `exclude`.",
                    rows=tuple(slide.row for slide, _ in found),
                    numbers={"slides": len(found)},
                )
            )
    return findings


def _named_after_others(subject: Subject, slides: list[_Slide]) -> list[tuple[_Slide, str]]:
    """Where slides are named after patients as a rule, those whose name begins with another patient's id.

    All patients of the manifest own their names, those who left among them; of ids that begin alike the longest counts.
    """
    patients = set(subject.manifest.table["patient_id"])
    named = [slide for slide in slides if slide.slide_id]
    begins: list[tuple[_Slide, str]] = []
    own = 0
    for slide in named:
        name = slide.slide_id
        ends = [at for at in range(1, len(name) + 1) if at == len(name) or not name[at].isalnum()]
        heads = {name[:end] for end in ends} & patients
        own += slide.patient_id in heads
        if heads and (longest := max(heads, key=len)) != slide.patient_id:
            begins.append((slide, longest))
    return begins if own > len(named) / 2 else []


def _outside(subject: Subject) -> list[Finding]:
    if subject.split is None:
        return []
    known = subject.labels.index[subject.labels.notna().any(axis=1)]
    missing = [str(patient) for patient in known.difference(subject.studied)]
    if not missing:
        return []
    return [
        Finding(
            code="patients-outside-split",
            severity="warning",
            where=f"{subject.split.path} and {subject.where}",
            what=f"{counted(len(missing), 'labelled patient has', 'labelled patients have')} no place in the split and "
            "will leave the study.",
            evidence=tuple(missing),
            remedy="Make the split again, or give their rows a reason in `exclude`.",
            numbers={"patients": len(missing)},
        )
    ]


def _tested_once(subject: Subject) -> list[Finding]:
    """Folds of one split that do not test every patient once: a fold written over another, rows that got lost.

    No split may test a patient twice. Holdouts and imported splits may test few; folds that the protocol leaves out are
    found elsewhere.
    """
    split = subject.split
    if split is None:
        return []
    whole = split.scheme in ("kfold", "site-preserved") and len(split.folds) == split.meta.get("folds")
    tests = pd.Series(0, index=subject.studied)
    places = pd.Series(0, index=subject.studied)
    for parts in subject.parts.values():
        tests[parts["test"]] += 1
        places[[patient for members in parts.values() for patient in members]] += 1
    never, often = tests.index[tests == 0], tests.index[tests > 1]
    lost = places.index[places < len(split.folds)]
    if not len(often) and not (whole and (len(never) or len(lost))):
        return []
    said = [
        f"{patient}: {what}"
        for found, what in ((never, "never tested"), (often, "tested more than once"), (lost, "missing from a fold"))
        for patient in found
    ]
    return [
        Finding(
            code="not-tested-once",
            severity="error" if len(often) else "warning",
            where=str(split.path),
            what=f"Of {counted(len(tests), 'patient')} {len(never)} are tested never, {len(often)} more than once, and "
            f"{len(lost)} are missing from a fold: pooled test results are not those of the cohort"
            + (", and who is tested twice would count twice." if len(often) else "."),
            evidence=tuple(said),
            remedy="Make the split again with `tapfm-eval split`"
            + (", or name folds in the protocol whose test parts do not overlap." if len(often) else "."),
            numbers={"never": len(never), "more_than_once": len(often), "missing": len(lost)},
        )
    ]
