"""What a busy reader sees first: the verdict, the main figures, and what they do not show."""

import math
from collections import Counter
from collections.abc import Iterable

from tapfm_eval.report.blocks import Block, Bullets, Cell, Column, Fact, Paragraph, RowGroup, Section, Table, Verdict
from tapfm_eval.report.numbers import (
    counted,
    difference_text,
    estimate_cell,
    estimate_text,
    events_cell,
    fixed,
    interval_name,
    p_text,
    percent,
    text_cell,
    visible,
)
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.comparisons import ADJUSTMENTS, narrow_reason, too_narrow
from tapfm_eval.results import AurocResult, PrimaryResult

SUMMARY_ROWS = 20  # of its table: the summary is a page
FEW_EVENTS = 20  # below this many patients in the rarer class every interval is flagged as resting on few patients


def summary_section(scope: Scope) -> Section:
    """The one-page summary."""
    blocks: list[Block] = []
    if scope.inputs.rehearsal is not None:
        failed = [check.name for check in scope.inputs.rehearsal.checks if not check.passed]
        outcome = (
            f"Failed: {visible(', '.join(failed))}."
            if failed
            else f"All {len(scope.inputs.rehearsal.checks)} of its checks passed."
        )
        blocks.append(
            Paragraph(
                "This is a rehearsal on synthetic slides with planted effects. It shows that the software runs from "
                f"protocol to report; it says nothing about any patient, mutation or model. {outcome}",
                "warning",
            )
        )
    if len(scope.inputs.looks) > 1:
        blocks.append(Paragraph(_looked_again(scope.inputs.looks), "warning"))
    blocks.append(_verdict(scope))
    table = _headline_table(scope)
    if table is not None:
        blocks.append(table)
    blocks.append(Bullets(_limits(scope), "What this does not show"))
    return Section("summary", "Summary", tuple(blocks))


def _looked_again(looks: tuple[str, ...]) -> str:
    return (
        f"Test and external patients were predicted {len(looks)} times under this version of the protocol: "
        f"{visible(', '.join(looks))}. Whoever has seen results once may have chosen what came after; these are not "
        "those of an untouched test set."
    )


def intended_use_section(scope: Scope) -> Section:
    """What the protocol says the models are for."""
    paragraphs = [text.strip() for text in scope.inputs.protocol.intended_use.split("\n\n")]
    blocks: list[Block] = [Paragraph(visible(text)) for text in paragraphs if text]
    blocks.append(
        Paragraph(
            "Research use only. The models and this report are not a medical device and must not guide the care of a "
            "patient; a positive or negative score does not replace sequencing.",
            "note",
        )
    )
    return Section("intended-use", "Intended use", tuple(blocks))


def _verdict(scope: Scope) -> Block:
    primary = scope.inputs.results.primary
    if primary is None:
        return Paragraph(
            "The protocol names no primary endpoint: every result below is descriptive, and no hypothesis was "
            "confirmed or refuted."
        )
    label = {True: "Primary endpoint met", False: "Primary endpoint not met", None: "Primary endpoint not estimable"}
    margin = () if primary.margin is None else (Fact("Margin", _margin(primary.margin)),)
    auroc, difference = primary.arm_auroc, primary.difference
    return Verdict(
        label=label[primary.met],
        sentence=_sentence(scope, primary),
        met=primary.met,
        facts=(
            Fact("Question", f"{visible(primary.target)} in {visible(primary.cohort)}, {primary.hypothesis}"),
            Fact(f"AUROC, {visible(primary.arm)}", estimate_text(auroc, scope.decimals)),
            Fact(f"AUROC, {visible(primary.versus)}", estimate_text(primary.versus_auroc, scope.decimals)),
            Fact(f"Difference ({interval_name(difference.level)})",
                 difference_text(difference, scope.difference_decimals)),
            *margin,
            Fact("p", f"{p_text(difference.p_value)} ({visible(difference.method)})"),
            Fact("Level of the test", f"one-sided {primary.one_sided_alpha:g}"),
            Fact("Adjusted p", _adjusted(scope, primary)),
            Fact(
                "Patients",
                f"{counted(auroc.n, 'patient')}, {visible(primary.target)} mutated in {auroc.positives}",
            ),
        ),
    )  # fmt: skip


