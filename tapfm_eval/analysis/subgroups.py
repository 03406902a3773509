"""Whether discrimination differs between kinds of patients."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapfm_eval import statistics
from tapfm_eval.analysis.comparisons import MIN_EVENTS_FOR_A_TEST
from tapfm_eval.analysis.panels import Floats, Panel, lead_arm, studied
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import SubgroupResult
from tapfm_eval.statistics.records import Estimate

MAX_LEVELS = 8  # a numeric covariate with more different values is cut at its median
UNKNOWN = "unknown"


def subgroups(panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol) -> Iterator[SubgroupResult]:
    """Subgroups of one arm: the primary comparison's, else the first."""
    plan = protocol.analysis
    arm = lead_arm(protocol)
    for panel, variable in itertools.product(panels, plan.subgroups):
        covariates = cohorts[panel.cohort].covariates
        if variable not in covariates:
            continue
        values = levels_of(covariates[variable].reindex(list(panel.patients)))
        for target in studied(protocol):
            if target not in cohorts[panel.cohort].assessed:
                continue
            by_level, p_value = _by_level(
                panel.known(target, arm), panel.score(arm, target), values, panel.folds, plan.level
            )
            for name, estimate in by_level:
                yield SubgroupResult(variable, name, target, arm, panel.cohort, panel.split, estimate, p_value)


def _by_level(
    labels: Floats, scores: Floats, groups: NDArray[np.str_], folds: NDArray[np.int64] | None, level: float
) -> tuple[list[tuple[str, Estimate]], float]:
    """AUROC in each level and the p value of their heterogeneity; over folds, within folds."""
    if folds is None:
        found = statistics.subgroup_auroc(labels, scores, groups, level=level)
        return [(part.name, part.auroc) for part in found.levels], found.heterogeneity.p_value
    estimates, tested = [], []
    for name in np.unique(groups):
        rows = groups == name
        y, s, strata = labels[rows], scores[rows], folds[rows]
        estimates.append((str(name), statistics.auroc(y, s, level=level, strata=strata)))
        variance = statistics.auroc_variance(y, s, strata=strata)
        if min((y == 1).sum(), (y == 0).sum()) >= MIN_EVENTS_FOR_A_TEST and variance.variance > 0:
            tested.append(variance)
    if len(tested) < 2:
        return estimates, math.nan
    spread = np.diag([part.variance for part in tested])
    return estimates, statistics.heterogeneity([part.auroc for part in tested], spread).p_value


def levels_of(values: "pd.Series[str] | pd.Series[float]") -> NDArray[np.str_]:
    """A covariate as text levels, `unknown` where empty; numbers of many values are cut at their median."""
    known, text = known_text(values)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    if is_number(values):
        cut = float(np.median(numbers[known]))
        text = np.where(numbers <= cut, f"up to {cut:g}", f"above {cut:g}")
    return np.where(known, text, UNKNOWN)


def known_text(values: "pd.Series[str] | pd.Series[float]") -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
    """Where a covariate is known, and its cells as text."""
    text = values.astype(str).to_numpy(dtype=str)
    return np.array([cell not in ("", "nan", "<NA>") for cell in text], dtype=bool), text


def is_number(values: "pd.Series[str] | pd.Series[float]") -> bool:
    """Whether a covariate is a measurement: all known values are numbers, and there are many different ones."""
    known, _ = known_text(values)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)[known]
    return bool(known.any()) and not np.isnan(numbers).any() and len(np.unique(numbers)) > MAX_LEVELS
