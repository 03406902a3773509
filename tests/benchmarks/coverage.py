"""Empirical coverage and width of the AUROC intervals, and type I error of the tests, by seeded simulation.

Run from the repository root: `python tests/benchmarks/coverage.py` (minutes; `--simulations 1000` for a look). Tables
go to stdout in Markdown; docs/statistics-auroc.md holds those of the last full run. AUPRC and PPV: coverage_more.py.

Cells of one AUROC are simulated as whole arrays through the same limit functions that the public ones call;
tests/statistics/test_coverage_benchmark.py checks on a sample that both give the same numbers.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from tapfm_eval.statistics import (
    auroc,
    auroc_covariance,
    auroc_heterogeneity,
    compare_auroc,
    compare_auroc_unpaired,
    contrast,
    macro_auroc,
    micro_auroc,
)
from tapfm_eval.statistics.intervals import (
    envelope_limits,
    is_small,
    logit_limits,
    logit_t_limits,
    newcombe5_limits,
    score_terms,
    wald_limits,
)
from tapfm_eval.statistics.placements import placement_counts

Floats = NDArray[np.float64]
LEVEL = 0.95
METHODS = ("delong", "delong-logit", "logit-t", "newcombe5", "envelope", "auto")
POSITIVES = (3, 5, 10, 20, 50)
PATIENTS = 400
AUROCS = (0.70, 0.85, 0.95)
SHAPES = ("equal spread", "half spread", "double spread", "look-alikes")
FLOOR = 0.93


@dataclass(frozen=True, slots=True)
class Simulated:
    """AUROCs and their parts for many simulated samples: one entry a simulation."""

    auroc: Floats
    positive_part: Floats
    negative_part: Floats
    df: Floats


def draw(
    auc: float, shape: str, positives: int, size: int, rng: np.random.Generator, patients: int = PATIENTS
) -> Floats:
    """Give scores (size, patients), the positives first; negatives are standard normal, the true AUROC is `auc`."""
    scores = rng.standard_normal((size, patients))
    own = scores[:, :positives]
    if shape == "look-alikes":  # a share of 1 - auc of the positives looks like negatives
        share = 1.0 - auc
        shift = np.sqrt(2.0) * ndtri((auc - share / 2.0) / (1.0 - share))
        own += shift * (rng.random(own.shape) >= share)
    else:
        sd = {"equal spread": 1.0, "half spread": 0.5, "double spread": 2.0}[shape]
        own *= sd
        own += np.sqrt(1.0 + sd**2) * ndtri(auc)
    return scores


def simulate(scores: Floats, positives: int) -> Simulated:
    """Give DeLong's parts of every row of scores."""
    m, n = positives, scores.shape[1] - positives
    placed = placement_counts(scores, np.arange(m + n) < m)
    v10, v01 = placed[:, :m] / n, placed[:, m:] / m
    a, b = v10.var(axis=1, ddof=1) / m, v01.var(axis=1, ddof=1) / n
    spread = a**2 / (m - 1) + b**2 / (n - 1)
    df = np.divide((a + b) ** 2, spread, out=np.full_like(a, np.nan), where=spread > 0)
    return Simulated(v10.mean(axis=1), a, b, df)


def limits(drawn: Simulated, positives: int, negatives: int, method: str) -> tuple[Floats, Floats]:
    """Give the limits of every simulation by one method."""
    terms = score_terms(positives, negatives)
    variance = drawn.positive_part + drawn.negative_part
    variance = np.where(variance > 1e-20, variance, 0.0)  # dust of shares such as 1/3
    if method == "delong":
        return wald_limits(drawn.auroc, variance, LEVEL)
    if method == "delong-logit":
        return logit_limits(drawn.auroc, variance, LEVEL)
    if method == "newcombe5":
        return newcombe5_limits(drawn.auroc, *terms, LEVEL)
    by_t = logit_t_limits(drawn.auroc, variance, drawn.df, *terms, LEVEL)
    if method == "logit-t":
        return by_t
    wide = envelope_limits(drawn.auroc, variance, drawn.df, *terms, LEVEL)
    if method == "envelope":
        return wide
    small = is_small(drawn.auroc, positives, negatives)
    return np.where(small, wide[0], by_t[0]), np.where(small, wide[1], by_t[1])


