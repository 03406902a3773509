"""What a cohort manifest may say: one row a slide, checked by a pandera schema, every fault listed at once."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pandera.pandas as pa

from tapfm_eval.cohort.csvfile import CsvFile, read_csv_file, shown
from tapfm_eval.errors import ManifestError, Problem

REQUIRED = ("patient_id", "slide_id")

STANDARD: dict[str, str] = {
    "patient_id": "the sampling unit; the same text in every row of a patient",
    "slide_id": "unique name of the slide, used for file names; empty where a cohort lists patients only",
    "path": "slide file, relative to the cohort's slide folder, with `/`; empty where not yet known",
    "regions": "QuPath GeoJSON of the slide's annotations, relative to the slide folder; empty where it has none",
    "exclude": "why the row leaves the study; empty where it stays",
    "site": "hospital or tissue source site",
    "scanner": "scanner model or serial number",
    "mpp": "micrometres per pixel at level 0",
    "magnification": "objective of the scan, e.g. 40",
    "specimen": "what was sectioned: FFPE, frozen, biopsy, resection, ...",
    "sex": "as recorded",
    "age": "years at diagnosis",
    "race": "as recorded",
    "stage": "tumour stage",
    "smoking": "smoking history",
    "gdc_file_id": "UUID of the slide at the Genomic Data Commons",
    "md5": "md5 of the slide file, 32 hexadecimal digits",
    "size": "size of the slide file in bytes",
}
"""The columns whose meaning is fixed; every other column is a label or a covariate."""

BOOKKEEPING = ("patient_id", "slide_id", "path", "regions", "exclude", "gdc_file_id", "md5", "size")
"""Columns that say where a slide is; all others describe the patient or the scan."""

SLIDE_LEVEL = ("scanner", "mpp", "magnification", "specimen")
"""Covariates of the scan: the slides of one patient may differ in them."""

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UNSAFE_NAME = frozenset('/\\:*?"<>|')


@dataclass(frozen=True, slots=True)
class Manifest:
    """A cohort as its manifest lists it: rows to exclude still present, labels still text."""

    name: str  # the cohort's name in the protocol
    path: Path  # as the user gave it
    sha256: str  # of the file's bytes
    table: pd.DataFrame
    """One row a slide, indexed by row number in the file (header: row 1). Text columns hold str ("" = empty);
    mpp, magnification and age are float (NaN = empty), size is Int64. `path` and `exclude` are always there."""

    def where(self, row: int, column: str) -> str:
        """The place of a cell, for messages: `cohorts/x.csv, row 18, column EGFR`."""
        return f"{self.path}, row {row}, column {column}"

    @property
    def included(self) -> pd.DataFrame:
        """The rows without a reason to exclude them."""
        return self.table[self.table["exclude"] == ""]


@dataclass(frozen=True, slots=True)
class _Rule:
    holds: Callable[[str], bool]  # of a cell that is not empty
    expected: str
    remedy: str


def _number(low: float, high: float, open_low: bool = False) -> Callable[[str], bool]:
    def holds(cell: str) -> bool:
        if not _NUMBER.fullmatch(cell):
            return False
        value = float(cell)
        return (low < value if open_low else low <= value) and value <= high

    return holds


def _file_name(cell: str) -> bool:
    reserved = cell.startswith(".") or cell.endswith(".")
    return len(cell.encode()) <= 200 and not reserved and not _UNSAFE_NAME.intersection(cell)


def _inside(cell: str) -> bool:
    climbs = ".." in PurePosixPath(cell).parts
    absolute = cell.startswith(("/", "~")) or re.match(r"[A-Za-z]:", cell) is not None
    return not climbs and not absolute and "\\" not in cell and not cell.endswith("/") and cell != "."


def _not_mangled(cell: str) -> bool:
    return re.fullmatch(r"\d(\.\d+)?E[+-]?\d+", cell) is None


_TEXT_ID = _Rule(
    _not_mangled, "an id as it was issued", "A spreadsheet turned it into a number: import the column as text."
)
_RULES: dict[str, tuple[_Rule, ...]] = {
    "patient_id": (_TEXT_ID, _Rule(lambda cell: len(cell) <= 200, "at most 200 characters", "Shorten the id.")),
    "slide_id": (
        _TEXT_ID,
        _Rule(
            _file_name,
            'a name of at most 200 bytes without / \\ : * ? " < > | and no point at either end',
            "Use the slide's file name without its folder; the folder belongs in `path`.",
        ),
    ),
    "path": (
        _Rule(
            _inside,
            "a path inside the slide folder: relative, with `/`, without `..`",
            "Write it relative to the folder given by --slides.",
        ),
    ),
    "regions": (
        _Rule(
            lambda cell: _inside(cell) and cell.lower().endswith((".geojson", ".json")),
            "a GeoJSON file inside the slide folder: relative, with `/`, without `..`",
            "Write it relative to the folder given by --slides, or leave the cell empty to use the whole tissue.",
        ),
    ),
    "mpp": (
        _Rule(
            _number(0.05, 20),
            "micrometres per pixel between 0.05 and 20, with a decimal point, or empty",
            "Correct it, or leave the cell empty: the slide's own value is then used.",
        ),
    ),
    "magnification": (
        _Rule(_number(0, 200, open_low=True), "a number such as 40, or empty", "Write 40, not 40x or 40,0."),
    ),
    "age": (_Rule(_number(0, 130), "years as a number, or empty", "Write the age at diagnosis, not a date."),),
    "size": (
        _Rule(
            lambda cell: re.fullmatch(r"[0-9]{1,15}(\.0+)?", cell) is not None and float(cell) > 0,
            "a whole number of bytes, or empty",
            "Write the bytes without separators or units.",
        ),
    ),
    "md5": (
        _Rule(
            lambda cell: re.fullmatch(r"[0-9a-fA-F]{32}", cell) is not None,
            "32 hexadecimal digits, or empty",
            "Copy the md5 again.",
        ),
    ),
    "gdc_file_id": (
        _Rule(lambda cell: _UUID.fullmatch(cell) is not None, "a UUID, or empty", "Copy the file id again."),
    ),
}


def _check(rule: _Rule) -> pa.Check:
    def all_cells(cells: "pd.Series[str]") -> "pd.Series[bool]":
        return cells.map(lambda cell: cell == "" or rule.holds(cell)).astype(bool)

    return pa.Check(all_cells, error=rule.expected)


MANIFEST_SCHEMA = pa.DataFrameSchema(
    {
        name: pa.Column(checks=[_check(rule) for rule in _RULES.get(name, ())], required=name in REQUIRED)
        for name in STANDARD
    },
    strict=False,  # unknown columns are covariates
    name="tapfm-eval/manifest/1",
)
"""The schema of a manifest whose cells are still text; empty cells pass here and are judged by row afterwards."""


def read_manifest(path: Path, name: str) -> Manifest:
    """A cohort's manifest, checked and typed.

    Args:
        path: The CSV file, as the user gave it: UTF-8 (a byte order mark is accepted), comma separated, header first.
        name: The cohort's name.

    Raises:
        ManifestError: With every fault of the file: row (as in the file, header: row 1), column, expected, got, remedy.
    """
    file = read_csv_file(path, ManifestError, "a cohort manifest", REQUIRED)
    table = pd.DataFrame(list(file.rows), columns=list(file.columns), index=pd.Index(file.lines, name="row"))
    for column in ("path", "exclude"):
        if column not in table:
            table[column] = ""
    problems = _schema_problems(table, file) + _row_problems(table, file)
    if problems:
        raise ManifestError(sorted(problems, key=lambda problem: _order(problem, file)))
    return Manifest(name, path, file.sha256, _typed(table))


def _order(problem: Problem, file: CsvFile) -> tuple[int, str]:
    row = re.match(r", row (\d+)", problem.where[len(file.where) :])
    return (int(row.group(1)) if row else 0, problem.where)


def _schema_problems(table: pd.DataFrame, file: CsvFile) -> list[Problem]:
    try:
        MANIFEST_SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        remedies = {(column, rule.expected): rule.remedy for column, rules in _RULES.items() for rule in rules}
        cases: list[dict[str, Any]] = errors.failure_cases.to_dict("records")
        return [
            Problem(
                f"{file.where}, row {int(case['index'])}, column {case['column']}",
                str(case["check"]),
                shown(str(case["failure_case"])),
                remedies[str(case["column"]), str(case["check"])],
            )
            for case in cases
        ]
    return []


def _row_problems(table: pd.DataFrame, file: CsvFile) -> list[Problem]:
    """Faults that no single cell shows: an empty id, a slide or a file listed twice, a patient with and without."""
    problems = []
    slide_row: dict[str, int] = {}
    path_row: dict[str, int] = {}
    patients_only: dict[str, int] = {}
    with_slide: dict[str, int] = {}
    columns = (table["patient_id"], table["slide_id"], table["path"])
    for row, patient, slide, path in zip(file.lines, *columns, strict=True):
        at = f"{file.where}, row {row}, column"
        if not patient:
            empty = "an empty row" if not any(table.loc[row]) else "an empty cell"
            problems.append(Problem(f"{at} patient_id", "a patient's id", empty, "Fill it in, or delete the row."))
            continue
        if slide:
            if slide in slide_row:
                got = f"{shown(slide)}, which is in row {slide_row[slide]} too"
                remedy = "Delete the repeated row, or give each slide its own slide_id."
                problems.append(Problem(f"{at} slide_id", "a slide_id that occurs once", got, remedy))
            slide_row.setdefault(slide, row)
            with_slide.setdefault(patient, row)
        else:
            if path:
                expected = "a slide_id, since the row has a path"
                remedy = "Give the slide an id, for instance its file name without the ending."
                problems.append(Problem(f"{at} slide_id", expected, "an empty cell", remedy))
            elif patient in patients_only:
                got = f"{shown(patient)} again, as in row {patients_only[patient]}"
                remedy = "Delete one row, or fill in slide_id."
                problems.append(Problem(f"{at} slide_id", "one row a patient where slide_id is empty", got, remedy))
            patients_only.setdefault(patient, row)
        if path:
            if path in path_row:
                got = f"{shown(path)}, which is in row {path_row[path]} too"
                problems.append(Problem(f"{at} path", "a file listed once", got, "Correct the path, or delete a row."))
            path_row.setdefault(path, row)
    for patient in patients_only.keys() & with_slide.keys():
        row = patients_only[patient]
        got = f"an empty cell, while row {with_slide[patient]} names a slide of {shown(patient)}"
        at = f"{file.where}, row {row}, column slide_id"
        problems.append(Problem(at, "a slide_id", got, "Fill it in, or delete the row."))
    return problems


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    typed = table.copy()
    for column in ("mpp", "magnification", "age"):
        if column in typed:
            typed[column] = [float(cell) if cell else float("nan") for cell in typed[column]]
    if "size" in typed:
        typed["size"] = pd.array([int(float(cell)) if cell else pd.NA for cell in typed["size"]], dtype="Int64")
    for column in ("md5", "gdc_file_id"):
        if column in typed:
            typed[column] = typed[column].str.lower()
    return typed
