"""The run folder: its names, atomic writes, hashes and journal."""

import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tapfm_eval.errors import Problem, RunError
from tapfm_eval.locks import take_in_turn

TEMPORARY = ".tmp"  # how the names of files end that are being written
OLD_SECONDS = 24 * 3600.0
LOOKED = "test and external patients predicted"
"""The event in a run's journal from which on its test patients have been looked at."""
PREDICTED = "predicted"
REPORTED = "labels of test and external patients used"


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary file beside `path`, and renames it there once it is on the disk, or not at all.

    Raises:
        RunError: The system refused, a full disk for example; whatever lay at `path` still does.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> RunError:
    full = error.errno in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # None: as safetensors says it
    remedy = "Free space or give another folder with --out." if full else "Check the folder and its rights (--out)."
    return RunError(
        Problem(str(path), "a file that can be written", error.strerror or str(error),
                f"{remedy} Nothing that is done is lost: give the same command again.")
    )  # fmt: skip


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlast a power cut; some file systems have no such thing for folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-written in a folder or below; only who holds the folder's lock may."""
    for left in folder.rglob(f".*{TEMPORARY}"):
        with suppress(OSError):
            left.unlink()


def sweep_old(folder: Path, *patterns: str) -> None:
    """Removes what was left half-written a day ago or longer, in folders that several processes write to.

    Args:
        folder: Where the patterns start; files right in it are swept as well.
        patterns: Of the folders below.
    """
    for place in (folder, *(found for pattern in patterns for found in folder.glob(pattern))):
        for left in place.glob(f".*{TEMPORARY}"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > OLD_SECONDS:
                    left.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: temporary file, fsync, rename, fsync of the folder."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_whole(path, write)


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
        return self.all_features / backbone / cohort

    @property
    def all_features(self) -> Path:
        """Folder of all stored embeddings; a link where they lie elsewhere."""
        return self.root / "features"

    def place_features(self, store: Path | None) -> None:
        """Lets embeddings lie in a folder of this run's own under `store`, from now on; None: where they lie already.

        Raises:
            RunError: They lie somewhere else already, or the place is away.
        """
        link = self.all_features
        if store is not None:
            place = store.absolute() / self.root.parent.name / self.root.name
            try:
                place.mkdir(parents=True, exist_ok=True)
                self.root.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink() and not link.exists():
                    link.symlink_to(place, target_is_directory=True)
            except OSError as error:
                raise RunError(
                    Problem(f"--store {store}", "a folder that can be written, and a run folder that takes links",
                            error.strerror or str(error), "Give another one, or leave --store out.")
                ) from None  # fmt: skip
            if not link.is_symlink() or link.readlink() != place:
                got = str(link.readlink()) if link.is_symlink() else "inside the run folder"
                remedy = f"Leave --store out; or move what lies there to {place} and let {link} be a link to it."
                raise RunError(Problem(f"--store {store}", f"this run's embeddings at {place}", got, remedy))
        if link.is_symlink() and not link.is_dir():
            raise RunError(
                Problem(str(link), f"the folder of embeddings that it links to, {link.readlink()}", "nothing there",
                        "Mount it; or remove the link, and they are made anew.")
            )  # fmt: skip

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

    def lock(self, name: str) -> Path:
        """Where the lock of a part of the run lies; `name` may hold slashes."""
        return self.root / "locks" / name

    def journal(self, event: str, **details: object) -> None:
        """Appends one event with its time to `journal.jsonl`; one process after another, on whatever machine.

        Appending is atomic between the processes of one machine, and not between those that share the file over NFS:
        two would write at the same place, and one line be lost. There the lock (`locks`) keeps them apart, and each
        opens the file anew once it holds it, which is when NFS asks the server how long the file has become. A machine
        that is lost while it holds the lock, which is for milliseconds, has the others wait for ten minutes.

        Raises:
            RunError: The line cannot be written.
        """
        content = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **details}
        line = json.dumps(content, ensure_ascii=False).encode()
        path = self.root / "journal.jsonl"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with take_in_turn(self.lock("journal"), lambda _: None), path.open("a+b") as file:
                file.seek(0, os.SEEK_END)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # a process was killed amid its line: the next one stays whole
                        line = b"\n" + line
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from None

    def events(self) -> tuple[dict[str, object], ...]:
        """What the journal holds, oldest first; a torn line is passed over."""
        try:
            text = (self.root / "journal.jsonl").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        found = []
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                found.append(event)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Look:
    """One time that a model's predictions of test or external patients were made under a version of a protocol."""

    time: str  # ISO 8601, UTC
    run: str  # id of the run that looked
    what: str  # `all units`, or which were predicted once more


def looks(folder: RunFolder) -> tuple[Look, ...]:
    """Every look that this run knows of, oldest first: one is what a protocol allows, and rehearsals do not count.

    Known are the run's own looks, and those that other runs of the same protocol and version, kept beside it, had
    made by the time of its own: they stand in its own journal, so that the list needs nothing but the folder.
    """
    found: dict[Look, None] = {}
    for event in folder.events():
        if event["event"] == LOOKED:
            others = event.get("others")
            for other in others if isinstance(others, list) else ():
                if isinstance(other, dict):
                    found[Look(str(other.get("time")), str(other.get("run")), str(other.get("what")))] = None
            found[_own_look(folder, event)] = None
    return tuple(sorted(found, key=lambda look: look.time))


def _own_look(folder: RunFolder, event: Mapping[str, object]) -> Look:
    """A look as the run's journal tells it, under the name that the run had then: a folder may be renamed or copied."""
    run = event.get("run", folder.root.name)
    return Look(str(event.get("time")), str(run), str(event.get("what", "all units")))


def looks_of_others(folder: RunFolder) -> tuple[Look, ...]:
    """The looks of the runs beside this one, which are of the same protocol and version; not of rehearsals."""
    found: list[Look] = []
    for other in sorted(folder.root.parent.glob("*/journal.jsonl")):
        if other.parent != folder.root and not other.parent.name.startswith("rehearsal-"):
            beside = RunFolder(other.parent)
            found += [_own_look(beside, event) for event in beside.events() if event["event"] == LOOKED]
    return tuple(sorted(found, key=lambda look: look.time))
