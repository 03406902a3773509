"""Everything that a report is made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from tapfm_eval.audit.findings import Finding
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import RehearsalCheck, Results, UnitResult


@dataclass(frozen=True, slots=True)
class RehearsalSummary:
    """What a rehearsal planted, changed and found."""

    planted: Mapping[str, float]  # AUROC of the effect by target
    checks: tuple[RehearsalCheck, ...]
    changes: tuple[str, ...]  # what differs from the real run, a sentence each


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """The facts of one run, from which HTML, PDF and tables are rendered."""

    protocol: Protocol
    protocol_sha256: str
    run_id: str
    results: Results
    units: tuple[UnitResult, ...]
    provenance: Mapping[str, Mapping[str, str]]  # section -> name -> value: software, hashes, device
    rehearsal: RehearsalSummary | None  # None for a real run
    findings: tuple[Finding, ...] = ()  # of the audit, errors first; `protocol.overrides` accepts some of them