def blocks(simulations: int, step: int = 2000) -> Iterator[int]:
    """Give block sizes that sum to `simulations`."""
    for start in range(0, simulations, step):
        yield min(step, simulations - start)


def one_auroc(simulations: int) -> list[str]:
    """Print coverage (mean width) of each method in each cell; give the cells where `auto` falls short."""
    heading = "".join(f" {method} |" for method in METHODS)
    print(f"\n| shape | AUROC | positives |{heading}\n|---|---|---|{'---|' * len(METHODS)}")
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)
    for shape in SHAPES:
        for auc in AUROCS:
            for positives in POSITIVES:
                rng = np.random.default_rng([1, SHAPES.index(shape), round(100 * auc), positives])
                covered, width = np.zeros(len(METHODS)), np.zeros(len(METHODS))
                for size in blocks(simulations):
                    drawn = simulate(draw(auc, shape, positives, size, rng), positives)
                    for index, method in enumerate(METHODS):
                        lower, upper = limits(drawn, positives, PATIENTS - positives, method)
                        covered[index] += np.sum((lower <= auc) & (auc <= upper))  # NaN limits do not cover
                        width[index] += np.nansum(upper - lower)
                rates, widths = covered / simulations, width / simulations
                cells = "".join(f" {rate:.3f} ({wide:.2f}) |" for rate, wide in zip(rates, widths, strict=True))
                print(f"| {shape} | {auc:.2f} | {positives} |{cells}", flush=True)
                if rates[-1] < FLOOR - 2 * error:
                    short.append(f"{shape}, AUROC {auc}, {positives} positives: auto covers {rates[-1]:.3f}")
    return short


def bootstrap(simulations: int, replicates: int = 1000) -> None:
    """Print coverage of the percentile bootstrap where positives and negatives spread equally."""
    print("\n| AUROC | positives | bootstrap coverage | mean width |\n|---|---|---|---|")
    for auc in AUROCS:
        for positives in POSITIVES:
            rng = np.random.default_rng([2, round(100 * auc), positives])
            scores = draw(auc, "equal spread", positives, simulations, rng)
            labels = np.arange(PATIENTS) < positives
            found = [auroc(labels, row, method="bootstrap", rng=rng, replicates=replicates) for row in scores]
            rate = np.mean([one.lower <= auc <= one.upper for one in found])
            print(f"| {auc:.2f} | {positives} | {rate:.3f} | {np.mean([one.upper - one.lower for one in found]):.2f} |")


def paired_test(simulations: int) -> list[str]:
    """Print the type I error at .05 of the paired tests and the coverage of the t interval under a true difference."""
    print("\n| AUROC | correlation | positives | z | t | t interval, true difference .05 |\n|---|---|---|---|---|---|")
    liberal = []
    for auc in (0.70, 0.85):
        for correlation in (0.3, 0.8):
            for positives in POSITIVES:
                rng = np.random.default_rng([3, round(100 * auc), round(10 * correlation), positives])
                rejected_z = rejected_t = covered = 0.0
                for size in blocks(simulations):
                    shared = rng.standard_normal((size, PATIENTS))
                    own = rng.standard_normal((2, size, PATIENTS))
                    noise = np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * own
                    p_z, p_t, _, _ = paired(_shifted(noise, (auc, auc), positives), positives)
                    rejected_z += np.sum(p_z < 0.05)
                    rejected_t += np.sum(p_t < 0.05)
                    _, _, lower, upper = paired(_shifted(noise, (auc + 0.05, auc), positives), positives)
                    covered += np.sum((lower <= 0.05) & (upper >= 0.05))
                rates = rejected_z / simulations, rejected_t / simulations, covered / simulations
                print(f"| {auc:.2f} | {correlation} | {positives} |" + "".join(f" {rate:.3f} |" for rate in rates))
                if rates[1] > 0.06:
                    liberal.append(f"paired t, AUROC {auc}, correlation {correlation}, {positives}: {rates[1]:.3f}")
    return liberal


