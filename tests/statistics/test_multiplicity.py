"""Adjusted p-values agree with R; gates open in the declared order only."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import adjust_p, gatekeeping
from tapfm_eval.statistics.multiplicity import ADJUSTMENTS, GATE_ADJUSTMENTS

families = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_adjusted_p_values_agree_with_r():
    """p.adjust: P15."""
    case = load("P15")
    for name, expected in case.expected.items():
        method = "sidak" if name == "sidak_single_step" else name
        assert adjust_p(case["p"], method=method) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("hochberg", "simes-hochberg"), ("by", "fdr_by")])
def test_adjusted_p_values_agree_with_statsmodels(ours, theirs):
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).random(12).round(1) ** 3
    assert adjust_p(p, method=ours) == pytest.approx(multipletests(p, method=theirs)[1], abs=1e-12)


def test_a_comparison_that_was_not_estimable_keeps_its_place_in_the_family():
    found = adjust_p([0.01, math.nan, 0.04])
    assert found[[0, 2]].tolist() == pytest.approx([0.03, 0.08])
    assert math.isnan(found[1])


def test_sidak_is_never_0():
    """1 - (1 - p)^k by powers is 0 for p of 1e-17."""
    assert adjust_p([1e-20, 0.5, 1.0], method="sidak").tolist() == pytest.approx([3e-20, 0.875, 1.0], rel=1e-12, abs=0)


def test_empty_family_stays_empty():
    assert adjust_p([]).size == 0


@pytest.mark.parametrize("p_values", [[1.2], [-0.1, 0.5], [[0.1]], ["a"]])
def test_what_is_no_p_value_is_refused(p_values):
    with pytest.raises(StatisticsError, match="p_values"):
        adjust_p(p_values)


def test_unknown_method_is_refused():
    with pytest.raises(StatisticsError, match="holm or hochberg"):
        adjust_p([0.1], method="fdr")


def test_a_gate_that_does_not_open_stops_what_follows():
    first, second, third = gatekeeping([[0.01], [0.2, 0.001], [0.0001]])
    assert first.rejected == (True,)
    assert second.rejected == (False, True)
    assert third.adjusted == (0.2,)
    assert (first.open, second.open, third.open) == (True, True, False)
    assert third.rejected == (False,)


def test_a_gate_that_is_not_estimable_stops_what_follows():
    first, second = gatekeeping([[math.nan], [0.001]])
    assert math.isnan(first.adjusted[0])
    assert first.rejected == (False,)
    assert second.adjusted == (1.0,)


def test_gates_refuse_methods_without_familywise_control_and_empty_families():
    with pytest.raises(StatisticsError) as refused:
        gatekeeping([[0.1], []], method="bh", alpha=5)
    assert len(refused.value.problems) == 3


def test_gates_take_names_as_the_adjustments_do_and_refuse_a_lone_number():
    assert gatekeeping([[0.01, 0.02]], method="Holm") == gatekeeping([[0.01, 0.02]])
    with pytest.raises(StatisticsError, match="a list of lists of p-values"):
        gatekeeping(np.array(0.5))


def test_familywise_error_of_gates_is_at_most_alpha():
    rng = np.random.default_rng(1)
    false_claims = 0
    for _ in range(2000):
        gates = gatekeeping([rng.random(2), rng.random(2)])
        false_claims += any(any(gate.rejected) for gate in gates)
    assert false_claims / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(families, st.sampled_from([m for m in ADJUSTMENTS if m != "hommel"]), st.integers(0, 1000))
def test_adjusting_never_lowers_keeps_order_and_ignores_position(family, method, seed):
    p = np.array(family)
    adjusted = adjust_p(p, method=method)
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-12).all()
    order = np.random.default_rng(seed).permutation(p.size)
    assert adjust_p(p[order], method=method) == pytest.approx(adjusted[order], abs=1e-15)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(families, min_size=1, max_size=4), st.sampled_from([m for m in GATE_ADJUSTMENTS if m != "hommel"]))
def test_a_claim_behind_a_closed_gate_never_happens(all_families, method):
    for gate in gatekeeping(all_families, method=method):
        assert gate.open or not any(gate.rejected)
