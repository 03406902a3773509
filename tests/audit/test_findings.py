"""Findings keep their order, survive JSON, and every code is explained and tested."""

import json
import math
import re
from pathlib import Path

import pytest

from tapfm_eval.audit.findings import KINDS, Finding, audit_content, findings_of, in_order, standing_errors

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "audit.md"


def finding(code: str, severity: str = "warning", **changes: object) -> Finding:
    facts = {"where": "m.csv", "what": "Something.", "evidence": ("row 2",), "remedy": "Mend it."}
    return Finding(code=code, severity=severity, **{**facts, **changes})  # type: ignore[arg-type]


def test_errors_come_first_and_a_repeated_finding_stands_once() -> None:
    found = in_order([finding("slide-twice"), finding("licence-forbids-use", "error"), finding("slide-twice")])
    assert [f.code for f in found] == ["licence-forbids-use", "slide-twice"]


def test_findings_survive_json_with_what_is_not_estimable() -> None:
    before = finding("not-estimable", rows=(3, 4), numbers={"width": math.nan, "positives": 0.0})
    content = json.loads(json.dumps(audit_content([before], {"not-estimable": "known"}), allow_nan=False))
    after = findings_of(content)[0]
    assert content["findings"][0]["accepted"] == "known"
    assert (after.code, after.rows, after.evidence) == (before.code, before.rows, before.evidence)
    assert math.isnan(after.numbers["width"])


def test_only_errors_that_nobody_accepted_stand() -> None:
    found = [finding("slide-twice"), finding("cohort-empty", "error"), finding("not-tumour", "error")]
    assert [f.code for f in standing_errors(found, ["not-tumour", "slide-twice"])] == ["cohort-empty"]


@pytest.mark.parametrize("code", KINDS)
def test_every_code_is_explained_with_why_it_matters_and_how_to_mend_it(code: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    section = re.search(rf"^### {code}$(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"docs/audit.md does not explain {code}"
    assert "**Mend:**" in section.group(1)


def test_no_code_is_explained_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (\S+)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)) == set(KINDS)


def test_every_code_has_a_clean_twin_and_a_planted_fault() -> None:
    """The module that plants a fault lists its code in `CODES`, none of which the clean study may show."""
    listed: dict[str, int] = {}
    for path in HERE.glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        codes = re.search(r"^CODES = \((.*?)\)", text, re.DOTALL | re.MULTILINE)
        if codes is None:
            continue
        clean = re.search(r"^def test_a?_?clean_.*?(?=^def |^@)", text, re.DOTALL | re.MULTILINE)
        assert clean, path.name
        assert "in CODES" in clean.group(0), path.name
        planted = text.replace(codes.group(0), "")
        for code in re.findall(r'"([a-z-]+)"', codes.group(1)):
            listed[code] = planted.count(f'"{code}"')
    assert [code for code, plantings in listed.items() if not plantings] == []
    assert set(listed) == set(KINDS)
