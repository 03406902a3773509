"""Arrays of numpy and pandas in all their forms are read for what they say, or refused in words."""

import numpy as np
import pandas as pd
import pytest

from tapfm_eval.errors import StatisticsError
from tapfm_eval.statistics import auroc, average_precision, net_benefit, subgroup_auroc

y = np.repeat([1.0, 0.0], [8, 12])
s = np.random.default_rng(0).random(20)
some = np.arange(20) % 5 == 0


def test_masked_labels_are_unknown_and_masked_scores_refused():
    unknown = np.where(some, np.nan, y)
    assert auroc(np.ma.array(y, mask=some), s) == auroc(unknown, s)
    assert auroc(np.ma.array(y.astype(int), mask=some), s) == auroc(unknown, s)
    assert auroc(np.ma.array(y == 1, mask=some), s) == auroc(unknown, s)
    assert auroc(np.ma.array(y, mask=False), s) == auroc(y, s)
    assert net_benefit(np.ma.array(y, mask=True), s, [0.1]).n == 0
    for rule in (auroc, average_precision):
        with pytest.raises(StatisticsError, match="4 NaN and 0 infinite among 20"):
            rule(y, np.ma.array(s, mask=some))
    hidden = np.ma.array(np.where(some, 7.0, s), mask=some)  # what lies under a mask is not looked at
    with pytest.raises(StatisticsError) as refused:
        net_benefit(y, hidden, [0.1])
    assert "in [0, 1]" not in str(refused.value)


def test_masked_groups_are_missing_and_masked_clusters_refused():
    for groups in (np.arange(20) % 2, np.where(np.arange(20) % 2, "a", "b")):
        found = subgroup_auroc(y, s, np.ma.array(groups, mask=some))
        assert found.missing == 4
        assert len(found.levels) == 2
    with pytest.raises(StatisticsError, match="clusters: expected a group for every row, got 4 missing"):
        auroc(y, s, clusters=np.ma.array(np.arange(20), mask=some))


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float64", "object"])
def test_a_missing_label_of_pandas_is_unknown(dtype):
    series = pd.Series([None if hole else int(label) for label, hole in zip(y, some, strict=True)], dtype=dtype)
    assert auroc(series, s) == auroc(np.where(some, np.nan, y), s)


def test_texts_are_no_labels_in_whatever_array():
    for dtype in (object, str):
        with pytest.raises(StatisticsError, match="labels: expected numbers"):
            auroc(np.array(["0", "1"], dtype=dtype), [0.1, 0.2])
