"""Named groups of patients (sexes, sites, another label), in a fixed order, with the missing ones counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Codes, is_missing, name_array


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Names in ascending order and the group of each row."""

    names: tuple[str, ...]
    codes: Codes  # (n,) place in `names`, -1 where missing


def named_groups(values: ArrayLike, rows: int, where: str) -> Groups:
    """Groups from strings, numbers or booleans; None, NaN, pandas' NA and the empty string are missing.

    Numbers are ordered by size, everything else by name.

    Raises:
        StatisticsError: unless there is one value a row.
    """
    array = name_array(values)
    if array.shape != (rows,):
        got = f"shape {array.shape}"
        raise StatisticsError(Problem(where, f"one value for each of {rows} labels", got, "Give one group a row."))
    if array.dtype.kind in "biuf":
        known = ~np.isnan(array.astype(np.float64))
        distinct, places = np.unique(array[known], return_inverse=True)
        names = tuple(map(_name, distinct))
    else:
        texts = np.array(["" if is_missing(value) else str(value) for value in array.tolist()], dtype=np.str_)
        known = texts != ""
        distinct_texts, places = np.unique(texts[known], return_inverse=True)
        names = tuple(distinct_texts.tolist())
    codes = np.full(rows, -1, dtype=np.intp)
    codes[known] = places
    return Groups(names, codes)


def _name(value: np.generic) -> str:
    """A number in full, since rounding would give two levels one name; without a point where it is whole."""
    whole = isinstance(value, np.floating) and float(value).is_integer() and abs(value) < 2**53
    return str(int(value)) if whole else str(value)
