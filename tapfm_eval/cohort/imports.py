"""What other tools' cohort and split tables say, as rows of a manifest and of a split file."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd

from tapfm_eval.cohort.csvfile import CsvFile, decode, read_bytes, read_csv_file, shown
from tapfm_eval.cohort.imported import Assignment, ImportedCohort, assemble, counted, is_slide, slide_name
from tapfm_eval.errors import ManifestError, Problem, SplitError

_TCGA = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}(?=-|$)")


def import_clam(labels: Path, splits: Sequence[Path] = (), target: str = "label") -> ImportedCohort:
    """CLAM: `case_id,slide_id,label`, and `splits_<k>.csv` whose columns train, val, test are lists of slide ids.

    `splits_<k>_bool.csv` is read as well. The fold number is that in the file's name.

    Args:
        labels: The label table.
        splits: One file a fold.
        target: What to call the column `label`.
    """
    file = read_csv_file(labels, ManifestError, "a CLAM label table", ("case_id", "slide_id", "label"))
    rows = _rows(file, patient="case_id", slide="slide_id", rename={"label": target})
    assignments = [assignment for path in splits for assignment in _clam_fold(path)]
    return assemble("CLAM", rows, assignments, "slide_id", str(labels), [], _called("case_id", "slide_id", target))


def import_stamp(clinical: Path, slides: Path, splits: Path | None = None) -> ImportedCohort:
    """STAMP: a clinical table `PATIENT` + targets, a slide table `PATIENT,FILENAME`, and `splits.json`.

    Patients without a slide get a row with an empty slide_id; slides of patients whom the clinical table lacks get
    empty labels. STAMP draws its validation patients while training, so its splits hold none: see `draw_validation`.
    """
    table = read_csv_file(clinical, ManifestError, "a STAMP clinical table", ("PATIENT",))
    names = read_csv_file(slides, ManifestError, "a STAMP slide table", ("PATIENT", "FILENAME"))
    facts = _rows(table, patient="PATIENT", slide=None, rename={})
    if repeated := sorted(set(facts.loc[facts["patient_id"].duplicated(), "patient_id"])):
        problem = "a patient listed once", f"{', '.join(repeated[:10])} again", "Keep one row a patient."
        raise ManifestError(Problem(str(clinical), *problem))
    files = pd.DataFrame({"patient_id": names.column("PATIENT")}, index=_places(names))
    files["slide_id"] = [slide_name(name) for name in names.column("FILENAME")]
    files["path"] = [PurePosixPath(name).name if is_slide(name) else "" for name in names.column("FILENAME")]
    places = dict(zip(facts["patient_id"], map(str, facts.index), strict=True))
    facts = facts.drop(columns=["slide_id", "path"])
    with_slides = files.join(facts.set_index("patient_id"), on="patient_id")
    rows = pd.concat([with_slides, facts[~facts["patient_id"].isin(files["patient_id"])]])
    rows = rows[[*facts.columns, "slide_id", "path"]].fillna("")
    notes = [counted(rows["slide_id"] == "", "without a slide: their rows have an empty slide_id", rows)]
    unknown = ~rows["patient_id"].isin(facts["patient_id"])
    notes.append(counted(unknown, "in the slide table alone: their labels are empty", rows))
    assignments = [] if splits is None else _stamp_folds(splits)
    notes, called = [note for note in notes if note], _called("PATIENT", "FILENAME")
    return assemble("STAMP", rows, assignments, "patient_id", str(clinical), notes, called, places)


def import_patho_bench(table: Path) -> ImportedCohort:
    """Patho-Bench: a tab-separated `case_id`, `slide_id`, the task, and `fold_0`, `fold_1`, ... with train/val/test."""
    what = "a Patho-Bench split table"
    file = read_csv_file(table, ManifestError, what, ("case_id", "slide_id"), separator="\t", unnamed_index=True)
    folds = [column for column in file.columns if re.fullmatch(r"fold_[0-9]{1,4}", column)]
    rows = _rows(file, patient="case_id", slide="slide_id", rename={}, drop=(*folds, "index"))
    assignments = [
        Assignment(f"{table}, row {line}, column {column}", int(column.removeprefix("fold_")), slide, part)
        for column in folds
        for line, slide, part in zip(file.lines, file.column("slide_id"), file.column(column), strict=True)
    ]
    return assemble("Patho-Bench", rows, assignments, "slide_id", str(table), [], _called("case_id", "slide_id"))


def import_eagle(table: Path, patients: Mapping[str, str] | None = None) -> ImportedCohort:
    """EAGLE: `slide,path,split` and the targets; it names no patients.

    Args:
        table: The cohort table.
        patients: The patient of each slide; not needed where every slide's name begins with a TCGA patient barcode.
    """
    return _one_fold(table, "EAGLE", slide="slide", part="split", patients=patients)


def import_tapfm_script(table: Path, patients: Mapping[str, str] | None = None) -> ImportedCohort:
    """TAPFM's script: `slide_id,slide,set` and the targets; slides are `<slide>.svs`; it names no patients.

    Args:
        table: The cohort table.
        patients: The patient of each slide (by `slide`); not needed for slides named by TCGA barcodes.
    """
    return _one_fold(table, "TAPFM script", slide="slide", part="set", patients=patients, drop=("slide_id",), svs=True)


def import_nnmil(table: Path, target: str = "label") -> ImportedCohort:
    """nnMIL: `slide_id,patient_id,split,label`.

    Args:
        table: The cohort table.
        target: What to call the column `label`.
    """
    return _one_fold(table, "nnMIL", slide="slide_id", patient="patient_id", part="split", rename={"label": target})


def import_slideflow(table: Path) -> ImportedCohort:
    """slideflow: annotations `slide,patient`, with `site` and labels beside; they hold no split."""
    file = read_csv_file(table, ManifestError, "slideflow annotations", ("slide", "patient"))
    rows = _rows(file, patient="patient", slide="slide", rename={})
    return assemble("slideflow", rows, [], "slide_id", str(table), [], _called("patient", "slide"))


def _places(file: CsvFile) -> list[str]:
    return [f"{file.where}, row {line}" for line in file.lines]


def _called(patient: str, slide: str, target: str | None = None) -> dict[str, str]:
    """What the tables call our columns; any other column has its own name."""
    called = {"patient_id": patient, "slide_id": slide, "path": slide}
    return called if target is None else {**called, target: "label"}


def _rows(
    file: CsvFile, patient: str, slide: str | None, rename: Mapping[str, str], drop: Iterable[str] = ()
) -> pd.DataFrame:
    table = pd.DataFrame(list(file.rows), columns=list(file.columns), index=_places(file))
    rows = pd.DataFrame({"patient_id": table[patient], "slide_id": "" if slide is None else table[slide], "path": ""})
    if slide is not None:
        rows["path"] = [PurePosixPath(name).name if is_slide(name) else "" for name in rows["slide_id"]]
        rows["slide_id"] = [slide_name(name) for name in rows["slide_id"]]
    used = {patient, slide, *drop}
    for column in table.columns:
        if column in used:
            continue
        name = rename.get(column, column)
        if name in rows and name != "path":
            expected, got = "columns that differ", f"{shown(column)} meaning {name}, which is there already"
            raise ManifestError(Problem(f"{file.where}, row 1", expected, got, "Rename or delete one."))
        rows[name] = table[column]
    return rows


def _one_fold(
    path: Path,
    source: str,
    *,
    slide: str,
    part: str,
    patient: str | None = None,
    patients: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    drop: tuple[str, ...] = (),
    svs: bool = False,
) -> ImportedCohort:
    """A table of slides with the part of the one fold in a column."""
    required = tuple(column for column in (slide, patient, part) if column)
    file = read_csv_file(path, ManifestError, f"a cohort table of {source}", required, unnamed_index=True)
    notes: list[str] = []
    rows = _rows(file, patient or slide, slide, rename or {}, (part, "index", *drop))
    if patient is None:
        rows["patient_id"] = _patients_of(file.column(slide), file, slide, patients, notes)
    if svs:
        rows["path"] = [f"{name}.svs" for name in rows["slide_id"]]
        notes.append("paths are `<slide>.svs`, as that script opens them")
    elif rows["path"].map(lambda cell: cell != PureWindowsPath(cell).name and _is_absolute(cell)).any():
        rows["path"] = [PureWindowsPath(cell).name if _is_absolute(cell) else cell for cell in rows["path"]]
        notes.append("absolute paths were cut to the file's name: give the folder with --slides")
    cells = zip(file.lines, rows["slide_id"], file.column(part), strict=True)
    assignments = [Assignment(f"{path}, row {line}, column {part}", 0, name, cell) for line, name, cell in cells]
    called = _called(patient or slide, slide) | {ours: theirs for theirs, ours in (rename or {}).items()}
    return assemble(source, rows, assignments, "slide_id", str(path), notes, called)


def _patients_of(
    slides: list[str], file: CsvFile, column: str, patients: Mapping[str, str] | None, notes: list[str]
) -> list[str]:
    found, unknown = [], []
    for line, slide in zip(file.lines, slides, strict=True):
        barcode = _TCGA.match(slide)
        if patients is not None:
            patient = patients.get(slide, patients.get(slide_name(slide)))
        else:
            patient = barcode.group() if barcode else None
        if not patient:
            unknown.append((line, slide))
        found.append(patient or "")
    if unknown:  # said once: a table without patients is one fault, not one a row
        got = ", ".join(shown(slide) for _, slide in unknown[:5])
        got += f", and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        remedy = "Give a table that names the patient of every slide: --slides-table FILE."
        where = f"{file.where}, row {unknown[0][0]}, column {column}"
        raise ManifestError(Problem(where, "slides whose patient is known", got, remedy))
    if patients is None:
        notes.append("patients are the first 12 characters of the slides' names (TCGA barcodes)")
    return found


def _clam_fold(path: Path) -> list[Assignment]:
    number = re.fullmatch(r"splits_([0-9]{1,4})(_bool)?", path.stem)
    if number is None:
        expected = "a file named splits_<fold>.csv or splits_<fold>_bool.csv"
        raise SplitError(Problem(str(path), expected, shown(path.name), "Rename it, so that its fold is known."))
    fold, parts = int(number.group(1)), ("train", "val", "test")
    what = "a CLAM split file"
    file = read_csv_file(path, SplitError, what, parts, unnamed_index=True)
    if not number.group(2) and {cell.casefold() for part in parts for cell in file.column(part)} <= {"true", "false"}:
        remedy = f"Give splits_{fold}.csv, or call this one splits_{fold}_bool.csv."
        raise SplitError(Problem(str(path), "slide ids in train, val and test", "True and False alone", remedy))
    assignments = []
    for part in parts:
        for position, (line, cell) in enumerate(zip(file.lines, file.column(part), strict=True)):
            where = f"{path}, row {line}, column {part}"
            if not number.group(2):
                if cell:
                    assignments.append(Assignment(where, fold, cell, part))
            elif cell.casefold() in ("true", "1", "1.0"):
                assignments.append(Assignment(where, fold, file.rows[position][0], part))
            elif cell.casefold() not in ("false", "0", "0.0", ""):
                raise SplitError(Problem(where, "True or False", shown(cell), "Correct it."))
    return assignments


def _stamp_folds(path: Path) -> list[Assignment]:
    what = 'a STAMP splits.json: {"splits": [{"train_patients": [...], "test_patients": [...]}]}'
    text = decode(read_bytes(path, SplitError, what), path, SplitError, what)
    try:
        splits = json.loads(text)["splits"]
        return [
            Assignment(f"{path}, splits[{fold}].{part}_patients", fold, _text(patient), part)
            for fold, split in enumerate(splits)
            for part in ("train", "test")
            for patient in split[f"{part}_patients"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SplitError(Problem(str(path), what, "something else", "Is it the right file?")) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value.strip()


def _is_absolute(cell: str) -> bool:
    return cell.startswith("/") or PureWindowsPath(cell).is_absolute()
