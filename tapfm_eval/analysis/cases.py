"""Which patients' slides are shown: chosen by rule, so that nobody could pick the handsome ones."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from tapfm_eval.analysis.panels import Panel, lead_arm, studied
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.patients import mean_logit
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import Call, CaseResult, OperatingPointResult

MAX_TARGETS = 4  # that are shown, the primary one first
CALLS: tuple[Call, ...] = ("true positive", "false positive", "false negative", "true negative")


def cases(
    predictions: pd.DataFrame,
    panels: Mapping[tuple[str, str], Panel],
    points: Sequence[OperatingPointResult],
    cohorts: Mapping[str, Cohort],
    protocol: Protocol,
) -> Iterator[CaseResult]:
    """A patient for each call and target: of right calls the middle one by score, of wrong ones the gravest.

    They are patients of the primary comparison, else of the first external cohort, else test patients, as the lead arm
    calls them at the threshold of Youden's index or, where that was not asked for, of the first rule. Ties go to the
    first patient by name.
    """
    arm, place = lead_arm(protocol), _place(panels, protocol)
    if place is None:
        return
    rules = dict.fromkeys(point.rule for point in points)
    rule = "Youden" if "Youden" in rules else next(iter(rules), None)
    thresholds = {p.target: p.threshold for p in points if (p.rule, p.arm, p.cohort, p.split) == (rule, arm, *place)}
    panel = panels[place]
    primary = protocol.analysis.primary
    shown = [target for target in studied(protocol) if target in cohorts[panel.cohort].assessed]
    if primary is not None and primary.target in shown:
        shown = [primary.target, *(target for target in shown if target != primary.target)]
    rows = predictions[
        (predictions["arm"] == arm) & (predictions["cohort"] == panel.cohort) & (predictions["split"] == panel.split)
    ]
    for target in shown[:MAX_TARGETS]:
        threshold = thresholds.get(target, math.nan)
        if rule is None or math.isnan(threshold):
            continue
        y, scores = panel.known(target, arm), panel.score(arm, target)
        groups: dict[Call, list[tuple[float, str]]] = {call: [] for call in CALLS}
        for patient, label, score in zip(panel.patients, y, scores, strict=True):
            if not np.isnan(label):
                groups[_call(label == 1, score >= threshold)].append((float(score), patient))
        for call, members in groups.items():
            if members:
                score, patient = _chosen(call, members)
                own = rows[(rows["target"] == target) & (rows["patient_id"] == patient)]
                slide = _slide(own, highest=call.endswith("positive"))
                yield CaseResult(
                    rule, target, arm, panel.cohort, panel.split, call, patient, slide, score, threshold, len(members)
                )


def _place(panels: Mapping[tuple[str, str], Panel], protocol: Protocol) -> tuple[str, str] | None:
    places = [(name, "external") for name in protocol.external] + [(protocol.development, "test")]
    primary = protocol.analysis.primary
    if primary is not None:
        places = sorted(places, key=lambda place: place[0] != primary.cohort)
    return next((place for place in places if place in panels), None)


def _call(positive: bool, called: bool) -> Call:
    if called:
        return "true positive" if positive else "false positive"
    return "false negative" if positive else "true negative"


def _chosen(call: Call, members: list[tuple[float, str]]) -> tuple[float, str]:
    """The middle of the right calls; the highest false positive, the lowest false negative."""
    ranked = sorted(members)
    if call == "false positive":
        return min(ranked, key=lambda member: (-member[0], member[1]))
    return ranked[0] if call == "false negative" else ranked[(len(ranked) - 1) // 2]


def _slide(rows: pd.DataFrame, *, highest: bool) -> str:
    """The slide whose own score, over all models, speaks most for the call."""
    by_slide = {str(slide): mean_logit(own["score"].to_numpy()) for slide, own in rows.groupby("slide_id")}
    sign = -1.0 if highest else 1.0
    return min(by_slide, key=lambda slide: (sign * by_slide[slide], slide))
