"""Predictions and the analysis plan to all results, as plain data: what is estimated, and on whom."""

from collections.abc import Mapping, Sequence

import pandas as pd

from tapfm_eval.analysis.baseline import baseline
from tapfm_eval.analysis.calibration import calibrations, decision_curves, fit_recalibrations, recalibrations
from tapfm_eval.analysis.cases import cases
from tapfm_eval.analysis.comparisons import comparisons, primary_comparison
from tapfm_eval.analysis.confounding import added_values, controls, stratified, unused_covariates
from tapfm_eval.analysis.discrimination import aurocs, curves, macros
from tapfm_eval.analysis.flow import participant_flow, patients_lost
from tapfm_eval.analysis.panels import ordered, panels_of
from tapfm_eval.analysis.subgroups import subgroups
from tapfm_eval.analysis.thresholds import failed_cases, operating_points
from tapfm_eval.analysis.triage import triage
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import CaseResult, Results


def shown_cases(protocol: Protocol, predictions: pd.DataFrame, cohorts: Mapping[str, Cohort]) -> tuple[CaseResult, ...]:
    """The patients whose slides a report shows, before anything else is analysed: their slides are at hand then."""
    panels = panels_of(predictions, protocol)
    validation = panels.get((protocol.development, "validation"))
    points = tuple(operating_points(ordered(panels, protocol), validation, protocol))
    return tuple(cases(predictions, panels, points, cohorts, protocol))


def analyse(
    protocol: Protocol,
    predictions: pd.DataFrame,
    cohorts: Mapping[str, Cohort],
    failed: Sequence[Exclusion],
    annotated: Mapping[str, frozenset[str]] | None = None,
) -> Results:
    """Everything the protocol's analysis plan asks for.

    Args:
        protocol: The protocol as run.
        predictions: All predictions of the run.
        cohorts: The cohorts as loaded from the run's manifests and splits.
        failed: Slides that left the study after that, with their reasons.
        annotated: By cohort, the slides whose tiles annotations restrict; None where the protocol asks for none.
    """
    plan = protocol.analysis
    panels = panels_of(predictions, protocol)
    unseen = ordered(panels, protocol)
    validation = panels.get((protocol.development, "validation"))
    flow, exclusions = participant_flow(cohorts, failed, unseen, annotated)
    lost = patients_lost(cohorts, failed)
    points = tuple(operating_points(unseen, validation, protocol))
    fits = fit_recalibrations(validation, protocol)
    characteristics, differences = baseline(protocol, cohorts, lost)
    return Results(
        level=plan.level,
        targets=tuple(protocol.targets),
        arms=tuple(arm.id for arm in protocol.arms),
        aurocs=tuple(aurocs(unseen, cohorts, protocol)),
        curves=tuple(curves(unseen, protocol)),
        macros=tuple(macros(unseen, protocol)),
        primary=None if plan.primary is None else primary_comparison(plan.primary, panels, protocol),
        comparisons=tuple(comparisons(unseen, protocol)),
        operating_points=points,
        triage=tuple(triage(points, protocol)),
        failed_cases=tuple(failed_cases(points, cohorts, lost)),
        cases=tuple(cases(predictions, panels, points, cohorts, protocol)),
        recalibrations=tuple(recalibrations(fits, validation, protocol)),
        calibrations=tuple(calibrations(unseen, cohorts, fits, protocol)),
        decision_curves=tuple(decision_curves(unseen, cohorts, fits, protocol)),
        subgroups=tuple(subgroups(unseen, cohorts, protocol)),
        controls=tuple(controls(unseen, cohorts, protocol)),
        stratified=tuple(stratified(unseen, cohorts, protocol)),
        added_values=tuple(added_values(unseen, cohorts, protocol)),
        unused_covariates=tuple(unused_covariates(unseen, cohorts, protocol)),
        baseline=characteristics,
        baseline_differences=differences,
        flow=flow,
        exclusions=exclusions,
    )
