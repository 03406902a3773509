"""What a report says, and in which order; the renderers add nothing to it."""

from dataclasses import replace

from tapfm_eval.report.blocks import Block, Content, Fact, Figure, Section, Table
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.numbers import visible
from tapfm_eval.report.scope import scope_of
from tapfm_eval.report.sections.audit import audit_section
from tapfm_eval.report.sections.calibration import calibration_section
from tapfm_eval.report.sections.checklist import checklist_section
from tapfm_eval.report.sections.comparisons import comparisons_section
from tapfm_eval.report.sections.discrimination import auroc_section, macro_section, precision_section
from tapfm_eval.report.sections.flow import flow_section
from tapfm_eval.report.sections.front import intended_use_section, summary_section
from tapfm_eval.report.sections.methods import methods_section
from tapfm_eval.report.sections.record import protocol_section, provenance_section
from tapfm_eval.report.sections.rehearsal import rehearsal_section
from tapfm_eval.report.sections.subgroups import subgroups_section
from tapfm_eval.report.sections.thresholds import thresholds_section
from tapfm_eval.report.sections.training import training_section

WATERMARK = "REHEARSAL · SYNTHETIC SLIDES · NOT EVIDENCE"


def build_content(inputs: ReportInputs, *, show_ids: bool = False) -> Content:
    """Everything that the report of a run says, as plain data; the same inputs give equal contents.

    Args:
        inputs: The facts of the run.
        show_ids: Print patient and slide ids in the table of exclusions; otherwise they are numbered.
    """
    scope = scope_of(inputs, show_ids=show_ids)
    protocol = inputs.protocol
    results = [
        summary_section(scope),
        intended_use_section(scope),
        rehearsal_section(scope),
        flow_section(scope),
        audit_section(scope),
        auroc_section(scope),
        macro_section(scope),
        comparisons_section(scope),
        thresholds_section(scope),
        calibration_section(scope),
        precision_section(scope),
        subgroups_section(scope),
        training_section(scope),
        methods_section(scope),
    ]
    record = [provenance_section(scope), protocol_section(scope)]
    present = [section for section in results if section is not None]
    checklist = checklist_section(scope, tuple(present + record))
    return Content(
        title=visible(protocol.title),
        subtitle="Clinical validation report",
        status="Rehearsal on synthetic slides" if inputs.rehearsal is not None else "Complete",
        watermark=WATERMARK if inputs.rehearsal is not None else "",
        identity=(
            Fact("Protocol", f"{protocol.id} {protocol.version}"),
            Fact("Run", visible(inputs.run_id), code=True),
            Fact("Protocol SHA-256", visible(inputs.protocol_sha256), code=True),
        ),
        footer=f"{protocol.id} {protocol.version} · run {visible(inputs.run_id)}",
        sections=_numbered([*present, checklist, *record]),
    )


def _numbered(sections: list[Section]) -> tuple[Section, ...]:
    """The sections with their tables and figures numbered through."""
    tables = figures = 0
    found = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Table):
                tables += 1
                blocks.append(replace(block, number=tables))
            elif isinstance(block, Figure):
                figures += 1
                blocks.append(replace(block, number=figures))
            else:
                blocks.append(block)
        found.append(replace(section, blocks=tuple(blocks)))
    return tuple(found)
