"""The ROC curve of several folds has the area that is reported, and its band is that of its folds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.analysis import mean_roc
from tapfm_eval.results import Results


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=50
    )
)
def test_the_area_under_the_mean_curve_is_the_pair_weighted_auroc(rows: list[tuple[float, int, int]]) -> None:
    labels, scores, strata = (np.array(column) for column in zip(*rows, strict=True))
    wins = pairs = 0.0
    for stratum in np.unique(strata):
        positive, negative = (scores[(strata == stratum) & (labels == label)] for label in (1, 0))
        wins += sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
        pairs += len(positive) * len(negative)
    fpr, tpr = mean_roc(labels, scores / 5, strata)
    if pairs == 0:
        assert len(fpr) == len(tpr) == 0
        return
    assert float(np.trapezoid(tpr, fpr)) == pytest.approx(wins / pairs, abs=1e-12)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == pytest.approx((0, 0, 1, 1))
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= -1e-12).all()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40))
def test_without_strata_the_curve_is_the_empirical_one(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([float(y) for y, _ in rows]), np.array([s / 8 for _, s in rows])
    if len(set(labels)) < 2:
        return
    fpr, tpr = mean_roc(labels, scores, None)
    points = {
        ((scores[labels == 0] >= t).mean(), (scores[labels == 1] >= t).mean()) for t in [*np.unique(scores), math.inf]
    }
    corners = {(round(float(x), 12), round(float(y), 12)) for x, y in zip(fpr, tpr, strict=True)}
    assert corners <= {(round(float(x), 12), round(float(y), 12)) for x, y in points}
    for x, y in points:
        assert y == pytest.approx(np.interp(x, fpr, tpr), abs=1e-9) or x in fpr


def test_the_curves_of_the_results_have_the_area_that_is_reported(results: Results) -> None:
    aurocs = {(r.target, r.arm, r.cohort, r.split): r.auroc.value for r in results.aurocs}
    assert len(results.curves) == len(aurocs) == 2 * 3 * 2
    for curve in results.curves:
        area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
        assert area == pytest.approx(aurocs[curve.target, curve.arm, curve.cohort, curve.split])