def paired(scores: Floats, positives: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Give p of the z and the t test and the t limits for scores (2, size, patients)."""
    m, n = positives, scores.shape[-1] - positives
    placed = placement_counts(scores, np.arange(m + n) < m)
    v10, v01 = placed[..., :m] / n, placed[..., m:] / m
    difference = (v10[0] - v10[1]).mean(axis=-1)
    a, b = (v10[0] - v10[1]).var(axis=-1, ddof=1) / m, (v01[0] - v01[1]).var(axis=-1, ddof=1) / n
    variance = a + b
    alive = variance > 1e-20
    safe = np.where(alive, variance, 1.0)
    df = np.where(alive, safe**2 / np.where(alive, a**2 / (m - 1) + b**2 / (n - 1), 1.0), 1.0)
    ratio = np.where(alive, difference / np.sqrt(safe), 0.0)  # no variance: p = 1
    half = stdtrit(df, 0.5 + LEVEL / 2) * np.sqrt(variance)
    return 2 * ndtr(-np.abs(ratio)), 2 * stdtr(df, -np.abs(ratio)), difference - half, difference + half


def mover(scores: Floats, positives: int) -> tuple[Floats, Floats]:
    """Give the limits of `compare_auroc(method="mover")` for scores (2, size, patients)."""
    m, n = positives, scores.shape[-1] - positives
    arms = [simulate(one, m) for one in scores]
    placed = placement_counts(scores, np.arange(m + n) < m)
    v10, v01 = placed[..., :m] / n, placed[..., m:] / m
    shared = sum(
        ((part[0] - part[0].mean(axis=-1, keepdims=True)) * part[1]).sum(axis=-1) / (size - 1) / size
        for part, size in ((v10, m), (v01, n))
    )
    both = (arms[0].positive_part + arms[0].negative_part) * (arms[1].positive_part + arms[1].negative_part)
    r = np.divide(shared, np.sqrt(both), out=np.zeros_like(both), where=both > 1e-40)
    (low_a, high_a), (low_b, high_b) = (limits(one, m, n, "auto") for one in arms)
    a, b = arms[0].auroc, arms[1].auroc

    def distance(first: Floats, second: Floats) -> Floats:
        return np.sqrt(np.maximum(first**2 - 2 * r * first * second + second**2, 0.0))

    lower, upper = a - b - distance(a - low_a, high_b - b), a - b + distance(high_a - a, b - low_b)
    return np.maximum(lower, -1.0), np.minimum(upper, 1.0)


def spread_test(simulations: int) -> list[str]:
    """Print type I error and coverage of the t test and of MOVER where the two arms' positives spread differently."""
    heading = "type I error: t | MOVER | coverage, true difference -.05: t | MOVER | width: t | MOVER |"
    print(f"\n| AUROC, correlation | spread A / B | positives | {heading}\n|---|---|---|---|---|---|---|---|---|")
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)
    for auc, correlation, spreads in (
        (0.70, 0.8, (1.0, 1.0)),
        (0.85, 0.8, (1.0, 1.0)),
        (0.85, 0.5, (1.0, 1.0)),
        (0.95, 0.5, (1.0, 2.0)),
        (0.85, 0.5, (0.5, 2.0)),
        (0.95, 0.5, (0.5, 2.0)),
    ):
        for positives in POSITIVES:
            rng = np.random.default_rng(
                [13, round(100 * auc), round(10 * correlation), round(2 * sum(spreads)), positives]
            )
            found = np.zeros(6)
            for size in blocks(simulations, 1000):
                shared = np.sqrt(correlation) * rng.standard_normal((size, PATIENTS))
                noise = shared + np.sqrt(1.0 - correlation) * rng.standard_normal((2, size, PATIENTS))
                for difference in (0.0, -0.05):
                    scores = noise.copy()
                    for arm, (sd, true) in enumerate(zip(spreads, (auc + difference, auc), strict=True)):
                        scores[arm, :, :positives] *= sd
                        scores[arm, :, :positives] += np.sqrt(1.0 + sd**2) * ndtri(true)
                    by_t, by_own = paired(scores, positives)[2:], mover(scores, positives)
                    outside = [np.sum((low > difference) | (high < difference)) for low, high in (by_t, by_own)]
                    if difference == 0.0:
                        found[:2] += outside
                    else:
                        found[2:4] += size - np.array(outside)
                        found[4:] += [np.sum(high - low) for low, high in (by_t, by_own)]
            rates = found / simulations
            cells = "".join(f" {rate:.3f} |" for rate in rates[:4]) + "".join(f" {width:.2f} |" for width in rates[4:])
            where = f"{auc:.2f}, {correlation} | {spreads[0]:g} / {spreads[1]:g} | {positives}"
            print(f"| {where} |{cells}", flush=True)
            if rates[1] > 0.06 or rates[3] < FLOOR - 2 * error:
                short.append(f"MOVER of a difference, {where}: type I error {rates[1]:.3f}, coverage {rates[3]:.3f}")
    return short


