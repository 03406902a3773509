"""What a report says, and in which order; the renderers add nothing to it."""

from dataclasses import replace

from tapfm_eval.report.blocks import Content, Fact, Section, Table, numbered
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.numbers import visible
from tapfm_eval.report.reasons import reasons_once
from tapfm_eval.report.scope import scope_of
from tapfm_eval.report.sections.audit import audit_section
from tapfm_eval.report.sections.baseline import baseline_section
from tapfm_eval.report.sections.benefit import benefit_section
from tapfm_eval.report.sections.calibration import calibration_section
from tapfm_eval.report.sections.checklist import checklist_section
from tapfm_eval.report.sections.comparisons import comparisons_section
from tapfm_eval.report.sections.confounding import confounding_section
from tapfm_eval.report.sections.discrimination import auroc_section, macro_section
from tapfm_eval.report.sections.flow import flow_section
from tapfm_eval.report.sections.front import intended_use_section, summary_section
from tapfm_eval.report.sections.heatmaps import heatmaps_section
from tapfm_eval.report.sections.methods import methods_section
from tapfm_eval.report.sections.precision import precision_section
from tapfm_eval.report.sections.record import protocol_section, provenance_section
from tapfm_eval.report.sections.rehearsal import rehearsal_section
from tapfm_eval.report.sections.scored import scored_methods, scored_patients, scored_summary, scored_thresholds
from tapfm_eval.report.sections.subgroups import subgroups_section
from tapfm_eval.report.sections.thresholds import thresholds_section
from tapfm_eval.report.sections.training import training_section

WATERMARK = "REHEARSAL · SYNTHETIC SLIDES · NOT EVIDENCE"


def build_content(inputs: ReportInputs, *, show_ids: bool = False) -> Content:
    """Everything that the report of a run says, as plain data; the same inputs give equal contents.

    Args:
        inputs: The facts of the run.
        show_ids: Print patient and slide ids; otherwise patients and slides are numbered.
    """
    scope = scope_of(inputs, show_ids=show_ids)
    protocol, scored = inputs.protocol, inputs.scored
    results = [
        summary_section(scope) if scored is None else scored_summary(scope, scored),
        intended_use_section(scope) if scored is None else scored_patients(scored),
        rehearsal_section(scope),
        flow_section(scope) if scored is None else None,
        baseline_section(scope),
        audit_section(scope),
        auroc_section(scope),
        macro_section(scope),
        precision_section(scope),
        comparisons_section(scope),
        thresholds_section(scope) if scored is None else scored_thresholds(scope, scored),
        calibration_section(scope),
        benefit_section(scope),
        subgroups_section(scope),
        confounding_section(scope),
        heatmaps_section(scope),
        training_section(scope),
        methods_section(scope) if scored is None else scored_methods(scope),
    ]
    record = [provenance_section(scope), *([protocol_section(scope)] if scored is None else [])]
    present = [section for section in results if section is not None]
    checklist = checklist_section(scope, present, record)
    return Content(
        title=visible(protocol.title),
        subtitle="Clinical validation report" if scored is None else "Analysis of external predictions",
        status=_status(inputs),
        watermark=WATERMARK if inputs.rehearsal is not None or (scored is not None and scored.rehearsal) else "",
        identity=(
            Fact("Protocol", f"{protocol.id} {protocol.version}" if scored is None else "none"),
            Fact("Run", visible(inputs.run_id), code=True),
            Fact("Protocol SHA-256" if scored is None else "Plan", visible(inputs.protocol_sha256), code=True),
        ),
        footer=(f"{protocol.id} {protocol.version}" if scored is None else "external predictions")
        + f" · run {visible(inputs.run_id)}",
        sections=numbered(_reasons_once(section) for section in [*present, checklist, *record]),
    )


def _reasons_once(section: Section) -> Section:
    blocks = (reasons_once(block) if isinstance(block, Table) else block for block in section.blocks)
    return replace(section, blocks=tuple(blocks))


def _status(inputs: ReportInputs) -> str:
    if inputs.rehearsal is not None:
        return "Rehearsal on synthetic slides"
    if inputs.scored is not None and inputs.scored.rehearsal:
        return "Predictions of a rehearsal on synthetic slides"
    if len(inputs.looks) > 1:
        return f"Complete; test patients were looked at {len(inputs.looks)} times under this version"
    return "Complete"
