"""Empirical coverage of the intervals other than those of AUROCs: average precision, predictive values, net benefit.

Run from the repository root: `python tests/benchmarks/coverage_more.py` (half an hour on one idle core;
`--simulations 100` for a look). Tables go to stdout in Markdown; docs/statistics.md holds those of the last full run.
AUROC intervals: coverage.py.

The predictive values are not simulated: their coverage is summed over every 2 x 2 table that can occur.
"""

import argparse
import itertools
import time
from collections.abc import Iterator

import numpy as np
from coverage_samples import AUROCS, FLOOR, PATIENTS, POSITIVES, SHAPES, Floats
from scipy.integrate import quad
from scipy.special import gammaln, ndtr, ndtri, xlog1py, xlogy

from tapfm_eval.statistics import (
    Estimate,
    adjusted_auroc,
    auroc,
    average_precision,
    covariate_auroc,
    net_benefit,
    predictive_values,
    subgroup_auroc,
)
from tapfm_eval.statistics.precision_recall import RESAMPLED, chosen_method, precision_limits
from tapfm_eval.statistics.precision_steps import average_precisions, resampled_precisions, steps_of
from tapfm_eval.statistics.single import known_rows

Components = list[tuple[float, float, float]]  # share, mean and standard deviation of a part of the positives
AP_METHODS = ("auto", "bootstrap-logit", "bootstrap", "linear-logit", "binomial", "logit")
PV_METHODS = ("auto", "logit", "exact")
SENSITIVITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
SPECIFICITIES = (0.6, 0.8, 0.9, 0.97)
PREVALENCE = 0.1


def main() -> None:
    parts = {
        "precision": ("Average precision", average_precision_table, 10_000),
        "precision-large": ("Average precision with many positives", large_average_precision_table, 2_000),
        "predictive": ("PPV and NPV at a stated prevalence (exact)", lambda *_: predictive_value_table(), 0),
        "benefit": ("Net benefit", net_benefit_table, 10_000),
        "adjusted": ("Covariate-adjusted AUROC", adjusted_table, 2_000),
        "covariates": ("Covariates alone that tell nothing", covariates_table, 2_000),
        "heterogeneity": ("Heterogeneity of subgroups: type I error at .05", heterogeneity_table, 2_000),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, help="a cell, in place of each part's own number")
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="of average precision")
    parser.add_argument("--replicates", type=int, default=200, help="of each bootstrap")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.parts:
        title, table, usual = parts[name]
        simulations = (arguments.simulations or usual) if usual else 0
        started = time.monotonic()
        print(f"\n### {title}" + (f": {simulations:,} simulations a cell" if usual else "") + "\n")
        options = (arguments.replicates, arguments.shapes) if name == "precision" else ()
        for line in table(simulations, arguments.seed, *options):
            print(line, flush=True)
        print(f"\n{time.monotonic() - started:.0f} s")


def average_precision_table(simulations: int, seed: int, replicates: int, shapes: list[str]) -> Iterator[str]:
    """Coverage / mean width of each method, by positives of 400, AUROC and shape of the positives' scores."""
    yield "| positives, AUROC, shape | true AP | mean estimate | " + " | ".join(AP_METHODS) + " |"
    yield "|---|---|---|" + "---|" * len(AP_METHODS)
    short: list[str] = []
    for shape in shapes:
        for positives in (*POSITIVES, 100):
            for true_auroc in AUROCS:
                rng = np.random.default_rng([seed, positives, round(100 * true_auroc), SHAPES.index(shape)])
                parts = components(true_auroc, shape)
                truth = true_average_precision(parts, positives / PATIENTS)
                labels = (np.arange(PATIENTS) < positives).astype(np.float64)
                found = np.empty((simulations, len(AP_METHODS), 2))
                values = np.empty(simulations)
                for index in range(simulations):
                    scores = sample(positives, PATIENTS, parts, rng)
                    values[index], found[index] = every_limit(labels, scores, rng, replicates)
                cells = [coverage(*found[:, column].T, truth) for column in range(len(AP_METHODS))]
                where = f"{positives}, {true_auroc:.2f}, {shape}"
                yield (
                    f"| {where} | {truth:.3f} | {values.mean():.3f} | " + " | ".join(cell(*one) for one in cells) + " |"
                )
                if cells[0][0] < FLOOR - 2 * np.sqrt(FLOOR * (1 - FLOOR) / simulations):
                    short.append(f"{where}: auto covers {cells[0][0]:.3f}")
    yield "\n" + ("\n".join(["Falls short:", *short]) if short else "Nothing falls short of its floor.")