def _sentence(scope: Scope, primary: PrimaryResult) -> str:
    """The verdict with the figures that carry it; the verdict alone where nothing could be tested."""
    verdict, difference = visible(primary.verdict), primary.difference
    if primary.met is None:
        return verdict
    a, b = (fixed(estimate.value, scope.decimals) for estimate in (primary.arm_auroc, primary.versus_auroc))
    value, _, limits = difference_text(difference, scope.difference_decimals).rstrip(")").partition(" (")
    p = p_text(difference.p_value)
    tested = f"p {p[0]} {p[1:]}" if p[0] in "<>" else f"p = {p}"
    return (
        f"{verdict.rstrip('.')}: AUROC {a} against {b}, a difference of {value} "
        f"({interval_name(difference.level)} {limits}; one-sided {tested})."
    )


def _adjusted(scope: Scope, primary: PrimaryResult) -> str:
    """That the primary test stands alone, and what the same pair came to among those it was adjusted for."""
    arms = {primary.arm, primary.versus}
    alike = [
        r
        for r in scope.inputs.results.comparisons
        if (r.target, r.cohort) == (primary.target, primary.cohort) and r.split != "validation"
    ]
    sizes = Counter(r.family for r in alike)
    found = [
        f"{p_text(r.p_adjusted)} among {counted(sizes[r.family], 'comparison')} of “{visible(r.family)}” on "
        f"{visible(r.target)} in {visible(r.cohort)} (two-sided, {ADJUSTMENTS[r.adjustment]})"
        for r in alike
        if {r.arm_a, r.arm_b} == arms and not math.isnan(r.p_adjusted)
    ]
    return "; ".join(["not needed: one primary test", *found])


def _margin(margin: float) -> str:
    text = fixed(margin, 3)
    return text.rstrip("0").rstrip(".")


def _headline_table(scope: Scope) -> Table | None:
    """The accent arm on unseen patients, beside the arm that it is tested against where there is one."""
    primary = scope.inputs.results.primary
    arms = (scope.accent_arm,) if primary is None else (scope.accent_arm, primary.versus)
    results = {(r.target, r.arm, Part(r.cohort, r.split)): r for r in scope.inputs.results.aurocs if r.arm in arms}
    parts = scope.parts(results.values(), splits=("test", "external"))
    targets = tuple(dict.fromkeys(target for target, _, _ in results))
    if not parts:
        return None
    shown, rest = summary_targets(targets, len(parts), "" if primary is None else primary.target)

    def row(target: str, part: Part) -> tuple[Cell, ...]:
        found = [results.get((target, arm, part)) for arm in arms]
        first = next((result for result in found if result is not None), None)
        counts = Cell("–", (None, None)) if first is None else events_cell(first.positives, first.known)
        return (text_cell(target), counts, *(_auroc_cell(scope, result) for result in found))

    return Table(
        "summary",
        "Discrimination on patients not used in training or selection of the models that scored them",
        (
            Column("Target", ("target",), width=1.2),
            Column("Events / n", ("positives", "n"), "number", 1.2),
            *(
                Column(
                    f"AUROC ({scope.interval}), {visible(arm)}",
                    (f"auroc_{arm}", f"lower_{arm}", f"upper_{arm}"),
                    "number",
                    2.4,
                )
                for arm in arms
            ),
        ),
        tuple(RowGroup(part.title, tuple(row(target, part) for target in shown)) for part in parts),
        group_name="part",
        note="Events are patients with the mutation; n are patients with a known label."
        f"{scope.control_note}{scope.compared_note}{rest}",
    )


