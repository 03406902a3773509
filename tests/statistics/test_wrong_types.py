"""Whatever stands in for an argument, the answer is a result or a StatisticsError, no exception from deep inside."""

import inspect
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import tapfm_eval.statistics as package
from tapfm_eval.errors import StatisticsError

rng = np.random.default_rng(0)
y = np.repeat([1.0, 0.0], [8, 22])
a, b = rng.standard_normal((2, 30)) + y
p = 1 / (1 + np.exp(-a))
labels_2d = np.stack([y, np.roll(y, 3)], axis=1)
scores_3d = rng.standard_normal((2, 30, 2)) + labels_2d
groups = np.where(np.arange(30) % 2, "x", "z")
aurocs = package.auroc_covariance(labels_2d, scores_3d)
moments = package.binormal_moments(0.8, 0.7)
seeded = np.random.default_rng

CALLS = {
    "auroc": ((y, a), {"method": "bootstrap", "replicates": 20}),
    "auroc_variance": ((y, a), {}),
    "partial_auroc": ((y, a), {"replicates": 20}),
    "compare_auroc": ((y, a, b), {"method": "bootstrap", "replicates": 20}),
    "compare_auroc_unpaired": ((y, a, y, b), {"method": "bootstrap", "replicates": 20}),
    "superiority": ((y, a, b), {}),
    "non_inferiority": ((y, a, b), {"margin": 0.1}),
    "equivalence": ((y, a, b), {"margin": 0.1}),
    "auroc_covariance": ((labels_2d, scores_3d), {}),
    "contrast": ((aurocs, [[1, 0], [-1, 0]]), {}),
    "heterogeneity": (([0.7, 0.8], np.eye(2)), {"test": "f", "df": 4}),
    "auroc_heterogeneity": ((aurocs, [(0, 0), (1, 0)]), {}),
    "macro_auroc": ((labels_2d, scores_3d[0]), {"method": "bootstrap", "replicates": 20}),
    "compare_macro_auroc": ((labels_2d, *scores_3d), {}),
    "micro_auroc": ((labels_2d, scores_3d[0]), {}),
    "average_precision": ((y, a), {"replicates": 20}),
    "precision_recall_curve": ((y, a), {}),
    "proportion": ((3, 9), {}),
    "mcnemar": ((3, 4, 5, 6), {}),
    "roc_curve": ((y, a), {}),
    "threshold_at": ((y, a, {"at_sensitivity": 0.9}), {}),
    "operating_point": ((y, a, 0.5), {"prevalence": 0.1}),
    "operating_point_from_counts": ((3, 4, 5, 6), {"prevalence": 0.1}),
    "compare_operating_points": ((y, a, b, 0.5, 0.4), {}),
    "rule_out_rule_in": ((y, a, 0.1, 0.9), {}),
    "likelihood_ratios": ((3, 4, 5, 6), {}),
    "predictive_values": ((3, 4, 5, 6, 0.1), {}),
    "calibration": ((y, p), {"clip": 1e-6}),
    "fit_recalibration": ((y, p), {}),
    "apply_recalibration": ((package.fit_recalibration(y, p), p), {}),
    "net_benefit": ((y, p, [0.1, 0.2]), {}),
    "subgroup_auroc": ((y, a, groups), {"min_per_class": 2}),
    "stratified_auroc": ((y, a, groups), {}),
    "adjusted_auroc": ((y, a, {"group": groups}), {}),
    "covariate_auroc": ((y, {"group": groups}), {"rng": seeded(0)}),
    "added_value": ((y, p, {"group": groups}), {}),
    "adjust_p": (([0.1, 0.2],), {}),
    "gatekeeping": (([[0.1], [0.2]],), {}),
    "power_auroc": ((0.8, 10, 20), {}),
    "sample_size_auroc": ((0.8,), {}),
    "detectable_auroc": ((10, 20), {}),
    "pilot_moments": ((y, a, b), {}),
    "binormal_moments": ((0.8, 0.7), {}),
    "power_paired_auroc": ((moments, 10, 20), {}),
    "sample_size_paired_auroc": ((moments,), {"ratio": 2.0}),
    "simulated_paired_power": ((0.8, 0.7, 10, 20), {"rng": seeded(0), "replicates": 5}),
    "expected_interval": ((0.8, 10, 20), {"rng": seeded(0), "replicates": 5}),
}  # fmt: skip
ODD = (
    "x", "0.5", None, [], [0.1, "x"], {}, {"x": 1}, object(), math.nan, math.inf, -1, 0, 2.5, 1j, True, np.ones(3),
    10**400, [10**400], -(10**400), 5e-324, 1e308, Fraction(1, 2), Decimal("0.5"), np.array(0.5), np.array("x"),
    np.array([None, "1"], dtype=object), np.ma.masked, np.ma.array([0.0, 1.0], mask=[True, False]), [[1], [2, 3]],
)  # fmt: skip


def test_every_public_function_is_called_here():
    assert sorted(CALLS) == sorted(name for name, value in vars(package).items() if inspect.isfunction(value))


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_refused_at_the_border(name):
    function = getattr(package, name)
    arguments, options = CALLS[name]
    signature = inspect.signature(function)
    bound = signature.bind(*arguments, **options)
    bound.apply_defaults()
    function(*bound.args, **bound.kwargs)  # the call is a good one
    failures = []
    for parameter in signature.parameters:
        for odd in () if parameter == "options" else ODD:  # keywords handed on
            changed = signature.bind(*arguments, **options)
            changed.apply_defaults()
            changed.arguments[parameter] = odd
            try:
                function(*changed.args, **changed.kwargs)
            except StatisticsError:
                continue
            except Exception as error:
                failures.append(f"{parameter}={odd!r}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