def _shifted(noise: Floats, aurocs: tuple[float, float], positives: int) -> Floats:
    scores = noise.copy()
    for arm, auc in enumerate(aurocs):
        scores[arm, :, :positives] += np.sqrt(2.0) * ndtri(auc)
    return scores


def unpaired_test(simulations: int) -> None:
    """Print the type I error at .05 of the unpaired tests for two groups of 200 patients."""
    print("\n| AUROC | positives of 200, A / B | z | Welch t (pROC) | Satterthwaite t |\n|---|---|---|---|---|")
    for auc in (0.70, 0.85):
        for counts in ((3, 3), (5, 5), (5, 50), (10, 10), (20, 20), (50, 50)):
            rng = np.random.default_rng([10, round(100 * auc), *counts])
            rejected = np.zeros(3)
            for size in blocks(simulations):
                groups = [simulate(draw(auc, "equal spread", m, size, rng, patients=200), m) for m in counts]
                variances = [one.positive_part + one.negative_part for one in groups]
                total = sum(variances)
                alive = (variances[0] > 1e-20) & (variances[1] > 1e-20)  # otherwise hardly ever rejected
                ratio = (groups[0].auroc - groups[1].auroc)[alive] / np.sqrt(total[alive])
                rejected[0] += np.sum(2 * ndtr(-np.abs(ratio)) < 0.05)
                for index, degrees in enumerate(((199.0, 199.0), (groups[0].df[alive], groups[1].df[alive])), start=1):
                    df = total[alive] ** 2 / sum(v[alive] ** 2 / nu for v, nu in zip(variances, degrees, strict=True))
                    rejected[index] += np.sum(2 * stdtr(df, -np.abs(ratio)) < 0.05)
            rates = "".join(f" {rate:.3f} |" for rate in rejected / simulations)
            print(f"| {auc:.2f} | {counts[0]} / {counts[1]} |{rates}", flush=True)


def heterogeneity_test(simulations: int) -> None:
    """Print the type I error at .05 of the tests that four arms are equal on one target."""
    print("\n| positives | chi-square | Hotelling F |\n|---|---|---|")
    for positives in (5, 10, 20, 50):
        rng = np.random.default_rng([11, positives])
        labels = (np.arange(PATIENTS) < positives)[:, None]
        rejected = np.zeros(2)
        for _ in range(simulations):
            noise = np.sqrt(0.5) * (rng.standard_normal((PATIENTS, 1)) + rng.standard_normal((4, PATIENTS, 1)))
            aurocs = auroc_covariance(labels, noise + np.sqrt(2.0) * ndtri(0.8) * labels)
            for index, test in enumerate(("chi2", "f")):
                found = auroc_heterogeneity(aurocs, [(arm, 0) for arm in range(4)], test=test)
                rejected[index] += found.p_value < 0.05
        print(f"| {positives} | {rejected[0] / simulations:.3f} | {rejected[1] / simulations:.3f} |", flush=True)


