"""How another tool's rows and parts become one cohort: slides to patients, no patient on two sides, nothing dropped."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from tapfm_eval.cohort.balance import Aim, deal
from tapfm_eval.cohort.csvfile import shown
from tapfm_eval.cohort.labels import Spellings, two_valued, values_option
from tapfm_eval.cohort.manifest import Manifest, read_manifest
from tapfm_eval.cohort.splits import PARTS, Split, read_split, write_split
from tapfm_eval.errors import InputError, ManifestError, Problem, SplitError

SLIDE_ENDINGS = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu"})
"""Endings of the slide files that OpenSlide opens, lower case."""

_PART = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, slots=True)
class ImportedCohort:
    """Rows for a manifest and a split, as another tool's tables have them; labels keep their spelling."""

    source: str  # the tool: CLAM, STAMP, ...
    rows: pd.DataFrame  # patient_id, slide_id, path, then labels and covariates, all text; by patient_id, slide_id
    split: pd.DataFrame | None  # patient_id, fold, split; None where the tables hold none
    notes: tuple[str, ...]  # what was derived rather than read, to be shown to the user
    places: tuple[str, ...]  # of each row, where the user's tables have it: `labels.csv, row 4`
    called: Mapping[str, str]  # what the user's tables call our columns, where they have other names
    facts: Mapping[str, str]  # of each patient, the place of labels and covariates that stand in a table of their own


@dataclass(frozen=True, slots=True)
class Assignment:
    """One slide or patient put into one part of one fold."""

    where: str  # the cell, for messages
    fold: int
    id: str  # of a slide or a patient
    part: str  # as written


def assemble(
    source: str,
    rows: pd.DataFrame,
    assignments: list[Assignment],
    by: str,
    where: str,
    notes: Sequence[str],
    called: Mapping[str, str],
    facts: Mapping[str, str] | None = None,
) -> ImportedCohort:
    """The cohort of a table and its parts, with folds numbered from 0.

    Args:
        source: The tool's name.
        rows: patient_id, slide_id, path and further columns, in any order; index: file and row, for messages.
        assignments: The parts; an empty part leaves its slide out of the fold.
        by: What assignments name: slide_id or patient_id.
        where: The table, for messages.
        notes: What was derived so far.
        called: What the tables call our columns.
        facts: Place of each patient's labels and covariates, where a table of slides stands apart.

    Raises:
        ManifestError: Where a slide belongs to two patients.
        SplitError: Where a part is unknown, names nobody, or puts a patient on two sides of a fold.
    """
    named = rows[rows["slide_id"] != ""].drop_duplicates(["patient_id", "slide_id"])
    if torn := sorted(set(named.loc[named["slide_id"].duplicated(), "slide_id"])):
        got = ", ".join(torn[:10]) + (", ..." if len(torn) > 10 else "")
        raise ManifestError(Problem(where, "one patient for each slide", f"several for {got}", "Correct the table."))
    patient_of = dict(zip(rows[by], rows["patient_id"], strict=True))
    problems: list[Problem] = []
    parts: dict[tuple[str, int], dict[str, str]] = {}
    for one in assignments:
        if not one.part:
            continue
        part = _PART.get(one.part.casefold())
        if part is None:
            problems.append(Problem(one.where, "train, val or test", shown(one.part), "Correct it."))
            continue
        name = one.id if one.id in patient_of or by == "patient_id" else slide_name(one.id)
        if name not in patient_of and name.endswith(".0"):
            name = name.removesuffix(".0")  # an integer id that pandas wrote as a float beside empty cells
        if name not in patient_of:
            remedy = "Correct the id, or add its row to the table."
            problems.append(Problem(one.where, f"a {by.removesuffix('_id')} of {where}", shown(one.id), remedy))
            continue
        parts.setdefault((patient_of[name], one.fold), {}).setdefault(part, one.where)
    for (patient, fold), said in parts.items():
        if len(said) > 1:
            got = "; ".join(f"{part} ({said[part]})" for part in PARTS if part in said)
            remedy = "Split by patient: with slides on both sides, the test would see training patients."
            problems.append(Problem(f"patient {patient}, fold {fold}", "one part for all slides", got, remedy))
    if problems:
        raise SplitError(problems)
    split = None
    notes = list(notes)
    if parts:
        folds = {fold: number for number, fold in enumerate(sorted({fold for _, fold in parts}))}
        records = [(patient, folds[fold], next(iter(said))) for (patient, fold), said in parts.items()]
        split = pd.DataFrame(records, columns=["patient_id", "fold", "split"])
        split = split.sort_values(["fold", "patient_id"], ignore_index=True)
        for fold, number in folds.items():
            lacking = [part for part in PARTS if part not in set(split.loc[split["fold"] == number, "split"])]
            notes += [f"fold {fold} has no {part} patients" for part in lacking]
        outside = ~rows["patient_id"].isin(split["patient_id"])
        notes += filter(None, [counted(outside, "in no part of the split", rows)])
    ordered = rows.sort_values(["patient_id", "slide_id"])
    places = tuple(map(str, ordered.index))
    return ImportedCohort(source, ordered.reset_index(drop=True), split, tuple(notes), places, called, facts or {})


