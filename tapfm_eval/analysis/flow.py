"""Who left the study after its manifests were read, and who was predicted in the end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tapfm_eval.analysis.panels import Panel
from tapfm_eval.cohort.flow import Exclusion, FlowStep, Member, depart
from tapfm_eval.cohort.load import Cohort


def participant_flow(
    cohorts: Mapping[str, Cohort],
    failed: Sequence[Exclusion],
    panels: Sequence[Panel],
    annotated: Mapping[str, frozenset[str]] | None = None,
) -> tuple[tuple[FlowStep, ...], tuple[Exclusion, ...]]:
    """The flow of every cohort from its manifest to the patients predicted, with every exclusion.

    Args:
        cohorts: The cohorts, by name.
        failed: Slides that left after their manifests were read.
        panels: Whom the analysis predicts.
        annotated: By cohort, the slides whose tiles annotations restrict; None where the protocol asks for none.
    """
    flow: list[FlowStep] = []
    exclusions: list[Exclusion] = []
    for name, cohort in cohorts.items():
        flow += cohort.flow
        exclusions += cohort.exclusions
        members = list(zip(cohort.slides["patient_id"], cohort.slides["slide_id"], strict=True))
        lost = {failure.slide_id: failure for failure in failed if failure.cohort == name}
        readable = [member for member in members if member[1] not in lost]
        step = depart(name, "with a readable slide that holds tissue", members, readable, "slides",
                      "unreadable, or without tissue")  # fmt: skip
        drawn = None if annotated is None else annotated.get(name, frozenset())
        flow.append(replace(step.step, annotated=_annotated(readable, drawn)))
        for left in step.exclusions:
            why = lost.get(left.slide_id)
            exclusions.append(left if why is None else replace(left, reason=why.reason, file=why.file))
        for panel in panels:
            if panel.cohort == name:
                patients = set(panel.patients)
                seen = [member for member in readable if member[0] in patients]
                external = panel.split == "external"
                gone = (step.step.patients - len(patients), step.step.slides - len(seen))
                reason = "" if external or not any(gone) else "used for training and validation"
                label = "external patients predicted" if external else "test patients predicted"
                flow.append(
                    FlowStep(name, label, len(patients), len(seen), *gone, reason, annotated=_annotated(seen, drawn))
                )
    return tuple(flow), tuple(exclusions)


def _annotated(members: Sequence[Member], annotated: frozenset[str] | None) -> int | None:
    return None if annotated is None else sum(slide in annotated for _, slide in members)


def patients_lost(cohorts: Mapping[str, Cohort], failed: Sequence[Exclusion]) -> dict[str, frozenset[str]]:
    """By cohort, the patients of the study all of whose slides failed."""
    found = {}
    for name, cohort in cohorts.items():
        gone = {failure.slide_id for failure in failed if failure.cohort == name}
        named, left = cohort.slides["patient_id"], cohort.slides[~cohort.slides["slide_id"].isin(gone)]["patient_id"]
        found[name] = frozenset(named) - frozenset(left)
    return found