def few_positives_tests(simulations: int) -> None:
    """Print the type I error of the permutation and the bootstrap test through the public function."""
    print("\n| positives | permutation | bootstrap |\n|---|---|---|")
    for positives in (3, 5, 10):
        rng = np.random.default_rng([4, positives])
        labels = np.arange(PATIENTS) < positives
        rejected = np.zeros(2)
        for _ in range(simulations):
            shared = rng.standard_normal(PATIENTS)
            pair = np.sqrt(0.5) * (shared + rng.standard_normal((2, PATIENTS))) + np.sqrt(2.0) * ndtri(0.85) * labels
            for index, method in enumerate(("permutation", "bootstrap")):
                found = compare_auroc(labels, *pair, method=method, rng=rng, replicates=299)
                rejected[index] += found.p_value < 0.05
        print(f"| {positives} | {rejected[0] / simulations:.3f} | {rejected[1] / simulations:.3f} |", flush=True)


def few_positives_unpaired(simulations: int) -> None:
    """Print the type I error of the unpaired permutation and bootstrap tests, scores of B on A's scale or shifted."""
    print("\n| AUROC | positives of 200, A / B | scores of B | permutation | bootstrap | Satterthwaite t |")
    print("|---|---|---|---|---|---|")
    for auc in (0.70, 0.85):
        for counts in ((3, 3), (5, 5), (5, 50), (10, 10), (20, 20)):
            for shift in (0.0, 1.0):
                rng = np.random.default_rng([12, round(100 * auc), *counts, round(shift)])
                rejected = np.zeros(3)
                for _ in range(simulations):
                    arrays = []
                    for index, positives in enumerate(counts):
                        labels = np.arange(200) < positives
                        arrays += [labels, draw(auc, "equal spread", positives, 1, rng, 200)[0] + index * shift]
                    for index, method in enumerate(("permutation", "bootstrap", "delong")):
                        found = compare_auroc_unpaired(
                            *arrays, test="satterthwaite", method=method, rng=rng, replicates=199
                        )
                        rejected[index] += found.p_value < 0.05
                rates = "".join(f" {rate:.3f} |" for rate in rejected / simulations)
                where = "shifted" if shift else "same scale"
                print(f"| {auc:.2f} | {counts[0]} / {counts[1]} | {where} |{rates}", flush=True)


