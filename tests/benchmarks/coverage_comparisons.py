"""Type I error of the tests of two or more AUROCs, and coverage of their differences, by seeded simulation."""

import numpy as np
from coverage_samples import AUROCS, FLOOR, LEVEL, PATIENTS, POSITIVES, Floats, blocks, draw, limits, simulate
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from tapfm_eval.statistics import auroc_covariance, auroc_heterogeneity, compare_auroc, compare_auroc_unpaired
from tapfm_eval.statistics.placements import placement_counts


def paired_test(simulations: int) -> list[str]:
    """Print the type I error at .05 of the paired tests and the coverage of the t interval under a true difference."""
    print("\n| AUROC | correlation | positives | z | t | t interval, true difference .05 |\n|---|---|---|---|---|---|")
    liberal = []
    for auc in AUROCS:
        apart = (auc + 0.05, auc) if auc < 0.95 else (auc, auc - 0.05)  # an AUROC of 1 leaves nothing to simulate
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
                    _, _, lower, upper = paired(_shifted(noise, apart, positives), positives)
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
        (0.95, 0.8, (1.0, 1.0)),
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
