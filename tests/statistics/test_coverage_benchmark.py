"""The coverage benchmark simulates what the public functions compute, and its floors hold in a small run."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from tapfm_eval.statistics import auroc, average_precision, compare_auroc

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def loaded(name):
    """Import a script of tests/benchmarks, which is no package."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


samples, comparisons, more = map(loaded, ("coverage_samples", "coverage_comparisons", "coverage_more"))


@pytest.mark.parametrize("positives", [3, 20, 50])
def test_simulated_limits_are_those_of_the_public_function(positives):
    scores = samples.draw(0.9, "look-alikes", positives, 12, np.random.default_rng(0))
    scores[0, :positives] += 99  # one of them separates perfectly
    drawn = samples.simulate(scores, positives)
    labels = np.arange(samples.PATIENTS) < positives
    for method in samples.METHODS:
        lower, upper = samples.limits(drawn, positives, samples.PATIENTS - positives, method)
        found = [auroc(labels, row, method=method) for row in scores]
        assert lower == pytest.approx([one.lower for one in found], abs=1e-9, nan_ok=True)
        assert upper == pytest.approx([one.upper for one in found], abs=1e-9, nan_ok=True)


def test_simulated_paired_tests_are_those_of_the_public_function():
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((2, 8, 60))
    p_z, p_t, lower, upper = comparisons.paired(scores, 4)
    labels = np.arange(60) < 4
    for index in range(8):
        pair = scores[0, index], scores[1, index]
        by_t = compare_auroc(labels, *pair)
        assert p_t[index] == pytest.approx(by_t.p_value, abs=1e-9)
        limits = max(lower[index], -1.0), min(upper[index], 1.0)
        assert limits == pytest.approx((by_t.lower, by_t.upper), abs=1e-9)
        assert p_z[index] == pytest.approx(compare_auroc(labels, *pair, test="z").p_value, abs=1e-9)


@pytest.mark.parametrize("positives", [3, 25])
def test_simulated_mover_limits_are_those_of_the_public_function(positives):
    rng = np.random.default_rng(2)
    labels = np.arange(90) < positives
    scores = rng.standard_normal((2, 6, 90)) + 1.5 * labels
    scores[0, 0] += 99 * labels  # one of them separates perfectly
    lower, upper = comparisons.mover(scores, positives)
    for index in range(6):
        found = compare_auroc(labels, scores[0, index], scores[1, index], method="mover")
        assert (lower[index], upper[index]) == pytest.approx((found.lower, found.upper), abs=1e-9)


@pytest.mark.parametrize("shape", ["equal spread", "half spread", "double spread", "look-alikes"])
@pytest.mark.parametrize("auc", [0.7, 0.95])
def test_simulated_scores_have_the_auroc_they_claim(shape, auc):
    scores = samples.draw(auc, shape, 1000, 20, np.random.default_rng(2), patients=2000)
    assert samples.simulate(scores, 1000).auroc.mean() == pytest.approx(auc, abs=0.006)


@pytest.mark.parametrize("shape", ["equal spread", "half spread", "double spread", "look-alikes"])
def test_auto_covers_in_a_small_run(shape):
    """The full run is the benchmark; this catches a broken rule: .93 less four Monte-Carlo errors of 1,000."""
    for auc in (0.7, 0.85, 0.95):
        for positives in (3, 10, 50):
            rng = np.random.default_rng([positives, round(100 * auc)])
            drawn = samples.simulate(samples.draw(auc, shape, positives, 1000, rng), positives)
            lower, upper = samples.limits(drawn, positives, 400 - positives, "auto")
            assert np.mean((lower <= auc) & (auc <= upper)) > 0.93 - 4 * 0.008
            plain = samples.limits(drawn, positives, 400 - positives, "delong")
            if positives == 3:
                assert np.mean((plain[0] <= auc) & (auc <= plain[1])) < 0.93  # the run can fail


def test_paired_t_keeps_its_level_in_a_small_run():
    for positives in (3, 5, 20):
        rng = np.random.default_rng([9, positives])
        shared, own = rng.standard_normal((2000, 400)), rng.standard_normal((2, 2000, 400))
        scores = np.sqrt(0.5) * (shared + own)
        scores[:, :, :positives] += np.sqrt(2.0) * ndtri(0.8)
        p_z, p_t, _, _ = comparisons.paired(scores, positives)
        assert np.mean(p_t < 0.05) < 0.06 + 3 * 0.005
        if positives == 3:
            assert np.mean(p_z < 0.05) > 0.08


@pytest.mark.parametrize("positives", [1, 4, 30, 120])
def test_simulated_limits_of_average_precision_are_those_of_the_public_function(positives):
    rng = np.random.default_rng(5)
    labels = (np.arange(300) < positives).astype(float)
    for separated in (False, True):
        scores = rng.standard_normal(300) + (50 if separated else 1) * labels
        value, limits = more.every_limit(labels, scores, np.random.default_rng(6), 40)
        for method, pair in zip(more.AP_METHODS, limits, strict=True):
            found = average_precision(labels, scores, method=method, rng=np.random.default_rng(6), replicates=40)
            assert found.value == value
            assert pair.tolist() == pytest.approx([found.lower, found.upper], rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("shape", ["equal spread", "half spread", "double spread", "look-alikes"])
def test_simulated_scores_have_the_average_precision_that_they_are_held_against(shape):
    parts = more.components(0.85, shape)
    rng = np.random.default_rng(7)
    labels = (np.arange(40_000) < 4_000).astype(float)
    found = [
        average_precision(labels, more.sample(4_000, 40_000, parts, rng), method="binomial").value for _ in range(6)
    ]
    assert np.mean(found) == pytest.approx(more.true_average_precision(parts, 0.1), abs=0.008)
    scores = more.sample(4_000, 40_000, parts, rng)
    assert auroc(labels, scores, method="delong").value == pytest.approx(0.85, abs=0.012)


def test_auto_of_average_precision_covers_in_a_small_run():
    """The full run is the benchmark; this catches a broken rule: .93 less four Monte-Carlo errors of 200."""
    labels = (np.arange(400) < 5).astype(float)
    rng = np.random.default_rng(8)
    parts = more.components(0.7, "look-alikes")
    truth = more.true_average_precision(parts, 5 / 400)
    limits = np.array([more.every_limit(labels, more.sample(5, 400, parts, rng), rng, 100)[1] for _ in range(200)])
    covered = ((limits[..., 0] <= truth) & (truth <= limits[..., 1])).mean(axis=0)
    assert covered[more.AP_METHODS.index("auto")] > 0.93 - 4 * 0.018
    assert covered[more.AP_METHODS.index("bootstrap")] < 0.9  # the run can fail


def test_mover_keeps_its_level_where_the_t_test_does_not_in_a_small_run():
    """Positives of A spread half, those of B twice as much as negatives; both AUROCs are .95; 10 positives."""
    rng = np.random.default_rng(10)
    scores = np.sqrt(0.5) * (rng.standard_normal((600, 400)) + rng.standard_normal((2, 600, 400)))
    for arm, sd in enumerate((0.5, 2.0)):
        scores[arm, :, :10] *= sd
        scores[arm, :, :10] += np.sqrt(1 + sd**2) * ndtri(0.95)
    lower, upper = comparisons.mover(scores, 10)
    assert np.mean((lower > 0) | (upper < 0)) < 0.05 + 3 * 0.009
    assert np.mean(comparisons.paired(scores, 10)[1] < 0.05) > 0.15  # the run can fail