def macro(simulations: int) -> list[str]:
    """Print coverage of the macro intervals and type I error of the macro comparison, four correlated targets."""
    methods = ("delong", "delong-logit", "logit-t", "auto")
    heading = "".join(f" {method} |" for method in methods)
    print(f"\n| patients | rare targets | shape, AUROC | labels missing |{heading} auto width | comparison, t | z |")
    print(f"|---|---|---|---|{'---|' * (len(methods) + 3)}")
    designs = [
        (300, (0.26, 0.27, 0.06, 0.05), "equal spread", 0.85, 0.1),
        (300, (0.26, 0.27, 0.06, 0.05), "equal spread", 0.70, 0.1),
        (300, (0.26, 0.27, 0.03, 0.02), "equal spread", 0.85, 0.1),
        (300, (0.26, 0.27, 0.06, 0.05), "double spread", 0.85, 0.1),
        (300, (0.26, 0.27, 0.06, 0.05), "double spread", 0.95, 0.1),
        (300, (0.26, 0.27, 0.03, 0.02), "equal spread", 0.95, 0.1),
        (1000, (0.26, 0.27, 0.06, 0.05), "equal spread", 0.85, 0.0),
    ]
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)
    for index, (patients, prevalences, shape, auc, missing) in enumerate(designs):
        rng = np.random.default_rng([5, index])
        covered, width, rejected, used = np.zeros(len(methods)), 0.0, np.zeros(2), 0
        sd = 2.0 if shape == "double spread" else 1.0
        shift = np.sqrt(1.0 + sd**2) * ndtri(auc)
        while used < simulations:
            factor = rng.standard_normal((patients, 1))
            latent = np.sqrt(0.25) * factor + np.sqrt(0.75) * rng.standard_normal((patients, 4))
            truth = latent > -ndtri(np.array(prevalences))
            labels = np.where(rng.random(truth.shape) < missing, np.nan, truth)
            if not ((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).all():
                continue  # not estimable, and said so; coverage is among samples that have an estimate
            used += 1
            shared = 0.6 * rng.standard_normal((patients, 1))
            noise = shared + np.sqrt(0.32) * (
                rng.standard_normal((2, patients, 4)) + rng.standard_normal((patients, 4))
            )
            scores = np.where(truth, shift + sd * noise, noise)
            for position, method in enumerate(methods):
                found = macro_auroc(labels, scores[0], method=method)
                covered[position] += found.lower <= auc <= found.upper
                width += (found.upper - found.lower) if method == "auto" else 0.0
            both = auroc_covariance(labels, scores)  # as `compare_macro_auroc`, once for both tests
            weights = np.full((2, 4), 0.25) * [[1.0], [-1.0]]
            for position, test in enumerate(("t", "z")):
                rejected[position] += contrast(both, weights, test=test).p_value < 0.05
        rates = covered / simulations
        cells = "".join(f" {rate:.3f} |" for rate in rates)
        rare = "/".join(f"{round(100 * prevalence)}" for prevalence in prevalences[2:])
        tail = f" {width / simulations:.2f} | {rejected[0] / simulations:.3f} | {rejected[1] / simulations:.3f} |"
        print(f"| {patients} | {rare} % | {shape}, {auc:.2f} | {missing:.0%} |{cells}{tail}", flush=True)
        if rates[-1] < FLOOR - 2 * error:
            short.append(f"macro design {index}: auto covers {rates[-1]:.3f}")
    return short


def clustered(simulations: int) -> list[str]:
    """Print coverage with several slides a patient (label of the patient), and the paired clustered test."""
    methods = ("delong", "delong-logit", "logit-t", "auto")
    heading = "".join(f" {method} |" for method in methods)
    print(f"\n| positive of 120 patients | AUROC |{heading} auto width | plain DeLong | paired t | z |")
    print(f"|---|---|{'---|' * (len(methods) + 4)}")
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)
    for auc in (0.75, 0.90):
        for positives in (3, 5, 10, 20, 40):
            rng = np.random.default_rng([6, round(100 * auc), positives])
            covered, naive, width, rejected = np.zeros(len(methods)), 0, 0.0, np.zeros(2)
            for _ in range(simulations):
                patient = np.repeat(np.arange(120), 1 + rng.poisson(1.2, 120))
                labels = patient < positives
                own = rng.standard_normal(120)[patient]
                noise = 0.8 * own + 0.6 * rng.standard_normal((2, patient.size))
                scores = noise + np.sqrt(2.0) * ndtri(auc) * labels
                for position, method in enumerate(methods):
                    found = auroc(labels, scores[0], method=method, clusters=patient)
                    covered[position] += found.lower <= auc <= found.upper
                    width += (found.upper - found.lower) if method == "auto" else 0.0
                plain = auroc(labels, scores[0], method="delong")
                naive += plain.lower <= auc <= plain.upper
                for position, test in enumerate(("t", "z")):
                    found_p = compare_auroc(labels, *scores, clusters=patient, test=test).p_value
                    rejected[position] += found_p < 0.05
            rates = covered / simulations
            cells = "".join(f" {rate:.3f} |" for rate in rates)
            tail = f" {width / simulations:.2f} | {naive / simulations:.3f} |"
            tail += f" {rejected[0] / simulations:.3f} | {rejected[1] / simulations:.3f} |"
            print(f"| {positives} | {auc:.2f} |{cells}{tail}", flush=True)
            if rates[-1] < FLOOR - 2 * error:
                short.append(f"clustered, AUROC {auc}, {positives} patients: auto covers {rates[-1]:.3f}")
    return short


