"""What a rehearsal planted, what it changed, and whether it found what it planted."""

from tapfm_eval.report.blocks import Block, Bullets, Cell, Column, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.numbers import number_cell, text_cell, visible
from tapfm_eval.report.scope import Scope


def rehearsal_section(scope: Scope) -> Section | None:
    """Planted effects, self-checks and departures from the real run; None for a real run."""
    rehearsal = scope.inputs.rehearsal
    if rehearsal is None:
        return None
    unplanted = [target for target in scope.inputs.results.targets if target not in rehearsal.planted]
    none = f" Nothing was planted for {visible(', '.join(unplanted))}." if unplanted else ""
    failed = sum(not check.passed for check in rehearsal.checks)
    blocks: list[Block] = [
        Paragraph(
            "The patients and labels are those of the real manifests; the slides are synthetic, and for each target an "
            f"effect of known strength was planted into them.{none}"
        ),
        Table(
            "rehearsal-planted",
            "Planted effects",
            (
                Column("Target", ("target",), width=1.0),
                Column("AUROC of the planted effect", ("planted_auroc",), "number", 1.0),
            ),
            (
                RowGroup(
                    "", tuple((text_cell(target), number_cell(value, 2)) for target, value in rehearsal.planted.items())
                ),
            ),
            width=0.45,
        ),
        Table(
            "rehearsal-checks",
            f"Self-check: {'passed' if not failed else f'{failed} of {len(rehearsal.checks)} failed'}",
            (
                Column("Check", ("check",), width=2.2),
                Column("Outcome", ("outcome",), width=0.8),
                Column("Detail", ("detail",), width=3.6),
            ),
            (
                RowGroup(
                    "",
                    tuple(
                        (text_cell(check.name), _outcome(passed=check.passed), text_cell(check.detail))
                        for check in rehearsal.checks
                    ),
                ),
            ),
        ),
    ]
    if rehearsal.changes:
        blocks.append(Bullets(tuple(visible(change) for change in rehearsal.changes), "What differs from the real run"))
    return Section("rehearsal", "Rehearsal", tuple(blocks))


def _outcome(*, passed: bool) -> Cell:
    return text_cell("passed" if passed else "FAILED")
