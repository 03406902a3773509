"""What an audit looks at: a cohort as its manifest and split state it, read as far as it can be read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tapfm_eval.audit.findings import Finding, counted
from tapfm_eval.cohort.covariates import CovariateConflict, patient_covariates
from tapfm_eval.cohort.labels import misspelt_cells, patient_labels, spelling_remedy
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.manifest import Manifest
from tapfm_eval.cohort.splits import PARTS, Split
from tapfm_eval.errors import ManifestError, Problem
from tapfm_eval.protocol.schema import Protocol

CLINICAL = ("sex", "age", "race", "stage", "smoking")
"""Standard covariates of the patient."""
SCAN = ("scanner", "mpp", "magnification", "specimen", "annotated")
"""Standard covariates of the slide; `mpp` as scan resolution (`0.25`, `0.5`), `annotated` (whether the manifest names
annotations) where they restrict tiles."""
SITES = ("site", "site_name")
"""Columns that say which hospital a patient comes from, by code and by name."""
MOST_LEVELS = 20
"""Different values up to which any other column is taken for a category."""
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Subject:
    """A cohort under audit."""

    name: str
    role: str  # development or external; empty for a manifest on its own
    manifest: Manifest
    rows: pd.DataFrame  # of the manifest's table, those without a reason to exclude them; index: row in the file
    labels: pd.DataFrame  # index patient_id (of `rows`), sorted; a float column a readable target: 0, 1, NaN
    unread: tuple[str, ...]  # targets that are not in `labels`: their cells are faulty
    covariates: pd.DataFrame  # index as `labels`; text ("" = unknown), numbers of more than 20 values float
    conflicts: tuple[CovariateConflict, ...]
    split: Split | None
    clinical: tuple[str, ...]  # all covariates to look at but site and scan, the protocol's subgroups among them
    left_out: tuple[tuple[str, str], ...]  # columns that are not looked at, each with the reason
    subgroups: frozenset[str]  # the covariates that the protocol breaks results down by
    studied: pd.Index  # the patients with a known label of a target and, where there is a split, a place in it
    parts: Mapping[int, Mapping[str, pd.Index]]  # fold -> train, validation, test -> studied patients

    @property
    def where(self) -> str:
        """The manifest's path, for messages."""
        return str(self.manifest.path)


def subjects_of(protocol: Protocol, cohorts: Mapping[str, Cohort]) -> tuple[Subject, ...]:
    """The loaded cohorts of a protocol as subjects, in the protocol's order; not those drawn for a rehearsal."""
    found = []
    for name, cohort in cohorts.items():
        if protocol.cohorts[name].manifest is None:
            continue
        columns = {target: protocol.column(target, name) for target in cohort.assessed}
        values = {target: protocol.targets[target].values for target in cohort.assessed}
        subject, _ = make_subject(
            cohort.manifest, cohort.role, columns, values, cohort.split, protocol.analysis.subgroups,
            restricted=protocol.tiles.regions != "none",
        )  # fmt: skip
        found.append(subject)
    return tuple(found)


def make_subject(
    manifest: Manifest,
    role: str,
    columns: Mapping[str, str],
    values: Mapping[str, Mapping[str, int | None]],
    split: Split | None,
    subgroups: tuple[str, ...] = (),
    restricted: bool = True,
) -> tuple[Subject, tuple[Finding, ...]]:
    """A manifest as a subject, and what was wrong with its labels; a target with faulty labels is left out of it.

    Args:
        manifest: The cohort.
        role: development, external, or empty.
        columns: The manifest column of each target; each is in the manifest.
        values: Other spellings of labels, by target.
        split: The split, if there is one.
        subgroups: Covariates that the protocol breaks results down by.
        restricted: Whether annotations restrict tiles, so that it matters which slides have them.
    """
    findings: list[Finding] = []
    unread: list[str] = []
    rows = manifest.included
    patients = sorted(set(rows["patient_id"]))
    labels = pd.DataFrame(index=pd.Index(patients, name="patient_id", dtype=rows["patient_id"].dtype))
    for target, column in columns.items():
        spellings = values.get(target, {})
        try:
            labels[target] = patient_labels(manifest, {target: column}, {target: spellings})[target]
        except ManifestError as error:
            unread.append(target)
            findings += _label_findings(manifest, target, column, spellings, error.problems)
    if restricted and "regions" in rows:
        rows = rows.assign(annotated=np.where(rows["regions"] == "", "no", "yes"))
    covariates = patient_covariates(rows, frozenset(columns.values()) - set(subgroups), SCAN)
    named = [name for name in dict.fromkeys((*CLINICAL, *subgroups)) if name in covariates.table]
    named = [name for name in named if name not in columns.values()]
    table, others, left_out = _other_columns(covariates.table, frozenset((*named, *SCAN, *SITES)))
    studied = labels.index[labels.notna().any(axis=1)]
    if split is not None:
        studied = studied[studied.isin(set(split.table["patient_id"]))]
    return (
        Subject(
            name=manifest.name,
            role=role,
            manifest=manifest,
            rows=rows,
            labels=labels,
            unread=tuple(unread),
            covariates=table,
            conflicts=covariates.conflicts,
            split=split,
            clinical=tuple(name for name in (*named, *others) if name not in (*SCAN, "site")),
            left_out=left_out,
            subgroups=frozenset(subgroups),
            studied=studied,
            parts=_parts(split, studied),
        ),
        tuple(findings),
    )


