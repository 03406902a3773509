"""Who was in the study, who left it, when and why."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from tapfm_eval.cohort.flow import Exclusion, FlowStep
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL
from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.drawings import FlowBox, FlowDiagram
from tapfm_eval.report.numbers import count, count_cell, counted, text_cell, visible
from tapfm_eval.report.scope import Scope

_REST = "Slides excluded from a patient who keeps others leave that patient in the study."
_TELLING = 4  # characters from which on an id is looked for inside reasons


def flow_section(scope: Scope) -> Section:
    """Flow of each cohort as a diagram and a table, then each exclusion with its reason."""
    results = scope.inputs.results
    steps_told = tuple(replace(step, reason=_step_reason(scope, step)) for step in results.flow)
    cohorts = tuple(dict.fromkeys(step.cohort for step in steps_told))
    blocks: list[Block] = []
    for cohort in cohorts:
        steps = tuple(step for step in steps_told if step.cohort == cohort)
        blocks.append(_figure(scope, cohort, steps))
    if cohorts:
        blocks += [_flow_table(cohorts, steps_told), *_annotated(steps_told)]
    else:
        blocks.append(Paragraph("No participant flow was recorded: the report was made from predictions alone."))
    if results.exclusions:
        blocks += [_reasons_table(results.exclusions), _exclusions_table(scope)]
    else:
        blocks.append(Paragraph("No patient and no slide was excluded."))
    return Section("flow", "Participants", tuple(blocks))


def _annotated(flow: Iterable[FlowStep]) -> tuple[Paragraph, ...]:
    """How many slides annotations restricted, in each step that says so: what was annotated may tell the label."""
    told: dict[str, list[str]] = {}
    for step in flow:
        if step.annotated is not None:
            said = f"{count(step.annotated)} of {counted(step.slides, 'slide')} ({step.step})"
            told.setdefault(step.cohort, []).append(said)
    if not told:
        return ()
    cohorts = "; ".join(f"{visible(cohort)}: {', '.join(steps)}" for cohort, steps in told.items())
    return (
        Paragraph(
            f"Annotations restricted the tiles of these slides, all others gave their whole tissue. {cohorts}. Where "
            "slides with the mutation were annotated more often than others, a model can score by the annotation."
        ),
    )


def trunk_and_branches(steps: tuple[FlowStep, ...]) -> tuple[tuple[FlowStep, ...], tuple[FlowStep, ...]]:
    """Steps that follow from each other by subtraction, and the rest, which divides or re-counts the last of them."""
    length = min(1, len(steps))
    while (
        length < len(steps) and steps[length].patients == steps[length - 1].patients - steps[length].excluded_patients
    ):
        length += 1
    return steps[:length], steps[length:]


def _figure(scope: Scope, cohort: str, steps: tuple[FlowStep, ...]) -> Figure:
    trunk, branches = trunk_and_branches(steps)
    ends = tuple(_box(step) for step in branches) or _target_boxes(scope, cohort)
    told = "; ".join(
        f"{box.title}: {box.counts}" + (f", {box.left}" if box.left else "")
        for box in (*(_box(step) for step in trunk), *ends)
    )
    control = not branches and any(
        (r.target, r.cohort) == (NEGATIVE_CONTROL, cohort) for r in scope.inputs.results.aurocs
    )
    return Figure(
        id=f"flow-{cohort}",
        caption=f"Flow of patients and slides, {visible(cohort)}"
        + (f". The negative control {NEGATIVE_CONTROL} has no box." if control else ""),
        alt=visible(f"Flow diagram of {cohort}. {told}."),
        drawing=FlowDiagram(
            trunk=tuple(_box(step) for step in trunk),
            branches=ends,
        ),
    )


def _target_boxes(scope: Scope, cohort: str) -> tuple[FlowBox, ...]:
    """Where a flow ends: the unseen patients analysed for each target, with and without the mutation."""
    boxes = []
    for result in scope.inputs.results.aurocs:
        if (result.cohort, result.arm) != (cohort, scope.accent_arm) or result.split == "validation":
            continue
        if result.target == NEGATIVE_CONTROL:
            continue
        title = f"analysed for {visible(result.target)}"
        if not result.assessed:
            boxes.append(FlowBox(title, "not assessed in this cohort", ""))
            continue
        left = f"{counted(result.missing, 'patient')} left: label unknown" if result.missing else ""
        numbers = f"{count(result.positives)} mutated, {count(result.negatives)} not"
        boxes.append(FlowBox(title, numbers, left))
    return tuple(boxes)


def _box(step: FlowStep) -> FlowBox:
    return FlowBox(visible(step.step), _counts(step), _left(step))


def _counts(step: FlowStep) -> str:
    return f"{counted(step.patients, 'patient')}, {counted(step.slides, 'slide')}"


def _left(step: FlowStep) -> str:
    if step.excluded_patients == 0 and step.excluded_slides == 0:
        return ""
    numbers = f"{counted(step.excluded_patients, 'patient')}, {counted(step.excluded_slides, 'slide')}"
    return f"{numbers} left: {visible(step.reason)}" if step.reason else f"{numbers} left"


def _flow_table(cohorts: tuple[str, ...], flow: tuple[FlowStep, ...]) -> Table:
    return Table(
        "flow",
        "Participant flow, step by step",
        (
            Column("Step", ("step",), width=2.6),
            Column("Patients", ("patients",), "number", 0.9),
            Column("Slides", ("slides",), "number", 0.9),
            Column("Patients left", ("excluded_patients",), "number", 1.1),
            Column("Slides left", ("excluded_slides",), "number", 1.0),
            Column("Reason", ("reason",), width=3.2),
        ),
        tuple(
            RowGroup(
                visible(cohort),
                tuple(
                    (
                        text_cell(step.step),
                        count_cell(step.patients),
                        count_cell(step.slides),
                        count_cell(step.excluded_patients),
                        count_cell(step.excluded_slides),
                        text_cell(step.reason if step.excluded_patients or step.excluded_slides else ""),
                    )
                    for step in flow
                    if step.cohort == cohort
                ),
            )
            for cohort in cohorts
        ),
        group_name="cohort",
        note=_REST,
    )


def _reasons_table(exclusions: tuple[Exclusion, ...]) -> Table:
    cohorts = tuple(dict.fromkeys(exclusion.cohort for exclusion in exclusions))
    groups = []
    for cohort in cohorts:
        own = [exclusion for exclusion in exclusions if exclusion.cohort == cohort]
        patients = Counter((item.stage, _general(item)) for item in own if not item.slide_id)
        slides = Counter((item.stage, _general(item)) for item in own if item.slide_id)
        rows = [
            (
                text_cell(stage),
                text_cell(reason),
                count_cell(patients[stage, reason]),
                count_cell(slides[stage, reason]),
            )
            for stage, reason in dict.fromkeys((item.stage, _general(item)) for item in own)
        ]
        groups.append(RowGroup(visible(cohort), tuple(rows)))
    return Table(
        "exclusion-reasons",
        "Exclusions by stage and reason",
        (
            Column("Stage", ("stage",), width=1.2),
            Column("Reason", ("reason",), width=5.0),
            Column("Patients", ("patients",), "number", 0.9),
            Column("Slides", ("slides",), "number", 0.9),
        ),
        tuple(groups),
        group_name="cohort",
        note="Patients are those of whom nothing remained.",
    )


def _exclusions_table(scope: Scope) -> Table:
    exclusions = scope.inputs.results.exclusions
    cohorts = tuple(dict.fromkeys(exclusion.cohort for exclusion in exclusions))
    groups = []
    for cohort in cohorts:
        own = tuple(exclusion for exclusion in exclusions if exclusion.cohort == cohort)
        groups.append(RowGroup(visible(cohort), _rows(own) if scope.show_ids else _pseudonymous_rows(own)))
    note = (
        "" if scope.show_ids else "Patients and slides are numbered within this table; the run folder holds their ids."
    )
    return Table(
        "exclusions",
        "Every exclusion",
        (
            Column("Patient", ("patient",), width=1.6),
            Column("Slide", ("slide",), width=1.6),
            Column("Stage", ("stage",), width=1.0),
            Column("Reason", ("reason",), width=4.0),
            Column("File", ("file",), width=2.5, shown=scope.show_ids),
        ),
        tuple(groups),
        group_name="cohort",
        note=note,
    )


def _rows(exclusions: tuple[Exclusion, ...]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        tuple(
            text_cell(text)
            for text in (item.patient_id, item.slide_id or "all slides", item.stage, item.reason, item.file)
        )
        for item in exclusions
    )


def _pseudonymous_rows(exclusions: tuple[Exclusion, ...]) -> tuple[tuple[Cell, ...], ...]:
    """Numbers in place of ids, in sorted order, so that the order tells nothing; no file is named."""
    patients = _numbered("patient", (item.patient_id for item in exclusions))
    slides = _numbered("slide", (item.slide_id for item in exclusions))
    return tuple(
        tuple(
            text_cell(text)
            for text in (
                patients.get(item.patient_id, ""),
                slides.get(item.slide_id, "all slides"),
                item.stage,
                _general(item),
                "",
            )
        )
        for item in exclusions
    )


def _general(exclusion: Exclusion) -> str:
    """The reason without the ids that a manifest's author may have put there, so that like reasons count together.

    An id of less than four characters is left: it tells nothing that the word or number beside it would not.
    """
    names = sorted(
        (name for name in (exclusion.slide_id, exclusion.patient_id) if len(name) >= _TELLING), key=len, reverse=True
    )
    if not names:
        return exclusion.reason
    return re.sub(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, names))})(?![^\W_])", "…", exclusion.reason)


def _step_reason(scope: Scope, step: FlowStep) -> str:
    """Why patients left before a step; the manifest's author may have written an id of theirs into it."""
    if not scope.show_ids:
        for item in scope.inputs.results.exclusions:
            if (item.cohort, item.reason) == (step.cohort, step.reason) and _general(item) != item.reason:
                return _general(item)
    return step.reason


def _numbered(noun: str, names: Iterable[str]) -> dict[str, str]:
    return {name: f"{noun} {number}" for number, name in enumerate(sorted(set(names) - {""}), 1)}
