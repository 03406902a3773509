"""What label a patient has: 0, 1 or unknown, the same in every row of the patient or an error."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from tapfm_eval.cohort.csvfile import shown
from tapfm_eval.cohort.manifest import STANDARD, Manifest
from tapfm_eval.errors import InputError, ManifestError, Problem

Spellings = Mapping[str, Mapping[str, int | None]]
"""By target: what cells other than 0, 1 and empty stand for; None is unknown."""

_PLAIN: dict[str, float] = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "": float("nan")}
_USUAL: dict[str, int | None] = {
    **dict.fromkeys(("1", "1.0", "positive", "pos", "yes", "true", "mutant", "mutated", "mutation", "mut"), 1),
    **dict.fromkeys(("0", "0.0", "negative", "neg", "no", "false", "wildtype", "wild-type", "wild type", "wt"), 0),
    **dict.fromkeys(("na", "n/a", "nan", "unknown", "missing", "not available", "not assessed", "not tested"), None),
}
"""What words stand for wherever they are labels at all; of any other word only its user can say it."""
FEW = 0.05
"""Cells that may be wrong in a column that is still taken for labels, as a share of its 0 and 1."""


def patient_labels(manifest: Manifest, columns: Mapping[str, str], values: Spellings | None = None) -> pd.DataFrame:
    """The labels of the patients that the manifest keeps, one float column a target: 0, 1 or NaN (unknown).

    The patient is the unit: rows of one patient must say the same, and a label in one row with an empty cell in
    another is a contradiction too, for no row's word counts more than another's. Rows with a reason in `exclude` have
    no say, though their spelling is checked.

    Args:
        manifest: The cohort.
        columns: The manifest column of each target.
        values: Other spellings by target: `{"EGFR": {"mut": 1, "wt": 0, "n/a": None}}`.

    Returns:
        Index `patient_id`, sorted; columns in the order of `columns`.

    Raises:
        ManifestError: With every spelling that is neither 0, 1, empty nor mapped, and every patient whose rows
            disagree.
    """
    problems: list[Problem] = []
    included = manifest.included
    patients = sorted(set(included["patient_id"]))
    labels = pd.DataFrame(index=pd.Index(patients, name="patient_id", dtype=included["patient_id"].dtype))
    for target, column in columns.items():
        if column not in manifest.table:
            expected = f"a column {column!r} for target {target}"
            remedy = f"Add it, or name this cohort's column under targets.{target}.columns."
            problems.append(Problem(str(manifest.path), expected, "no such column", remedy))
            continue
        mapping = (values or {}).get(target, {})
        read, misspelt = _cells_as_labels(manifest, target, column, mapping, problems)
        kept = read.loc[included.index].to_numpy()
        codes = pd.Categorical(included["patient_id"], categories=patients).codes
        low, high, known = (np.full(len(patients), fill) for fill in (np.inf, -np.inf, 0.0))
        counts = np.bincount(codes, minlength=len(patients))
        is_known = ~np.isnan(kept)
        np.minimum.at(low, codes[is_known], kept[is_known])
        np.maximum.at(high, codes[is_known], kept[is_known])
        np.add.at(known, codes[is_known], 1.0)
        torn = np.flatnonzero((low < high) | ((known > 0) & (known < counts)))
        torn_patients = [patients[at] for at in torn if patients[at] not in misspelt]
        problems.extend(_disagreement(manifest, target, column, patient) for patient in torn_patients)
        labels[target] = np.where(known > 0, low, np.nan)
    if problems:
        raise ManifestError(problems)
    return labels


def read_spellings(texts: Iterable[str]) -> dict[str, dict[str, int | None]]:
    """What cells stand for, from `TARGET:CELL=1,CELL=0,CELL=`; nothing after `=` is unknown.

    Raises:
        InputError: A text is of another form, or gives a cell two meanings.

    >>> read_spellings(["EGFR:mut=1,wt=0,n/a="])
    {'EGFR': {'mut': 1, 'wt': 0, 'n/a': None}}
    """
    meanings: dict[str, int | None] = {"1": 1, "0": 0, "": None}
    found: dict[str, dict[str, int | None]] = {}
    problems = []
    for text in texts:
        target, colon, rest = text.partition(":")
        pairs = [pair.rpartition("=") for pair in rest.split(",")]
        wrong = [pair for pair in pairs if not pair[1] or not pair[0].strip() or pair[2].strip() not in meanings]
        spellings = found.setdefault(target.strip(), {})
        cells = [cell.strip() for cell, _, _ in pairs]
        if not colon or not target.strip() or wrong or len(set(cells)) < len(cells) or spellings.keys() & set(cells):
            expected = "TARGET:CELL=1,CELL=0,CELL= (nothing: unknown), each cell once"
            problems.append(Problem("--values", expected, shown(text), "Write for example EGFR:mut=1,wt=0."))
            continue
        spellings.update((cell.strip(), meanings[meaning.strip()]) for cell, _, meaning in pairs)
    if problems:
        raise InputError(problems)
    return found


def values_option(target: str, cells: Iterable[str], among: Iterable[str]) -> str:
    """The option that says what cells stand for, to be pasted: a wrong guess in it would invert every label.

    Where words have no usual meaning, `WORD` stands in their place, and the option is refused until they are filled in.

    Args:
        target: The target.
        cells: The cells to be told, other than 0, 1 and empty.
        among: All cells of the column: -1 is 0 beside 1, but beside 0 and 1 nobody knows.

    >>> values_option("EGFR", ["negative", "positive", "NA"], [])
    "--values 'EGFR:positive=1,negative=0,NA='"
    >>> values_option("EGFR", ["class A", "class B", "NA"], [])
    "--values 'EGFR:WORD=1,WORD=0,NA='"
    """
    told = [cell for cell in cells if cell not in _PLAIN]
    usual = dict(_USUAL)
    if {"-1", "1"} <= set(among) and not {"0", "0.0"} & set(among):
        usual["-1"] = 0
    known = {cell: usual[cell.casefold()] for cell in told if cell.casefold() in usual}
    words = {1: [cell for cell in known if known[cell] == 1], 0: [cell for cell in known if known[cell] == 0]}
    if len(known) < len(told):
        words = {1: ["WORD"], 0: ["WORD"]}
    said = [f"{cell}={meaning}" for meaning in (1, 0) for cell in words[meaning]]
    said += [f"{cell}=" for cell in known if known[cell] is None]
    return f"--values '{target}:{','.join(said)}'"


def label_columns(manifest: Manifest) -> tuple[str, ...]:
    """The columns taken for labels of a manifest alone: 0, 1 and empty cells, and perhaps a few others, their faults.

    One bad cell makes no covariate of a label: a column may hold any number of cells that say unknown in words, and,
    beside both 0 and 1, one other cell, or 5 % as many as there are 0 and 1.
    """
    found = []
    for column in manifest.table.columns:
        if column in STANDARD:
            continue
        cells = Counter(manifest.table[column])
        negative, positive = (sum(cells[cell] for cell in same) for same in (("0", "0.0"), ("1", "1.0")))
        labels = negative + positive
        others = sum(number for cell, number in cells.items() if cell not in _PLAIN and not _says_unknown(cell))
        if labels and (not others or (negative and positive and others <= max(1, FEW * labels))):
            found.append(column)
    return tuple(found)


def check_targets(manifest: Manifest, targets: Iterable[str], flag: str) -> None:
    """Refuses targets that are no column of a manifest, for commands without a protocol.

    Raises:
        InputError: With the columns that hold labels, or may.
    """
    absent = [target for target in targets if target not in manifest.table]
    if absent:
        likely = [f"{column} ({', '.join(cells)})" for column, cells in two_valued(manifest.table).items()]
        had = ", ".join((*label_columns(manifest), *likely)) or "none"
        raise InputError(
            Problem(
                f"{flag} {target}", f"a label column of {manifest.path}: {had}", "no such column", "Correct the name."
            )
            for target in absent
        )


def two_valued(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Columns that may be labels in other words: two different cells beside empty ones and those that say unknown.

    Returns:
        By column, the cells that are not empty, those that say unknown last.
    """
    found = {}
    for column in table.columns:
        if column in STANDARD or table[column].dtype.kind == "f":
            continue
        cells = sorted(set(table[column].astype(str)) - {""}, key=lambda cell: (_says_unknown(cell), cell))
        known = [cell for cell in cells if not _says_unknown(cell)]
        if len(known) == 2 and not set(cells) <= _PLAIN.keys():
            found[str(column)] = tuple(cells)
    return found


