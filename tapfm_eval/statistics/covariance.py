"""One covariance of the AUROCs of all arms on all targets, and the spread of any contrast of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc, fdtrc

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import (
    Floats,
    Observed,
    as_numbers,
    check_choice,
    check_record,
    number_of,
    observe,
    split_arms,
)
from tapfm_eval.statistics.influence import TargetInfluence, target_influence


@dataclass(frozen=True, slots=True, eq=False)
class AurocCovariance:
    """AUROCs of arms on targets with their covariance, and the patients' influence from which any contrast follows.

    Component c = arm * targets + target: all targets of the first arm, then of the second, and so on.
    """

    aurocs: Floats  # (arms, targets); NaN where a target lacks a class
    covariance: Floats  # (arms * targets, arms * targets); NaN rows and columns where not estimable
    positives: tuple[int, ...]  # rows with label 1, a target
    negatives: tuple[int, ...]  # rows with label 0, a target
    positive_patients: tuple[int, ...]  # patients with such rows, a target
    negative_patients: tuple[int, ...]
    patients: int  # patients with a known label on any target
    reasons: tuple[str | None, ...]  # a target: why its AUROC or variance is not estimable
    by_target: tuple[TargetInfluence, ...]  # influence values

    @property
    def n(self) -> int:
        """Known labels over all targets."""
        return sum(self.positives) + sum(self.negatives)


@dataclass(frozen=True, slots=True)
class Spread:
    """A linear combination of AUROCs with its variance and Satterthwaite's degrees of freedom."""

    value: float
    variance: float  # NaN if not estimable
    df: float  # NaN if the variance is 0 or NaN
    reason: str | None  # why value or variance is NaN


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """A test that several estimates share one true value."""

    statistic: float
    df: float
    df_denominator: float  # inf for the chi-square test
    p_value: float
    method: str
    reason: str | None = None


def auroc_covariance(
    labels: ArrayLike, scores: ArrayLike, *, clusters: ArrayLike | None = None, strata: ArrayLike | None = None
) -> AurocCovariance:
    """Give all AUROCs of arms x targets on the same patients and one covariance for everything.

    For a component with m positives and n negatives the influence of a positive is (V10 - theta)/sqrt(m(m-1)), of a
    negative (V01 - theta)/sqrt(n(n-1)), of an unlabelled row 0; the covariance sums products over patients. Its
    diagonal and its blocks of one target are DeLong's; with several rows a patient, Obuchowski's.

    Args:
        labels: (n, targets), 0, 1, or NaN where unknown.
        scores: (arms, n, targets), finite where the label is known; a larger score speaks for label 1.
        clusters: (n,), the patient of each row; each row is its own by default. One patient may hold both labels.
        strata: (n,), e.g. the test fold. Scores are compared within strata only: the AUROC is the mean of the strata's
            AUROCs weighted by their pairs (positives x negatives); strata without both classes carry no weight.
            Placements are centred within strata and their sample variances pooled over them, which presumes that they
            vary about alike; one positive a stratum is enough if another has two. One stratum is DeLong exactly.

    Raises:
        StatisticsError: malformed arrays, all faults listed.

    Sources: DeLong, DeLong & Clarke-Pearson 1988 (doi:10.2307/2531595); Obuchowski 1997 (doi:10.2307/2533958).
    """
    return covariance_of(observe(labels, split_arms(scores), targets=True, clusters=clusters, strata=strata))


