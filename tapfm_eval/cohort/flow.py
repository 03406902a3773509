"""Who leaves a study, at which stage and why: the participant flow (STARD) as data."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlowStep:
    """One box of the participant flow of a cohort: how many remain, and how many left before it and why."""

    cohort: str
    step: str  # `in the manifest`, `with a readable slide`, `test patients analysed for EGFR` ...
    patients: int
    slides: int
    excluded_patients: int  # left between the step before and this one
    excluded_slides: int
    reason: str  # why they left; empty for the first step
    annotated: int | None = None  # of `slides`, those whose tiles annotations restrict; None where none are asked for


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A slide or patient that left the study."""

    cohort: str
    patient_id: str
    slide_id: str  # empty where a whole patient left
    stage: str  # manifest, slides, tiles, training, prediction
    reason: str  # without a path or file name, which may name a patient
    file: str = ""  # that the reason is about; no report shows it unless ids are asked for


@dataclass(frozen=True, slots=True)
class Departure:
    """A step of the flow with the records of all who left before it."""

    step: FlowStep
    exclusions: tuple[Exclusion, ...]


Member = tuple[str, str]
"""A patient_id and a slide_id; the slide_id is empty for a patient whose slides are not named yet."""


def first_step(cohort: str, step: str, members: Iterable[Member]) -> FlowStep:
    """The first box of a cohort's flow, before anybody left."""
    present = set(members)
    return FlowStep(cohort, step, len({patient for patient, _ in present}), _slides(present), 0, 0, "")


def depart(
    cohort: str, step: str, before: Iterable[Member], after: Iterable[Member], stage: str, reason: str
) -> Departure:
    """The next box of a cohort's flow.

    Every slide that left has an exclusion with its slide_id, and every patient of whom nothing remains has one more
    with an empty slide_id, so that the exclusions of a stage add up to its `excluded_slides` and `excluded_patients`.

    Args:
        cohort: The cohort's name.
        step: What those who remain have in common: `with a known label`.
        before: Who was in the box before.
        after: Who remains; a subset of `before`.
        stage: The stage at which the others left.
        reason: Why they left.
    """
    earlier, present = set(before), set(after)
    remaining = {patient for patient, _ in present}
    left_slides = sorted(member for member in earlier - present if member[1])
    left_patients = sorted({patient for patient, _ in earlier} - remaining)
    exclusions = [Exclusion(cohort, patient, "", stage, reason) for patient in left_patients]
    exclusions += [Exclusion(cohort, patient, slide, stage, reason) for patient, slide in left_slides]
    exclusions.sort(key=lambda exclusion: (exclusion.patient_id, exclusion.slide_id))
    counts = (len(remaining), _slides(present), len(left_patients), len(left_slides))
    return Departure(FlowStep(cohort, step, *counts, reason), tuple(exclusions))


def _slides(members: set[Member]) -> int:
    return sum(1 for _, slide in members if slide)
