"""Power and sample size agree with pROC's power.roc.test; simulations agree with the formulas where these hold."""

import math

import numpy as np
import pytest
from golden_cases import load
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import (
    PairedMoments,
    auroc_covariance,
    binormal_moments,
    detectable_auroc,
    expected_interval,
    pilot_moments,
    power_auroc,
    power_paired_auroc,
    sample_size_auroc,
    sample_size_paired_auroc,
    simulated_paired_power,
)


@pytest.mark.parametrize("row", range(7))
def test_one_auroc_agrees_with_proc(row):
    """power.roc.test(auc, ncases, ncontrols, power, kappa): P19. R's uniroot stops 5e-7 short of the AUROC."""
    case = load("P19").expected["one_roc"][row]
    arguments, wanted = case["call_args"], case["result"]
    options = {
        "alpha": arguments.get("sig.level", 0.05),
        "alternative": "one-sided" if arguments.get("alternative") == "one.sided" else "two-sided",
    }
    if "power" not in arguments:
        found = power_auroc(arguments["auc"], arguments["ncases"], arguments["ncontrols"], **options)
    elif "ncases" in arguments:
        found = detectable_auroc(arguments["ncases"], arguments["ncontrols"], power=arguments["power"], **options)
    else:
        found = sample_size_auroc(arguments["auc"], power=arguments["power"], ratio=arguments["kappa"], **options)
    assert found.power == pytest.approx(wanted["power"], abs=1e-10)
    assert (found.positives, found.negatives) == pytest.approx((wanted["ncases"], wanted["ncontrols"]), abs=1e-8)
    assert found.auroc == pytest.approx(wanted["auc"], abs=1e-6)
    assert found.alpha == wanted["sig.level"]


def test_paired_difference_agrees_with_proc():
    """power.roc.test(roc1, roc2) on aSAH."""
    expected, markers = load("P19").expected["two_roc_asah"], load("P01")

    def moments(a, b):
        return pilot_moments(markers["y"], markers[a], markers[b])

    wanted = expected["paired_s100b_ndka_power"]
    found = power_paired_auroc(moments("s100b", "ndka"), wanted["ncases"], wanted["ncontrols"], null="reference")
    assert found.power == pytest.approx(wanted["power"], abs=1e-10)
    assert (found.auroc_a, found.auroc_b) == pytest.approx((wanted["auc1"], wanted["auc2"]), abs=1e-12)
    for name, pair, alternative in (
        ("paired_n_for_90", ("s100b", "ndka"), "two-sided"),
        ("onesided_wfns_ndka_n", ("wfns", "ndka"), "one-sided"),
    ):
        size = sample_size_paired_auroc(moments(*pair), power=0.9, alternative=alternative, null="reference")
        wanted = expected[name]
        assert (size.positives, size.negatives) == pytest.approx((wanted["ncases"], wanted["ncontrols"]), abs=1e-8)


def test_binormal_moments_are_those_of_large_binormal_samples():
    rng = np.random.default_rng(0)
    m, n, a, b, r1, r0 = 6000, 9000, 0.85, 0.75, 0.6, 0.3
    shift = math.sqrt(2) * np.array([1.0364334, 0.6744898])  # qnorm(.85), qnorm(.75)
    positives = rng.multivariate_normal(shift, [[1, r1], [r1, 1]], m)
    negatives = rng.multivariate_normal([0, 0], [[1, r0], [r0, 1]], n)
    scores = np.concatenate([positives, negatives])
    found = auroc_covariance(np.repeat([1.0, 0.0], [m, n])[:, None], scores.T[:, :, None]).covariance
    moments = binormal_moments(a, b, correlation_positives=r1, correlation_negatives=r0)
    wanted = [p / m + q / n for p, q in zip(moments.positive_part, moments.negative_part, strict=True)]
    assert [found[0, 0], found[1, 1], found[0, 1]] == pytest.approx(wanted, rel=0.06)


def test_formula_agrees_with_simulation_and_the_reference_null_overstates():
    moments = binormal_moments(0.85, 0.78, correlation_positives=0.6, correlation_negatives=0.5)
    formula = power_paired_auroc(moments, 100, 300).power
    simulated = simulated_paired_power(
        0.85, 0.78, 100, 300, rng=np.random.default_rng(1), correlation_positives=0.6, correlation_negatives=0.5,
        replicates=500,
    )  # fmt: skip
    assert formula == pytest.approx(simulated.power, abs=0.05)
    assert power_paired_auroc(moments, 100, 300, null="reference").power > formula + 0.05


def test_expected_interval_of_rare_labels_is_wide_and_covers():
    rare = expected_interval(0.85, 5, 395, rng=np.random.default_rng(1), replicates=100)
    common = expected_interval(0.85, 60, 340, rng=np.random.default_rng(1), replicates=100)
    assert rare.width > 2 * common.width
    assert min(rare.coverage, common.coverage) >= 0.92
    assert rare.excludes_half < common.excludes_half
    assert rare == expected_interval(0.85, 5, 395, rng=np.random.default_rng(1), replicates=100)


