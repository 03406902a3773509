"""Empirical coverage and width of the AUROC intervals, and type I error of the tests, by seeded simulation.

Run from the repository root: `python tests/benchmarks/coverage.py` (minutes; `--simulations 1000` for a look). Tables
go to stdout in Markdown; docs/statistics-auroc.md holds those of the last full run. AUPRC and PPV: coverage_more.py.
"""

import argparse
import time

import numpy as np
from coverage_comparisons import (
    few_positives_tests,
    few_positives_unpaired,
    heterogeneity_test,
    paired_test,
    spread_test,
    unpaired_test,
)
from coverage_many import clustered, macro, strata_and_micro
from coverage_samples import AUROCS, FLOOR, METHODS, PATIENTS, POSITIVES, SHAPES, blocks, draw, limits, simulate

from tapfm_eval.statistics import auroc


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
