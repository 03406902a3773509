"""The lock of a protocol: what its version stands for, and whether a run has looked at test patients under it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.errors import Problem, ProtocolError
from tapfm_eval.rundir import LOOKED

FORMAT = "tapfm-eval/lock/1"
_COMPARED = ("protocol", "manifest ", "split ", "card ", "recipe ")  # kinds of hashes that a version stands for
_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12  # digits of a hash in a message


@dataclass(frozen=True, slots=True)
class Lock:
    """What one version of a protocol stands for."""

    id: str
    version: str
    sha256: Mapping[str, str]  # `protocol`, `manifest COHORT`, `split COHORT`, `card BACKBONE`, `recipe ARM` -> hash


@dataclass(frozen=True, slots=True)
class Look:
    """A run that has predicted test patients."""

    folder: Path
    time: str  # ISO 8601, UTC
    sha256: Mapping[str, str]  # as its provenance states them; empty where that cannot be read


def lock_path(protocol: Path) -> Path:
    """Where the lock of a protocol file lies: beside it.

    >>> lock_path(Path("protocols/luad.yaml")).name
    'luad.lock'
    """
    return protocol.with_suffix(".lock")


def lock_text(lock: Lock) -> str:
    """The lock as a small file to commit: canonical JSON, the same lock gives the same bytes."""
    content = {"format": FORMAT, "id": lock.id, "version": lock.version, "sha256": dict(sorted(lock.sha256.items()))}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def read_lock(path: Path) -> Lock | None:
    """The lock that a file holds; None where there is no file.

    Raises:
        ProtocolError: The file is no lock.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProtocolError(Problem(str(path), "a lock file", str(error)[:80], "Restore the committed file.")) from None
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError("another format")
        lock = Lock(content["id"], content["version"], content["sha256"])
        if not all(_HASH.fullmatch(value) for value in lock.sha256.values()) or {type(lock.id), type(lock.version)} != {
            str
        }:
            raise ValueError("no hashes")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        remedy = "Restore the committed file, or delete it and lock again."
        raise ProtocolError(Problem(str(path), f"a lock ({FORMAT})", "something else", remedy)) from None
    return lock


def find_looks(out: Path, protocol_id: str, version: str | None = None) -> tuple[Look, ...]:
    """The runs under `out` that looked at test patients, of one version or of all, earliest first.

    Rehearsals do not count: their patients are synthetic.
    """
    wanted = re.compile(re.escape(protocol_id) + "-" + (re.escape(version) if version else r"\d+\.\d+\.\d+"))
    studies = [folder for folder in _folders(out) if wanted.fullmatch(folder.name)]
    looks = [look for study in studies for run in _folders(study) if (look := _look_of(run)) is not None]
    return tuple(sorted(looks, key=lambda look: (look.time, str(look.folder))))


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what has another hash, is new or has gone; only what a version stands for."""
    names = [name for name in {**before, **now} if name.startswith(_COMPARED)]
    return tuple(name for name in names if before.get(name) != now.get(name))


def lock_problems(protocol: Path, lock: Lock | None, now: Lock) -> list[Problem]:
    """What forbids a run: the lock names this version and other content."""
    if lock is None or (lock.id, lock.version) != (now.id, now.version):
        return []  # another version is locked: this one is free
    where, remedy = lock_path(protocol), _remedy(protocol, now.version)
    return [
        Problem(f"{name}, locked as {now.id} {now.version} in {where}", *_hashes(name, lock.sha256, now.sha256), remedy)
        for name in differences(lock.sha256, now.sha256)
    ]


def look_problems(protocol: Path, looks: Iterable[Look], now: Lock) -> list[Problem]:
    """What forbids a run or a lock: under this version test patients were looked at with other content."""
    problems = []
    for look in looks:
        recorded = [kind for kind in _COMPARED if any(name.startswith(kind) for name in look.sha256)]
        stated = {name: value for name, value in now.sha256.items() if name.startswith(tuple(recorded))}
        # a run that states no hash at all cannot be told apart from one with other content
        for name in differences(look.sha256, stated) or (() if recorded else ("protocol",)):
            where = f"{name}, under which {look.folder} looked at test patients on {look.time[:10]}"
            hashes = _hashes(name, look.sha256, now.sha256)
            problems.append(Problem(where, *hashes, _remedy(protocol, now.version)))
    return problems


def _hashes(name: str, before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, str]:
    return before.get(name, f"no {name}")[:_SHOWN], now.get(name, f"no {name}")[:_SHOWN]


def _remedy(protocol: Path, version: str) -> str:
    return (
        f"Restore it; or raise `version` above {version} in {protocol} and give `tapfm-eval protocol lock {protocol}`: "
        "one version stands for one content."
    )


def _folders(root: Path) -> Sequence[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return ()


def _look_of(run: Path) -> Look | None:
    time = _time_of_look(run / "journal.jsonl")
    if time is None or run.name.startswith("rehearsal-"):
        return None
    try:
        stated = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["sections"]["hashes (sha256)"]
        return Look(run, time, {str(name): str(value) for name, value in stated.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Look(run, time, {})


def _time_of_look(journal: Path) -> str | None:
    """When a run first looked; lines that were cut short by a crash are passed over."""
    try:
        lines = journal.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        try:
            event = json.loads(line)
            if event["event"] == LOOKED:
                return str(event["time"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return None