def strata_and_micro(simulations: int) -> list[str]:
    """Print coverage of the fold-stratified AUROC (folds of shifted scores) and of the micro AUROC."""
    print("\n| design | positives | logit-t | auto | auto width |\n|---|---|---|---|---|")
    short = []
    error = np.sqrt(FLOOR * (1 - FLOOR) / simulations)

    def report(name: str, positives: str, covered: Floats, width: float) -> None:
        rates = covered / simulations
        print(f"| {name} | {positives} | {rates[0]:.3f} | {rates[1]:.3f} | {width / simulations:.2f} |", flush=True)
        if rates[1] < FLOOR - 2 * error:
            short.append(f"{name}, {positives} positives: auto covers {rates[1]:.3f}")

    for positives in (5, 10, 20, 50):
        rng = np.random.default_rng([7, positives])
        covered, width = np.zeros(2), 0.0
        labels = np.arange(PATIENTS) < positives
        for _ in range(simulations):
            folds = np.concatenate([rng.permutation(np.arange(size) % 5) for size in (positives, PATIENTS - positives)])
            offsets = rng.standard_normal(5)[folds]
            scores = rng.standard_normal(PATIENTS) + np.sqrt(2.0) * ndtri(0.85) * labels + offsets
            for position, method in enumerate(("logit-t", "auto")):
                found = auroc(labels, scores, method=method, strata=folds)
                covered[position] += found.lower <= 0.85 <= found.upper
            width += found.upper - found.lower
        report("5 folds, AUROC .85", str(positives), covered, width)
    # no closed form: the mean of large samples, to about 0.0002
    large = [_micro_sample(400_000, np.random.default_rng([8, 0, index])) for index in range(8)]
    truth = float(np.mean([micro_auroc(*one, method="delong").value for one in large]))
    for patients in (60, 150, 300):
        rng = np.random.default_rng([8, patients])
        covered, width = np.zeros(2), 0.0
        for _ in range(simulations):
            labels_2d, scores_2d = _micro_sample(patients, rng)
            for position, method in enumerate(("logit-t", "auto")):
                found = micro_auroc(labels_2d, scores_2d, method=method)
                covered[position] += found.lower <= truth <= found.upper
            width += found.upper - found.lower
        report(f"micro of 4 targets, {patients} patients", f"about {round(0.64 * patients)}", covered, width)
    return short


def _micro_sample(patients: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    latent = 0.5 * rng.standard_normal((patients, 1)) + np.sqrt(0.75) * rng.standard_normal((patients, 4))
    labels = latent > -ndtri(np.array([0.26, 0.27, 0.06, 0.05]))
    noise = 0.6 * rng.standard_normal((patients, 1)) + 0.8 * rng.standard_normal((patients, 4))
    return labels.astype(np.float64), 1.1 * labels + noise


def main() -> None:
    """Run the parts asked for and list what falls short."""
    parts = {
        "one": (one_auroc, 10_000),
        "paired": (paired_test, 10_000),
        "spread": (spread_test, 4_000),
        "unpaired": (unpaired_test, 10_000),
        "heterogeneity": (heterogeneity_test, 2_000),
        "macro": (macro, 10_000),
        "clustered": (clustered, 10_000),
        "strata": (strata_and_micro, 5_000),
        "bootstrap": (bootstrap, 500),
        "few": (few_positives_tests, 400),
        "few-unpaired": (few_positives_unpaired, 1_000),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, help="a cell, in place of each part's own number")
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    arguments = parser.parse_args()
    short: list[str] = []
    for name in arguments.parts:
        part, usual = parts[name]
        simulations = arguments.simulations or usual
        started = time.perf_counter()
        print(f"\n## {name} ({simulations} simulations a cell)")
        short.extend(part(simulations) or [])
        print(f"\n{time.perf_counter() - started:.0f} s")
    print("\n" + ("\n".join(["Falls short:", *short]) if short else "Nothing falls short of its floor."))


if __name__ == "__main__":
    main()
