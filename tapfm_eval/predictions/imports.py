"""Predictions that others made, as rows of the predictions table: nothing guessed, every fault named."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tapfm_eval.cohort.csvfile import CsvFile, read_csv_file, shown
from tapfm_eval.cohort.imported import slide_name
from tapfm_eval.errors import PredictionsError, Problem
from tapfm_eval.predictions.cells import Column, labels_of, scores_of
from tapfm_eval.predictions.table import COLUMNS, FORMAT, SPLITS, read_predictions

MAX_NUMBER = 1_000_000  # of a fold or seed
ROLES: dict[str, tuple[str, ...]] = {
    "patient": ("patient", "patient_id"),
    "label": ("label",),
    "score": ("score",),
    "slide": ("slide", "slide_id"),
    "target": ("target",),
    "fold": ("fold",),
    "seed": ("seed",),
    "split": ("split",),
    "cohort": ("cohort",),
    "arm": ("arm",),
}
"""What a column of a plain CSV can be for, and the plain names by which it is recognised, in any case."""

_PARTS = {
    **{name: name for name in SPLITS},
    "val": "validation", "valid": "validation", "training": "train", "testing": "test",
}  # fmt: skip
_CLAM = ("slide_id", "Y", "Y_hat", "p_0", "p_1")
_TCGA = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}(?=-|$)")


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """One file of predictions, as it was given."""

    arm: str  # empty where the file names its arms itself
    name: str  # without folders
    source: str  # tapfm-eval, CLAM, STAMP or CSV
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a user says about files that do not say it themselves."""

    columns: Mapping[str, str] = field(default_factory=dict)  # role -> column of a plain CSV
    positive: str | None = None  # the spelling of the positive class, where labels are not 0 and 1
    target: str | None = None  # name of the one target of the files
    patient_of: Mapping[str, str] | None = None  # slide -> patient
    labelled: bool = True  # False: labels come from a manifest, and the files need none
    covariates: tuple[str, ...] = ()  # further columns of a plain CSV to keep


@dataclass(frozen=True, slots=True)
class ImportedPredictions:
    """Rows for the predictions table from one file; an arm or cohort that the file does not name is empty."""

    source: str  # tapfm-eval, CLAM, STAMP or CSV
    where: str
    sha256: str
    rows: pd.DataFrame  # the columns of the predictions table, and `row`: the line of the file
    covariates: pd.DataFrame  # patient_id and the covariates asked for, one row a row of the file
    notes: tuple[str, ...]  # what was derived rather than read
    stated: frozenset[str] = frozenset()  # which of fold and split the file itself says


def import_predictions(path: Path, options: ImportOptions) -> ImportedPredictions:
    """Reads a file of predictions in whichever of the known forms it is.

    Known are the predictions table of this suite, CLAM's `fold_<k>.csv`, STAMP's `patient-preds.csv` and a plain CSV
    with a row a patient (or a slide) whose columns are named patient, label and score, or are named in the options.

    Raises:
        PredictionsError: With every fault of the file.
    """
    what = "a table of predictions"
    _refuse_what_is_no_table(path)
    file = read_csv_file(path, PredictionsError, what, (), comment=True, unnamed_index=True)
    if file.comment is not None and file.comment.strip() == FORMAT:
        return _own(path, file)
    if file.comment is not None:
        remedy = "Delete the comment line."
        raise PredictionsError(Problem(f"{path}, row 1", f"`# {FORMAT}` or a header", shown(file.comment), remedy))
    if set(_CLAM) <= set(file.columns) and "score" not in options.columns:
        return _clam(path, file, options)
    if "PATIENT" in file.columns and _stamp_targets(file.columns) and "score" not in options.columns:
        return _stamp(path, file, options)
    return _plain(file, options)