def test_interval_that_does_not_exist_is_nan_with_reason():
    found = expected_interval(0.8, 1, 10, rng=np.random.default_rng(0), method="delong", replicates=5)
    assert math.isnan(found.coverage)
    assert found.reason is not None


def test_equal_aurocs_need_no_number():
    found = sample_size_paired_auroc(binormal_moments(0.8, 0.8), ratio=3)
    assert math.isnan(found.positives)
    assert "equal" in found.reason
    same = power_paired_auroc(
        binormal_moments(0.8, 0.8, correlation_positives=1, correlation_negatives=1), positives=50, negatives=50
    )
    assert same.reason == "the difference has no variance"


def test_pilot_without_a_class_is_nan_with_reason():
    moments = pilot_moments([0, 0, 0], [1, 2, 3], [3, 2, 1])
    assert power_paired_auroc(moments, 10, 10).reason == moments.reason == "no positives"
    assert math.isnan(sample_size_paired_auroc(moments).positives)


def test_power_out_of_reach_is_nan_with_reason():
    found = detectable_auroc(1, 5, power=0.99)
    assert math.isnan(found.auroc)
    assert found.reason is not None


def test_every_argument_out_of_range_is_listed():
    with pytest.raises(StatisticsError) as refused:
        power_auroc(0.4, 0, -3, alpha=5)
    assert len(refused.value.problems) == 4
    with pytest.raises(StatisticsError) as refused:
        simulated_paired_power(1.2, 0.7, 0, 10, rng=np.random.default_rng(0), correlation_positives=2)
    assert len(refused.value.problems) == 3
    with pytest.raises(StatisticsError, match="ratio"):
        sample_size_paired_auroc(binormal_moments(0.8, 0.7))
    with pytest.raises(StatisticsError, match="more than alpha"):
        sample_size_auroc(0.7, power=0.04)
    with pytest.raises(StatisticsError, match="spread"):
        expected_interval(0.8, 10, 10, rng=np.random.default_rng(0), spread=0)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.floats(0.55, 0.95), st.floats(0.5, 0.95), st.floats(0.2, 20), st.floats(0.001, 0.2),
    st.sampled_from(["two-sided", "one-sided"]),
)  # fmt: skip
def test_sample_size_power_and_detectable_auroc_undo_each_other(value, power, ratio, alpha, alternative):
    options = {"alpha": alpha, "alternative": alternative}
    size = sample_size_auroc(value, power=power, ratio=ratio, **options)
    assert power_auroc(value, size.positives, size.negatives, **options).power == pytest.approx(power, abs=1e-9)
    found = detectable_auroc(size.positives, size.negatives, power=power, **options)
    assert found.auroc == pytest.approx(value, abs=1e-6)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.floats(0.6, 0.9), st.floats(0.02, 0.09), st.floats(-0.5, 0.9), st.sampled_from(["difference", "reference"]))
def test_paired_sample_size_reaches_its_power_and_grows_with_it(value, gap, correlation, null):
    moments = binormal_moments(value + gap, value, correlation_positives=correlation, correlation_negatives=correlation)
    sizes = [sample_size_paired_auroc(moments, power=power, ratio=4, null=null) for power in (0.7, 0.9)]
    assume(null == "difference" or sizes[0].reason is None)  # B may vary more than the reference null allows
    assert sizes[0].positives < sizes[1].positives
    reached = power_paired_auroc(moments, sizes[1].positives, sizes[1].negatives, null=null).power
    assert reached == pytest.approx(0.9, abs=1e-9)


def test_a_covariance_above_the_variance_of_a_leaves_the_reference_null_without_an_answer():
    """B varies more than A and shares all of A's variation: 2 (variance of A) - 2 covariance is negative."""
    moments = PairedMoments(0.8, 0.7, (0.04, 0.09, 0.055), (0.04, 0.09, 0.055), math.nan)
    for found in (
        power_paired_auroc(moments, 50, 100, null="reference"),
        sample_size_paired_auroc(moments, ratio=2.0, null="reference"),
    ):
        assert math.isnan(found.positives if found.power == 0.8 else found.power)
        assert "null='difference'" in found.reason
    assert power_paired_auroc(moments, 50, 100).reason is None
    assert sample_size_paired_auroc(moments, ratio=2.0).positives > 0


def test_whole_floats_are_numbers_of_patients_and_replicates():
    one, other = (
        expected_interval(0.8, m, 20, rng=np.random.default_rng(0), replicates=r) for m, r in ((10, 4), (10.0, 4.0))
    )
    assert one == other
    for arguments in ((0.7, 10, 5e-324), (0.7, 1e300, 10)):
        with pytest.raises(StatisticsError, match="1e-09 to 1e"):
            power_auroc(*arguments)
