"""Who the patients were, part by part, and how far the parts differ."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tapfm_eval.analysis.panels import studied
from tapfm_eval.analysis.subgroups import UNKNOWN, is_number, known_text
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import BaselineDifference, BaselineRow, StudyPart

CHARACTERISTICS = (
    "age", "sex", "race", "ethnicity", "stage", "grade", "smoking", "pack_years", "country", "site", "scanner", "mpp",
    "magnification", "specimen",
)  # fmt: skip
MAX_SHOWN = 8  # levels of a category that get a line each
OTHER = "other"
MUTATED = "mutated"


@dataclass(frozen=True, slots=True)
class Variable:
    """One characteristic of all patients of the study."""

    name: str
    values: pd.Series  # index (cohort, patient_id): floats, NaN unknown; or levels, empty unknown
    levels: tuple[str, ...]  # in the order of the table; empty for a number

    @property
    def counted(self) -> tuple[str, ...]:
        """All levels but one, whose share follows from the others': the second of a target, the last of others."""
        return self.levels[1:] if self.levels[-1:] == (MUTATED,) else self.levels[:-1]


def baseline(
    protocol: Protocol, cohorts: Mapping[str, Cohort], lost: Mapping[str, frozenset[str]]
) -> tuple[tuple[BaselineRow, ...], tuple[BaselineDifference, ...]]:
    """Characteristics of the patients who could be analysed, in each part of each cohort, and their differences.

    With one fold the development cohort is shown as training, validation and test part, each against training. With
    several every patient is in all parts, and the cohort is shown whole; the difference between test and training part
    is then that of the fold where it is largest. External cohorts are compared with what was trained on.
    """
    members = {name: _parts(cohort, lost.get(name, frozenset())) for name, cohort in cohorts.items()}
    reference = protocol.development
    within: StudyPart = next(part for part in ("train", "all", "external") if part in members[reference])
    variables = list(_variables(protocol, cohorts))
    rows = [
        row
        for name, parts in members.items()
        for variable in variables
        if name in variable.values.index.get_level_values(0)
        for part, patients in parts.items()
        for row in _rows(variable, name, part, patients)
    ]
    differences = []
    for variable in variables:
        if reference not in variable.values.index.get_level_values(0):
            continue
        first = _of(variable, reference, members[reference][within])
        sided = variable.counted[0] if len(variable.levels) == 2 else ""
        for name, parts in members.items():
            if name not in variable.values.index.get_level_values(0):
                continue
            for part, patients in parts.items():
                if (name, part) != (reference, within):
                    smd = standardised_difference(variable, first, _of(variable, name, patients))
                    differences.append(BaselineDifference(variable.name, name, part, reference, within, sided, smd))
        if within == "all":
            smd = _largest_over_folds(variable, cohorts[reference], members[reference]["all"])
            differences.append(BaselineDifference(variable.name, reference, "test", reference, "train", sided, smd))
    return tuple(rows), tuple(differences)


def standardised_difference(variable: Variable, first: "pd.Series[float]", second: "pd.Series[float]") -> float:
    """How far two groups differ in units of their spread: second less first; unknown values are left out.

    A number: difference of means over the root of the mean variance (Austin 2009). A category: the same of shares,
    of the first level (of a target: of the mutated), or where there are more than two the Mahalanobis distance over
    all levels but one, which has no sign (Yang and Dalton 2012). NaN where a group is empty, the groups share no
    level, or nothing varies but the means differ.

    Sources: Austin 2009, doi:10.1002/sim.3697; Yang and Dalton 2012, SAS Global Forum, paper 335-2012.
    """
    if not variable.levels:
        a, b = (values.dropna().to_numpy(dtype=np.float64) for values in (first, second))
        if min(len(a), len(b)) < 2:
            return math.nan
        return _scaled(float(b.mean() - a.mean()), float((a.var(ddof=1) + b.var(ddof=1)) / 2))
    shares = []
    for values in (first, second):
        known = values[values != ""]
        if known.empty:
            return math.nan
        shares.append(np.array([(known == level).mean() for level in variable.counted], dtype=np.float64))
    p, q = shares
    if set(first) & set(second) <= {""}:
        return math.nan  # such as the sites of two cohorts
    if p.size == 0:
        return 0.0
    if p.size == 1:
        return _scaled(float(q[0] - p[0]), float((p[0] * (1 - p[0]) + q[0] * (1 - q[0])) / 2))
    covariance = sum(np.diag(share) - np.outer(share, share) for share in shares) / 2
    inverse = np.linalg.pinv(covariance, rcond=1e-9, hermitian=True)
    return math.sqrt(max(float((q - p) @ inverse @ (q - p)), 0.0))


