"""Logistic regression that says when it has no answer: separation, collinearity and single classes are reasons."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog, minimize
from scipy.special import chdtri, expit

from tapfm_eval.statistics.border import Floats

_STATIONARY = 1e-4  # mean score per row up to which a fit counts as a maximum
_FLAT = 1e-12  # information below which a likelihood is flat to rounding
_SEPARATED = 1e-7  # objective of the separation problem above which a separating direction exists


@dataclass(frozen=True, slots=True, eq=False)
class LogisticFit:
    """Maximum likelihood fit; NaN arrays with a `reason` where the maximum does not exist."""

    coefficients: Floats  # (k,)
    covariance: Floats  # (k, k), inverse information at the weights of the last step, as in R
    log_likelihood: float
    reason: str | None = None


def fit_logistic(design: Floats, positive: NDArray[np.bool_], offset: Floats | None = None) -> LogisticFit:
    """Binomial GLM with logit link (statsmodels), after making sure that a finite maximum exists.

    Args:
        design: (n, k) columns, the intercept among them if one is wanted.
        positive: (n,) the outcome.
        offset: (n,) added to the linear predictor with coefficient 1.

    A lone intercept is found by bracketing where Newton steps, from offsets near certainty, run away.

    Source for the test of separation, a linear programme: Albert and Anderson 1984, doi:10.1093/biomet/71.1.1;
    Konis 2007, doi:10.5287/ora-dmkgkqvn8.
    """
    reason = why_no_fit(design, positive)
    columns = design.shape[1]
    if reason is not None:
        return LogisticFit(np.full(columns, math.nan), np.full((columns, columns), math.nan), math.nan, reason)
    from statsmodels.genmod.families import Binomial  # pulls in pandas: over a second, paid only here
    from statsmodels.genmod.generalized_linear_model import GLM

    model = GLM(positive.astype(np.float64), design, family=Binomial(), offset=offset)
    # R's stopping rule |change of deviance| < 1e-8 (|deviance| + 0.1), so that standard errors, which both programs
    # take from the weights of the last step, agree with R's to the last digits
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # it warns of separation and singularity whenever fitted risks come near 0 and 1, which the exact tests above
        # have ruled out; a fit that went astray is told by its reason below
        warnings.simplefilter("ignore")
        fit = model.fit(maxiter=200, atol=1e-9, rtol=1e-8)
    coefficients = np.asarray(fit.params, dtype=np.float64)
    linear = design @ coefficients + (0.0 if offset is None else offset)
    # at a maximum the residuals are orthogonal to every column; `converged` alone also holds on a plateau
    slope = np.abs((design / np.abs(design).max(axis=0)).T @ (positive - expit(linear)))
    if not fit.converged or not (slope <= _STATIONARY * positive.size).all():
        if columns == 1 and offset is not None and (design == 1).all():
            return _fit_intercept(positive, offset)
        reason = "the fit did not converge"
        return LogisticFit(np.full(columns, math.nan), np.full((columns, columns), math.nan), math.nan, reason)
    return LogisticFit(coefficients, np.asarray(fit.cov_params(), dtype=np.float64), log_likelihood(linear, positive))


def _fit_intercept(positive: NDArray[np.bool_], offset: Floats) -> LogisticFit:
    intercept = best_intercept(offset, positive)
    linear = intercept + offset
    information = float((expit(linear) * expit(-linear)).sum())
    if not information > _FLAT:
        reason = "every fitted risk is 0 or 1, so that the intercept is not determined"
        return LogisticFit(np.full(1, math.nan), np.full((1, 1), math.nan), math.nan, reason)
    return LogisticFit(np.array([intercept]), np.array([[1.0 / information]]), log_likelihood(linear, positive))


def fit_slope(logits: Floats, positive: NDArray[np.bool_]) -> LogisticFit:
    """Intercept and slope of the outcome on one predictor, in this order."""
    fit = fit_logistic(np.column_stack([np.ones(logits.size), logits]), positive)
    if logits.size and np.ptp(logits) == 0 and 0 < positive.sum() < positive.size:
        return replace(fit, reason="the predictions do not vary")
    return fit


def ridge_coefficients(design: Floats, positive: NDArray[np.bool_], penalty: float) -> Floats:
    """Coefficients that maximise the log-likelihood less penalty / 2 x their squares; the first column is free.

    Always exist and are unique, whatever is separated or collinear, as long as both classes occur.
    """
    y = positive.astype(np.float64)
    weights = np.full(design.shape[1], penalty)
    weights[0] = 0.0

    def loss(beta: Floats) -> tuple[float, Floats]:
        linear = design @ beta
        value = -log_likelihood(linear, positive) + 0.5 * float(weights @ beta**2)
        return value, design.T @ (expit(linear) - y) + weights * beta

    found = minimize(
        loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-14}
    )
    return np.asarray(found.x, dtype=np.float64)


def log_likelihood(linear: Floats, positive: NDArray[np.bool_]) -> float:
    """Log-likelihood of outcomes given linear predictors, without overflow."""
    return float(-np.logaddexp(0.0, np.where(positive, -linear, linear)).sum())


def why_no_fit(design: Floats, positive: NDArray[np.bool_]) -> str | None:
    """The reason why logistic regression has no finite, unique maximum; None where it has one."""
    positives = int(positive.sum())
    if positives in (0, positive.size):
        return "no row with a known label" if not positive.size else "no positives" if not positives else "no negatives"
    scale = np.abs(design).max(axis=0, initial=0.0)
    if not scale.all() or np.linalg.matrix_rank(design / scale) < design.shape[1]:
        return "the columns are collinear or constant: their coefficients are not identified"
    signed = np.where(positive, 1.0, -1.0)[:, None] * (design / scale)
    # a direction that puts every positive on one side and every negative on the other, some strictly, lets the
    # likelihood grow without end; the programme looks for the one with the largest total margin
    found = linprog(-signed.mean(axis=0), A_ub=-signed, b_ub=np.zeros(positive.size), bounds=(-1, 1), method="highs")
    if found.fun is not None and found.fun < -_SEPARATED:
        return "positives and negatives are separated: the coefficients are infinite"
    return None


def profile_limits(estimate: float, se: float, excess: Callable[[float], float], level: float) -> tuple[float, float]:
    """The two values at which twice the drop in profile log-likelihood reaches the chi-squared quantile of `level`.

    Args:
        estimate: maximum likelihood estimate.
        se: its standard error, the first step of the search.
        excess: twice the drop of the profile log-likelihood at a value, 0 at the estimate, growing on both sides.
        level: confidence level.
    """
    quantile = float(chdtri(1, 1 - level))
    limits = []
    for direction in (-1.0, 1.0):
        step = se
        while excess(estimate + direction * step) < quantile:
            step *= 2
        far = estimate + direction * step
        limits.append(float(brentq(lambda value: excess(value) - quantile, estimate, far, xtol=1e-10, rtol=1e-12)))
    return limits[0], limits[1]


def best_intercept(slope_part: Floats, positive: NDArray[np.bool_]) -> float:
    """The intercept that makes expected and observed positives agree, given the rest of the linear predictor."""
    span = float(np.abs(slope_part).max()) + 40.0
    observed = int(positive.sum())
    return float(brentq(lambda a: float(expit(a + slope_part).sum()) - observed, -span, span, xtol=1e-12))