def _refuse_what_is_no_table(path: Path) -> None:
    """What is often given instead: an address, a stream, or JSON, where a reader of tables finds a fault a line."""
    expected = "a CSV file of predictions"
    if re.match(r"https?:/", str(path)):
        remedy = "Download it first, and give the file."
        raise PredictionsError(Problem(str(path), expected, "an address", remedy))
    if str(path) == "-":
        raise PredictionsError(Problem("-", expected, "the standard input", "Write it to a file, and give that."))
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        if start[:1] in (b"{", b"["):
            remedy = "Give the table of predictions, such as predictions.csv."
            raise PredictionsError(Problem(str(path), expected, "JSON", remedy))


def read_slide_table(path: Path) -> dict[str, str]:
    """The patient of each slide, from `case_id,slide_id` (CLAM), `PATIENT,FILENAME` (STAMP) or `patient_id,slide_id`.

    Raises:
        PredictionsError: The file is no such table, or a slide has two patients.
    """
    file = read_csv_file(path, PredictionsError, "a table of slides", (), unnamed_index=True)
    pairs = (("patient_id", "slide_id"), ("case_id", "slide_id"), ("PATIENT", "FILENAME"), ("patient", "slide"))
    known = next((pair for pair in pairs if set(pair) <= set(file.columns)), None)
    if known is None:
        expected = "columns case_id and slide_id, PATIENT and FILENAME, or patient_id and slide_id"
        got = ", ".join(file.columns[:12])
        raise PredictionsError(Problem(f"{path}, row 1", expected, got, "Rename the two columns."))
    found: dict[str, str] = {}
    problems = []
    for line, patient, slide in zip(file.lines, file.column(known[0]), file.column(known[1]), strict=True):
        name = slide_name(slide)
        if not patient or not name:
            problems.append(Problem(f"{path}, row {line}", "a patient and a slide", "an empty cell", "Fill it in."))
        elif found.setdefault(name, patient) != patient:
            got = f"{shown(patient)}, and {shown(found[name])} above"
            problems.append(Problem(f"{path}, row {line}, slide {name}", "one patient", got, "Correct the table."))
    if problems:
        raise PredictionsError(problems)
    return found


def _own(path: Path, file: CsvFile) -> ImportedPredictions:
    rows = read_predictions(path)
    rows = rows.assign(row=0)
    stated = frozenset(("fold", "split"))
    return ImportedPredictions("tapfm-eval", str(path), file.sha256, rows, _no_covariates(), (), stated)


def _no_covariates() -> pd.DataFrame:
    return pd.DataFrame({"patient_id": pd.Series(dtype=str)})


def _clam(path: Path, file: CsvFile, options: ImportOptions) -> ImportedPredictions:
    problems: list[Problem] = []
    if "p_2" in file.columns:
        remedy = "This suite judges binary targets: make one table a class."
        problems.append(Problem(f"{path}, row 1", "two classes, p_0 and p_1", "p_2 as well", remedy))
    names = [slide_name(slide) for slide in file.column("slide_id")]
    patients, note = _patients_of_slides(file, names, options.patient_of, problems)
    cells = Column(file.where, "Y", file.lines, tuple(file.column("Y")))
    labels = labels_of(cells, options.positive, problems, needed=options.labelled)
    scores = scores_of(Column(file.where, "p_1", file.lines, tuple(file.column("p_1"))), problems)
    fold = _fold_of(path.stem, r"fold_([0-9]{1,4})")
    rows = _rows(file, patients, names, [options.target or "label"] * len(names), labels, scores, fold=fold or 0)
    return _finished("CLAM", file, rows, problems, (note,) if note else (), stated=_fold_stated(fold))