def every_limit(labels: Floats, scores: Floats, rng: np.random.Generator, replicates: int) -> tuple[float, Floats]:
    """Average precision, and the limits of every method from one set of resamples, (methods, 2).

    `average_precision` gives the same limits for the same generator: tests/statistics/test_coverage_benchmark.py.
    """
    steps = steps_of(known_rows(labels, scores))
    value = float(average_precisions(steps.positive_counts[None], steps.negative_counts[None])[0])
    draws = resampled_precisions(steps, rng, replicates)
    limits = np.empty((len(AP_METHODS), 2))
    for index, method in enumerate(AP_METHODS):
        chosen = chosen_method(method, steps.positive_patients)
        found = precision_limits(steps, value, chosen, 0.95, draws)
        if np.isnan(found.lower) and (method == "auto" or chosen == "envelope"):
            found = precision_limits(steps, value, "binomial", 0.95, draws)
        limits[index] = found.lower, found.upper
    return value, limits


def large_average_precision_table(simulations: int, seed: int) -> Iterator[str]:
    """Coverage / mean width of the default with 1,000 positives, where it no longer resamples."""
    yield "| positives, AUROC, shape | true AP | auto |\n|---|---|---|"
    positives, patients = 1000, 4000
    labels = (np.arange(patients) < positives).astype(np.float64)
    for shape in SHAPES:
        for true_auroc in AUROCS:
            rng = np.random.default_rng([seed, positives, round(100 * true_auroc), SHAPES.index(shape)])
            parts = components(true_auroc, shape)
            truth = true_average_precision(parts, positives / patients)
            found = [average_precision(labels, sample(positives, patients, parts, rng)) for _ in range(simulations)]
            assert not set(RESAMPLED) & {one.method.split(", ")[0] for one in found}
            where = f"{positives:,} of {patients:,}, {true_auroc:.2f}, {shape}"
            yield f"| {where} | {truth:.3f} | {cell_of(found, truth)} |"


def components(true_auroc: float, shape: str) -> Components:
    """The normal parts of the positives' scores where negatives are standard normal."""
    if shape == "look-alikes":  # a share of 1 - AUROC of the positives looks like negatives
        share = 1.0 - true_auroc
        return [(share, 0.0, 1.0), (1 - share, np.sqrt(2.0) * ndtri((true_auroc - share / 2) / (1 - share)), 1.0)]
    spread = {"equal spread": 1.0, "half spread": 0.5, "double spread": 2.0}[shape]
    return [(1.0, np.sqrt(1 + spread**2) * ndtri(true_auroc), spread)]


def true_average_precision(parts: Components, prevalence: float) -> float:
    """Average precision of an infinite cohort: the mean over positives of the precision at their own score."""

    def precision_at(score: float) -> float:
        called_positive = prevalence * sum(share * ndtr((mean - score) / sd) for share, mean, sd in parts)
        return float(called_positive / (called_positive + (1 - prevalence) * ndtr(-score)))

    def integrand(x: float, mean: float, sd: float) -> float:
        return float(np.exp(-x * x / 2) / np.sqrt(2 * np.pi)) * precision_at(mean + sd * x)

    return sum(
        share * float(quad(integrand, -8, 8, args=(mean, sd), limit=400)[0]) for share, mean, sd in parts if share
    )


def sample(positives: int, patients: int, parts: Components, rng: np.random.Generator) -> Floats:
    """Scores (patients,), the positives first."""
    scores = rng.standard_normal(patients)
    shares, means, spreads = np.array(parts).T
    part = rng.choice(len(parts), size=positives, p=shares)
    scores[:positives] = means[part] + spreads[part] * scores[:positives]
    return scores


def coverage(lower: Floats, upper: Floats, truth: float) -> tuple[float, float]:
    """Share of intervals that hold the truth (no interval is a miss), and the mean width of those there are."""
    return float(np.mean((lower <= truth) & (truth <= upper))), float(np.nanmean(upper - lower))


def cell(covered: float, width: float) -> str:
    return f"{covered:.3f} / {width:.2f}"


def cell_of(found: list[Estimate], truth: float) -> str:
    lower, upper = np.array([(one.lower, one.upper) for one in found]).T
    return cell(*coverage(lower, upper, truth))