def covariance_of(observed: Observed) -> AurocCovariance:
    """Give `auroc_covariance` of arrays that are checked already."""
    targets = observed.labels.shape[1]
    parts = tuple(target_influence(observed, target) for target in range(targets))
    arms = observed.scores.shape[0]
    positive = np.stack([part.positive for part in parts], axis=1).reshape(arms * targets, -1)
    negative = np.stack([part.negative for part in parts], axis=1).reshape(arms * targets, -1)
    influence = positive + negative
    covariance = influence @ influence.T
    if observed.clusters is not None:  # only then can one patient be positive and negative on one target
        for target, part in enumerate(parts):
            block = np.ix_(range(target, arms * targets, targets), range(target, arms * targets, targets))
            products = part.positive @ part.negative.T
            covariance[block] += (part.cross - 1.0) * (products + products.T)
    known = ~np.isnan(observed.labels).all(axis=1)
    rows = int(known.sum()) if observed.clusters is None else int(np.unique(observed.clusters[known]).size)
    return AurocCovariance(
        aurocs=np.stack([part.aurocs for part in parts], axis=1),
        covariance=covariance,
        positives=tuple(part.positives for part in parts),
        negatives=tuple(part.negatives for part in parts),
        positive_patients=tuple(part.positive_patients for part in parts),
        negative_patients=tuple(part.negative_patients for part in parts),
        patients=rows,
        reasons=tuple(_reason(part) for part in parts),
        by_target=parts,
    )


def spread(aurocs: AurocCovariance, weights: ArrayLike) -> Spread:
    """Give the sum of weights x AUROCs with variance and degrees of freedom; `weights` is (arms, targets).

    The variance adds up over patients the squares of their weighted influence. It has two parts a target (positive and
    negative patients); Satterthwaite's df divides its square by the sum over patients of the squared variance that
    each contributes, estimated from the parts a patient belongs to and their covariances. For one target this is
    (a + b)^2 / (a^2/(m-1) + b^2/(n-1)) for the parts a = S10/m and b = S01/n; targets that share patients, and patients
    with several rows (taken as fully dependent), count for fewer degrees of freedom.

    Raises:
        StatisticsError: `weights` has another shape or is not finite.
    """
    check_record(aurocs, AurocCovariance, "aurocs", "auroc_covariance")
    problems: list[Problem] = []
    array = as_numbers(weights, "weights", problems)
    if array is None:
        raise StatisticsError(problems)
    if array.shape != aurocs.aurocs.shape or not np.isfinite(array).all():
        expected = f"finite weights of shape {aurocs.aurocs.shape}, (arms, targets)"
        remedy = "Give one weight an arm and target, 0 for those not in the contrast."
        raise StatisticsError(Problem("weights", expected, f"shape {array.shape}", remedy))
    used = [target for target in range(array.shape[1]) if array[:, target].any()]
    missing = [target for target in used if np.isnan(aurocs.aurocs[:, target]).any()]
    if missing:
        return Spread(np.nan, np.nan, np.nan, _reasons(aurocs, missing))
    value = sum(float((array[:, target] * aurocs.aurocs[:, target]).sum()) for target in used)
    unknown = [target for target in used if aurocs.reasons[target] is not None]
    if unknown:
        return Spread(value, np.nan, np.nan, _reasons(aurocs, unknown))
    if not used:
        return Spread(0.0, 0.0, np.nan, None)
    parts = [aurocs.by_target[target] for target in used]
    # products first, then sums: a fused multiply-add would leave dust where two identical arms cancel
    influence = np.stack(
        [
            (array[:, target, None] * side).sum(axis=0)
            for target, part in zip(used, parts, strict=True)
            for side in (part.positive, part.negative)
        ]
    )
    exposure = np.stack([side for part in parts for side in (part.positive_exposure, part.negative_exposure)])
    products = influence @ influence.T
    for position, part in enumerate(parts):
        one, other = 2 * position, 2 * position + 1
        products[one, other] *= part.cross
        products[other, one] *= part.cross
    variance = max(float(products.sum()), 0.0)
    if variance == 0.0:
        return Spread(value, 0.0, np.nan, None)
    return Spread(value, variance, _satterthwaite(products, exposure, parts), None)