def counted(chosen: "pd.Series[bool]", what: str, rows: pd.DataFrame) -> str:
    """`3 patients <what>`, or nothing where no row is chosen."""
    number = rows.loc[chosen, "patient_id"].nunique()
    return f"{number} patient{'' if number == 1 else 's'} {what}" if number else ""


def is_slide(name: str) -> bool:
    """Whether the name ends like a slide file that OpenSlide opens."""
    return PurePosixPath(name).suffix.lower() in SLIDE_ENDINGS


def slide_name(name: str) -> str:
    """A slide's id: its file name without folder, and without a slide's or feature file's ending."""
    base = PureWindowsPath(name).name  # splits at / and at \
    suffix = PurePosixPath(base).suffix
    known = suffix.lower() in SLIDE_ENDINGS or suffix.lower() in (".h5", ".pt")
    return base.removesuffix(suffix) if known else base


def draw_validation(imported: ImportedCohort, share: float, seed: int) -> ImportedCohort:
    """The cohort with validation patients drawn from the training patients of every fold that has none.

    The draw is even over the labels as spelt (all columns with at most five different cells).

    Args:
        imported: A cohort with a split.
        share: Part of the training patients, between 0 and 1.
        seed: Source of randomness.

    Raises:
        SplitError: Where there is no split, or a fold has too few training patients.
    """
    if imported.split is None:
        remedy = "Make one with `tapfm-eval split`."
        raise SplitError(Problem(imported.source, "a split to draw from", "none", remedy))
    patients = imported.rows.drop_duplicates("patient_id").set_index("patient_id")
    coarse = [column for column in patients if patients[column].nunique() <= 5 and column not in ("slide_id", "path")]
    tables = []
    for fold, table in imported.split.groupby("fold", sort=True):
        table = table.sort_values("patient_id", ignore_index=True)
        training = np.flatnonzero(table["split"] == "train")
        if not (table["split"] == "validation").any():
            if not 1 <= round(share * len(training)) < len(training):
                got = f"{share:g} of {len(training)}"
                where = f"{imported.source}, fold {fold}"
                raise SplitError(Problem(where, "training patients to draw from", got, "Change the share."))
            cells = patients.loc[table["patient_id"].iloc[training], coarse].astype(str)
            kinds = np.unique(["|".join(row) for row in cells.itertuples(index=False)], return_inverse=True)[1]
            indicators = np.column_stack([np.ones(len(training)), np.eye(int(kinds.max()) + 1)[kinds]])
            weights = np.r_[4.0, np.ones(indicators.shape[1] - 1)] / np.sqrt(indicators.sum(axis=0))
            aim = Aim(indicators, weights, np.zeros(indicators.shape[1]), np.array([1 - share, share]))
            blocks = deal(aim, np.random.default_rng([seed, int(str(fold))]), kinds.astype(np.intp))
            table.loc[training[blocks == 1], "split"] = "validation"
        tables.append(table)
    note = f"validation patients drawn from training patients: share {share:g}, seed {seed}"
    return replace(imported, split=pd.concat(tables, ignore_index=True), notes=(*imported.notes, note))


