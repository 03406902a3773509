"""How far covariates get without the score, and whether the score adds to them: negative controls."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_choice, check_random, name_array, whole_number
from tapfm_eval.statistics.chi_squared import ChiSquaredTest, chi_squared_test
from tapfm_eval.statistics.covariates import covariate_design
from tapfm_eval.statistics.estimate import auroc
from tapfm_eval.statistics.logistic import fit_logistic, ridge_coefficients
from tapfm_eval.statistics.proportions import normal_quantile
from tapfm_eval.statistics.records import Estimate
from tapfm_eval.statistics.single import known_rows, unestimable, why_not_two_classes

SCALES = ("logit", "identity")
RIDGE = 1.0  # penalty on standardised coefficients of the covariates-only model


@dataclass(frozen=True, slots=True)
class AddedValue:
    """Does the score tell more than the covariates do."""

    test: ChiSquaredTest  # likelihood ratio of the logistic models with and without the score, df 1
    log_odds: Estimate  # change of the log odds per standard deviation of the score, covariates held; Wald
    covariates: tuple[str, ...]


def covariate_auroc(
    labels: ArrayLike,
    covariates: Mapping[str, ArrayLike],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    folds: int = 5,
) -> Estimate:
    """Cross-validated AUROC of the covariates alone, e.g. site only or smoking only; one row a patient.

    A negative control: if sites alone reach what the score reaches, the score may be reading the site. A ridge logistic
    regression is fitted on the other folds; patients are compared within folds only, since scores of different models
    do not share a scale. Around 0.5 means that the covariates tell nothing.

    The interval takes the predictions as given, though they were fitted on the other folds' labels, and is too narrow:
    where covariates told nothing, 95% intervals covered .5 in .83 to .89 of 2,000 simulations a cell (38 events of 110
    patients to 120 of 470; docs/statistics.md). They missed more often below .5 than above: an AUROC well below .5 is
    chance, or what cross-validation makes of chance, and no inverse relation.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        covariates: name -> (n,) values; strings, booleans and objects are categories. Numbers are linear, so give site
            and other codes as strings, `sites.astype(str)`: as numbers they leave this control nearly blind.
        rng: draws the folds, stratified by class.
        level: confidence level.
        folds: number of folds; fewer are used if a class has fewer patients.

    Returns:
        Estimate; NaN with a reason when a class has fewer than two patients or no covariate varies.

    Raises:
        StatisticsError: for malformed labels, a missing covariate, fewer than two folds.
    """
    problems: list[Problem] = []
    folds = whole_number(folds, "folds", 2, "Five is usual.", problems)
    if problems:
        raise StatisticsError(problems)
    rng = check_random(rng, 2, "covariate_auroc").rng
    rows = known_rows(labels, np.zeros(np.shape(name_array(labels))), level=level)
    design = covariate_design(covariates, rows.known)
    used = min(folds, rows.positives, rows.negatives)
    name = f"{used}-fold cross-validated ridge logistic regression"
    reason = why_not_two_classes(rows.positives, rows.negatives)
    if reason is None and used < 2:
        reason = "cross-validation needs two patients of each class"
    if reason is None and design.columns.shape[1] == 0:
        reason = "no covariate varies"
    if reason is not None:
        return unestimable(name, rows, level, reason)
    fold = np.empty(rows.n, dtype=np.intp)
    for members in (np.flatnonzero(rows.positive), np.flatnonzero(~rows.positive)):
        fold[rng.permutation(members)] = np.arange(members.size) % used
    full = np.column_stack([np.ones(rows.n), design.columns])
    predicted = np.empty(rows.n)
    for held_out in range(used):
        test = fold == held_out
        predicted[test] = full[test] @ ridge_coefficients(full[~test], rows.positive[~test], RIDGE)
    # patients with the same covariates must tie exactly, whatever the order of summation
    found = auroc(rows.positive.astype(np.float64), np.round(predicted, 10), level=level, strata=fold)
    return Estimate(
        found.value, found.lower, found.upper, level, f"{name}; {found.method}", rows.n, rows.positives, rows.n,
        found.reason,
    )  # fmt: skip


def added_value(
    labels: ArrayLike,
    scores: ArrayLike,
    covariates: Mapping[str, ArrayLike],
    *,
    level: float = 0.95,
    scale: str = "logit",
) -> AddedValue:
    """Whether the score adds to the covariates: logistic regression with and without it; one row a patient.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; probabilities for `scale="logit"`.
        covariates: name -> (n,) values; strings, booleans and objects are categories, numbers are linear.
        level: confidence level.
        scale: how the score enters: `logit` (clipped at 1e-6) or `identity`.

    Returns:
        AddedValue; NaN with a reason when a class is absent, columns are collinear (the score is a function of the
        covariates) or positives and negatives are separated.

    Raises:
        StatisticsError: for malformed arrays, a missing covariate, scores outside [0, 1] with `scale="logit"`.
    """
    check_choice(scale, SCALES, "scale")
    rows = known_rows(labels, scores, level=level, probabilities=scale == "logit")
    design = covariate_design(covariates, rows.known)
    values = logit(np.clip(rows.scores, 1e-6, 1 - 1e-6)) if scale == "logit" else rows.scores
    test_name = f"likelihood ratio, score on the {scale} scale added to {', '.join(map(str, design.names))}"
    name = "Wald, per standard deviation of the score"
    reason = why_not_two_classes(rows.positives, rows.negatives)
    if reason is None and np.ptp(values) == 0:  # a standard deviation of equal values may be rounding dust
        reason = "the scores do not vary"
    if reason is not None:
        return AddedValue(
            chi_squared_test(math.nan, 1, test_name, reason), unestimable(name, rows, level, reason), design.names
        )
    without = np.column_stack([np.ones(rows.n), design.columns])
    small = fit_logistic(without, rows.positive)
    large = fit_logistic(np.column_stack([without, (values - values.mean()) / values.std()]), rows.positive)
    reason = small.reason or large.reason
    if reason is not None:
        return AddedValue(
            chi_squared_test(math.nan, 1, test_name, reason), unestimable(name, rows, level, reason), design.names
        )
    value, se = float(large.coefficients[-1]), math.sqrt(large.covariance[-1, -1])
    half = normal_quantile(level) * se
    return AddedValue(
        test=chi_squared_test(2 * (large.log_likelihood - small.log_likelihood), 1, test_name),
        log_odds=Estimate(value, value - half, value + half, level, name, rows.n, rows.positives, rows.n),
        covariates=design.names,
    )
