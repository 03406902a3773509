"""Files against the hashes that provenance and journal recorded of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tapfm_eval.fingerprints import AnalysisRecord, fixed_files, renewed_files
from tapfm_eval.protocol.load import protocol_sha256
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.rundir import sha256_file
from tapfm_eval.verification.mismatch import ABSENT, Mismatch

JOURNAL = "journal.jsonl"


def compare_with_journal(root: Path, records: tuple[AnalysisRecord, ...]) -> Iterator[Mismatch]:
    """Files that changed since the journal recorded them: inputs and predictions ever, results since the last time."""
    if not records:
        expected = "hashes of the analysed files; `tapfm-eval report RUN` records what is there from now on"
        yield Mismatch(f"{JOURNAL}, event analysed", ABSENT, expected)
        return
    first: dict[str, str] = {}
    for record in records:
        for name, digest in record.fixed.items():
            first.setdefault(name, digest)
    yield from _against(fixed_files(root), first, "when first recorded")
    last: dict[str, str] = {}
    for record in records:
        last |= record.renewed  # a report in one format leaves the other as it was
    stale = [name for name in last if name.startswith(("figures/", "tables/")) and name not in records[-1].renewed]
    for name in stale:
        del last[name]
    yield from _against(renewed_files(root), last, "when last written")


def _against(found: Mapping[str, str], recorded: Mapping[str, str], when: str) -> Iterator[Mismatch]:
    for name in sorted(found.keys() | recorded.keys()):
        stored, expected = found.get(name), recorded.get(name)
        if stored != expected:
            yield Mismatch(
                f"{name}, sha256",
                ABSENT if stored is None else stored,
                f"not there {when}" if expected is None else f"{expected} {when}",
            )


def compare_with_provenance(root: Path, protocol: Protocol) -> Iterator[Mismatch]:
    """Protocol, manifests and splits of a real run against the hashes that define the run.

    A rehearsal's folder holds its own protocol and a sample of the patients; the journal's record is what they are
    held against.
    """
    stated = _json(root / "provenance.json")
    if stated is None:
        yield Mismatch("provenance.json", "no JSON record", "the record as the run wrote it")
        return
    if stated.get("planted") is not None:
        return
    digest = protocol_sha256(protocol)
    hashes = _hashes(stated)
    for place, value in (("protocol_sha256", stated.get("protocol_sha256")), ("protocol", hashes.get("protocol"))):
        if value != digest:
            yield Mismatch(f"protocol.yaml against provenance.json, {place}", f"content {digest}", str(value))
    for name, plan in protocol.cohorts.items():
        files = {"manifest": True, "split": plan.split is not None}
        for kind in (kind for kind, needed in files.items() if needed):
            path = root / "inputs" / name / f"{kind}.csv"
            stored = sha256_file(path) if path.is_file() else ABSENT
            expected = hashes.get(f"{kind} {name}")
            if stored != expected:
                where = f"inputs/{name}/{kind}.csv against provenance.json, sha256"
                yield Mismatch(where, stored, str(expected))


def compare_weights(root: Path) -> tuple[list[Mismatch], int, int]:
    """Trained weights against the hashes that the selections hold: what differs, how many are there, how many are not.

    Weights may be left out of a folder that is handed on: they are large, and nothing else in it follows from them.
    """
    found: list[Mismatch] = []
    there = absent = 0
    for selection in sorted(root.glob("arms/*/seed-*/fold-*/selection.json")):
        expected = (_json(selection) or {}).get("weights_sha256")
        weights = selection.with_name("selected.safetensors")
        if not expected:
            continue
        if not weights.is_file():
            absent += 1
            continue
        there += 1
        stored = sha256_file(weights)
        if stored != expected:
            where = f"{weights.relative_to(root).as_posix()}, sha256"
            found.append(Mismatch(where, stored, f"{expected}, as selection.json beside it says"))
    return found, there, absent


def _hashes(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    sections = stated.get("sections")
    found = sections.get("hashes (sha256)") if isinstance(sections, dict) else None
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def same_software(root: Path, now: Mapping[str, str], source: str) -> bool:
    """Whether a run was made with the versions that are installed here, on the same kind of system.

    Args:
        root: The run's folder.
        now: The versions installed here.
        source: The commit of the suite's source here.
    """
    sections = (_json(root / "provenance.json") or {}).get("sections")
    if not isinstance(sections, dict) or not isinstance(sections.get("run"), dict):
        return False
    return sections.get("software") == dict(now) and sections["run"].get("source") == source
