"""The cohorts of a protocol, or one manifest, read for an audit: faults become findings, the rest is read on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tapfm_eval.audit.findings import Finding
from tapfm_eval.audit.schema import manifest_faults, split_faults, unreadable
from tapfm_eval.audit.subject import Subject, make_subject, subjects_of
from tapfm_eval.cohort.labels import Spellings, check_targets, label_columns
from tapfm_eval.cohort.load import chosen_folds, given_path, load_cohorts
from tapfm_eval.cohort.manifest import Manifest, read_manifest
from tapfm_eval.cohort.splits import TESTED_ONCE, Split, read_split
from tapfm_eval.errors import InputError, Problem
from tapfm_eval.protocol.schema import Protocol

# what other checks say of the same fault, in their own words
_SAID_ELSEWHERE = ("cohorts without a patient in common", "patients in the study", " patients with a known label",
                   "0, 1 or empty", "one label of ", "one value for the patient", "a column ",
                   TESTED_ONCE)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gathered:
    """What could be read, and what was wrong with the rest."""

    subjects: tuple[Subject, ...]
    findings: tuple[Finding, ...]
    refused: tuple[Problem, ...] = ()  # why the cohorts cannot be loaded as a study, whatever the findings say


def gather_study(protocol: Protocol, base: Path) -> Gathered:
    """The cohorts of a protocol; where they cannot be loaded as a study, each file on its own.

    A cohort that is only expected yet is left out.

    Args:
        protocol: The protocol.
        base: The folder of the protocol file, to which its paths are relative.

    Raises:
        InputError: A file cannot be read at all.
    """
    try:
        return Gathered(subjects_of(protocol, load_cohorts(protocol, base)), ())
    except InputError as error:
        refused = error.problems
    findings: list[Finding] = []
    subjects: list[Subject] = []
    hopeless: list[Problem] = []
    for name, plan in protocol.cohorts.items():
        if plan.manifest is None:  # only expected: `audit_settings` says so
            continue
        try:
            manifest, found = _read_manifest(given_path(base, plan.manifest), name)
            findings += found
            if manifest is None:
                continue
            split, found = _read_split(None if plan.split is None else given_path(base, plan.split), manifest)
            findings += found
            split = None if split is None else chosen_folds(split, plan)
        except InputError as error:
            hopeless += error.problems
            continue
        columns = {target: protocol.column(target, name) for target in protocol.targets}
        present = {target: column for target, column in columns.items() if column in manifest.table}
        values = {target: protocol.targets[target].values for target in present}
        subject, faults = make_subject(
            manifest, plan.role, present, values, split, protocol.analysis.subgroups,
            restricted=protocol.tiles.regions != "none",
        )  # fmt: skip
        subjects.append(subject)
        findings += faults
    if hopeless:
        raise InputError(hopeless)
    return Gathered(tuple(subjects), (*findings, *_refused(refused, findings)), refused)


def gather_manifest(
    path: Path, split: Path | None, targets: Sequence[str], values: Spellings | None = None
) -> Gathered:
    """One manifest with its split, outside any protocol.

    Args:
        path: The manifest.
        split: Its split file, if there is one.
        targets: Label columns; empty for all that `label_columns` takes for labels, and those in `values`.
        values: Other spellings of labels, by target.

    Raises:
        InputError: A file cannot be read at all, or a target has no column.
    """
    manifest, findings = _read_manifest(path, path.parent.name if path.stem == "manifest" else path.stem)
    if manifest is None:
        return Gathered((), findings)
    spellings = values or {}
    check_targets(manifest, targets, "--targets")
    check_targets(manifest, spellings, "--values")
    chosen = {target: target for target in targets or dict.fromkeys((*label_columns(manifest), *spellings))}
    read, faults = _read_split(split, manifest)
    subject, labels = make_subject(manifest, "", chosen, spellings, read)
    if not targets:
        labels = tuple(_or_no_label(finding) if finding.code == "label-fault" else finding for finding in labels)
    return Gathered((subject,), (*findings, *faults, *labels))


def _or_no_label(finding: Finding) -> Finding:
    return replace(finding, remedy=f"{finding.remedy} If the column is no label, name those that are: --targets A,B.")


def _read_manifest(path: Path, name: str) -> tuple[Manifest | None, tuple[Finding, ...]]:
    try:
        return read_manifest(path, name), ()
    except InputError as error:
        if unreadable(error, str(path)):
            raise
        return None, manifest_faults(error.problems, str(path))


def _read_split(path: Path | None, manifest: Manifest) -> tuple[Split | None, tuple[Finding, ...]]:
    if path is None:
        return None, ()
    try:
        return read_split(path, manifest), ()
    except InputError as error:
        if unreadable(error, str(path)):
            raise
        return None, split_faults(error.problems, str(path))


def _refused(problems: Sequence[Problem], findings: Sequence[Finding]) -> list[Finding]:
    """Why the study was refused as a whole, where no finding about a single file says it."""
    files = {finding.where.split(", column ")[0] for finding in findings}
    return [
        refusal(problem)
        for problem in problems
        if not any(said in problem.expected for said in _SAID_ELSEWHERE)
        and not any(problem.where.startswith(file) for file in files)
    ]


def refusal(problem: Problem) -> Finding:
    """The finding that the study is refused for this reason."""
    return Finding(
        code="study-refused",
        severity="error",
        where=re.sub(r", patient .*?(?=, column|$)", "", problem.where),
        what=f"Expected {problem.expected}, got something else.",
        evidence=(str(problem),),
        remedy=problem.remedy,
    )
