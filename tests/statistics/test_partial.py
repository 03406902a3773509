"""The partial AUROC: agreement with pROC, its limits, and its edges."""

import numpy as np
import pytest
from golden_cases import load

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import auroc, partial_auroc


@pytest.mark.parametrize(
    ("name", "marker"),
    [("P01", "s100b"), ("P01", "ndka"), ("P01", "wfns")]
    + [(name, marker) for name in ("P03", "P04", "P05", "P06", "P07", "P08", "P11") for marker in ("s1", "s2")],
)
def test_partial_areas_equal_proc(name, marker):
    """R: auc(r, partial.auc = c(1, .9), partial.auc.focus = "specificity", partial.auc.correct = ...)."""
    case = load(name)
    expected = case.expected["models"][marker]
    for focus, at_least, key in (("specificity", 0.9, "pauc_spec_1_0.9"), ("sensitivity", 0.8, "pauc_sens_1_0.8")):
        plain = partial_auroc(case["y"], case[marker], focus=focus, at_least=at_least, replicates=9)
        assert plain.value == pytest.approx(expected[key], abs=1e-12)
        corrected = partial_auroc(case["y"], case[marker], focus=focus, at_least=at_least, corrected=True, replicates=9)
        assert corrected.value == pytest.approx(expected[f"{key}_corrected"], abs=1e-12, nan_ok=True)
        if np.isnan(corrected.value):
            assert corrected.reason == "the correction is not defined below the diagonal"


@pytest.mark.parametrize("focus", ["specificity", "sensitivity"])
def test_the_whole_range_is_the_auroc(focus):
    case = load("P03")
    whole = partial_auroc(case["y"], case["s1"], focus=focus, at_least=0.0)
    assert whole.value == pytest.approx(auroc(case["y"], case["s1"]).value, abs=1e-12)


def test_bootstrap_of_the_whole_range_is_that_of_the_auroc():
    case = load("P03")
    whole = partial_auroc(case["y"], case["s1"], at_least=0.0, rng=np.random.default_rng(4), replicates=300)
    twin = auroc(case["y"], case["s1"], method="bootstrap", rng=np.random.default_rng(4), replicates=300)
    assert (whole.lower, whole.upper) == pytest.approx((twin.lower, twin.upper), abs=1e-12)


def test_an_interval_takes_seed_0_and_respects_patients():
    case = load("P17")
    bare = partial_auroc(case["y"], case["s1"])
    assert bare == partial_auroc(case["y"], case["s1"], rng=np.random.default_rng(0))
    one = partial_auroc([0, 0, 0, 1], [1, 2, 4, 3], at_least=0.0, replicates=50)
    assert np.isnan([one.lower, one.upper]).all()
    assert "two patients of each class" in one.reason
    widths = []
    for clusters in (None, case["patient"]):
        found = partial_auroc(
            case["y"], case["s1"], at_least=0.5, clusters=clusters, rng=np.random.default_rng(0), replicates=400
        )
        assert found.lower < found.value < found.upper
        assert found.reason is None
        widths.append(found.upper - found.lower)
    assert found.clusters == 120
    assert widths[1] > 1.2 * widths[0]


def test_edges_are_not_estimable_and_misuse_is_refused():
    assert partial_auroc([0, 0], [1, 2]).reason == "no positives"
    assert partial_auroc([1, 1], [1, 2]).reason == "no negatives"
    assert partial_auroc([np.nan], [1]).reason == "no known labels"
    with pytest.raises(StatisticsError, match="focus: expected one of"):
        partial_auroc([0, 1], [1, 2], focus="both")
    with pytest.raises(StatisticsError, match="at_least: expected a number in"):
        partial_auroc([0, 1], [1, 2], at_least=1.0)