def _scaled(difference: float, variance: float) -> float:
    if variance > 0:
        return difference / math.sqrt(variance)
    return 0.0 if difference == 0 else math.nan


def _parts(cohort: Cohort, lost: frozenset[str]) -> dict[StudyPart, frozenset[str]]:
    present = frozenset(cohort.patients) - lost
    if cohort.split is None:
        return {"external": present}
    if len(cohort.folds) > 1:
        return {"all": present}
    table = cohort.split.table
    parts: tuple[StudyPart, ...] = ("train", "validation", "test")
    return {part: frozenset(table.loc[table["split"] == part, "patient_id"]) & present for part in parts}


def _variables(protocol: Protocol, cohorts: Mapping[str, Cohort]) -> Iterator[Variable]:
    """Labels first, then covariates that at least one cohort records; levels are those of all cohorts together."""
    for target in studied(protocol):
        parts = {
            name: cohort.labels[target].map({1.0: MUTATED, 0.0: "not mutated"}).fillna("")
            for name, cohort in cohorts.items()
            if target in cohort.assessed
        }
        if parts:
            yield Variable(target, pd.concat(parts), ("not mutated", MUTATED))
    for name in dict.fromkeys((*CHARACTERISTICS, *protocol.analysis.subgroups)):
        columns = {key: cohort.covariates[name] for key, cohort in cohorts.items() if name in cohort.covariates}
        columns = {key: column for key, column in columns.items() if known_text(column)[0].any()}
        if not columns:
            continue
        if all(is_number(column) for column in columns.values()):
            numbers = {key: pd.to_numeric(column, errors="coerce") for key, column in columns.items()}
            yield Variable(name, pd.concat(numbers), ())
            continue
        texts = {key: pd.Series(np.where(*_blank(column)), index=column.index) for key, column in columns.items()}
        joined = pd.concat(texts)
        counted = joined[joined != ""].value_counts()
        frequent = sorted(counted.index, key=lambda level: (-int(counted[level]), str(level)))
        if len(frequent) > MAX_SHOWN:
            frequent = frequent[: MAX_SHOWN - 1]
            joined = joined.mask(~joined.isin([*frequent, ""]), other=OTHER)  # type: ignore[arg-type]
        yield Variable(name, joined, tuple(sorted(frequent)) + ((OTHER,) if (joined == OTHER).any() else ()))


def _blank(column: "pd.Series[str]") -> tuple[np.ndarray, np.ndarray, str]:
    known, text = known_text(column)
    return known, text, ""


def _of(variable: Variable, cohort: str, patients: frozenset[str]) -> "pd.Series[float]":
    values: pd.Series[float] = variable.values.loc[cohort]
    return values[values.index.isin(patients)]


def _rows(variable: Variable, cohort: str, part: StudyPart, patients: frozenset[str]) -> Iterator[BaselineRow]:
    values = _of(variable, cohort, patients)
    if not variable.levels:
        numbers = values.dropna().to_numpy(dtype=np.float64)
        quartiles = np.quantile(numbers, [0.5, 0.25, 0.75]).tolist() if numbers.size else [math.nan] * 3
        yield BaselineRow(variable.name, "", cohort, part, len(patients), len(numbers), len(numbers), *quartiles)
        return
    known = int((values != "").sum())
    shown: Sequence[str] = (MUTATED,) if variable.levels[-1] == MUTATED else variable.levels
    for level in shown:
        yield BaselineRow(
            variable.name, level, cohort, part, len(patients), known, int((values == level).sum()),
            math.nan, math.nan, math.nan,
        )  # fmt: skip
    if known < len(values) and shown is variable.levels:
        yield BaselineRow(
            variable.name, UNKNOWN, cohort, part, len(patients), known, len(values) - known,
            math.nan, math.nan, math.nan,
        )  # fmt: skip


def _largest_over_folds(variable: Variable, cohort: Cohort, present: frozenset[str]) -> float:
    assert cohort.split is not None
    found = []
    for fold in cohort.folds:
        train, test = (
            _of(variable, cohort.name, frozenset(cohort.split.patients(fold, part)) & present)
            for part in ("train", "test")
        )
        found.append(standardised_difference(variable, train, test))
    known = [smd for smd in found if not math.isnan(smd)]
    return max(known, key=abs) if known else math.nan
