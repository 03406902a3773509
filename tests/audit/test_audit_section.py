"""The report shows every finding and every accepted error, and never the ids in the evidence."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from tapfm_eval.audit.findings import Finding
from tapfm_eval.report.blocks import Bullets, Paragraph, Table
from tapfm_eval.report.sections.audit import audit_page, audit_section

ERROR = Finding("licence-forbids-use", "error", "intended_use", "It is forbidden.", ("P0007",), "Ask the owner.")
WARNING = Finding("slide-twice", "warning", "m.csv", "One slide is listed twice.", ("row 3: P0008",), "Delete one.")


@dataclass
class FakeScope:
    """As much of a report's scope as the section looks at."""

    findings: tuple[Finding, ...]
    overrides: tuple[SimpleNamespace, ...] = ()
    scored: object = None
    inputs: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = SimpleNamespace(
            rehearsal=None, findings=self.findings, protocol=SimpleNamespace(overrides=self.overrides),
            scored=self.scored,
        )  # fmt: skip


def test_an_audit_that_found_nothing_says_so_and_predictions_made_elsewhere_had_none() -> None:
    section = audit_section(FakeScope(()))  # type: ignore[arg-type]
    assert section is not None
    (said,) = section.blocks
    assert isinstance(said, Paragraph)
    assert said.text.endswith("Nothing was found.")
    assert audit_section(FakeScope((), scored=object())) is None  # type: ignore[arg-type]


def test_accepted_errors_are_set_apart_with_their_reason() -> None:
    accepted = SimpleNamespace(finding="licence-forbids-use", reason="A licence was granted.")
    section = audit_section(FakeScope((ERROR, WARNING), (accepted,)))  # type: ignore[arg-type]
    assert section is not None
    assert [b.tone for b in section.blocks if isinstance(b, Paragraph)] == ["body", "warning"]
    table = next(block for block in section.blocks if isinstance(block, Table))
    cells = [cell.text for group in table.groups for row in group.rows for cell in row]
    assert "A licence was granted." in cells
    assert "One slide is listed twice." in cells
    assert not any("P000" in cell for cell in cells)
    assert [group.title.split(",")[0].split(":")[0] for group in table.groups] == ["Errors", "Warnings"]


def test_the_page_for_the_data_manager_shows_the_evidence() -> None:
    page = audit_page((ERROR, WARNING), {}, "study")
    said = [item for s in page.sections for block in s.blocks if isinstance(block, Bullets) for item in block.items]
    assert "row 3: P0008" in said
    assert "Remedy: Delete one." in said
    assert page.status == "1 error, 1 warning, 0 notes"
