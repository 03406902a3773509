"""Everything that a report is made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from tapfm_eval.audit.findings import Finding
from tapfm_eval.predictions.imports import ScoredFile
from tapfm_eval.predictions.shared import Sharing
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.report.pictures import CasePictures
from tapfm_eval.results import RehearsalCheck, Results, UnitResult


@dataclass(frozen=True, slots=True)
class RehearsalSummary:
    """What a rehearsal planted, changed and found."""

    planted: Mapping[str, float]  # AUROC of the effect by target
    checks: tuple[RehearsalCheck, ...]
    changes: tuple[str, ...]  # what differs from the real run, a sentence each


@dataclass(frozen=True, slots=True)
class ScoredSummary:
    """Predictions that were not made by a run: which files, and whom all their arms scored."""

    files: tuple[ScoredFile, ...]
    sharing: tuple[Sharing, ...]
    notes: tuple[str, ...]  # what was derived rather than read
    thresholds: str  # where the thresholds came from, or why there are none
    rehearsal: bool = False  # some are predictions of a rehearsal's synthetic slides


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
    scored: ScoredSummary | None = None
    """Predictions from elsewhere: None for a run. Where it is set, there was no training, audit, split, slide, manifest
    or flow, nothing was fixed in advance, and of `protocol` only names and the analysis mean anything."""
    pictures: tuple[CasePictures, ...] = ()  # of the slides in `results.cases`, as far as the run kept them
    looks: tuple[str, ...] = ()  # when unseen patients were predicted under this version of the protocol, in order
