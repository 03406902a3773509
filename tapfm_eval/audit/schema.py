"""Faults of the files: what a reader refused, where rows of a patient differ, which columns are missing."""

import re
from collections.abc import Iterable

from tapfm_eval.audit.findings import Finding, counted, listed
from tapfm_eval.audit.subject import SCAN, SITES, Subject
from tapfm_eval.cohort.labels import two_valued, values_option
from tapfm_eval.errors import InputError, Problem
from tapfm_eval.protocol.schema import Protocol


def unreadable(error: InputError, path: str) -> bool:
    """Whether the file cannot be read at all: its faults are of the file, its encoding or its header as a whole."""
    whole = re.compile(rf"{re.escape(path)}(, (line|row) \d+)?")
    return any(whole.fullmatch(problem.where) and "cells, as in the header" not in problem.expected
               for problem in error.problems)  # fmt: skip


def manifest_faults(problems: Iterable[Problem], path: str) -> tuple[Finding, ...]:
    """One finding a column of a manifest with faults, every fault a line of evidence."""
    by_column: dict[str, list[Problem]] = {}
    for problem in problems:
        column = re.search(r", column (.*)$", problem.where)
        by_column.setdefault(column.group(1) if column else "", []).append(problem)
    return tuple(
        Finding(
            code="manifest-fault",
            severity="error",
            where=f"{path}, column {column}" if column else path,
            what=f"{counted(len(found), 'cell is', 'cells are')} not as the manifest's format has them."
            if column
            else f"{counted(len(found), 'row is', 'rows are')} malformed.",
            evidence=tuple(f"{p.where[len(path) + 2 :]}: expected {p.expected}, got {p.got}" for p in found),
            remedy=found[0].remedy,
            rows=tuple(sorted({row for p in found for row in _rows(p)})),
            numbers={"faults": len(found)},
        )
        for column, found in by_column.items()
    )


def split_faults(problems: Iterable[Problem], path: str) -> tuple[Finding, ...]:
    """What is wrong with a split file: patients in two parts apart from everything else."""
    found = list(problems)
    torn = [problem for problem in found if problem.expected.startswith("a patient once in fold")]
    other = [problem for problem in found if problem not in torn]
    findings = []
    if torn:
        findings.append(
            Finding(
                code="patient-in-two-parts",
                severity="error",
                where=path,
                what=f"{counted(len(torn), 'row puts', 'rows put')} a patient into a fold a second time.",
                evidence=tuple(f"{p.where[len(path) + 2 :]}: {p.got}" for p in torn),
                remedy=torn[0].remedy,
                rows=tuple(sorted({row for p in torn for row in _rows(p)})),
                numbers={"rows": len(torn)},
            )
        )
    findings += [
        Finding(
            code="split-fault",
            severity="error",
            where=path,
            what=f"The split has {counted(len(same), 'fault')}: expected {expected}.",
            evidence=tuple(f"{p.where[len(path) + 2 :] or 'the file'}: got {p.got}" for p in same),
            remedy=same[0].remedy,
            rows=tuple(sorted({row for p in same for row in _rows(p)})),
            numbers={"faults": len(same)},
        )
        for expected, same in _grouped(other).items()
    ]
    return tuple(findings)


def audit_rows(subject: Subject) -> tuple[Finding, ...]:
    """Covariates in which rows of one patient differ; an error in a subgroup, which wants one level a patient."""
    columns: dict[str, list[str]] = {}
    rows: dict[str, set[int]] = {}
    for conflict in subject.conflicts:
        said = f"{conflict.patient_id}: {', '.join(map(repr, conflict.values))} in rows {_numbers(conflict.rows)}"
        columns.setdefault(conflict.column, []).append(said)
        rows.setdefault(conflict.column, set()).update(conflict.rows)
    return tuple(
        Finding(
            code="covariate-conflict",
            severity="error" if column in subject.subgroups else "warning",
            where=f"{subject.where}, column {column}",
            what=f"Rows of {counted(len(said), 'patient')} differ in {column}"
            + (
                ", a subgroup of the analysis."
                if column in subject.subgroups
                else "; the value of the first slide stands."
            ),
            evidence=tuple(said),
            remedy="Give all rows of a patient the same value.",
            rows=tuple(sorted(rows[column])),
            numbers={"patients": len(said)},
        )
        for column, said in columns.items()
    )