def write_import(imported: ImportedCohort, manifest: Path, split: Path | None = None) -> tuple[Manifest, Split | None]:
    """Writes the manifest and, where wanted, the split, and reads both back with every check.

    Raises:
        ManifestError: Where the rows make no valid manifest; the file is there to look at.
        SplitError: Where the split is not valid, for instance without validation patients.
    """
    imported.rows.to_csv(manifest, index=False, lineterminator="\n", encoding="utf-8")
    read = read_manifest(manifest, manifest.stem)
    return read, None if split is None else write_import_split(imported, read, split)


def write_import_split(imported: ImportedCohort, manifest: Manifest, split: Path) -> Split:
    """Writes the split of a cohort whose manifest is written, and reads it back with every check; see `write_import`.

    Raises:
        SplitError: Where there is no split, or it is not valid.
    """
    if imported.split is None:
        remedy = "Make one with `tapfm-eval split`."
        raise SplitError(Problem(imported.source, "tables that hold a split", "none", remedy))
    meta: dict[str, Any] = {"scheme": f"imported from {imported.source}", "manifest_sha256": manifest.sha256}
    write_split(split, imported.split, {**meta, "notes": list(imported.notes)})
    return read_split(split, manifest)


def at_source(imported: ImportedCohort, problem: Problem, manifest: Path) -> Problem:
    """A problem of the written manifest as one of the tables that it was made from: their row, their column."""
    found = re.fullmatch(r", row (\d+), column (.*)", problem.where.removeprefix(str(manifest)), re.DOTALL)
    if found is None or int(found.group(1)) < 2:  # of the header
        return replace(problem, where=problem.where.replace(str(manifest), f"the manifest of {imported.source}"))
    at, column = int(found.group(1)) - 2, found.group(2)
    place = imported.places[at]
    if column not in ("patient_id", "slide_id", "path"):
        place = imported.facts.get(str(imported.rows["patient_id"].iloc[at]), place)

    def other(match: "re.Match[str]") -> str:
        told = imported.places[int(match.group(2)) - 2]
        file = place.rpartition(", row ")[0]
        return match.group(1) + (told.removeprefix(f"{file}, ") if told.startswith(f"{file}, row ") else told)

    got = re.sub(r"(, which is in | again, as in |, while )row (\d+)", other, problem.got)
    return replace(problem, where=f"{place}, column {imported.called.get(column, column)}", got=got)


def with_labels_read(imported: ImportedCohort, values: Spellings) -> ImportedCohort:
    """The cohort with label cells written as 0, 1 or empty, as `values` says; what was read, or may be, is noted.

    Raises:
        InputError: A target is no column of the tables, or a word is in no row of it.
    """
    rows = imported.rows.copy()
    columns = [str(column) for column in rows if column not in ("patient_id", "slide_id", "path")]
    if absent := [target for target in values if target not in columns]:
        expected = f"a column of the tables: {', '.join(columns)}"
        raise InputError(
            Problem(f"--values {target}", expected, "no such column", "Correct the name.") for target in absent
        )
    problems = [_unheard(target, spellings, list(rows[target])) for target, spellings in values.items()]
    if any(problems):
        raise InputError(problem for problem in problems if problem is not None)
    notes = list(imported.notes)
    for target, spellings in values.items():
        said = []
        for cell, label in spellings.items():
            found = imported.rows[target] == cell
            rows.loc[found, target] = "" if label is None else str(label)
            number = int(found.sum())
            meaning = "unknown" if label is None else label
            said.append(f"{shown(cell)} as {meaning} ({number} {'row' if number == 1 else 'rows'})")
        notes.append(f"{target} reads {', '.join(said)}")
    notes += [
        f"{column} holds {', '.join(map(shown, cells))}: if it is a label, say which word is 1 and which is 0, "
        f"here or with split and audit: {values_option(column, cells, cells)}"
        for column, cells in two_valued(rows[columns]).items()
    ]
    return replace(imported, rows=rows, notes=tuple(notes))


def _unheard(target: str, spellings: Iterable[str], cells: Sequence[str]) -> Problem | None:
    """Words for a target that none of its cells says: a typo would leave the cells that were meant as they are."""
    absent = sorted(set(spellings) - set(cells))
    if not absent:
        return None
    held = sorted(set(cells) - {""})
    some = ", ".join(map(shown, held[:10])) + (", ..." if len(held) > 10 else "")
    got = f"{', '.join(map(shown, absent))}, which is in no row"
    return Problem(f"--values {target}", f"words of its column: {some}", got, "Correct the word, or leave it out.")
