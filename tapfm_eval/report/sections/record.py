"""What fixes this report: the protocol in full, what was accepted knowingly, and where the numbers came from."""

from tapfm_eval.protocol.load import protocol_yaml
from tapfm_eval.report.blocks import Block, Column, Fact, KeyFacts, Listing, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.numbers import text_cell, visible
from tapfm_eval.report.scope import Scope


def protocol_section(scope: Scope) -> Section:
    """The resolved protocol, every default written out, and the audit findings that it accepts."""
    protocol = scope.inputs.protocol
    blocks: list[Block] = [
        Paragraph(
            "The protocol as it was run, every default written out. Its SHA-256 is in the title block; nothing outside "
            "it can change a number."
        )
    ]
    if protocol.overrides:
        blocks.append(
            Table(
                "overrides",
                "Audit findings accepted knowingly",
                (Column("Finding", ("finding",), width=1.0), Column("Reason", ("reason",), width=3.0)),
                (RowGroup("", tuple((text_cell(o.finding), text_cell(o.reason)) for o in protocol.overrides)),),
            )
        )
    text = "\n".join(visible(line) for line in protocol_yaml(protocol).rstrip("\n").split("\n"))
    blocks.append(Listing(text, "Resolved protocol (YAML)"))
    return Section("protocol", "Protocol", tuple(blocks))


def provenance_section(scope: Scope) -> Section:
    """Software, hashes and device, by the run's own headings."""
    provenance = scope.inputs.provenance
    if not provenance:
        return Section("provenance", "Provenance", (Paragraph("No provenance was recorded."),))
    return Section(
        "provenance",
        "Provenance",
        tuple(
            KeyFacts(
                tuple(Fact(visible(name), visible(value), code=True) for name, value in entries.items()),
                visible(title),
            )
            for title, entries in provenance.items()
        ),
    )
