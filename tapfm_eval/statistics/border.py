"""Checked arrays: labels, scores, clusters and strata in one canonical form, or one error that lists every fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tapfm_eval.errors import Problem, StatisticsError

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

MOST = 10_000_000  # patients, replicates or bins: more would not fit into memory


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Labels and scores of some arms on some targets for the same rows, checked."""

    labels: Floats  # (n, targets): 0, 1, or NaN where the label is unknown
    scores: Floats  # (arms, n, targets): finite wherever the label is known
    clusters: Codes | None  # (n,) patient of each row as 0..patients-1; None where each row is a patient
    strata: Codes | None  # (n,) stratum of each row as 0..strata-1; None where there is one


def observe(
    labels: ArrayLike,
    scores: Mapping[str, ArrayLike],
    *,
    targets: bool = False,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    suffix: str = "",
) -> Observed:
    """Give checked arrays; `scores` maps the name of each arm's argument to an array shaped like `labels`.

    Labels are (n,), or (n, targets) if `targets`. `suffix` completes the names in messages (`labels_a`, `clusters_a`).

    Raises:
        StatisticsError: labels other than 0, 1 and NaN; scores that are NaN or infinite where the label is known;
            shapes that disagree; clusters or strata that cannot be used; a level outside (0, 1). All at once.
    """
    problems: list[Problem] = []
    name = f"labels{suffix}"
    dimensions = 2 if targets else 1
    label_array = as_numbers(labels, name, problems)
    if label_array is not None and (label_array.ndim != dimensions or (targets and label_array.shape[1] == 0)):
        expected = "shape (n, targets) with at least one target" if targets else "shape (n,)"
        remedy = "A single target is labels[:, None]." if targets else "Give one label a row."
        problems.append(Problem(name, expected, f"shape {label_array.shape}", remedy))
        label_array = None
    arms = [as_numbers(values, arm, problems) for arm, values in scores.items()]
    if label_array is None:
        raise StatisticsError(problems)
    _check_labels(label_array, name, problems)
    known = ~np.isnan(label_array)
    for arm, array in zip(scores, arms, strict=True):
        if array is not None:
            _check_scores(array, known, arm, name, problems)
    rows = label_array.shape[0]
    cluster_codes = _codes(clusters, f"clusters{suffix}", rows, problems)
    stratum_codes = _codes(strata, f"strata{suffix}", rows, problems)
    check_level(level, problems)
    if problems:
        raise StatisticsError(problems)
    stacked = np.stack([array for array in arms if array is not None])
    if not targets:
        label_array, stacked = label_array[:, None], stacked[:, :, None]
    return Observed(label_array, stacked, cluster_codes, stratum_codes)


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """How a resampling draws, checked."""

    rng: np.random.Generator
    replicates: int


def split_arms(scores: ArrayLike) -> dict[str, Floats]:
    """Give each arm of scores (arms, n, targets) under the name `scores[arm]`, for `observe`.

    Raises:
        StatisticsError: the array has other than three dimensions, or no arm.
    """
    problems: list[Problem] = []
    array = as_numbers(scores, "scores", problems)
    if array is not None and (array.ndim != 3 or array.shape[0] == 0):
        remedy = "A single arm is scores[None]."
        problems.append(Problem("scores", "shape (arms, n, targets)", f"shape {array.shape}", remedy))
    if problems or array is None:
        raise StatisticsError(problems)
    return {f"scores[{arm}]": array[arm] for arm in range(array.shape[0])}


def number_of(value: object) -> float:
    """Give what was passed for a number as one; NaN for a truth value, a text, an array or anything else.

    NaN lies in no range, so that one comparison refuses whatever cannot be used. Fractions and decimals are such: numpy
    cannot compute with them.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = unmasked(value).item()
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return np.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308
        return np.nan


def whole_number(
    value: object, name: str, least: int, remedy: str, problems: list[Problem], *, most: int = MOST
) -> int:
    """Give a whole number of at least `least`, also one written 3.0, as an integer, or note that it is none."""
    number = number_of(value)
    if number.is_integer() and least <= number <= most:
        return int(number)
    expected = f"a whole number, {least} " + (f"to {most:,}" if number > most else "or more")
    problems.append(Problem(name, expected, repr(value), remedy))
    return least


def check_level(level: float, problems: list[Problem], name: str = "level") -> None:
    """Note a confidence level (or another probability called `name`) that lies outside (0, 1)."""
    if not 0.0 < number_of(level) < 1.0:
        problems.append(Problem(name, "a number between 0 and 1", repr(level), "0.95 gives a 95 % interval."))


def check_choice(value: object, choices: tuple[str, ...], name: str) -> None:
    """Raise unless `value` is one of the names that the argument `name` knows.

    Raises:
        StatisticsError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise StatisticsError(Problem(name, "one of " + ", ".join(choices), repr(value), "Names are case-sensitive."))


def check_flag(value: object, name: str) -> None:
    """Raise unless the argument `name` is a truth value.

    Raises:
        StatisticsError: it is not.
    """
    if not isinstance(value, bool | np.bool_):
        raise StatisticsError(Problem(name, "True or False", repr(value), ""))


def check_record(value: object, kind: type, name: str, source: str) -> None:
    """Raise unless the argument `name` is a record of this `kind`, which `source` gives.

    Raises:
        StatisticsError: it is not.
    """
    if not isinstance(value, kind):
        expected = f"{kind.__name__}, as {source} gives it"
        raise StatisticsError(Problem(name, expected, repr(value), "Pass that result on as it is."))