def predictive_value_table() -> Iterator[str]:
    """Smallest and median coverage over sensitivities and specificities, by positives of 400."""
    columns = [f"{name} {method}" for name in ("PPV", "NPV") for method in PV_METHODS]
    yield "| positives | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for positives in (*POSITIVES, 100):
        covers = {method: all_limits(positives, PATIENTS - positives, method) for method in PV_METHODS}
        cells = []
        for which in (0, 1):
            for method in PV_METHODS:
                found = [
                    exact_coverage(covers[method][which], positives, sensitivity, specificity, which)
                    for sensitivity in SENSITIVITIES
                    for specificity in SPECIFICITIES
                ]
                cells.append(f"{min(found):.3f} ({np.median(found):.3f})")
        yield f"| {positives} | " + " | ".join(cells) + " |"


def all_limits(positives: int, negatives: int, method: str) -> tuple[Floats, Floats]:
    """Limits of PPV and NPV for every table, each (positives + 1, negatives + 1, 2), by tp and fp."""
    shape = (positives + 1, negatives + 1, 2)
    ppv, npv = np.empty(shape), np.empty(shape)
    for tp in range(positives + 1):
        for fp in range(negatives + 1):
            found = predictive_values(tp, fp, negatives - fp, positives - tp, PREVALENCE, method=method)
            ppv[tp, fp] = found.ppv.lower, found.ppv.upper
            npv[tp, fp] = found.npv.lower, found.npv.upper
    return ppv, npv


def exact_coverage(limits: Floats, positives: int, sensitivity: float, specificity: float, which: int) -> float:
    """Probability that the interval of PPV (0) or NPV (1) holds the truth."""
    true_positive, false_positive = PREVALENCE * sensitivity, (1 - PREVALENCE) * (1 - specificity)
    false_negative, true_negative = PREVALENCE * (1 - sensitivity), (1 - PREVALENCE) * specificity
    truth = (true_positive / (true_positive + false_positive), true_negative / (true_negative + false_negative))[which]
    holds = (limits[..., 0] <= truth + 1e-12) & (truth - 1e-12 <= limits[..., 1])
    return float(binomial(positives, sensitivity) @ holds @ binomial(PATIENTS - positives, 1 - specificity))


def binomial(n: int, share: float) -> Floats:
    """Probabilities of 0..n successes."""
    k = np.arange(n + 1)
    log_ways = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.exp(log_ways + xlogy(k, share) + xlog1py(n - k, -share))


def net_benefit_table(simulations: int, seed: int) -> Iterator[str]:
    """Coverage of the model's net benefit and of its difference from treating all, prevalence random."""
    yield "| prevalence, sensitivity, specificity, threshold | model: score | wald | versus all: score | wald |"
    yield "|---|---|---|---|---|"
    for prevalence, sensitivity, specificity, threshold in (
        (0.0125, 0.8, 0.8, 0.05),
        (0.025, 0.8, 0.95, 0.3),
        (0.1, 0.7, 0.9, 0.2),
        (0.26, 0.9, 0.6, 0.1),
    ):
        rng = np.random.default_rng([seed, int(1e4 * prevalence)])
        price = threshold / (1 - threshold)
        truth = prevalence * sensitivity - (1 - prevalence) * (1 - specificity) * price
        gain = truth - (prevalence - (1 - prevalence) * price)
        held = np.zeros((2, 2))
        for _ in range(simulations):
            labels = (rng.random(PATIENTS) < prevalence).astype(np.float64)
            called = rng.random(PATIENTS) < np.where(labels == 1, sensitivity, 1 - specificity)
            for column, interval in enumerate(("score", "wald")):
                point = net_benefit(labels, np.where(called, 0.99, 0.01), [threshold], interval=interval).points[0]
                held[0, column] += point.model.lower <= truth <= point.model.upper
                held[1, column] += point.versus_all.lower <= gain <= point.versus_all.upper
        cells = " | ".join(f"{share:.3f}" for share in (held / simulations).ravel())
        yield f"| {prevalence}, {sensitivity}, {specificity}, {threshold} | {cells} |"


