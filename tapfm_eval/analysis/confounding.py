"""Whether the tissue was read or something that goes with it: covariates alone, strata, and what the score adds.

All of it is about one arm, the primary comparison's or else the first.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapfm_eval import statistics
from tapfm_eval.analysis.panels import Floats, Panel, generator, lead_arm, studied
from tapfm_eval.analysis.subgroups import UNKNOWN, is_number, known_text, levels_of
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import AddedValueResult, ControlResult, StratifiedResult, UnusedCovariate

TECHNICAL = ("site", "country", "scanner", "mpp", "specimen")  # where and how a slide was made
CLINICAL = ("age", "sex", "stage", "smoking")  # what a clinician knows without the slide
MAX_CATEGORIES = 100  # a covariate of more categories names patients rather than groups

Values = Mapping[str, NDArray[np.str_] | Floats]


def controls(panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol) -> Iterator[ControlResult]:
    """AUROC of each covariate by itself, then of the clinical ones together, without any score."""
    level = protocol.analysis.level
    for panel, target in _assessed(panels, cohorts, protocol):
        columns = _columns(cohorts[panel.cohort], panel, protocol)
        clinical = [name for name in CLINICAL if name in columns]
        groups = [[name] for name in columns] + ([clinical] if len(clinical) > 1 else [])
        for names in groups:
            labels, values = _complete(panel.known(target), {name: columns[name] for name in names})
            rng = generator(protocol.seeds[0], "covariates alone", panel.cohort, panel.split, target, *names)
            auroc = statistics.covariate_auroc(labels, values, rng=rng, level=level)
            yield ControlResult(tuple(names), target, panel.cohort, panel.split, auroc)


def stratified(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol
) -> Iterator[StratifiedResult]:
    """AUROC within strata of each covariate and of each other target; over folds, within folds as well."""
    level, arm = protocol.analysis.level, lead_arm(protocol)
    for panel, target in _assessed(panels, cohorts, protocol):
        cohort = cohorts[panel.cohort]
        strata = {name: levels_of(_values(cohort, name, panel)) for name in _recorded(cohort, panel, protocol)}
        for other in studied(protocol):
            if other != target and other in cohort.assessed:
                column = panel.labels[:, panel.column(other)]
                strata[other] = np.where(np.isnan(column), UNKNOWN, np.where(column == 1, "mutated", "not mutated"))
        y, s = panel.known(target, arm), panel.score(arm, target)
        for name, groups in strata.items():
            missing = (groups == UNKNOWN) & ~np.isnan(y)
            known = np.where(groups == UNKNOWN, np.nan, y)
            codes = np.unique(groups, return_inverse=True)[1].astype(np.int64)
            folds = np.zeros_like(codes) if panel.folds is None else panel.folds
            yield StratifiedResult(
                name, target, arm, panel.cohort, panel.split,
                crude=statistics.auroc(known, s, level=level, strata=panel.folds),
                within=statistics.auroc(known, s, level=level, strata=folds * (codes.max() + 1) + codes),
                missing=int(missing.sum()),
            )  # fmt: skip


def added_values(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol
) -> Iterator[AddedValueResult]:
    """Logistic regression of the label on clinical covariates with and without the score; folds enter as a category."""
    level, arm = protocol.analysis.level, lead_arm(protocol)
    for panel, target in _assessed(panels, cohorts, protocol):
        columns = _columns(cohorts[panel.cohort], panel, protocol)
        chosen = {name: columns[name] for name in CLINICAL if name in columns}
        if not chosen:
            continue
        names = tuple(chosen)
        if panel.folds is not None:
            chosen["fold"] = panel.folds.astype(str)
        labels, values = _complete(panel.known(target, arm), chosen)
        found = statistics.added_value(labels, panel.score(arm, target), values, level=level)
        yield AddedValueResult(
            names, target, arm, panel.cohort, panel.split, found.log_odds, found.test.statistic, found.test.p_value,
            found.test.method,
        )  # fmt: skip


def _assessed(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol
) -> Iterator[tuple[Panel, str]]:
    for panel, target in itertools.product(panels, studied(protocol)):
        if target in cohorts[panel.cohort].assessed:
            yield panel, target


def unused_covariates(
    panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol
) -> Iterator[UnusedCovariate]:
    """The covariates that no control and no stratum could be made of, and why."""
    for panel in panels:
        for name in _wanted(protocol):
            reason = _why_not(cohorts[panel.cohort], name, panel)
            if reason is not None:
                yield UnusedCovariate(name, panel.cohort, panel.split, reason)


def _wanted(protocol: Protocol) -> list[str]:
    """The technical, clinical and subgroup covariates."""
    return list(dict.fromkeys((*TECHNICAL, *CLINICAL, *protocol.analysis.subgroups)))


def _recorded(cohort: Cohort, panel: Panel, protocol: Protocol) -> list[str]:
    """Those that the cohort records and that differ between its patients."""
    return [name for name in _wanted(protocol) if _why_not(cohort, name, panel) is None]


def _why_not(cohort: Cohort, name: str, panel: Panel) -> str | None:
    if name not in cohort.covariates:
        return "not recorded"
    values = _values(cohort, name, panel)
    known, text = known_text(values)
    found = len(np.unique(text[known]))
    if found == 0:
        return "known of none of these patients"
    if found == 1:
        return "one value among these patients"
    if found > MAX_CATEGORIES and not is_number(values):
        return f"more than {MAX_CATEGORIES} categories, which name patients rather than groups"
    return None


def _values(cohort: Cohort, name: str, panel: Panel) -> "pd.Series[str]":
    values: pd.Series[str] = cohort.covariates[name].reindex(list(panel.patients))
    return values


def _columns(cohort: Cohort, panel: Panel, protocol: Protocol) -> dict[str, NDArray[np.str_] | Floats]:
    """Covariates as numbers where they are measurements, else as categories with `unknown` among them."""
    columns: dict[str, NDArray[np.str_] | Floats] = {}
    for name in _recorded(cohort, panel, protocol):
        values = _values(cohort, name, panel)
        columns[name] = (
            pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
            if is_number(values)
            else levels_of(values)
        )
    return columns


def _complete(labels: Floats, columns: Values) -> tuple[Floats, dict[str, NDArray[np.str_] | Floats]]:
    """Patients without a known number are left out by way of their label."""
    gaps = [np.isnan(values) for values in columns.values() if values.dtype.kind == "f"]
    absent = np.logical_or.reduce([np.zeros(len(labels), dtype=bool), *gaps])
    return np.where(absent, np.nan, labels), dict(columns)
