"""Is it the tissue or something else: AUROC within strata of another label, and adjusted for covariates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.statistics.border import Codes, Floats, check_choice
from tapfm_eval.statistics.covariates import covariate_design
from tapfm_eval.statistics.estimate import auroc
from tapfm_eval.statistics.groups import named_groups
from tapfm_eval.statistics.intervals import envelope_limits, is_small, logit_t_limits, score_terms
from tapfm_eval.statistics.placements import placement_counts
from tapfm_eval.statistics.records import Estimate
from tapfm_eval.statistics.single import known_rows, unestimable, why_not_two_classes

ADJUSTMENTS = ("strata", "regression")
NEGATIVES_PER_COLUMN = 10  # below this a regression among negatives is not trusted


@dataclass(frozen=True, slots=True)
class Stratum:
    """AUROC among patients who share a value of another label or covariate."""

    name: str
    auroc: Estimate


@dataclass(frozen=True, slots=True)
class StratifiedAuroc:
    """What remains of an AUROC when patients are compared only with patients of their own stratum."""

    strata: tuple[Stratum, ...]  # ascending by name or number
    crude: Estimate  # all patients with a known label and stratum, compared across strata
    within: Estimate  # mean of the strata's AUROCs weighted by their pairs
    adjusted: Estimate  # covariate-adjusted AUROC: weighted by their positives (Janes and Pepe)
    missing: int  # patients with a known label but no known stratum


def stratified_auroc(
    labels: ArrayLike, scores: ArrayLike, strata: ArrayLike, *, level: float = 0.95
) -> StratifiedAuroc:
    """AUROC within each stratum of another label or a covariate, and over strata; one row a patient.

    If a score finds EGFR only because it finds the smokers, `within` and `adjusted` fall to 0.5 within strata of
    smoking while `crude` stays high.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known; larger = more likely positive.
        strata: (n,) names or numbers; None, NaN and "" are missing and only counted.
        level: confidence level.

    Returns:
        StratifiedAuroc; strata without both classes are NaN with a reason and carry no weight.

    Raises:
        StatisticsError: for malformed arrays.

    Source: Janes and Pepe 2009, doi:10.1093/biomet/asp002.
    """
    rows = known_rows(labels, scores, level=level)
    named = named_groups(strata, rows.known.size, "strata")
    codes = named.codes[rows.known]
    placed = codes >= 0
    y, s, codes = rows.positive[placed].astype(np.float64), rows.scores[placed], codes[placed]
    return StratifiedAuroc(
        strata=tuple(
            Stratum(name, auroc(y[codes == code], s[codes == code], level=level))
            for code, name in enumerate(named.names)
        ),
        crude=auroc(y, s, level=level),
        within=auroc(y, s, level=level, strata=codes),
        adjusted=_adjusted_over_strata(y == 1, s, codes, level),
        missing=int((~placed).sum()),
    )


def adjusted_auroc(
    labels: ArrayLike,
    scores: ArrayLike,
    covariates: Mapping[str, ArrayLike],
    *,
    level: float = 0.95,
    method: str = "strata",
) -> Estimate:
    """Covariate-adjusted AUROC: how often a positive outscores a negative with the same covariates; one row a patient.

    `strata`: patients are compared within each combination of covariate values, weighted by the positives in it.
    `regression`: for continuous covariates; the score's linear regression on the covariates among negatives is taken
    off, and the residuals are ranked (location model). It presumes that the covariates shift the score linearly and by
    the same amount in both classes, depends on the scale of the score, and its interval leaves out the regression's own
    error: it is refused below 10 negatives per coefficient.

    Args:
        labels: (n,) 0, 1 or NaN (unknown, left out).
        scores: (n,) finite where the label is known.
        covariates: name -> (n,) values; strings, booleans and objects are categories, numbers are linear.
        level: confidence level.
        method: one of `ADJUSTMENTS`.

    Returns:
        Estimate; NaN with a reason without a class, or without a stratum that has both.

    Raises:
        StatisticsError: for malformed arrays, a missing covariate, an unknown method.

    Source: Janes and Pepe 2009, doi:10.1093/biomet/asp002.
    """
    check_choice(method, ADJUSTMENTS, "method")
    rows = known_rows(labels, scores, level=level)
    design = covariate_design(covariates, rows.known)
    if method == "strata":
        return _adjusted_over_strata(rows.positive, rows.scores, design.strata, level)
    name = "regression among negatives, residuals ranked"
    needed = NEGATIVES_PER_COLUMN * (design.columns.shape[1] + 1)
    reason = why_not_two_classes(rows.positives, rows.negatives)
    if reason is None and rows.negatives < needed:
        reason = f"{rows.negatives} negatives, the regression needs {needed}"
    if reason is not None:
        return unestimable(name, rows, level, reason)
    full = np.column_stack([np.ones(rows.n), design.columns])
    centred = rows.scores - rows.scores.mean()  # far from 0 the rounding of a fit would swamp small differences
    coefficients = np.linalg.lstsq(full[~rows.positive], centred[~rows.positive], rcond=None)[0]
    residuals = centred - full @ coefficients
    # rounding would break ties among equal covariates and scores: residuals are compared to 12 digits of their range
    scale = float(np.ptp(centred)) or 1.0
    found = auroc(rows.positive.astype(np.float64), np.round(residuals / scale, 12), level=level)
    return Estimate(
        found.value, found.lower, found.upper, level, f"{name}; {found.method}", rows.n, rows.positives, rows.n,
        found.reason,
    )  # fmt: skip


def _adjusted_over_strata(positive: np.ndarray, scores: Floats, codes: Codes, level: float) -> Estimate:
    """Mean over positives of their placement among the negatives of their own stratum, in strata with both classes.

    Variance: sample variance of these placements over positives, plus that of the strata's negatives with the
    positives' weights. Small samples get the envelope limits of `auroc`.
    """
    placements: list[Floats] = []
    parts: list[tuple[float, int, Floats]] = []  # weight (positives), negatives, their placements
    for code in np.unique(codes):
        rows = codes == code
        inside = positive[rows]
        m, n = int(inside.sum()), int((~inside).sum())
        if m and n:
            counts = placement_counts(scores[rows], inside)
            placements.append(counts[inside] / n)
            parts.append((float(m), n, counts[~inside] / m))
    used = sum(p.size for p in placements) + sum(n for _, n, _ in parts)
    total = int(positive.sum())
    name = f"positives' mean placement within {len(parts)} strata"
    left_out = positive.size - used
    if left_out:
        name += f" ({left_out} patients in strata without both classes left out)"
    if not parts:
        reason = why_not_two_classes(total, positive.size - total) or "no stratum has both classes"
        return Estimate(math.nan, math.nan, math.nan, level, name, positive.size, total, positive.size, reason)
    v10 = np.concatenate(placements)
    m = v10.size
    negatives = sum(n for _, n, _ in parts)
    value = float(v10.mean())
    freedom = negatives - len(parts)
    counted = (used, m, used)
    if m < 2 or freedom < 1:
        # the score-type limits need no variance
        variance, df = math.nan, math.nan
    else:
        pooled = sum(float(((v01 - v01.mean()) ** 2).sum()) for _, _, v01 in parts) / freedom
        # a stratum's own variance, or the pooled one where a single negative shows none
        shares = [
            ((weight / m) ** 2 * (float(v01.var(ddof=1)) if n > 1 else pooled) / n, max(n - 1, 1))
            for weight, n, v01 in parts
        ]
        first, second = float(v10.var(ddof=1)) / m, sum(share for share, _ in shares)
        variance = first + second
        below = first**2 / (m - 1) + sum(share**2 / d for share, d in shares)
        df = variance**2 / below if below > 0 else math.nan
    pair = placement = 0.0
    for weight, n, _ in parts:
        terms = score_terms(weight, n)
        pair += (weight / m) ** 2 * float(terms[0])
        placement += (weight / m) ** 2 * float(terms[1])
    small = bool(is_small(value, m, negatives))
    limits = envelope_limits if small else logit_t_limits
    lower, upper = limits(value, variance, df, pair, placement, level)
    name += f"; {'envelope (small sample)' if small else 'logit-t'}"
    return Estimate(value, float(lower), float(upper), level, name, *counted)
