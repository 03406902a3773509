"""Differences of two AUROCs on the same patients: DeLong, bootstrap and permutation. Different patients: `unpaired`."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tapfm_eval.errors import Problem, StatisticsError
from tapfm_eval.statistics.border import Draws, Observed, check_choice, check_flag, check_random, observe
from tapfm_eval.statistics.covariance import AurocCovariance, Spread, covariance_of, spread
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
from tapfm_eval.statistics.paired_mover import by_own_limits
from tapfm_eval.statistics.records import Comparison
from tapfm_eval.statistics.resampling import bootstrap_name, exchanged_differences, resampled_aurocs
from tapfm_eval.statistics.unpaired import UNPAIRED_TESTS, decide_unpaired

PAIRED_TESTS = {"t": "Satterthwaite t", "z": "z"}


def compare_auroc(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    paired: bool = True,
    test: str = "t",
    level: float = 0.95,
    hypothesis: str = "two-sided",
    margin: float | None = None,
    method: str = "delong",
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = 2000,
) -> Comparison:
    """Give the difference AUROC(A) - AUROC(B) of two scores on the same patients, with interval and test.

    Args:
        labels: (n,), 0, 1, or NaN where unknown (dropped).
        scores_a: (n,); only the order of scores matters, so A and B may be on different scales.
        scores_b: (n,).
        paired: False treats the two AUROCs as independent, as pROC does on request (the tests are then those of
            `compare_auroc_unpaired`); wasteful on the same patients.
        test: "t" refers the ratio to Student's t with Satterthwaite's df from the positive and negative parts of the
            difference; "z" to the normal distribution, as pROC. Type I error at nominal .05 with 3 / 5 / 10 / 20
            positives: up to .16 / .11 / .08 / .06 for z, at most .053 for t, where the two scores have the same shape;
            up to .25 for t where their positives spread very differently (docs/statistics-auroc.md).
        level: of the two-sided interval. Under a true difference of .05 between highly correlated scores of the same
            shape the 95 % t interval covers .88 / .90 / .93 / .94 with 3 / 5 / 10 / 20 positives at AUROC .85, and
            .80 / .83 / .88 / .92 at .95; between loosely correlated ones .93 or more at .85, .88 / .90 / .93 / .94 at
            .95; down to .87 where shapes differ. `method="mover"` holds.
        hypothesis: what the p-value is about: "two-sided"; "superiority" (H0: A <= B, one-sided); "inferiority"
            (H0: A >= B, one-sided); "non-inferiority" (H0: A - B <= -margin); "equivalence" (H0: |A - B| >= margin,
            two one-sided tests). The limits stay those of the two-sided interval: non-inferiority at one-sided alpha
            is read from the lower limit at level 1 - 2 alpha, equivalence from both.
        margin: positive, fixed before the data were seen; for the last two hypotheses only.
        method: "delong"; "bootstrap": percentile interval from patients drawn within class, and the ratio to the
            bootstrap's standard deviation referred to the normal distribution, as pROC; "permutation": the two midranks
            exchanged at random within patients, the share of differences as large as observed counting the data
            themselves (never 0), with the interval of `test`; for hypotheses without margin; "mover": both from the two
            AUROCs' own `auto` limits and their correlation (see `paired_mover`), with one positive too. It is the one
            to take where positives are few and may spread differently in A and B: type I error at most .050 where that
            of "delong" reaches .25, coverage at least .943 (docs/statistics-auroc.md).
        clusters: (n,), the patient of each row.
        strata: (n,), e.g. the test fold; scores are compared within strata only (see `auroc_covariance`).
        rng: for the bootstrap and the permutation test; None is a generator with seed 0, so that the same data give the
            same result. `replicates` is their number.

    Returns:
        Where the difference has no variance: p = 1 if it is 0 (the same order of patients, or both AUROCs 1), NaN with
        a reason otherwise. The interval is then [0, 0] for the same order and for test="z" (as pROC), otherwise NaN.

    Raises:
        StatisticsError: malformed arrays (all faults listed), unknown names, a margin missing or out of place.

    Sources: DeLong, DeLong & Clarke-Pearson 1988 (doi:10.2307/2531595); Bandos, Rockette & Gur 2005
    (doi:10.1002/sim.2149).
    """
    question = ask(hypothesis, margin, level)
    check_flag(paired, "paired")
    check_choice(test, tuple(PAIRED_TESTS if paired else UNPAIRED_TESTS), "test")
    check_choice(method, ("delong", "bootstrap", "permutation", "mover"), "method")
    if method != "delong" and not paired:
        raise StatisticsError(Problem("method", "'delong' with paired=False", repr(method), "Use paired=True."))
    if method == "permutation" and hypothesis in WITH_MARGIN:
        remedy = "Exchanging scores can only test for no difference; use 'delong' or 'bootstrap'."
        raise StatisticsError(Problem("method", f"'delong' or 'bootstrap' for {hypothesis}", repr(method), remedy))
    draws = None if method in ("delong", "mover") else check_random(rng, replicates, method)
    observed = observe(labels, {"scores_a": scores_a, "scores_b": scores_b}, clusters=clusters, strata=strata)
    aurocs = covariance_of(observed)
    part = aurocs.by_target[0]
    counts = Counts(part.positives + part.negatives, part.positives, part.patients)
    note = strata_note(aurocs)
    if not paired:
        arms = (spread(aurocs, [[1.0], [0.0]]), spread(aurocs, [[0.0], [1.0]]))
        return decide_unpaired(arms, (part.patients, part.patients), test, question, counts, note)
    difference = spread(aurocs, [[1.0], [-1.0]])
    by_delong = _decide_paired(observed, aurocs, difference, test, question, counts, note)
    if method == "delong":
        return by_delong
    name = f"{_name(method, draws)}{note}"
    if method == "bootstrap" and draws is not None and not np.isnan(difference.value):
        drawn = resampled_aurocs(observed, draws.rng, draws.replicates)[:, :, 0]
        fewest, same = min(part.positive_patients, part.negative_patients), _same_order(observed)
        return decide_by_draws(
            difference, drawn[:, 0] - drawn[:, 1], fewest, question, counts, name, same_order=same
        )  # fmt: skip
    interval = f"; interval: {by_delong.method}" if method == "permutation" else ""
    named = replace(by_delong, method=f"{name}{wording(question)}{interval}")
    if np.isnan(difference.value):
        return named
    if draws is not None:
        exchanged = exchanged_differences(observed, draws.rng, draws.replicates)
        return replace(named, p_value=permutation_p(difference.value, exchanged, question))
    return replace(named, df=np.nan) if _same_order(observed) else by_own_limits(aurocs, named, question)


def _name(method: str, draws: Draws | None) -> str:
    """Give the name of a comparison other than DeLong's."""
    if draws is None:
        return "paired MOVER of the arms' own auto limits"
    if method == "permutation":
        return f"permutation test (ranks exchanged within patients, {draws.replicates} replicates)"
    return f"paired {bootstrap_name(draws)}"


def _decide_paired(
    observed: Observed,
    aurocs: AurocCovariance,
    difference: Spread,
    test: str,
    question: Question,
    counts: Counts,
    note: str,
) -> Comparison:
    method = f"paired DeLong, {PAIRED_TESTS[test]}{note}"
    if difference.value == 0.0 and not difference.variance > 0:
        same = _same_order(observed)
        if same or difference.variance == 0.0:
            interval = same or test == "z"
            df = np.inf if test == "z" else np.nan
            return no_difference(
                question, counts, method, df=df, interval=interval, reason=None if interval else NO_INTERVAL
            )
    return decide(replace(difference, df=np.inf) if test == "z" else difference, question, counts, method)


def _same_order(observed: Observed) -> bool:
    """Tell whether the two arms order the labelled rows alike within every stratum."""
    known = ~np.isnan(observed.labels[:, 0])
    strata = np.zeros(known.size, dtype=np.intp) if observed.strata is None else observed.strata
    for stratum in np.unique(strata[known]):
        rows = known & (strata == stratum)
        first, second = (np.unique(observed.scores[arm, rows, 0], return_inverse=True)[1] for arm in range(2))
        if not np.array_equal(first, second):
            return False
    return True
