"""Which files of a run folder may never change again, and the record of their hashes in the journal.

The journal is only ever appended to, so the first record of a file is what it held when it was new. A file that was
edited since disagrees with it, whatever else was edited to match, and whoever edits the journal as well still
contradicts the report in somebody else's hands, which prints the hash of the predictions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.rundir import RunFolder, sha256_file

EVENT = "analysed"
"""The journal's event that carries the hashes of a finished analysis."""

_FIXED = (
    "protocol.yaml", "score.json", "slides.json", "predictions.csv", "inputs/**/*.csv",
    "arms/*/seed-*/fold-*/validation.csv", "arms/*/seed-*/fold-*/predictions.csv",
    "arms/*/seed-*/fold-*/history.csv", "arms/*/seed-*/fold-*/selection.json",
)  # fmt: skip
_RENEWED = (
    "provenance.json", "audit.json", "failures.json", "tiles.csv", "results.json", "content.json", "report.html",
    "report.pdf", "figures/*.svg", "tables/*.csv", "heatmaps/*.json", "heatmaps/*.jpg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AnalysisRecord:
    """What the journal holds of one analysis."""

    fixed: dict[str, str]  # path within the folder -> sha256; the same in every record of a run
    renewed: dict[str, str]  # written anew by each analysis
    formats: tuple[str, ...]  # how the report was rendered
    paper: str
    show_ids: bool = False  # patients and slides under their own names


def fixed_files(root: Path) -> dict[str, str]:
    """Hashes of what predictions and analysis rest on: protocol, manifests, splits, units, predictions."""
    return _hashes(root, _FIXED)


def renewed_files(root: Path) -> dict[str, str]:
    """Hashes of what an analysis writes, and of what a resumed run may write anew before it."""
    return _hashes(root, _RENEWED)


def record_analysis(root: Path, formats: Sequence[str], paper: str, *, show_ids: bool = False) -> None:
    """Appends the hashes of all files to the journal, unless its last record says the same."""
    details: dict[str, object] = {"fixed": fixed_files(root), "renewed": renewed_files(root)}
    details |= {"formats": list(formats), "paper": paper, "show_ids": show_ids}
    before = read_records(root)
    if not before or before[-1] != _record(details):
        RunFolder(root).journal(EVENT, **details)


def read_records(root: Path) -> tuple[AnalysisRecord, ...]:
    """The journal's records, oldest first; a line that is no record is passed over."""
    path = root / "journal.jsonl"
    if not path.is_file():
        return ()
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict) and content.get("event") == EVENT:
            found.append(_record(content))
    return tuple(found)


def paper_of(records: Sequence[AnalysisRecord]) -> str:
    """The paper of the last PDF; a4 where none is recorded."""
    papers = [record.paper for record in records if "pdf" in record.formats and record.paper in ("a4", "letter")]
    return papers[-1] if papers else "a4"


def _record(content: Mapping[str, object]) -> AnalysisRecord:
    fixed, renewed, formats = content.get("fixed"), content.get("renewed"), content.get("formats")
    return AnalysisRecord(
        {str(k): str(v) for k, v in fixed.items()} if isinstance(fixed, dict) else {},
        {str(k): str(v) for k, v in renewed.items()} if isinstance(renewed, dict) else {},
        tuple(map(str, formats)) if isinstance(formats, list) else (),
        str(content.get("paper")),
        content.get("show_ids") is True,
    )


def _hashes(root: Path, patterns: Sequence[str]) -> dict[str, str]:
    files = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(files)}
