"""What a report of predictions from elsewhere says in place of what only a run can know: nothing is made up."""

from dataclasses import replace

from tapfm_eval.report.blocks import Block, Bullets, Cell, Column, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.inputs import ScoredSummary
from tapfm_eval.report.numbers import count_cell, counted, estimate_cell, events_cell, text_cell, visible
from tapfm_eval.report.scope import Part, Scope
from tapfm_eval.report.sections.front import FEW_EVENTS, summary_targets
from tapfm_eval.report.sections.methods_statistics import REFERENCES, statistics_paragraphs
from tapfm_eval.report.sections.thresholds import thresholds_section

NATURE = (
    "External predictions: the suite was given these scores and labels. It did not train the models, saw no slide, and "
    "cannot say on whom they were developed."
)

REHEARSED = (
    "These are predictions of a rehearsal: its slides are synthetic, with effects planted in them. Nothing here is "
    "evidence about any model."
)


def scored_summary(scope: Scope, scored: ScoredSummary) -> Section:
    """The headline figures of every arm, under what the suite does not know of them."""
    blocks: list[Block] = [
        *([Paragraph(REHEARSED, "warning")] if scored.rehearsal else []),
        Paragraph(NATURE, "warning"),
        Paragraph(
            "No protocol fixed this analysis in advance: every result is descriptive, and no hypothesis was confirmed "
            "or refuted."
        ),
        _headline(scope),
        Paragraph(
            "Research use only. Nothing in this report may guide the care of a patient.",
            "note",
        ),
        Bullets(_limits(scope), "What this does not show"),
    ]
    return Section("summary", "Summary", tuple(blocks))


def _headline(scope: Scope) -> Table:
    results = scope.inputs.results.aurocs
    parts = scope.parts(results, splits=("test", "external"))
    targets = tuple(dict.fromkeys(r.target for r in results))
    shown, rest = summary_targets(targets, len(parts) * len(scope.arms), targets[0] if targets else "")
    groups = []
    for part in parts:
        rows = [
            (
                text_cell(r.target),
                text_cell(r.arm),
                events_cell(r.positives, r.known),
                estimate_cell(r.auroc, scope.decimals),
            )
            for r in results
            if Part(r.cohort, r.split) == part and r.target in shown
        ]
        groups.append(RowGroup(part.title, tuple(rows)))
    return Table(
        "summary",
        "Discrimination on the patients that all arms scored",
        (
            Column("Target", ("target",), width=1.2),
            Column("Arm", ("arm",), width=2.4),
            Column("Events / n", ("positives", "n"), "number", 1.2),
            Column(f"AUROC ({scope.interval})", ("auroc", "lower", "upper"), "number", 2.4),
        ),
        tuple(groups),
        group_name="part",
        note="Events are patients with label 1; n are patients with a known label." + scope.compared_note + rest,
    )


def _limits(scope: Scope) -> tuple[str, ...]:
    lines = [
        "That the models had never seen these patients: whoever supplied the scores must vouch for it.",
        "How patients came into the files, and who was left out before: no participant flow is known.",
        "That using a score helps patients: AUROC measures ranking, not benefit.",
    ]
    few = sorted(
        {
            r.target
            for r in scope.inputs.results.aurocs
            if r.split != "validation" and min(r.positives, r.negatives) < FEW_EVENTS
        }
    )
    if few:
        lines.append(
            f"More than a rough idea of {visible(', '.join(few))}: fewer than {FEW_EVENTS} patients in the rarer "
            "class. Read the intervals, not the points."
        )
    return tuple(lines)


def scored_patients(scored: ScoredSummary) -> Section:
    """Which files were given, and how many patients each arm shares with the others."""
    files = Table(
        "files",
        "Files of predictions",
        (
            Column("Arm", ("arm",), width=1.8),
            Column("File", ("file",), width=2.4),
            Column("Form", ("form",), width=1.0),
            Column("Rows", ("rows",), "number", 0.7),
            Column("SHA-256", ("sha256",), width=2.6),
        ),
        (
            RowGroup(
                "",
                tuple(
                    (
                        text_cell(file.arm or "as the file says"),
                        text_cell(file.name),
                        text_cell(file.source),
                        count_cell(file.rows),
                        Cell(f"{visible(file.sha256[:16])}…", (file.sha256,)),
                    )
                    for file in scored.files
                ),
            ),
        ),
    )
    blocks: list[Block] = [files, _sharing_table(scored)]
    arms = len({row.arm for row in scored.sharing})
    left = max((row.left_out for row in scored.sharing), default=0)
    if arms > 1:
        said = (
            "Arms are compared on the patients that all of them scored; the others take part in no number of this "
            "report." if left else "All arms scored the same patients."
        )  # fmt: skip
        blocks.append(Paragraph(said))
    if scored.notes:
        blocks.append(Bullets(tuple(visible(note) for note in scored.notes), "Derived rather than read"))
    return Section("patients", "Files and patients", tuple(blocks))


def _sharing_table(scored: ScoredSummary) -> Table:
    parts = dict.fromkeys(Part(row.cohort, row.split) for row in scored.sharing)
    return Table(
        "sharing",
        "Patients scored by each arm, and by all",
        (
            Column("Target", ("target",), width=1.2),
            Column("Arm", ("arm",), width=2.2),
            Column("Scored", ("scored",), "number"),
            Column("Scored by all arms", ("shared",), "number", 1.3),
            Column("Left out", ("left_out",), "number"),
            Column("Label known", ("labelled",), "number", 1.1),
        ),
        tuple(
            RowGroup(
                part.title,
                tuple(
                    (
                        text_cell(row.target),
                        text_cell(row.arm),
                        count_cell(row.scored),
                        count_cell(row.shared),
                        count_cell(row.left_out),
                        count_cell(row.labelled),
                    )
                    for row in scored.sharing
                    if Part(row.cohort, row.split) == part
                ),
            )
            for part in parts
        ),
        group_name="part",
        note="Patients without a known label are left out of that target.",
    )


def scored_thresholds(scope: Scope, scored: ScoredSummary) -> Section:
    """Operating points, under where their thresholds came from; or why there are none."""
    section = thresholds_section(scope)
    blocks: list[Block] = []
    for block in () if section is None else section.blocks:
        if isinstance(block, Table) and block.id == "operating-points":
            # a declared threshold was not fixed on validation patients, as the caption of a run says
            blocks.append(replace(block, caption="Operating points"))
        else:
            blocks.append(block)
    return Section("operating-points", "Operating points", (Paragraph(visible(scored.thresholds)), *blocks))


def scored_methods(scope: Scope) -> Section:
    """How the numbers were computed; how the models were made, the suite does not know."""
    results = scope.inputs.results
    text = (
        f"Scores of {counted(len(results.arms), 'arm')} for {counted(len(results.targets), 'target')} were analysed as "
        "given. The patient is the unit of every count and statistic: scores of a patient’s slides are combined as the "
        "mean of their logits (clipped at 1e-6), and so are those of several seeds and, on external patients, of "
        "several folds. How the models were developed is for those to state who supplied the scores."
    )
    told = [Paragraph(visible(paragraph)) for paragraph in (text, *statistics_paragraphs(scope))]
    return Section("analysis-methods", "Methods of the analysis", (*told, Bullets(REFERENCES[2:], "References")))