def summary_targets(targets: tuple[str, ...], rows_each: int, first: str) -> tuple[tuple[str, ...], str]:
    """The targets that the summary has room for, `first` among them, and a sentence on the rest."""
    room = max(1, SUMMARY_ROWS // max(1, rows_each))
    if len(targets) <= room:
        return targets, ""
    shown = tuple(target for target in targets if target == first) + tuple(t for t in targets if t != first)
    left = counted(len(targets) - room, "more target")
    return shown[:room], f" {left}: see the section Discrimination."


def _auroc_cell(scope: Scope, result: AurocResult | None) -> Cell:
    if result is None or not result.assessed:
        return Cell("not assessed", (None, None, None))
    return estimate_cell(result.auroc, scope.decimals)


def _limits(scope: Scope) -> tuple[str, ...]:
    protocol, results = scope.inputs.protocol, scope.inputs.results
    lines = []
    if scope.inputs.rehearsal is not None:
        lines.append("Anything about real tissue: slides and effects are made up, backbones are small stand-ins.")
    primary = results.primary
    if primary is not None and primary.met is not None:
        lines += _of_the_test(primary)
    lines.append(
        "That using a score helps patients: no care pathway, decision or outcome was observed. AUROC measures ranking, "
        "not benefit."
    )
    if protocol.external:
        cohorts = visible(", ".join(protocol.external))
        lines.append(
            f"That results carry over to laboratories, scanners, specimens or populations unlike those of {cohorts}."
        )
    else:
        lines.append("That results carry over to any other cohort: no external cohort was tested.")
    lines += _pretraining(scope)
    unseen = [r for r in results.aurocs if r.split != "validation" and r.assessed and _real(scope, r.target)]
    not_estimable = _names(r.target for r in unseen if math.isnan(r.auroc.value))
    if not_estimable:
        lines.append(f"How well {not_estimable} is told apart wherever a class is missing: not estimable there.")
    few = _names(
        r.target for r in unseen if not math.isnan(r.auroc.value) and min(r.positives, r.negatives) < FEW_EVENTS
    )
    if few:
        lines.append(
            f"More than a rough idea of {few}: fewer than {FEW_EVENTS} patients in the rarer class of at least one "
            "cohort. Read the intervals, not the points."
        )
    if primary is not None:
        split = "external" if primary.cohort in protocol.external else "test"
        arms = (primary.arm, primary.versus)
        if too_narrow(scope, primary.target, Part(primary.cohort, split), arms, primary.difference):
            lines.append(
                f"A difference between {visible(primary.arm)} and {visible(primary.versus)} as exact as its interval: "
                f"{narrow_reason()}."
            )
    shares = [r.positives / r.known for r in unseen if r.known > 0]
    if results.operating_points and shares:
        lines.append(
            "Predictive values at another prevalence: those printed here hold at the cohorts’ own, from "
            f"{percent(min(shares))} to {percent(max(shares))}."
        )
    return tuple(lines)


def _of_the_test(primary: PrimaryResult) -> list[str]:
    """What the primary test leaves open, which differs between superiority and non-inferiority."""
    arm, versus = visible(primary.arm), visible(primary.versus)
    if primary.margin is None:
        if primary.met:
            return []
        return [f"That {arm} and {versus} do alike: a difference that was not shown may be there all the same."]
    if primary.met:
        return [
            f"That {arm} is better than {versus}, or as good: what was shown is that it is not worse by "
            f"{_margin(primary.margin)} or more."
        ]
    return [f"That {arm} is worse than {versus}: non-inferiority that was not shown is no inferiority shown."]


def _pretraining(scope: Scope) -> list[str]:
    """That test slides may not be new to a backbone, as the audit found; a rehearsal's stand-ins know no slide."""
    if scope.inputs.rehearsal is not None:
        return []
    known: dict[str, str] = {}
    for code, said in (
        ("backbone-saw-cohort", "a backbone was pretrained on such"),
        ("backbone-undisclosed", "unknown"),
    ):
        for finding in scope.inputs.findings:
            if finding.code == code:
                known.setdefault(finding.where.removeprefix("cohorts."), said)
    if not known:
        return []
    cohorts = _names(f"{cohort} ({said})" for cohort, said in known.items())
    return [f"That slides of {cohorts} were new to every backbone: results may be optimistic there (see the audit)."]


def _real(scope: Scope, target: str) -> bool:
    """Not a target that a rehearsal adds as a negative control."""
    return scope.inputs.rehearsal is None or target in scope.inputs.rehearsal.planted


def _names(targets: Iterable[str]) -> str:
    names = list(dict.fromkeys(targets))
    if len(names) < 2:
        return visible("".join(names))
    return visible(f"{', '.join(names[:-1])} and {names[-1]}")
