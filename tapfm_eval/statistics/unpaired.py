"""Differences of two AUROCs between different patients: DeLong, bootstrap and permutation."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import check_choice, check_random, observe
from tapfm_eval.statistics.covariance import Spread, covariance_of, spread
from tapfm_eval.statistics.estimate import strata_note
from tapfm_eval.statistics.hypotheses import (
    NO_INTERVAL,
    WITH_MARGIN,
    Counts,
    Question,
    ask,
    decide,
    decide_by_draws,
    no_difference,
    permutation_p,
    wording,
)
from tapfm_eval.statistics.records import Comparison
from tapfm_eval.statistics.resampling import bootstrap_name, regrouped_ratios, resampled_aurocs

UNPAIRED_TESTS = {"t": "Welch t", "satterthwaite": "Satterthwaite t", "z": "z"}
UNPAIRED_METHODS = ("delong", "bootstrap", "permutation")


def compare_auroc_unpaired(
    labels_a: ArrayLike,
    scores_a: ArrayLike,
    labels_b: ArrayLike,
    scores_b: ArrayLike,
    *,
    test: str = "t",
    level: float = 0.95,
    hypothesis: str = "two-sided",
    margin: float | None = None,
    method: str = "delong",
    clusters_a: ArrayLike | None = None,
    clusters_b: ArrayLike | None = None,
    strata_a: ArrayLike | None = None,
    strata_b: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = 2000,
) -> Comparison:
    """Give the difference AUROC(A) - AUROC(B) between two groups of different patients, with interval and test.

    Args:
        labels_a: (n_a,), 0, 1, or NaN where unknown; labels_b: (n_b,). The scores likewise.
        test: "t" refers the ratio to Student's t with Welch's df from all patients of each group, as pROC: nearly the
            normal distribution, and liberal with few positives (type I error .11 at nominal .05 with 3 in each group);
            "satterthwaite" takes the df from the positive and negative parts of both groups (.02 to .05 there); "z" the
            normal distribution. All are liberal if one group has few positives and the other many: .14 to .16 with 5
            against 50 at AUROC .85.
        level, hypothesis, margin: as `compare_auroc`.
        method: "delong"; "bootstrap": percentile interval from patients drawn within group and class, and the ratio to
            the bootstrap's standard deviation referred to the normal distribution, as pROC; "permutation": patients
            exchanged at random between the groups within class, the share of ratios (difference / its DeLong standard
            error) as large as observed counting the data themselves (never 0), with the interval of `test`. It is exact
            if positives score alike in both groups and negatives too, and near it in large samples otherwise; scores of
            both groups must be on one scale. One row a patient and no strata; for hypotheses without margin. Type
            I error at nominal .05: .03 to .065, also with 5 positives against 50; the bootstrap's .05 to .19.
        clusters_a: (n_a,), the patient of each row of A; clusters_b likewise. No patient may be in both groups; names
            are not compared between them, so that each group may number its own.
        strata_a: (n_a,), as `compare_auroc`; strata_b likewise.
        rng: for the bootstrap and the permutation test; None is a generator with seed 0. `replicates` is their number.

    Returns:
        n, positives and clusters are sums over both groups. Where the difference has no variance: p = 1 if it is 0, NaN
        with a reason otherwise.

    Raises:
        StatisticsError: as `compare_auroc`; clusters or strata for the permutation test.

    Sources: DeLong, DeLong & Clarke-Pearson 1988 (doi:10.2307/2531595); studentised permutation: Pauly, Asendorf &
    Konietschke 2016 (doi:10.1002/bimj.201500105).
    """
    question = ask(hypothesis, margin, level)
    check_choice(test, tuple(UNPAIRED_TESTS), "test")
    check_choice(method, UNPAIRED_METHODS, "method")
    if method == "permutation":
        _check_permutation(hypothesis, (clusters_a, clusters_b, strata_a, strata_b))
    draws = None if method == "delong" else check_random(rng, replicates, method)
    first, second = (
        observe(labels, {f"scores{suffix}": scores}, clusters=clusters, strata=strata, suffix=suffix)
        for suffix, labels, scores, clusters, strata in (
            ("_a", labels_a, scores_a, clusters_a, strata_a),
            ("_b", labels_b, scores_b, clusters_b, strata_b),
        )
    )
    groups = [covariance_of(observed) for observed in (first, second)]
    parts = [group.by_target[0] for group in groups]
    positives = sum(part.positives for part in parts)
    patients = (parts[0].patients, parts[1].patients)
    counts = Counts(positives + sum(part.negatives for part in parts), positives, sum(patients))
    spreads = (spread(groups[0], [[1.0]]), spread(groups[1], [[1.0]]))
    note = next((found for found in map(strata_note, groups) if found), "")
    by_test = decide_unpaired(spreads, patients, test, question, counts, note)
    if draws is None:
        return by_test
    if method == "permutation":
        kind = f"permutation test (patients exchanged within class, {draws.replicates} replicates)"
        named = replace(by_test, method=f"{kind}{wording(question)}; interval: {by_test.method}")
        if np.isnan(named.value):
            return named
        ratio, regrouped = regrouped_ratios(first, second, draws.rng, draws.replicates)
        return replace(named, p_value=permutation_p(ratio, regrouped, question))
    name = f"unpaired {bootstrap_name(draws)}{note}"
    if np.isnan(by_test.value):
        return replace(by_test, method=name + wording(question))
    drawn = [resampled_aurocs(observed, draws.rng, draws.replicates)[:, 0, 0] for observed in (first, second)]
    fewest = min(min(part.positive_patients, part.negative_patients) for part in parts)
    difference = Spread(by_test.value, spreads[0].variance + spreads[1].variance, np.nan, None)
    return decide_by_draws(difference, drawn[0] - drawn[1], fewest, question, counts, name)


def decide_unpaired(
    arms: tuple[Spread, Spread], patients: tuple[int, int], test: str, question: Question, counts: Counts, note: str
) -> Comparison:
    """Give the comparison of two independent AUROCs."""
    first, second = arms
    method = f"unpaired DeLong, {UNPAIRED_TESTS[test]}{note}"
    variance = first.variance + second.variance
    value = first.value - second.value
    reasons = [f"{name}: {arm.reason}" for name, arm in (("A", first), ("B", second)) if arm.reason]
    df = np.inf
    if test != "z" and variance > 0:
        degrees = (first.df, second.df) if test == "satterthwaite" else tuple(count - 1.0 for count in patients)
        squares = (arm.variance**2 / nu for arm, nu in zip(arms, degrees, strict=True) if arm.variance > 0)
        df = variance**2 / sum(squares)
    if variance == 0.0 and value == 0.0:
        reason = None if test == "z" else NO_INTERVAL
        df = np.inf if test == "z" else np.nan
        return no_difference(question, counts, method, df=df, interval=test == "z", reason=reason)
    return decide(Spread(value, variance, df, "; ".join(reasons) or None), question, counts, method)


def _check_permutation(hypothesis: str, groups: tuple[ArrayLike | None, ...]) -> None:
    problems: list[Problem] = []
    if hypothesis in WITH_MARGIN:
        remedy = "Exchanging patients can only test for no difference; use 'delong' or 'bootstrap'."
        problems.append(Problem("method", f"'delong' or 'bootstrap' for {hypothesis}", "'permutation'", remedy))
    if any(given is not None for given in groups):
        remedy = "It exchanges single rows; use 'delong' or 'bootstrap'."
        problems.append(Problem("method", "no clusters and no strata for 'permutation'", "some", remedy))
    if problems:
        raise StatisticsError(problems)
