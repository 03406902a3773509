"""Whether discrimination differs between kinds of patients."""

import itertools
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
            for name, estimate, tested in by_level:
                yield SubgroupResult(variable, name, target, arm, panel.cohort, panel.split, estimate, tested, p_value)


def _by_level(
    labels: Floats, scores: Floats, groups: NDArray[np.str_], folds: NDArray[np.int64] | None, level: float
) -> tuple[list[tuple[str, Estimate, bool]], float]:
    """AUROC in each level, whether it was tested, and the p value of their heterogeneity; over folds, within folds.

    Patients of unknown level stand last and are not tested: what they have in common is not known.
    """
    unknown = groups == UNKNOWN
    found = statistics.subgroup_auroc(
        labels, scores, np.where(unknown, "", groups), level=level, min_per_class=MIN_EVENTS_FOR_A_TEST, strata=folds
    )
    levels = [(part.name, part.auroc, part.tested) for part in found.levels]
    if unknown.any():
        strata = None if folds is None else folds[unknown]
        estimate = statistics.auroc(labels[unknown], scores[unknown], level=level, strata=strata)
        levels.append((UNKNOWN, estimate, False))
    return levels, found.heterogeneity.p_value


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
