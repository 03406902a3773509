"""The run folder: its names, atomic writes, hashes and journal."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tapfm_eval.errors import Problem, RunError


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise RunError(
            Problem(str(path), "a file that can be written", error.strerror or str(error),
                    "Free space or give another folder with --out; the same command resumes.")
        ) from None  # fmt: skip
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 text whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    """Writes JSON whole or not at all; keys keep their order."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_file(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_id(content: Mapping[str, object]) -> str:
    """Twelve hex digits that depend on everything which defines a run, so that the same command finds its own."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where everything of one run lies."""

    root: Path

    def unit(self, arm: str, seed: int, fold: int) -> Path:
        """Folder of one arm, seed and fold."""
        return self.root / "arms" / arm / f"seed-{seed}" / f"fold-{fold}"

    def tiles(self, cohort: str, slide_id: str) -> Path:
        """Tile grid of a slide."""
        return self.root / "tiles" / cohort / f"{slide_id}.h5"

    def features(self, backbone: str, cohort: str) -> Path:
        """Folder of the stored embeddings of one backbone on one cohort."""
        return self.root / "features" / backbone / cohort

    @property
    def protocol(self) -> Path:
        """The resolved protocol."""
        return self.root / "protocol.yaml"

    @property
    def predictions(self) -> Path:
        """All predictions of the run."""
        return self.root / "predictions.csv"

    @property
    def results(self) -> Path:
        """Everything that the analysis found."""
        return self.root / "results.json"

    @property
    def provenance(self) -> Path:
        """Hashes, versions, device, command."""
        return self.root / "provenance.json"

    def journal(self, event: str, **details: object) -> None:
        """Appends one event with its time to `journal.jsonl`."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **details})
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "journal.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