def _patients_of_slides(
    file: CsvFile, slides: Sequence[str], patient_of: Mapping[str, str] | None, problems: list[Problem]
) -> tuple[list[str], str]:
    """Patients by slide from a table, else from TCGA barcodes; the note says which was derived."""
    found, unknown = [], []
    for line, slide in zip(file.lines, slides, strict=True):
        barcode = _TCGA.match(slide)
        patient = patient_of.get(slide) if patient_of is not None else barcode.group() if barcode else None
        if not patient:
            unknown.append((line, slide))
        found.append(patient or "")
    if unknown:
        said = ", ".join(slide for _, slide in unknown[:3]) + (" ..." if len(unknown) > 3 else "")
        rows = _numbered([line for line, _ in unknown])
        remedy = "Give --slides-table FILE with the columns case_id and slide_id; a patient may have several slides."
        where = f"{file.where}, {rows}, column slide_id"
        problems.append(Problem(where, "slides whose patient is known", f"{len(unknown)} unknown: {said}", remedy))
    derived = patient_of is None and not unknown
    return found, "patients are the first 12 characters of the slides' names (TCGA barcodes)" if derived else ""


def _fold_of(name: str, pattern: str) -> int | None:
    number = re.fullmatch(pattern, name)
    return int(number.group(1)) if number else None


def _fold_stated(fold: int | None) -> frozenset[str]:
    return frozenset() if fold is None else frozenset(("fold",))