def audit_unnamed(subject: Subject, opened: bool = False) -> tuple[Finding, ...]:
    """Patients under study of whom the manifest names no slide; an error once there is a folder of slides."""
    named = set(subject.rows.loc[subject.rows["slide_id"] != "", "patient_id"])
    unnamed = [str(patient) for patient in subject.studied if patient not in named]
    if not unnamed:
        return ()
    return (
        Finding(
            code="slide-missing",
            severity="error" if opened else "warning",
            where=subject.where,
            what=f"{len(unnamed)} of {counted(len(subject.studied), 'patient')} of {subject.name} have no named slide: "
            "nothing of them can be run.",
            evidence=tuple(unnamed),
            remedy=f"`tapfm-eval cohort link {subject.where} --slides DIR --out FILE` fills them in; or give the rows "
            "a reason in `exclude`.",
            numbers={"patients": len(unnamed)},
        ),
    )


def audit_left_out(subject: Subject) -> tuple[Finding, ...]:
    """Columns that no other check looks at."""
    if not subject.left_out:
        return ()
    names = [name for name, _ in subject.left_out]
    same: dict[str, list[str]] = {}
    for name, why in subject.left_out:
        same.setdefault(why, []).append(name)
    return (
        Finding(
            code="covariates-left-out",
            severity="note",
            where=subject.where,
            what=f"{counted(len(names), 'column is', 'columns are')} not looked at: {listed(names, 20)}.",
            evidence=tuple(f"{', '.join(columns)}: {why}" for why, columns in same.items()),
            remedy="Name a column that matters under `analysis.subgroups`, or give it at most 20 different values.",
            numbers={"columns": len(names)},
        ),
    )


def audit_taken(subject: Subject) -> tuple[Finding, ...]:
    """Which columns of a manifest alone were taken for labels, and which for covariates."""
    labels = [*map(str, subject.labels.columns), *subject.unread]
    known = {*subject.clinical, *SCAN, *SITES}
    covariates = [str(column) for column in subject.covariates if column in known]
    return (
        Finding(
            code="columns-taken",
            severity="note",
            where=subject.where,
            what=f"{counted(len(labels), 'column is', 'columns are')} taken for labels, {len(covariates)} for "
            "covariates; --targets names other labels.",
            evidence=(f"labels: {', '.join(labels) or 'none'}", f"covariates: {', '.join(covariates) or 'none'}"),
            remedy="Name the label columns, if they are others: --targets A,B.",
            numbers={"labels": len(labels), "covariates": len(covariates)},
        ),
    )


def audit_columns(protocol: Protocol, subject: Subject) -> tuple[Finding, ...]:
    """Targets for which a cohort has no column."""
    findings = []
    for target, plan in protocol.targets.items():
        column = protocol.column(target, subject.name)
        if column in subject.manifest.table:
            continue
        needed = subject.role == "development" or subject.name in plan.columns
        findings.append(
            Finding(
                code="column-missing" if needed else "target-not-assessed",
                severity="error" if needed else "note",
                where=f"{subject.where}, row 1",
                what=f"There is no column {column!r}: {target} "
                + ("cannot be learnt." if needed else f"is not assessed in {subject.name}."),
                evidence=(),
                remedy=f"Add the column, or name another under targets.{target}.columns.{subject.name}.",
            )
        )
    return tuple(findings)


def audit_emptiness(subject: Subject) -> tuple[Finding, ...]:
    """Cohorts and parts without a patient to study; of labels that cannot be read, their own finding says so."""
    if subject.unread and not len(subject.labels.columns):
        return ()
    if not subject.role and not len(subject.labels.columns):
        likely = two_valued(subject.manifest.table)
        said = [f"{column}: {', '.join(cells)}" for column, cells in likely.items()]
        column, cells = next(iter(likely.items()), ("EGFR", ("mut", "wt")))
        return (
            Finding(
                code="cohort-empty",
                severity="error",
                where=subject.where,
                what="No column is known to hold labels: none has 0, 1 and empty cells alone.",
                evidence=tuple(said or ["no column of two different values either"]),
                remedy=f"Say what the cells stand for, for example {values_option(column, cells, cells)}.",
            ),
        )
    if not len(subject.studied):
        empty = [subject.where]
    elif subject.split is None:
        empty = []
    else:
        empty = [
            f"{subject.split.path}, fold {fold}, {part}"
            for fold in subject.split.folds
            for part, patients in subject.parts[fold].items()
            if not len(patients)
        ]
    return tuple(
        Finding(
            code="cohort-empty",
            severity="error",
            where=where,
            what="No patient with a known label is here.",
            evidence=(),
            remedy="Mend the manifest, the split or both.",
        )
        for where in empty
    )


def _grouped(problems: list[Problem]) -> dict[str, list[Problem]]:
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.expected, []).append(problem)
    return groups


def _rows(problem: Problem) -> list[int]:
    return [int(row) for row in re.findall(r", row (\d+)", problem.where)]


def _numbers(rows: Iterable[int]) -> str:
    return ", ".join(str(row) for row in rows)
