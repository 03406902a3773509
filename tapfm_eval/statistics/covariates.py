"""Named covariates as columns of numbers: categories become indicators, numbers are standardised."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Codes, Floats, name_array
from tapfm_eval.statistics.groups import named_groups


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Covariates of the rows kept."""

    columns: Floats  # (n, k): indicators of all levels but the most frequent, and standardised numbers; no intercept
    strata: Codes  # (n,) the combination of values of each row as 0..combinations-1
    names: tuple[str, ...]


def covariate_design(covariates: Mapping[str, ArrayLike], keep: np.ndarray) -> Design:
    """Columns for the rows in `keep`.

    Strings, booleans and objects are categories; other numbers enter as they are, linearly (give codes as strings).

    Raises:
        StatisticsError: no covariate, a wrong length, or a missing value in a row that is kept.
    """
    problems: list[Problem] = []
    given: object = covariates  # whatever the annotation promises
    if not isinstance(given, Mapping) or not given:
        expected, got = "a mapping from at least one name to values", repr(given)
        raise StatisticsError(Problem("covariates", expected, got, "Name one, e.g. {'site': sites}."))
    columns: list[Floats] = []
    codes: list[Codes] = []
    for name, values in covariates.items():
        where = f"covariates[{name!r}]"
        array = name_array(values)
        try:
            groups = named_groups(array, keep.size, where)
        except StatisticsError as error:
            problems += error.problems
            continue
        kept = groups.codes[keep]
        missing = int((kept < 0).sum())
        if missing or (array.dtype.kind == "f" and np.isinf(array[keep]).any()):
            remedy = "Leave these patients out, or give missing a category of its own."
            got = f"{missing} missing" if missing else "infinite values"
            problems.append(Problem(where, "a finite value for every row with a known label", got, remedy))
            continue
        codes.append(kept)
        columns += _columns(array[keep], kept)
    if problems:
        raise StatisticsError(problems)
    strata = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    stacked = np.stack(columns, axis=1) if columns else np.empty((int(keep.sum()), 0))
    return Design(stacked, strata, tuple(covariates))


def _columns(values: np.ndarray, codes: Codes) -> list[Floats]:
    if values.dtype.kind in "iuf":
        numbers = values.astype(np.float64)
        if not numbers.size or np.ptp(numbers) == 0:  # a standard deviation of equal values may be rounding dust
            return []
        return [(numbers - numbers.mean()) / numbers.std()]
    sizes = np.bincount(codes) if codes.size else np.zeros(0)
    reference = int(sizes.argmax()) if sizes.size else 0
    return [(codes == code).astype(np.float64) for code in range(sizes.size) if code != reference and sizes[code]]