def check_random(rng: np.random.Generator | None, replicates: int, method: str) -> Draws:
    """Give how the resampling called `method` draws: from the generator passed, or from one with seed 0 for None.

    Raises:
        StatisticsError: something other than a generator, or not a whole number of at least 2 replicates.
    """
    problems: list[Problem] = []
    given: object = rng  # whatever the annotation promises
    if given is not None and not isinstance(given, np.random.Generator):
        expected = f"a numpy Generator for method={method!r}"
        problems.append(Problem("rng", expected, repr(given), "Pass rng=np.random.default_rng(seed)."))
    count = whole_number(replicates, "replicates", 2, "2000 is usual.", problems)
    if problems:
        raise StatisticsError(problems)
    return Draws(np.random.default_rng(0) if rng is None else rng, count)


def name_array(values: ArrayLike) -> NDArray[Any]:
    """Give group names as an array in which every one keeps its type; numpy alone turns ["a", nan] into two names."""
    if isinstance(values, np.ndarray):
        return unmasked(values)
    kept = np.asarray(values, dtype=object)
    if all(isinstance(value, str) for value in kept.flat):
        return np.asarray(values, dtype=np.str_)
    numeric = all(isinstance(value, bool | int | float | np.number | np.bool_) for value in kept.flat)
    return np.asarray(values) if numeric else kept


def unmasked(values: NDArray[Any]) -> NDArray[Any]:
    """Give an array whose masked values, if it has a mask, are missing: NaN among numbers, else None."""
    plain = np.asarray(values)
    if not np.ma.is_masked(values):
        return plain
    numeric = values.dtype.kind in "iuf"
    result: NDArray[Any] = plain.astype(np.float64 if numeric else object)
    result[np.ma.getmaskarray(values)] = np.nan if numeric else None
    return result


def is_missing(value: object) -> bool:
    """Tell whether a group name is None, NaN, pandas' NA or NaT, or empty."""
    try:
        return value is None or bool(value != value) or value in ("", b"")
    except TypeError:  # pandas' NA has no truth value
        return True
    except ValueError:  # nor has an array
        return False


def as_numbers(values: ArrayLike, name: str, problems: list[Problem]) -> Floats | None:
    """Give the values as float64 (ranks of float32 would tie what is distinct), or note why that cannot be."""
    try:
        array = unmasked(values) if isinstance(values, np.ndarray) else np.asarray(values)
    except ValueError:  # rows of different lengths
        problems.append(Problem(name, "a rectangular array of numbers", "rows of different lengths", ""))
        return None
    if array.dtype.kind not in "biufO":
        problems.append(Problem(name, "numbers", f"an array of {array.dtype}", "Map the values to numbers first."))
        return None
    if array.dtype.kind == "O":
        if any(isinstance(cell, str | bytes) for cell in array.flat):
            problems.append(Problem(name, "numbers", "texts among them", "Map the values to numbers first."))
            return None
        missing = np.array([is_missing(cell) for cell in array.flat], dtype=bool)
        array = np.where(missing.reshape(array.shape), np.nan, array)
    try:
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        problems.append(Problem(name, "numbers", str(error), "Map the values to numbers first."))
        return None


def _check_labels(labels: Floats, name: str, problems: list[Problem]) -> None:
    odd = labels[~((labels == 0) | (labels == 1) | np.isnan(labels))]
    if odd.size:
        examples = ", ".join(f"{value:g}" for value in np.unique(odd)[:3])
        got = f"{odd.size} of {labels.size} values that are not (such as {examples})"
        problems.append(Problem(name, "0, 1 or NaN (unknown)", got, "Map the values to 0 and 1 first."))


def _check_scores(
    scores: Floats, known: NDArray[np.bool_], name: str, label_name: str, problems: list[Problem]
) -> None:
    if scores.shape != known.shape:
        expected = f"shape {known.shape} as {label_name}"
        problems.append(Problem(name, expected, f"shape {scores.shape}", "Give one score for each label."))
        return
    finite = np.isfinite(scores)
    if finite.all():
        return
    faulty = known & ~finite
    count = int(faulty.sum())
    if count:
        missing = int(np.isnan(scores[faulty]).sum())
        got = f"{missing} NaN and {count - missing} infinite among {int(known.sum())} scores with a known label"
        remedy = "Drop these rows and report them as failures, or mend the scores."
        problems.append(Problem(name, "finite scores", got, remedy))


def _codes(groups: ArrayLike | None, name: str, rows: int, problems: list[Problem]) -> Codes | None:
    """Give group names of any sortable type as 0..groups-1 in sorted order, or note which cannot be used."""
    if groups is None:
        return None
    array = name_array(groups)
    if array.shape != (rows,):
        problems.append(Problem(name, f"shape ({rows},)", f"shape {array.shape}", "Give one group name a row."))
        return None
    if array.dtype.kind in "fOUS" and (missing := sum(map(is_missing, array.tolist()))):
        got = f"{missing} missing or empty"
        problems.append(Problem(name, "a group for every row", got, "A row of its own needs a name of its own."))
        return None
    try:
        return np.unique(array, return_inverse=True)[1]
    except TypeError:
        got = "values that cannot be sorted (of mixed types)"
        problems.append(Problem(name, "group names of one type", got, "Give integers or strings."))
        return None
