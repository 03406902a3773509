"""How far folds drift from their cohort: tapfm-eval's split maker beside scikit-learn's StratifiedGroupKFold.

    python tests/benchmarks/splits.py [--seeds N] [--folds K]

For each shipped cohort and scheme, means over N seeds of three drifts: the total variation distance between the joint
label distribution of a block and that of the cohort (mean and largest over blocks), and the largest difference of a
block's prevalence of any target. scikit-learn is given the joint label pattern to stratify on, its best case, and
balances nothing else; tapfm-eval also balances block size, site size and scan resolution. Within a cohort whose blocks
are of equal size, kfold is near the floor that whole patients set: there the makers can only tie on the first measure.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from tapfm_eval.cohort.covariates import patient_covariates
from tapfm_eval.cohort.labels import patient_labels
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.cohort.split_maker import Scheme, split_manifest

COHORTS = Path(__file__).resolve().parents[2] / "cohorts"
LUAD = ("EGFR", "KRAS", "STK11", "TP53")
CASES: tuple[tuple[str, tuple[str, ...], Scheme], ...] = (
    ("tcga-luad", LUAD, "site-preserved"),
    ("tcga-blca", ("FGFR3", "PIK3CA", "TP53", "RB1"), "site-preserved"),
    ("tcga-luad", LUAD, "kfold"),
    ("tcga-blca", ("FGFR3", "PIK3CA", "TP53", "RB1"), "kfold"),
    ("cptac-luad", LUAD, "kfold"),
)


def drift(labels: pd.DataFrame, blocks: NDArray[np.intp], folds: int) -> tuple[float, float, float]:
    """Mean and largest total variation distance of blocks, and the largest prevalence difference of any target."""
    pattern = labels.fillna(-1).astype(int).astype(str).agg("".join, axis=1)
    overall = pattern.value_counts(normalize=True)
    distances, differences = [], []
    for block in range(folds):
        chosen = blocks == block
        share = pattern[chosen].value_counts(normalize=True).reindex(overall.index, fill_value=0.0)
        distances.append(0.5 * float((share - overall).abs().sum()))
        differences.append(float((labels[chosen].mean() - labels.mean()).abs().max()))
    return float(np.mean(distances)), max(distances), max(differences)


def measure(name: str, targets: tuple[str, ...], scheme: Scheme, seed: int, folds: int) -> dict[str, tuple[float, ...]]:
    """Drift and seconds of both makers."""
    manifest = read_manifest(COHORTS / name / "manifest.csv", name)
    columns = {target: target for target in targets}
    labels = patient_labels(manifest, columns)
    labels = labels[labels.notna().any(axis=1)]
    started = time.perf_counter()
    table = split_manifest(manifest, columns, scheme=scheme, seed=seed, folds=folds).table
    seconds = time.perf_counter() - started
    tested = table[table["split"] == "test"].set_index("patient_id")["fold"]
    ours = np.asarray(tested.loc[labels.index], dtype=np.intp)
    groups = np.arange(len(labels)).astype(str)
    if scheme == "site-preserved":
        groups = np.asarray(patient_covariates(manifest.included).table["site"].loc[labels.index])
    pattern = labels.fillna(-1).astype(int).astype(str).agg("".join, axis=1)
    common = pattern.where(pattern.map(pattern.value_counts()) >= folds, "rare")
    started = time.perf_counter()
    theirs = np.empty(len(labels), dtype=np.intp)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The least populated class"
        )  # rare patterns, pooled as far as they go
        for fold, (_, test) in enumerate(splitter.split(labels, common, groups)):
            theirs[test] = fold
    return {
        "tapfm-eval": (*drift(labels, ours, folds), seconds),
        "scikit-learn": (*drift(labels, theirs, folds), time.perf_counter() - started),
    }


def main() -> None:
    """Prints the means over seeds, side by side."""
    parser = argparse.ArgumentParser(description="Drift of folds, beside scikit-learn.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()
    head = ("cohort", "scheme", "maker", "TV mean", "TV largest", "prevalence", "seconds")
    print("{:<11} {:<15} {:<13} {:>8} {:>11} {:>11} {:>8}".format(*head))
    for name, targets, scheme in CASES:
        runs = [measure(name, targets, scheme, seed, arguments.folds) for seed in range(1, arguments.seeds + 1)]
        for maker in ("tapfm-eval", "scikit-learn"):
            means = np.mean([run[maker] for run in runs], axis=0)
            print(
                f"{name:<11} {scheme:<15} {maker:<13} {means[0]:8.4f} {means[1]:11.4f} {means[2]:11.4f} {means[3]:8.2f}"
            )


if __name__ == "__main__":
    main()
