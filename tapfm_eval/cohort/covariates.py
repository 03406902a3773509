"""What is known of a patient besides labels: one value a patient, drawn from the rows of the patient's slides."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tapfm_eval.cohort.manifest import BOOKKEEPING, SLIDE_LEVEL

MIXED = "mixed"
"""What a patient has whose slides differ in a covariate of the scan."""


@dataclass(frozen=True, slots=True)
class CovariateConflict:
    """A patient whose rows give different values of what should be one."""

    patient_id: str
    column: str
    values: tuple[str, ...]  # sorted
    rows: tuple[int, ...]  # of the manifest file


@dataclass(frozen=True, slots=True)
class Covariates:
    """One row a patient, and the conflicts met on the way."""

    table: pd.DataFrame  # index patient_id, sorted; text columns, but `age` float
    conflicts: tuple[CovariateConflict, ...]


def scan_resolution(mpp: float) -> str:
    """The usual scan resolution nearest to `mpp` (um/px, on a log scale): `0.25` (40x), `0.5` (20x); empty if NaN.

    >>> scan_resolution(0.2277), scan_resolution(0.5005)
    ('0.25', '0.5')
    """
    return "" if np.isnan(mpp) else f"{2.0 ** round(float(np.log2(mpp))):g}"


def patient_covariates(
    rows: pd.DataFrame, leave_out: frozenset[str] = frozenset(), slide_level: Collection[str] = SLIDE_LEVEL
) -> Covariates:
    """The covariates of each patient.

    Empty cells have no say. Covariates of the scan (scanner, mpp, magnification, specimen) may differ between the
    slides of a patient, who then has the value `mixed`; `mpp` is given as its scan resolution (`0.25`, `0.5`). Any
    other covariate in which rows of a patient differ is a conflict: it is recorded, and the value of the first row by
    slide_id stands.

    Args:
        rows: Rows of a manifest's table (index: row number in the file).
        leave_out: Columns to leave out, such as labels.
        slide_level: Columns in which slides of a patient may differ.
    """
    ordered = rows.sort_values(["patient_id", "slide_id"])
    patients = pd.Index(sorted(set(ordered["patient_id"])), name="patient_id", dtype=ordered["patient_id"].dtype)
    columns: dict[str, pd.Series] = {}
    conflicts: list[CovariateConflict] = []
    for column in ordered.columns:
        if column in BOOKKEEPING or column in leave_out:
            continue
        cells = _as_text(ordered[column], column)
        known = cells != ""
        grouped = cells[known].groupby(ordered.loc[known, "patient_id"])
        value = grouped.first().reindex(patients).fillna("")
        differing = grouped.nunique().reindex(patients).fillna(0) > 1
        if column in slide_level:
            value[differing] = MIXED
        else:
            for patient in patients[differing]:
                said = cells[known & (ordered["patient_id"] == patient)]
                rows_said = tuple(sorted(int(row) for row in said.index))
                conflicts.append(CovariateConflict(patient, column, tuple(sorted(set(said))), rows_said))
        columns[column] = value.map(lambda cell: float(cell) if cell else np.nan) if column == "age" else value
    return Covariates(pd.DataFrame(columns, index=patients), tuple(conflicts))


def _as_text(column: pd.Series, name: str) -> pd.Series:
    if name == "mpp":
        return column.map(scan_resolution)
    if column.dtype.kind == "f":
        return column.map(lambda value: "" if np.isnan(value) else f"{value:g}")
    return column.astype(str)