def heterogeneity(
    estimates: ArrayLike, covariance: ArrayLike, *, df: float = np.inf, test: str = "chi2"
) -> Heterogeneity:
    """Test that K estimates share one true value: Wald's chi-square on K - 1 contrasts, or Hotelling's F.

    With a diagonal covariance the chi-square test is Cochran's Q. It takes the covariance as known, which is liberal
    with few patients of a class; test="f" refers (df - rank + 1) / (df rank) x Wald to F(rank, df - rank + 1) instead.
    Type I error at nominal .05 for four arms with 5 / 10 / 20 / 50 positives: .37 / .16 / .10 / .06 for chi2, .00 / .02
    / .04 / .04 for f. Contrasts without variance are left out when their difference is 0 (identical arms) and make the
    test not estimable otherwise, as does a matrix that gives one a negative variance.

    Args:
        estimates: (K,).
        covariance: (K, K), e.g. a block of `auroc_covariance`.
        df: degrees of freedom behind the covariance, for test="f": such as the smaller class less 1.
        test: "chi2" or "f".

    Raises:
        StatisticsError: shapes disagree, fewer than two estimates, infinite numbers, a matrix that is not symmetric, an
            unknown test, or test="f" without a finite df.
    """
    check_choice(test, ("chi2", "f"), "test")
    problems: list[Problem] = []
    values, matrix = as_numbers(estimates, "estimates", problems), as_numbers(covariance, "covariance", problems)
    if values is None or matrix is None:
        raise StatisticsError(problems)
    if values.ndim != 1 or values.size < 2 or matrix.shape != (values.size, values.size):
        got = f"shapes {values.shape} and {matrix.shape}"
        problems.append(Problem("estimates, covariance", "shapes (K,) and (K, K) with K of 2 or more", got, ""))
    elif np.isinf(values).any() or np.isinf(matrix).any():
        remedy = "What is not estimable is NaN."
        problems.append(Problem("estimates, covariance", "finite numbers or NaN", "infinite ones", remedy))
    elif not np.allclose(matrix, matrix.T, rtol=1e-8, atol=0.0, equal_nan=True):
        problems.append(Problem("covariance", "a symmetric matrix", "one that is not", "Give both triangles."))
    if test == "f" and not 0 < number_of(df) < np.inf:
        problems.append(Problem("df", "a positive number for test='f'", repr(df), "Smaller class less 1, say."))
    if problems:
        raise StatisticsError(problems)
    method = "Wald chi-square" if test == "chi2" else "Hotelling F"
    if np.isnan(values).any() or np.isnan(matrix).any():
        return Heterogeneity(np.nan, np.nan, np.nan, np.nan, method, "an estimate or its variance is not estimable")
    contrasts = np.diff(np.eye(values.size), axis=0)
    differences, spread_of = contrasts @ values, contrasts @ matrix @ contrasts.T
    roots, vectors = np.linalg.eigh(spread_of)
    dust = 1e-12 * np.abs(matrix).max()
    if roots[0] < -dust:
        reason = "the covariance gives a contrast a negative variance"
        return Heterogeneity(np.nan, np.nan, np.nan, np.nan, method, reason)
    alive = roots > dust
    along = vectors.T @ differences
    if np.abs(along[~alive]).max(initial=0.0) > 1e-12:
        reason = "estimates differ in a direction that has no sampling variance"
        return Heterogeneity(np.nan, np.nan, np.nan, np.nan, method, reason)
    rank = int(alive.sum())
    wald = float((along[alive] ** 2 / roots[alive]).sum())
    if rank == 0:
        return Heterogeneity(0.0, 0.0, np.nan, 1.0, method)
    if test == "chi2":
        return Heterogeneity(wald, float(rank), np.inf, float(chdtrc(rank, wald)), method)
    rest = df - rank + 1.0
    if rest <= 0:
        reason = f"{rank} contrasts need more than {df:g} degrees of freedom"
        return Heterogeneity(np.nan, float(rank), rest, np.nan, method, reason)
    statistic = rest / (df * rank) * wald
    return Heterogeneity(statistic, float(rank), rest, float(fdtrc(rank, rest, statistic)), method)


