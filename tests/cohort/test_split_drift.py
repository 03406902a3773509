"""Blocks of the shipped cohorts drift less from their cohort than scikit-learn's StratifiedGroupKFold lets them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.cohort.split_maker import split_manifest

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "splits.py"
_spec = importlib.util.spec_from_file_location("benchmark_of_splits", PATH)
assert _spec is not None
assert _spec.loader is not None
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)

QUICK = [case for case in benchmark.CASES if case[2] == "kfold"]
SLOW = [case for case in benchmark.CASES if case[2] == "site-preserved"]


def mean_drift(case, seeds):
    """Mean total variation, largest, and largest prevalence difference of both makers, over seeds."""
    runs = [benchmark.measure(*case, seed, 5) for seed in seeds]
    return tuple(np.mean([run[maker][:3] for run in runs], axis=0) for maker in ("tapfm-eval", "scikit-learn"))


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case[0])
def test_blocks_of_patients_drift_less_in_joint_prevalence(case):
    ours, theirs = mean_drift(case, (1, 2))
    assert ours[0] < theirs[0]
    assert ours[2] < theirs[2]


def test_evenness_costs_no_more_than_a_few_patients_of_a_block_size():
    name, targets, _ = next(case for case in QUICK if case[0] == "cptac-luad")
    manifest = read_manifest(benchmark.COHORTS / name / "manifest.csv", name)
    table = split_manifest(manifest, {target: target for target in targets}, scheme="kfold", seed=1).table
    sizes = table.loc[table["split"] == "test", "fold"].value_counts()
    assert sizes.sum() == 110
    assert sizes.between(20, 24).all()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", SLOW, ids=lambda case: case[0])
def test_blocks_of_sites_drift_less_in_joint_prevalence(case):
    ours, theirs = mean_drift(case, (1, 2, 3))
    assert ours[0] < theirs[0]
    assert ours[1] <= theirs[1]
