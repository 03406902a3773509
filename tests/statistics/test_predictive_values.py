"""Likelihood ratios and predictive values agree with R where it has numbers, and stay honest where a cell is empty."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import likelihood_ratios, operating_point_from_counts, predictive_values

tables = st.tuples(*[st.integers(0, 60)] * 4)


def cells(expected):
    return tuple(expected[cell] for cell in ("tp", "fp", "tn", "fn"))


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_log_likelihood_ratios_agree_with_epir(case):
    """epi.tests: P18; an empty cell leaves the limits NaN, with a reason."""
    expected = load("P18").expected[case]
    for found, name in zip(likelihood_ratios(*cells(expected), method="log"), ("lr.pos", "lr.neg"), strict=True):
        wanted = expected["epiR_epi_tests"][name]
        assert found.value == pytest.approx(wanted["est"], abs=1e-10)
        if math.isnan(wanted["upper"]):
            assert math.isnan(found.upper)
            assert found.reason is not None
        else:
            assert (found.lower, found.upper) == pytest.approx((wanted["lower"], wanted["upper"]), abs=1e-10)


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_logit_predictive_values_agree_with_mercaldo(case):
    """R arithmetic: P18."""
    expected = load("P18").expected[case]
    for wanted in expected["adjusted_predictive_values"]:
        found = predictive_values(*cells(expected), wanted["prevalence"], method="logit")
        for name in ("ppv", "npv"):
            estimate, limits = getattr(found, name), wanted[f"{name}_ci95_logit_mercaldo"]
            assert estimate.value == pytest.approx(wanted[name], abs=1e-12)
            if math.isnan(limits["lower"]):
                assert math.isnan(estimate.lower)
                assert estimate.reason is not None
            else:
                assert (estimate.lower, estimate.upper) == pytest.approx((limits["lower"], limits["upper"]), abs=1e-10)


def test_auto_is_the_logit_interval_in_large_tables_and_says_so():
    auto, logit = (predictive_values(37, 22, 180, 6, 0.1, method=m) for m in ("auto", "logit"))
    assert (auto.ppv.lower, auto.npv.upper) == (logit.ppv.lower, logit.npv.upper)
    assert auto.ppv.method == "auto: logit"


def test_auto_is_wider_in_small_tables_and_defined_in_empty_cells():
    small, logit = (predictive_values(5, 40, 352, 3, 0.1, method=m).npv for m in ("auto", "logit"))
    assert small.method == "auto: wider of logit and exact"
    assert small.lower <= logit.lower < logit.upper <= small.upper
    empty = predictive_values(5, 40, 355, 0, 0.1).npv
    assert (empty.value, empty.upper, empty.reason, empty.method) == (1.0, 1.0, None, "auto: exact")
    assert 0.9 < empty.lower < 1


def test_no_false_positive_gives_an_unbounded_ratio():
    positive, _ = likelihood_ratios(5, 0, 20, 5)
    assert (positive.value, positive.upper, positive.reason) == (math.inf, math.inf, None)
    assert positive.lower > 1
    assert predictive_values(5, 0, 20, 5, 0.2).ppv.value == 1.0


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ((0, 5, 5, 0), "no positives"),
        ((5, 0, 0, 5), "no negatives"),
        ((0, 0, 9, 3), "nobody was called positive"),
    ],
)
def test_undefined_ratios_are_nan_with_reason(table, reason):
    positive, _ = likelihood_ratios(*table)
    assert math.isnan(positive.value)
    assert positive.reason == reason
    assert predictive_values(*table, 0.1).ppv.reason == reason


def test_at_the_study_prevalence_the_values_are_the_observed_ones():
    point = operating_point_from_counts(37, 22, 180, 6, prevalence=43 / 245)
    assert point.at_prevalence.ppv.value == pytest.approx(point.ppv.value)
    assert point.at_prevalence.npv.value == pytest.approx(point.npv.value)


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, math.nan])
def test_impossible_prevalence_is_refused(prevalence):
    with pytest.raises(StatisticsError, match="prevalence"):
        predictive_values(1, 2, 3, 4, prevalence)


def test_exact_coverage_of_the_default_is_at_least_93_percent():
    """Summed over all tables of 5 positives and 60 negatives."""
    from scipy.stats import binom

    m, n, prevalence = 5, 60, 0.1
    found = [[predictive_values(tp, fp, n - fp, m - tp, prevalence) for fp in range(n + 1)] for tp in range(m + 1)]
    for sensitivity in (0.5, 0.8, 0.97):
        for specificity in (0.6, 0.9):
            odds = prevalence / (1 - prevalence)
            ppv = 1 - 1 / (1 + odds * sensitivity / (1 - specificity))
            npv = 1 / (1 + odds * (1 - sensitivity) / specificity)
            chance = np.outer(binom.pmf(range(m + 1), m, sensitivity), binom.pmf(range(n + 1), n, 1 - specificity))
            for name, truth in (("ppv", ppv), ("npv", npv)):
                held = np.array(
                    [[getattr(v, name).lower <= truth <= getattr(v, name).upper for v in row] for row in found]
                )
                assert (chance * held).sum() >= 0.93


@settings(max_examples=80, derandomize=True, deadline=None)
@given(tables, st.sampled_from(["auto", "log", "exact"]))
def test_interval_contains_its_ratio_and_classes_swap(table, method):
    tp, fp, tn, fn = table
    for found in likelihood_ratios(tp, fp, tn, fn, method=method):
        assert found.reason is not None or found.lower <= found.value * (1 + 1e-12) <= found.upper * (1 + 1e-9)
    # calling the other class positive and the other call positive turns LR+ into 1 / LR-
    positive, negative = likelihood_ratios(tp, fp, tn, fn, method=method)
    swapped, _ = likelihood_ratios(tn, fn, tp, fp, method=method)
    if 0 < negative.value < math.inf:
        assert swapped.value == pytest.approx(1 / negative.value)
        assert swapped.lower == pytest.approx(1 / negative.upper, rel=1e-6)
    assert positive.n == sum(table)