def _stamp_targets(columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """For each target of a STAMP table its classes, each with the column of its probability.

    `EGFR` with `EGFR_0` and `EGFR_1` is a target; a column belongs to the longest target that it begins with.
    """
    several = {name.removeprefix("pred_") for name in columns if name.startswith("pred_") and len(name) > 5}
    candidates = [name for name in columns if name not in ("PATIENT", "pred", "loss", "index")]
    named = [name for name in candidates if not several or name in several]
    found: dict[str, dict[str, str]] = {name: {} for name in named}
    for column in candidates:
        owners = [name for name in named if column.startswith(f"{name}_") and column not in several]
        if owners:
            owner = max(owners, key=len)
            found[owner][column.removeprefix(f"{owner}_")] = column
    if "pred" not in columns and not several:
        return {}
    return {name: classes for name, classes in found.items() if len(classes) > 1}


def _stamp(path: Path, file: CsvFile, options: ImportOptions) -> ImportedPredictions:
    problems: list[Problem] = []
    targets = _stamp_targets(file.columns)
    fold = _fold_of(path.resolve().parent.name, r"split-([0-9]{1,4})")
    tables = []
    patients = file.column("PATIENT")
    for name, classes in targets.items():
        plain = {_as_class(spelt): column for spelt, column in classes.items()}
        wanted = "1" if options.positive is None and set(plain) == {"0", "1"} else options.positive
        if wanted is None or wanted not in plain:
            choice = " or ".join(f"--positive {spelt}" for spelt in list(classes)[:2])
            remedy = f"Say which class is positive: {choice}."
            got = (
                f"classes {', '.join(classes)}"
                if wanted is None
                else f"{shown(wanted)}, not among {', '.join(classes)}"
            )
            problems.append(
                Problem(f"{path}, target {name}", "classes 0 and 1, or a named positive class", got, remedy)
            )
            continue
        if len(plain) != 2:
            remedy = "This suite judges binary targets: make one table a class."
            problems.append(Problem(f"{path}, target {name}", "two classes", ", ".join(classes), remedy))
            continue
        cells = Column(file.where, name, file.lines, tuple(_as_class(cell) for cell in file.column(name)))
        labels = labels_of(cells, None if set(plain) == {"0", "1"} and wanted == "1" else wanted, problems,
                           needed=options.labelled, classes=tuple(plain))  # fmt: skip
        column = plain[wanted]
        scores = scores_of(Column(file.where, column, file.lines, tuple(file.column(column))), problems)
        called = options.target if options.target and len(targets) == 1 else name
        tables.append(_rows(file, patients, patients, [called] * len(patients), labels, scores, fold=fold or 0))
    if problems:
        raise PredictionsError(problems)
    rows = pd.concat(tables, ignore_index=True)
    return _finished("STAMP", file, rows, problems, (), stated=_fold_stated(fold))


def _as_class(cell: str) -> str:
    """`1` for `1.0`: pandas writes whole numbers beside empty cells with a point."""
    return cell.removesuffix(".0") if re.fullmatch(r"[0-9]+\.0", cell) else cell


def _plain(file: CsvFile, options: ImportOptions) -> ImportedPredictions:
    problems: list[Problem] = []
    column = _roles(file, options, problems)
    if problems:
        raise PredictionsError(problems)

    def cells(role: str) -> list[str]:
        return file.column(column[role])

    size = len(file.lines)
    patients = cells("patient") if "patient" in column else []
    slides = cells("slide") if "slide" in column else []
    if not patients:
        names = [slide_name(slide) for slide in slides]
        patients, _ = _patients_of_slides(file, names, options.patient_of, problems)
    slides = slides or patients
    label_column = column.get("label")
    if label_column is None:
        labels = [float("nan")] * size
    else:
        spelt = Column(file.where, label_column, file.lines, tuple(file.column(label_column)))
        labels = labels_of(spelt, options.positive, problems, needed=options.labelled)
    scores = scores_of(Column(file.where, column["score"], file.lines, tuple(cells("score"))), problems)
    named = column.get("label", "label") if column.get("label", "").casefold() not in ROLES["label"] else "label"
    targets = cells("target") if "target" in column else [options.target or named] * size
    rows = _rows(file, patients, slides, targets, labels, scores)
    for role in ("fold", "seed"):
        if role in column:
            rows[role] = _numbers(file, column[role], problems)
    if "split" in column:
        said = [_PARTS.get(cell.casefold(), "") for cell in cells("split")]
        wrong = [(line, cell) for line, cell, part in zip(file.lines, cells("split"), said, strict=True) if not part]
        _grouped(file, column["split"], wrong, ", ".join(SPLITS), "Correct it.", problems)
        rows["split"] = said
    for role in ("arm", "cohort"):
        if role in column:
            rows[role] = cells(role)
    kept = pd.DataFrame({"patient_id": patients, **{name: file.column(name) for name in options.covariates
                                                   if name in file.columns}})  # fmt: skip
    return _finished("CSV", file, rows, problems, (), kept, frozenset(("fold", "split")) & column.keys())


def _roles(file: CsvFile, options: ImportOptions, problems: list[Problem]) -> dict[str, str]:
    """Which column has which role: as the user said, else by plain names."""
    had = ", ".join(name for name in file.columns[:12] if name != "index") + (", ..." if len(file.columns) > 12 else "")
    found: dict[str, str] = {}
    for role, name in options.columns.items():
        if name in file.columns:
            found[role] = name
        elif role in ("patient", "label", "score"):
            remedy = "Correct the name after `=`."
            problems.append(Problem(f"{file.where}, --columns {role}={name}", "a column of the file", had, remedy))
    for role, names in ROLES.items():
        if role not in options.columns:
            alike = [name for name in file.columns if name.casefold() in names]
            if len(alike) > 1:
                remedy = f"Say which it is: --columns {role}={alike[0]}."
                problems.append(Problem(f"{file.where}, row 1", f"one {role} column", ", ".join(alike), remedy))
            elif alike:
                found[role] = alike[0]
    needed = ["patient", "score"] + (["label"] if options.labelled else [])
    if "slide" in found and options.patient_of is not None:
        needed.remove("patient")
    missing = [role for role in needed if role not in found and role not in options.columns]
    if missing:
        left = [name for name in file.columns if name not in found.values() and name != "index"]
        guess = left[0] if len(missing) == len(left) == 1 else "NAME"
        mapping = ",".join(f"{role}={guess}" for role in missing)
        remedy = f"Say which column{'s they are' if len(missing) > 1 else ' it is'}: --columns {mapping}."
        if "label" in missing:
            remedy += " Labels can also come from --manifest."
        wanted = ", ".join(" or ".join(ROLES[role][:2]) for role in missing)
        expected = f"column{'s' if len(missing) > 1 else ''} named {wanted}"
        problems.append(Problem(f"{file.where}, row 1", expected, f"columns {had}", remedy))
    return found


def _numbers(file: CsvFile, column: str, problems: list[Problem]) -> list[int]:
    cells = file.column(column)
    good = [re.fullmatch(r"[0-9]{1,6}(\.0)?", cell) is not None for cell in cells]
    wrong = [(line, cell) for line, cell, fine in zip(file.lines, cells, good, strict=True) if not fine]
    _grouped(file, column, wrong, "a whole number from 0", "Number them 0, 1, 2, ...", problems)
    return [int(float(cell)) if fine else 0 for cell, fine in zip(cells, good, strict=True)]


def _grouped(
    file: CsvFile, column: str, wrong: Iterable[tuple[int, str]], expected: str, remedy: str, problems: list[Problem]
) -> None:
    """One problem for each spelling, with the rows that have it."""
    rows: dict[str, list[int]] = {}
    for line, cell in wrong:
        rows.setdefault(cell, []).append(line)
    for cell, lines in rows.items():
        where = f"{file.where}, {_numbered(lines)}, column {column}"
        problems.append(Problem(where, expected, shown(cell) if cell else "an empty cell", remedy))


def _numbered(lines: Sequence[int]) -> str:
    said = ", ".join(map(str, lines[:10])) + (f" and {len(lines) - 10} more" if len(lines) > 10 else "")
    return f"row{'' if len(lines) == 1 else 's'} {said}"


def _rows(
    file: CsvFile,
    patients: Sequence[str],
    slides: Sequence[str],
    targets: Sequence[str],
    labels: Sequence[float],
    scores: Sequence[float],
    fold: int = 0,
) -> pd.DataFrame:
    content = {
        "arm": "", "seed": 0, "fold": fold, "cohort": "", "split": "test", "patient_id": list(patients),
        "slide_id": list(slides), "target": list(targets), "label": list(labels), "score": list(scores),
    }  # fmt: skip
    return pd.DataFrame(content, columns=list(COLUMNS)).assign(row=list(file.lines))


def _finished(
    source: str,
    file: CsvFile,
    rows: pd.DataFrame,
    problems: list[Problem],
    notes: tuple[str, ...],
    covariates: pd.DataFrame | None = None,
    stated: frozenset[str] = frozenset(),
) -> ImportedPredictions:
    """The import, or every fault of the file: those met so far, nameless patients, rows that repeat each other."""
    empty: Callable[[str], bool] = lambda cell: cell in ("", "NA", "nan", "NaN", "None")  # noqa: E731
    nameless = [int(row) for row, patient in zip(rows["row"], rows["patient_id"], strict=True) if empty(patient)]
    if nameless and not any("slides whose patient is known" in problem.expected for problem in problems):
        where = f"{file.where}, {_numbered(nameless)}"
        problems.append(Problem(where, "a patient's id", "none", "Fill it in, or delete the row."))
    key = ["arm", "seed", "fold", "cohort", "split", "patient_id", "slide_id", "target"]
    first: dict[tuple[object, ...], int] = {}
    for row, *values in rows[["row", *key]].itertuples(index=False, name=None):
        known = first.setdefault(tuple(values), int(row))
        if known != row and not empty(values[5]):
            got = f"{shown(str(values[5]))} again, as in row {known}"
            remedy = (
                "Delete one; or name the column that tells them apart: --columns slide=NAME (or fold, seed, target)."
            )
            problems.append(Problem(f"{file.where}, row {row}", "one row a patient", got, remedy))
    if problems:
        raise PredictionsError(problems)
    kept = _no_covariates() if covariates is None else covariates
    return ImportedPredictions(source, file.where, file.sha256, rows, kept, notes, stated)
