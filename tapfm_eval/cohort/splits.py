"""Which patients train, select and test in each fold: the split file, read with every check or written."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tapfm_eval.cohort.csvfile import CsvFile, read_csv_file, shown
from tapfm_eval.cohort.manifest import Manifest
from tapfm_eval.errors import Problem, SplitError

SPLIT_FORMAT = "tapfm-eval/split/1"
PARTS = ("train", "validation", "test")
MAX_FOLDS = 1_000
TESTED_ONCE = "each patient in the test part of one fold"
_COLUMNS = ("patient_id", "fold", "split")
_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train", "testing": "test"}


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of every fold, and how they were made."""

    path: Path  # as the user gave it
    sha256: str  # of the file's bytes
    scheme: str  # holdout, kfold, site-preserved, or the tool that it was imported from
    seed: int | None  # None where the split was not drawn here
    manifest_sha256: str  # of the manifest that it was made for
    meta: Mapping[str, Any]  # the whole first line
    table: pd.DataFrame
    """patient_id, fold (int), split; sorted by fold, then patient_id."""

    @property
    def folds(self) -> tuple[int, ...]:
        """The fold numbers, ascending."""
        return tuple(sorted({int(fold) for fold in self.table["fold"]}))

    def patients(self, fold: int, split: str) -> tuple[str, ...]:
        """The patients of one part of a fold, sorted; `split` is train, validation or test."""
        chosen = (self.table["fold"] == fold) & (self.table["split"] == split)
        return tuple(self.table.loc[chosen, "patient_id"])


def tested_again(table: pd.DataFrame) -> pd.Series:
    """Patients in the test parts of several folds, sorted, each with the number of these folds.

    Each of their scores would count as a patient: intervals come out too narrow.

    Args:
        table: Columns `patient_id`, `fold` and `split`; several rows a patient and fold do no harm.
    """
    folds = table[table["split"] == "test"].groupby("patient_id", sort=True)["fold"].nunique()
    return folds[folds > 1]


def tested_again_said(folds: pd.Series) -> str:
    """`tested_again` in words, with the first few patients."""
    low, high = int(folds.min()), int(folds.max())
    names = ", ".join(map(str, folds.index[:5])) + (" ..." if len(folds) > 5 else "")
    some = f"{len(folds)} patient{'s' if len(folds) > 1 else ''}"
    return f"{some} in {low if low == high else f'{low} to {high}'} folds: {names}"


def read_split(path: Path, manifest: Manifest) -> Split:
    """A split that fits its manifest.

    Patients of the manifest that the split does not name are no fault here; `load_cohorts` counts them out.

    Args:
        path: The split file: a first line `# tapfm-eval/split/1 {json}`, then `patient_id,fold,split`.
        manifest: The manifest that the split was made for.

    Raises:
        SplitError: With every fault: unknown values, a patient twice in a fold, patients that the manifest lacks,
            folds that are not 0..k-1 or lack a part, a manifest that has changed since.
    """
    file = read_csv_file(path, SplitError, "a split file", _COLUMNS, comment=True)
    meta, problems = _read_meta(file, manifest)
    known = set(manifest.table["patient_id"])
    seen: dict[tuple[str, int], tuple[int, str]] = {}
    records: list[tuple[str, int, str]] = []
    cells = (file.lines, file.column("patient_id"), file.column("fold"), file.column("split"))
    for row, patient, fold_text, part in zip(*cells, strict=True):
        at = f"{path}, row {row}, column"
        fold = int(fold_text) if fold_text.isascii() and fold_text.isdigit() and len(fold_text) <= 6 else None
        if fold is None or fold >= MAX_FOLDS:
            remedy = "Number the folds from 0."
            problems.append(Problem(f"{at} fold", f"a number from 0 to {MAX_FOLDS - 1}", shown(fold_text), remedy))
        if part not in PARTS:
            plain = _ALIASES.get(part.casefold(), part.casefold())
            remedy = f"Write {plain}." if plain in PARTS else "Correct it, or delete the row."
            problems.append(Problem(f"{at} split", "train, validation or test", shown(part), remedy))
        if patient not in known:
            remedy = "Correct the id, delete the row, or make the split again."
            problems.append(Problem(f"{at} patient_id", f"a patient of {manifest.path}", shown(patient), remedy))
        if fold is None or fold >= MAX_FOLDS or part not in PARTS:
            continue
        if (patient, fold) in seen:
            earlier_row, earlier_part = seen[patient, fold]
            got = f"{shown(patient)} in {part}, and in {earlier_part} (row {earlier_row})"
            remedy = "A patient belongs to one part of a fold: delete all but one row."
            problems.append(Problem(f"{at} patient_id", f"a patient once in fold {fold}", got, remedy))
            continue
        seen[patient, fold] = (row, part)
        records.append((patient, fold, part))
    problems += _fold_problems(records, str(path))
    if problems:
        raise SplitError(problems)
    table = pd.DataFrame(records, columns=list(_COLUMNS)).astype({"fold": int})
    table = table.sort_values(["fold", "patient_id"], ignore_index=True)
    return Split(path, file.sha256, meta["scheme"], meta.get("seed"), meta["manifest_sha256"], meta, table)


