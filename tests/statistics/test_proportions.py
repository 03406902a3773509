"""Proportions and McNemar's test agree with R, and say so where there is nothing to divide by."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import mcnemar, proportion
from tapfm_eval.statistics.proportions import PROPORTION_METHODS

R_NAMES = {
    "wilson": "wilson",
    "clopper-pearson": "clopper_pearson",
    "jeffreys": "jeffreys",
    "agresti-coull": "agresti_coull_untruncated",
}


@pytest.mark.parametrize("case", ["a", "b", "c"])
@pytest.mark.parametrize("method", PROPORTION_METHODS)
def test_limits_agree_with_r(case, method):
    """binom.test, prop.test(correct = FALSE), qbeta: P18."""
    table = load("P18").expected[case]
    for share in ("sensitivity", "specificity", "ppv", "npv", "accuracy"):
        expected = table[share]
        found = proportion(expected["x"], expected["n"], method=method)
        assert found.value == pytest.approx(expected["estimate"], abs=1e-12)
        assert found.lower == pytest.approx(expected[R_NAMES[method]]["lower"], abs=1e-10)
        assert found.upper == pytest.approx(expected[R_NAMES[method]]["upper"], abs=1e-10)
        assert (found.n, found.positives, found.method, found.reason) == (expected["n"], expected["x"], method, None)


def test_mcnemar_agrees_with_r():
    """binom.test(5, 17), mcnemar.test with and without correction: P18."""
    expected = load("P18").expected["mcnemar"]
    (both, only_a), (only_b, neither) = expected["table_rows"]
    exact, plain, corrected = (
        mcnemar(both, only_a, only_b, neither, method=m) for m in ("exact", "chi2", "chi2-corrected")
    )
    assert exact.p_value == pytest.approx(expected["exact_binomial_p"], abs=1e-12)
    assert plain.p_value == pytest.approx(expected["p_nocc"], abs=1e-12)
    assert plain.statistic**2 == pytest.approx(expected["chi2_nocc"], abs=1e-12)
    assert corrected.p_value == pytest.approx(expected["p_cc"], abs=1e-12)
    assert corrected.statistic**2 == pytest.approx(expected["chi2_cc"], abs=1e-12)
    assert exact.value == pytest.approx(-7 / 77)
    assert exact.lower < exact.value < exact.upper


def test_empty_denominator_is_nan_with_reason():
    assert math.isnan(proportion(0, 0).value)
    assert proportion(0, 0).reason == "no patients in the denominator"
    assert mcnemar(0, 0, 0, 0).reason == "no patients in the denominator"


def test_full_agreement_has_p_value_1():
    found = mcnemar(7, 0, 0, 3)
    assert (found.value, found.p_value, found.statistic, found.reason) == (0.0, 1.0, 0.0, None)


def test_paired_interval_covers_the_true_difference():
    rng = np.random.default_rng(3)
    cells = np.array([0.6, 0.15, 0.05, 0.2])
    tables = rng.multinomial(40, cells, size=1500)
    held = [found.lower <= 0.1 <= found.upper for found in (mcnemar(*map(int, table)) for table in tables)]
    assert 0.93 <= np.mean(held) <= 0.985


@pytest.mark.parametrize(
    ("successes", "n", "problems"), [(-1, 5, 1), (2.5, 5, 1), (True, 5, 1), (6, 5, 1), (-1, -5, 2), (math.nan, 5, 1)]
)
def test_impossible_counts_are_refused(successes, n, problems):
    with pytest.raises(StatisticsError) as refused:
        proportion(successes, n)
    assert len(refused.value.problems) == problems


def test_sums_of_float_labels_are_counts():
    labels = np.array([1.0, 0.0, 1.0])
    assert proportion(labels.sum(), labels.size) == proportion(2, 3)
    assert mcnemar(40.0, 5, np.float64(12), 20) == mcnemar(40, 5, 12, 20)


def test_unknown_method_and_level_are_refused():
    with pytest.raises(StatisticsError, match="method"):
        proportion(1, 2, method="Wilson")
    with pytest.raises(StatisticsError, match="level"):
        proportion(1, 2, level=95)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    n=st.integers(1, 400),
    share=st.floats(0, 1),
    level=st.floats(0.5, 0.999),
    method=st.sampled_from(PROPORTION_METHODS),
)
def test_interval_contains_its_estimate_and_mirrors(n, share, level, method):
    x = round(share * n)
    found, mirrored = proportion(x, n, level=level, method=method), proportion(n - x, n, level=level, method=method)
    assert found.lower <= found.value <= found.upper
    assert mirrored.lower == pytest.approx(1 - found.upper, abs=1e-9)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any), st.sampled_from(["exact", "chi2", "chi2-corrected"]))
def test_swapping_arms_mirrors_mcnemar(table, method):
    both, a, b, neither = table
    found, swapped = mcnemar(both, a, b, neither, method=method), mcnemar(both, b, a, neither, method=method)
    assert found.lower <= found.value <= found.upper
    assert (found.value, found.statistic) == (-swapped.value, -swapped.statistic)
    assert found.lower == pytest.approx(-swapped.upper, abs=1e-12)
    assert found.p_value == swapped.p_value
