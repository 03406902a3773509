"""Reads the reference values of R: data columns and expected numbers of a case."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

COPIED = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden"
NOT_COPIED = ("P01", "P02", "P12")  # data sets of GPL packages


@dataclass(frozen=True)
class Case:
    """One case: arrays by column, and the `expected` part of the JSON with R's spellings of NaN and infinity read."""

    columns: dict[str, np.ndarray]
    expected: Any

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]


def load(name: str) -> Case:
    """Give the case whose file begins with `name`, such as "P03"; skip the test if it is one that may be absent."""
    folder = SHARED if name in NOT_COPIED else COPIED
    found = sorted(folder.glob(f"{name}_*.json"))
    if not found and name in NOT_COPIED:
        pytest.skip(f"{name} uses a data set of a GPL package: it lies in shared/golden, beside the repository only")
    described = json.loads(found[0].read_text(encoding="utf-8"))
    with (folder / described["input"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {key: _column([row[key] for row in rows]) for key in rows[0]}
    return Case(columns, _numbers(described["expected"]))


def _column(cells: list[str]) -> np.ndarray:
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return (
        {"NA": np.nan, "NaN": np.nan, "Inf": np.inf, "-Inf": -np.inf}.get(value, value)
        if isinstance(value, str)
        else value
    )
