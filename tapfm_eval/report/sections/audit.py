"""What the audit found about cohorts, split and protocol before anything was run, and which findings were accepted."""

from collections.abc import Mapping

from tapfm_eval.audit.findings import SEVERITIES, Finding, Severity
from tapfm_eval.report.blocks import (
    Block,
    Bullets,
    Cell,
    Column,
    Content,
    Fact,
    Paragraph,
    RowGroup,
    Section,
    Table,
    numbered,
)
from tapfm_eval.report.numbers import counted, text_cell, visible
from tapfm_eval.report.scope import Scope

_TITLES: dict[Severity, str] = {
    "error": "Errors: they stop a run unless the protocol accepts them with a reason",
    "warning": "Warnings: they limit what the results mean",
    "note": "Notes",
}


_NOTHING = (
    "Before anything was run, manifests, splits and protocol were checked for leakage, drift, confounding, small "
    "numbers and backbones that may know the patients. Nothing was found."
)


def audit_section(scope: Scope) -> Section | None:
    """The audit's findings by severity, or that it found nothing; None for predictions made elsewhere."""
    findings = scope.inputs.findings
    if scope.inputs.scored is not None:
        return None
    if not findings:
        return Section("audit", "Audit of cohorts and protocol", (Paragraph(_NOTHING),))
    reasons = {override.finding: override.reason for override in scope.inputs.protocol.overrides}
    accepted = [finding for finding in findings if finding.severity == "error"]
    real = " All of these are the real study's; a rehearsal samples its patients." if scope.inputs.rehearsal else ""
    blocks: list[Block] = [
        Paragraph(
            "Before anything was run, manifests, splits and protocol were checked for leakage, drift, confounding, "
            "small numbers and backbones that may know the patients. Errors stop a run unless the protocol accepts "
            f"them with a reason.{real}"
        )
    ]
    if accepted:
        blocks.append(
            Paragraph(
                f"The protocol accepts {counted(len(accepted), 'error')} of its audit. Read the results accordingly.",
                "warning",
            )
        )
    note = "The rows behind each finding are in audit.json of the run; docs/audit.md explains each code."
    blocks.append(_table(findings, reasons, note))
    return Section("audit", "Audit of cohorts and protocol", tuple(blocks))


def audit_page(findings: tuple[Finding, ...], reasons: Mapping[str, str], title: str) -> Content:
    """The findings as a page of their own, with the rows behind them: it shows patient and slide ids.

    Args:
        findings: What was found, errors first.
        reasons: Why a finding is accepted, by code.
        title: What was audited.
    """
    numbers = [(sum(f.severity == severity for f in findings), severity) for severity in SEVERITIES]
    said = ", ".join(counted(number, severity) for number, severity in numbers)
    blocks: list[Block] = [Paragraph(f"{said}. Rows are counted as in the file, its header being row 1.")]
    if findings:
        blocks.append(_table(findings, reasons, "docs/audit.md explains each code."))
    details = [
        Bullets(
            (*(visible(line) for line in finding.evidence), f"Remedy: {visible(finding.remedy).replace('`', '')}"),
            f"{finding.code}: {visible(finding.where)}",
        )
        for finding in findings
    ]
    sections = [Section("findings", "Findings", tuple(blocks))]
    if details:
        sections.append(Section("evidence", "Evidence and remedies", tuple(details)))
    return Content(
        title=visible(title),
        subtitle="Audit of cohorts and protocol",
        status=said,
        watermark="",
        identity=(Fact("Audited", visible(title)),),
        footer=f"audit of {visible(title)}",
        sections=numbered(sections),
    )


def _table(findings: tuple[Finding, ...], reasons: Mapping[str, str], note: str) -> Table:
    groups = [
        RowGroup(_TITLES[severity], tuple(_row(f, reasons) for f in findings if f.severity == severity))
        for severity in SEVERITIES
    ]
    return Table(
        "audit",
        "Findings of the audit",
        (
            Column("Finding", ("finding",), width=1.8),
            Column("Where", ("where",), width=1.8),
            Column("What was found", ("what",), width=3.4),
            Column(
                "Accepted because", ("accepted_because",), width=1.4, shown=any(f.code in reasons for f in findings)
            ),
        ),
        tuple(group for group in groups if group.rows),
        group_name="severity",
        note=note,
    )


def _row(finding: Finding, reasons: Mapping[str, str]) -> tuple[Cell, ...]:
    return (
        text_cell(finding.code),
        text_cell(finding.where),
        text_cell(finding.what),
        text_cell(reasons.get(finding.code, "")),
    )
