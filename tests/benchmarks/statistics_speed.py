"""Time of the AUROC functions and of average precision beside their targets.

Run from the repository root: `python tests/benchmarks/statistics_speed.py`. Best of several runs; a ratio below 1 is
within the target. pROC's times are those of one idle core elsewhere, so ratios to them are a guide, not a race.
"""

import time
from collections.abc import Callable

import numpy as np

from tapfm_eval.statistics import auroc, auroc_covariance, average_precision, compare_auroc
from tapfm_eval.statistics.border import observe, split_arms
from tapfm_eval.statistics.resampling import resampled_aurocs


def best(call: Callable[[], object], times: int) -> float:
    """Give the shortest of several runs in milliseconds."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return 1e3 * min(took)


def main() -> None:
    """Print measured time, target and ratio."""
    rng = np.random.default_rng(0)
    rows: list[tuple[str, float, float, str]] = []
    for n, midrank, proc in ((1_000, 0.5, 0.5), (10_000, 2.4, 2.4), (100_000, 34.0, 24.0)):
        labels = (rng.random(n) < 0.2).astype(float)
        pair = rng.standard_normal((2, n)) + labels
        took = best(lambda labels=labels, pair=pair: compare_auroc(labels, *pair), 9)
        rows.append((f"paired DeLong, n = {n:,}", took, midrank, "midrank numpy"))
        rows.append((f"paired DeLong, n = {n:,}", took, proc, "pROC, test only"))
    labels = (rng.random(1_000_000) < 0.2).astype(float)
    scores = rng.standard_normal(1_000_000) + labels
    rows.append(("AUROC with interval, n = 1,000,000", best(lambda: auroc(labels, scores), 3), 1000.0, "target"))
    many = (rng.random((10_000, 4)) < 0.2).astype(float)
    arms = rng.standard_normal((12, 10_000, 4)) + many
    took = best(lambda: auroc_covariance(many, arms), 3)
    rows.append(("covariance, 12 arms x 4 targets x 10,000", took, 2000.0, "target"))
    observed = observe(many[:500], split_arms(arms[:, :500]), targets=True)
    took = best(lambda: resampled_aurocs(observed, np.random.default_rng(1), 2000), 2)
    rows.append(("2,000 bootstrap replicates, 12 x 4 x 500", took, 5000.0, "target"))
    for positives in (900, 20_000):  # resampled, and from each patient's influence
        rare = (np.arange(100_000) < positives).astype(float)
        ranked = rng.standard_normal(100_000) + rare
        took = best(lambda rare=rare, ranked=ranked: average_precision(rare, ranked), 3)
        name = f"average precision with interval, n = 100,000, {positives:,} positives"
        rows.append((name, took, 1000.0, "as for AUROC"))
    print("| what | ms | beside | ms | ratio |\n|---|---|---|---|---|")
    for name, measured, reference, beside in rows:
        print(f"| {name} | {measured:.1f} | {beside} | {reference:g} | {measured / reference:.2f} |")


if __name__ == "__main__":
    main()
