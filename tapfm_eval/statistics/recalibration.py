"""Mending probabilities: a logistic recalibration fitted on validation patients and applied unchanged to others."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Floats, as_numbers, check_choice, check_record, number_of
from tapfm_eval.statistics.logistic import fit_logistic, fit_slope
from tapfm_eval.statistics.single import known_rows

RECALIBRATIONS = ("logistic", "intercept")


@dataclass(frozen=True, slots=True)
class Recalibration:
    """expit(intercept + slope logit(p)); NaN with a reason where the fit has no finite answer."""

    intercept: float
    slope: float
    method: str
    clip: float  # probabilities are moved into [clip, 1 - clip] before their logit is taken, at fit and application
    n: int  # validation patients
    positives: int
    reason: str | None = None


def fit_recalibration(
    labels: ArrayLike, probabilities: ArrayLike, *, method: str = "logistic", clip: float = 1e-6
) -> Recalibration:
    """A recalibration of probabilities, to be fitted on validation patients only.

    `logistic`: intercept and slope (Cox; Platt scaling of the logit); keeps the order of patients as long as the slope
    is positive, which the record shows. `intercept`: slope 1, only the mean is moved.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        probabilities: (n,) in [0, 1] where the label is known.
        method: one of `RECALIBRATIONS`.
        clip: see `Recalibration`; between 0 and 0.5.

    Returns:
        Recalibration; NaN with a reason when a class is absent, or (`logistic`) the classes are separated or the
        predictions do not vary.

    Raises:
        StatisticsError: for malformed arrays, values outside [0, 1], an unknown method.

    Sources: Cox 1958, doi:10.1093/biomet/45.3-4.562; Steyerberg et al. 2004, doi:10.1002/sim.1844.
    """
    check_choice(method, RECALIBRATIONS, "method")
    if not 0 < number_of(clip) < 0.5:
        raise StatisticsError(Problem("clip", "between 0 and 0.5", repr(clip), "1e-6 is usual."))
    rows = known_rows(labels, probabilities, name="probabilities", probabilities=True)
    logits = logit(np.clip(rows.scores, clip, 1 - clip))
    if method == "intercept":
        fit = fit_logistic(np.ones((rows.n, 1)), rows.positive, offset=logits)
        intercept, slope = float(fit.coefficients[0]), 1.0 if fit.reason is None else math.nan
    else:
        fit = fit_slope(logits, rows.positive)
        intercept, slope = fit.coefficients.tolist()
    return Recalibration(intercept, slope, method, clip, rows.n, rows.positives, fit.reason)


def apply_recalibration(recalibration: Recalibration, probabilities: ArrayLike) -> Floats:
    """Recalibrated probabilities, in the shape given; NaN stays NaN.

    Raises:
        StatisticsError: if the recalibration is none or was not estimable, or a value lies outside [0, 1].
    """
    check_record(recalibration, Recalibration, "recalibration", "fit_recalibration")
    problems: list[Problem] = []
    values = as_numbers(probabilities, "probabilities", problems)
    if values is None:
        raise StatisticsError(problems)
    if recalibration.reason is not None:
        remedy = "Use the probabilities as they are, or fit on more validation patients."
        problems.append(Problem("recalibration", "a finite fit", recalibration.reason, remedy))
    outside = int(((values < 0) | (values > 1)).sum())
    if outside:
        problems.append(Problem("probabilities", "values in [0, 1]", f"{outside} outside", "Map logits first."))
    if problems:
        raise StatisticsError(problems)
    logits = logit(np.clip(values, recalibration.clip, 1 - recalibration.clip))
    result: Floats = np.asarray(expit(recalibration.intercept + recalibration.slope * logits))
    return result