def _says_unknown(cell: str) -> bool:
    return _USUAL.get(cell.casefold(), 0) is None


def misspelt_cells(manifest: Manifest, column: str, mapping: Mapping[str, int | None]) -> "pd.Series[str]":
    """The cells of a column that are neither 0, 1, empty nor mapped, by row of the file."""
    cells = _as_text(manifest.table[column])
    return cells[~cells.isin([*_PLAIN, *(cell.strip() for cell in mapping)])]


def spelling_remedy(target: str, cells: Iterable[str], among: Iterable[str]) -> str:
    """What to do about cells that are no labels; see `values_option`."""
    option = values_option(target, cells, among)
    return f"Map it: under targets.{target}.values in a protocol, or with {option} where there is none."


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")


def _cells_as_labels(
    manifest: Manifest, target: str, column: str, mapping: Mapping[str, int | None], problems: list[Problem]
) -> tuple["pd.Series[float]", frozenset[str]]:
    """The labels by row, and the patients with a misspelt one: whether their rows agree cannot be said."""
    meaning = dict(_PLAIN)
    meaning.update({cell.strip(): float("nan") if label is None else float(label) for cell, label in mapping.items()})
    cells = _as_text(manifest.table[column])
    wrong = misspelt_cells(manifest, column, mapping)
    for cell, rows in wrong.groupby(wrong, sort=False).groups.items():  # one problem a spelling, not one a row
        numbers = [int(str(row)) for row in rows]
        others = f" in {len(numbers)} rows ({_some(numbers)})" if len(numbers) > 1 else ""
        remedy = spelling_remedy(target, [str(cell)], cells)
        where = manifest.where(numbers[0], column)
        problems.append(Problem(where, "0, 1 or empty", f"{shown(str(cell))}{others}", remedy))
    labels = cells.map(lambda cell: meaning.get(cell, float("nan"))).astype(float)
    return labels, frozenset(manifest.table.loc[wrong.index, "patient_id"])


def _as_text(column: "pd.Series[str]") -> "pd.Series[str]":
    if column.dtype.kind == "f":  # a typed standard column named as a target
        return column.map(lambda value: "" if np.isnan(value) else f"{value:g}").astype(str)
    return column.astype(str)


def _disagreement(manifest: Manifest, target: str, column: str, patient: str) -> Problem:
    rows = manifest.included
    said = rows.loc[rows["patient_id"] == patient, column]
    got = "; ".join(f"row {row}: {shown(str(cell)) if cell != '' else 'empty'}" for row, cell in said.items())
    where = f"{manifest.path}, patient {patient}, column {column}"
    remedy = "Give every row of the patient the same label, or a reason in `exclude` to the rows that do not belong."
    return Problem(where, f"one label of {target} for the patient", got, remedy)