def _other_columns(
    table: pd.DataFrame, known: frozenset[str]
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The covariates with numbers as float, the columns to look at besides `known`, and those left out with the reason.

    A column of up to 20 different values is a category; one of more, all of them numbers, is a number. Left out are
    text of more values, whole numbers of which no two patients share one (ids), and columns of 0 and 1 alone, which
    are labels that nobody asked about. A column in which nothing varies has nothing to say.
    """
    table = table.copy()
    chosen, left_out = [], []
    for column in table.columns:
        if column in known:
            continue
        cells = table.loc[table[column] != "", column]
        values = set(cells)
        if len(values) + (len(cells) < len(table)) < 2 or not values:
            continue
        if values <= {"0", "1", "0.0", "1.0"}:
            left_out.append((column, "0 and 1 alone, taken for a label"))
        elif len(values) <= MOST_LEVELS:
            chosen.append(column)
        elif not all(map(_NUMBER.fullmatch, values)):
            left_out.append((column, f"{len(values)} different texts, taken for names or free text"))
        elif len(values) == len(cells) and all(float(value).is_integer() for value in values):
            left_out.append((column, f"{len(values)} whole numbers, no two alike, taken for ids"))
        else:
            chosen.append(column)
            table[column] = table[column].map(lambda cell: float(cell) if cell else np.nan).astype(float)
    return table, tuple(chosen), tuple(left_out)


def _parts(split: Split | None, studied: pd.Index) -> dict[int, dict[str, pd.Index]]:
    if split is None:
        return {}
    table = split.table[split.table["patient_id"].isin(set(studied))]
    found: dict[int, dict[str, pd.Index]] = {}
    for fold in split.folds:
        rows = table[table["fold"] == fold]
        found[fold] = {part: pd.Index(rows.loc[rows["split"] == part, "patient_id"]) for part in PARTS}
    return found


def _label_findings(
    manifest: Manifest, target: str, column: str, spellings: Mapping[str, int | None], problems: Sequence[Problem]
) -> list[Finding]:
    """One finding for patients whose rows disagree, one for cells that are no labels, all faults as evidence."""
    wrong = misspelt_cells(manifest, column, spellings)
    cells = [str(cell) for cell in dict.fromkeys(wrong)]
    torn = [problem for problem in problems if ", patient " in problem.where[len(str(manifest.path)) :]]
    misspelt = [problem for problem in problems if problem not in torn]
    disagreement = f"Rows of one patient disagree about {target}."
    fault = f"{counted(len(wrong), 'label')} of {target} {'is' if len(wrong) == 1 else 'are'} not 0, 1 or empty."
    remedy = spelling_remedy(target, cells, manifest.table[column].astype(str))
    return [
        Finding(
            code=code,
            severity="error",
            where=f"{manifest.path}, column {column}",
            what=what,
            evidence=tuple(f"{problem.where}: expected {problem.expected}, got {problem.got}" for problem in found),
            remedy=remedy,
            rows=rows,
        )
        for code, what, found, remedy, rows in (
            ("label-conflict", disagreement, torn, torn[0].remedy if torn else "", ()),
            ("label-fault", fault, misspelt, remedy, tuple(int(str(row)) for row in wrong.index)),
        )
        if found
    ]