def adjusted_table(simulations: int, seed: int) -> Iterator[str]:
    """Coverage of the AUROC within strata when strata shift both the scores and the prevalence."""
    yield "| positives of 400, AUROC within strata, strata | crude AUROC (mean) | adjusted: coverage / width |"
    yield "|---|---|---|"
    for share, true_auroc, strata in ((0.03, 0.85, 4), (0.08, 0.7, 4), (0.25, 0.85, 10), (0.08, 0.95, 2)):
        rng = np.random.default_rng([seed, int(1e3 * share), strata])
        found, crude = [], []
        while len(found) < simulations:
            stratum = rng.integers(0, strata, PATIENTS)
            risk = share * (1 + 0.8 * np.cos(2 * np.pi * stratum / strata))
            labels = (rng.random(PATIENTS) < risk).astype(np.float64)
            if labels.sum() < 2:
                continue
            scores = rng.standard_normal(PATIENTS) + np.sqrt(2) * ndtri(true_auroc) * labels
            scores += np.cos(2 * np.pi * stratum / strata)
            found.append(adjusted_auroc(labels, scores, {"stratum": stratum.astype(str)}))
            crude.append(auroc(labels, scores, method="delong").value)
        where = f"{PATIENTS * share:.0f}, {true_auroc}, {strata}"
        yield f"| {where} | {np.mean(crude):.3f} | {cell_of(found, true_auroc)} |"


def covariates_table(simulations: int, seed: int) -> Iterator[str]:
    """Coverage of .5 by the interval of covariates that have nothing to do with the label, and where it misses."""
    yield "| events / n | covariates | mean AUROC | covered | wholly below .5 | wholly above .5 |"
    yield "|---|---|---|---|---|---|"
    kinds = {
        "age": ("age",), "sex": ("sex",), "stage, 4 levels": ("stage",), "site, 20 levels": ("site",),
        "age, sex, stage": ("age", "sex", "stage"),
    }  # fmt: skip
    for (events, n), (described, names) in itertools.product(((38, 110), (58, 470), (120, 470)), kinds.items()):
        rng = np.random.default_rng([seed, n, events])
        labels = np.repeat([1.0, 0.0], [events, n - events])
        found = []
        for _ in range(simulations):
            values = {
                "age": rng.normal(65, 10, n), "sex": rng.integers(0, 2, n).astype(str),
                "stage": rng.integers(0, 4, n).astype(str), "site": rng.integers(0, 20, n).astype(str),
            }  # fmt: skip
            estimate = covariate_auroc(labels, {name: values[name] for name in names}, rng=rng)
            found.append((estimate.value, estimate.lower, estimate.upper))
        value, lower, upper = np.array(found).T
        below, above = (upper < 0.5).mean(), (lower > 0.5).mean()
        shares = f"{value.mean():.3f} | {1 - below - above:.3f} | {below:.3f} | {above:.3f}"
        yield f"| {events} / {n} | {described} | {shares} |"


def heterogeneity_table(simulations: int, seed: int) -> Iterator[str]:
    """Share of p-values below .05 when all levels have the same AUROC; a test that is not estimable claims nothing.

    Over folds each fold scores on a scale of its own, and patients are compared within folds.
    """
    yield "| positives / negatives per level, AUROC, spread | folds | Welch F on logits | Cochran Q | Q on logits |"
    yield "|---|---|---|---|---|"
    three = ((8, 80), (12, 120), (40, 200))
    designs: tuple[tuple[tuple[tuple[int, int], ...], float, float], ...] = (
        (three, 0.8, 1.0),
        (three, 0.9, 1.0),
        (((5, 50),) * 5, 0.8, 1.0),
        (((6, 50), (50, 200)), 0.8, 1.0),
        (((6, 50), (50, 200)), 0.8, 2.0),
    )
    for folds, (levels, true_auroc, spread) in itertools.product((1, 5), designs):
        rng = np.random.default_rng([seed, len(levels), int(100 * true_auroc)])
        dealt = np.random.default_rng([seed, folds])
        labels = np.concatenate([np.repeat([1.0, 0.0], level) for level in levels])
        groups = np.repeat(np.arange(len(levels)), [m + n for m, n in levels])
        p_values = []
        for _ in range(simulations):
            scores = rng.standard_normal(labels.size)
            scores = np.where(labels == 1, spread * scores + np.sqrt(1 + spread**2) * ndtri(true_auroc), scores)
            fold = np.empty(labels.size, dtype=np.intp)
            for members in (np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)):
                fold[dealt.permutation(members)] = np.arange(members.size) % folds
            found = subgroup_auroc(labels, scores + dealt.standard_normal(folds)[fold], groups, strata=fold)
            p_values.append((found.heterogeneity.p_value, found.cochran_q.p_value, found.cochran_q_logit.p_value))
        shares = " | ".join(f"{share:.3f}" for share in np.mean(np.array(p_values) < 0.05, axis=0))
        described = "; ".join(f"{m}/{n}" for m, n in levels) if len(set(levels)) > 1 else f"{len(levels)} x 5/50"
        yield f"| {described}, {true_auroc}, {spread:g} | {folds} | {shares} |"


if __name__ == "__main__":
    main()