def write_split(path: Path, table: pd.DataFrame, meta: Mapping[str, Any]) -> None:
    """Writes a split file: same table and same `meta`, same bytes.

    Args:
        path: Where to write.
        table: Columns patient_id, fold, split.
        meta: Must hold `scheme` and `manifest_sha256`; `seed` and the rest are kept as they are.
    """
    head = f"# {SPLIT_FORMAT} {json.dumps(dict(meta), sort_keys=True, ensure_ascii=False, allow_nan=False)}\n"
    ordered = table[list(_COLUMNS)].sort_values(["fold", "patient_id"])
    path.write_text(head + ordered.to_csv(index=False, lineterminator="\n"), encoding="utf-8", newline="\n")


def _read_meta(file: CsvFile, manifest: Manifest) -> tuple[dict[str, Any], list[Problem]]:
    where = f"{file.where}, row 1"
    line = f'# {SPLIT_FORMAT} {{"manifest_sha256": "{manifest.sha256}", "scheme": "own"}}'
    expected = f"`# {SPLIT_FORMAT} {{json}}` with manifest_sha256 and scheme"
    if file.comment is None:
        return {}, [Problem(where, expected, "no such line", f"Put this line first: {line}")]
    name, _, text = file.comment.partition(" ")
    if name != SPLIT_FORMAT:
        return {}, [Problem(where, expected, shown("# " + file.comment), f"Write this line instead: {line}")]
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        return {}, [Problem(where, expected, shown(text), f"Write this line instead: {line}")]
    problems = []
    if not isinstance(meta.get("scheme"), str):
        problems.append(Problem(f"{where}, scheme", "the name of the scheme", shown(repr(meta.get("scheme"))), line))
    seed = meta.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        problems.append(Problem(f"{where}, seed", "a whole number, or no seed", shown(repr(seed)), "Correct it."))
    if meta.get("manifest_sha256") != manifest.sha256:
        expected = f"a split of this state of {manifest.path} (sha256 {manifest.sha256[:12]})"
        got = f"one of another state (sha256 {shown(str(meta.get('manifest_sha256')))[1:13]})"
        remedy = "The manifest has changed since the split was made: make the split again, or restore the manifest."
        problems.append(Problem(f"{where}, manifest_sha256", expected, got, remedy))
    return meta, problems


def _fold_problems(records: list[tuple[str, int, str]], where: str) -> list[Problem]:
    problems = []
    sizes = Counter((fold, part) for _, fold, part in records)
    folds = sorted({fold for fold, _ in sizes})
    if folds and folds != list(range(len(folds))):
        got = ", ".join(map(str, folds[:12])) + (", ..." if len(folds) > 12 else "")
        problems.append(Problem(f"{where}, column fold", "folds 0, 1, 2, ...", got, "Renumber the folds from 0."))
    for fold in folds:
        for part in PARTS:
            if not sizes[fold, part]:
                remedy = "Every fold needs train, validation and test patients."
                problems.append(Problem(f"{where}, fold {fold}", f"{part} patients", "none", remedy))
    return problems
