"""The paired difference from the two arms' own limits: interval and test agree, and its edges."""

import numpy as np
import pytest

from tapfm_eval.statistics import auroc, auroc_covariance, compare_auroc, equivalence, non_inferiority, superiority
from tapfm_eval.statistics.proportions import mover_distance


def sample(positives=8, negatives=50, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1.0, 0.0], [positives, negatives])
    shared = rng.standard_normal(labels.size)
    return labels, *(shared + rng.standard_normal(labels.size) + effect * labels for effect in (1.9, 0.8))


def test_limits_join_the_arms_own_limits_with_their_correlation():
    labels, first, second = sample()
    a, b = auroc(labels, first), auroc(labels, second)
    covariance = auroc_covariance(labels[:, None], np.stack([first, second])[:, :, None]).covariance
    r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    found = compare_auroc(labels, first, second, method="mover")
    value = a.value - b.value
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.lower == pytest.approx(value - mover_distance(a.value - a.lower, b.upper - b.value, r), abs=1e-12)
    assert found.upper == pytest.approx(value + mover_distance(a.upper - a.value, b.value - b.lower, r), abs=1e-12)
    assert found.statistic == compare_auroc(labels, first, second).statistic
    assert found.method == "paired MOVER of the arms' own auto limits"


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_at_the_level_of_its_p_value_ends_at_no_difference(seed):
    labels, first, second = sample(seed=seed)
    p_value = compare_auroc(labels, first, second, method="mover").p_value
    found = compare_auroc(labels, first, second, method="mover", level=1 - p_value)
    assert min(abs(found.lower), abs(found.upper)) == pytest.approx(0, abs=1e-9)


def test_one_sided_claims_are_those_of_the_limits():
    decisions = set()
    for seed in (0, 2, 5):
        labels, first, second = sample(20, 40, seed)
        better = superiority(labels, first, second, alpha=0.1, method="mover")
        assert (better.p_value < 0.1) == (better.lower > 0)
        kept = non_inferiority(labels, second, first, margin=0.3, alpha=0.1, method="mover")
        assert (kept.p_value < 0.1) == (kept.lower > -0.3)
        alike = equivalence(labels, first, second, margin=0.3, method="mover")
        assert (alike.p_value < 0.05) == (alike.lower > -0.3 and alike.upper < 0.3)
        worse = compare_auroc(labels, first, second, method="mover", hypothesis="inferiority")
        assert worse.p_value == pytest.approx(1 - better.p_value, abs=1e-9)
        decisions |= {better.p_value < 0.1, kept.p_value < 0.1, alike.p_value < 0.05}
    assert decisions == {True, False}


def test_swapped_arms_mirror_it():
    labels, first, second = sample(5, 30, 3)
    one = compare_auroc(labels, first, second, method="mover")
    other = compare_auroc(labels, second, first, method="mover")
    assert (one.value, one.lower, one.upper) == pytest.approx((-other.value, -other.upper, -other.lower), abs=1e-12)
    assert one.p_value == pytest.approx(other.p_value, abs=1e-9)


def test_one_positive_has_an_interval_and_a_test():
    labels, first, second = sample(1, 30)
    assert np.isnan(compare_auroc(labels, first, second).p_value)
    found = compare_auroc(labels, first, second, method="mover")
    assert -1 <= found.lower < found.value < found.upper <= 1
    assert 0 < found.p_value <= 1
    assert found.reason is None


def test_edges():
    labels, first, _ = sample()
    same = compare_auroc(labels, first, np.exp(first), method="mover")
    assert (same.value, same.lower, same.upper, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    perfect = compare_auroc(labels, labels, labels + 0.1 * np.arange(58) / 58, method="mover")
    assert (perfect.value, perfect.p_value) == (0.0, 1.0)
    assert perfect.lower == pytest.approx(-perfect.upper)
    assert perfect.lower < 0
    opposite = compare_auroc(labels, labels, -labels, method="mover")
    assert opposite.value == 1.0
    assert 0 < opposite.p_value < 1e-4
    absent = compare_auroc(np.zeros(5), np.arange(5), np.arange(5)[::-1], method="mover")
    assert np.isnan([absent.value, absent.lower, absent.p_value]).all()
    assert absent.reason == "no positives"


def test_patients_and_strata_are_respected():
    labels, first, second = sample(20, 40)
    clusters = np.repeat(np.arange(30), 2)
    found = compare_auroc(labels, first, second, method="mover", clusters=clusters)
    assert found.clusters == 30
    assert found.upper - found.lower > 0
    strata = np.arange(60) % 3
    plain, moved = (
        compare_auroc(labels, first + shift * strata, second, method="mover", strata=strata) for shift in (0, 9)
    )
    assert plain == moved
    assert "within 3 strata" in plain.method