def auroc_heterogeneity(
    aurocs: AurocCovariance, components: Sequence[tuple[int, int]], *, test: str = "chi2"
) -> Heterogeneity:
    """Test that some of the AUROCs are equal; `components` lists them as (arm, target).

    All arms on one target: [(arm, target) for arm in range(arms)]; one arm on all targets: likewise. For test="f" the
    covariance is taken to have the smallest of the targets' classes, less 1, as degrees of freedom.

    Raises:
        StatisticsError: fewer than two components, or one that does not exist.
    """
    check_record(aurocs, AurocCovariance, "aurocs", "auroc_covariance")
    arms, targets = aurocs.aurocs.shape
    check_choice(test, ("chi2", "f"), "test")
    problems: list[Problem] = []
    array = as_numbers(components, "components", problems)
    pairs: list[tuple[int, int]] = []
    expected = f"(arm, target) pairs below ({arms}, {targets})"
    remedy = "Count arms and targets from 0."
    if array is not None and (array.ndim != 2 or array.shape[1] != 2):
        problems.append(Problem("components", expected, f"shape {array.shape}", remedy))
    elif array is not None:
        inside = (array >= 0) & (array < (arms, targets)) & (array == np.floor(array))
        if not inside.all():
            wrong = array[~inside.all(axis=1)][0]
            problems.append(Problem("components", expected, f"({wrong[0]:g}, {wrong[1]:g})", remedy))
        else:
            pairs = [(int(arm), int(target)) for arm, target in array]
    if problems:
        raise StatisticsError(problems)
    index = [arm * targets + target for arm, target in pairs]
    parts = [aurocs.by_target[target] for _, target in pairs]
    smallest = min((min(part.positive_df, part.negative_df) for part in parts), default=0)
    values = aurocs.aurocs.reshape(-1)[index]
    if test == "f" and smallest < 1:
        reason = "a target has fewer than two patients of a class"
        return Heterogeneity(np.nan, np.nan, np.nan, np.nan, "Hotelling F", reason)
    return heterogeneity(values, aurocs.covariance[np.ix_(index, index)], df=float(smallest), test=test)


def _satterthwaite(products: Floats, exposure: Floats, parts: list[TargetInfluence]) -> float:
    """Give the df of a variance that is the sum of `products` between parts; `exposure` is (parts, patients).

    A part's variance is spread over its patients by their squared exposure, a product of two parts over the patients
    they share; the factor `lost` makes the df of a part alone its patients less its strata.
    """
    squared = exposure**2
    effective = squared.sum(axis=1) ** 2 / (squared**2).sum(axis=1)
    patients = np.count_nonzero(exposure, axis=1)
    degrees = np.array([df for part in parts for df in (part.positive_df, part.negative_df)])
    lost = np.sqrt(1.0 + effective * (1.0 / degrees - 1.0 / patients))
    shared = exposure @ exposure.T
    density = np.divide(products, shared, out=np.zeros_like(products), where=shared > 0)
    density *= np.sqrt(lost[:, None] * lost)
    by_patient = np.maximum(((density @ exposure) * exposure).sum(axis=0), 0.0)
    return max(float(products.sum()) ** 2 / float((by_patient**2).sum()), 1.0)


def _reason(part: TargetInfluence) -> str | None:
    """Say why the AUROC or its variance is not estimable."""
    if part.positives + part.negatives == 0:
        return "no known labels"
    if part.strata == 0:
        absent = [name for name, count in (("positives", part.positives), ("negatives", part.negatives)) if count == 0]
        return f"no {' and no '.join(absent)}" if absent else "no stratum has both classes"
    single = [name for name, df in (("positive", part.positive_df), ("negative", part.negative_df)) if df < 1]
    if not single:
        return None
    where = "" if part.strata == 1 else " in any stratum"
    return f"the variance needs two {' and two '.join(single)} patients{where}"


def _reasons(aurocs: AurocCovariance, targets: list[int]) -> str:
    if aurocs.aurocs.shape[1] == 1:
        return str(aurocs.reasons[0])
    return "; ".join(f"target {target}: {aurocs.reasons[target]}" for target in targets)
