"""Locks between processes of any machines that share a folder: one holder at a time, and the dead hold nothing.

A lock is a row of numbered files, `<name>.<n>`. The highest says who holds it; to take it from somebody who released
it or died is to create the next number, which the file system grants to one process only (a hard link to a file that
is already filled, as NFS wants it). No file is ever removed that somebody might take for the highest, so nothing
depends on how long anybody sleeps between looking and acting. A holder touches its file now and then; one that was
away for so long that another took over learns of it by `Lock.check`, before it writes.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from tapfm_eval.errors import Problem, RunError

BEAT_SECONDS = 30.0
POLL_SECONDS = 1.0  # between two looks at a lock that somebody waits for
STALE_SECONDS = 600.0  # without a heartbeat for so long, a holder on another machine counts as dead
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock."""

    host: str
    machine: str  # boot and process namespace: process numbers mean something between equal ones only
    pid: int
    started: str  # of the process, in the system's own count; tells it from a later one of the same number
    since: str  # ISO 8601, UTC: when the lock was taken

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


NOBODY = Holder("a host that left no name", "", 0, "", "an unknown time")


def this_process() -> Holder:
    """Who we are."""
    return Holder(socket.gethostname(), _machine(), os.getpid(), _process_start(os.getpid()) or "",
                  datetime.now(UTC).isoformat(timespec="seconds"))  # fmt: skip


class Lock:
    """A lock that this process holds, until it is closed or the process ends."""

    def __init__(self, path: Path, me: Holder) -> None:
        self._path, self._me = path, me
        self._done = threading.Event()
        self._beat = threading.Thread(target=self._keep_fresh, name=f"heartbeat {path.name}", daemon=True)
        self._beat.start()

    def check(self) -> None:
        """Makes sure that nobody took over while this process was away; to be called before anything is written.

        Raises:
            RunError: Somebody did.
        """
        number = int(self._path.suffix[1:])
        numbers = _numbers(self._path.with_suffix(""))
        if max(numbers, default=-1) > number:
            holder = _read(_numbered(self._path.with_suffix(""), max(numbers)))
            raise RunError(
                Problem(str(self._path), "the lock that this process took", f"one of {holder or 'another process'}",
                        "This process was away for too long, and the work went on elsewhere: nothing is to be done.")
            )  # fmt: skip

    def release(self) -> None:
        """Gives the lock back; the file stays and says so."""
        if not self._done.is_set():
            self._done.set()
            self._beat.join()
            temporary = self._path.with_name(f".{self._path.name}.released")
            try:
                _fill(temporary, {**asdict(self._me), "released": True})
                temporary.replace(self._path)
            except OSError:
                # on a full disk the file is emptied and dated back, which takes no room: torn and old is free
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                    os.truncate(self._path, 0)
                    os.utime(self._path, (0, 0))

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _keep_fresh(self) -> None:
        while not self._done.wait(BEAT_SECONDS):
            with suppress(OSError):  # a share that is away for a moment; `check` learns of a longer time
                os.utime(self._path)


def take(path: Path, stale_seconds: float = STALE_SECONDS) -> Lock | Holder:
    """The lock of that name, or who holds it. Never waits.

    Args:
        path: Names the lock; nothing lies there itself.
        stale_seconds: After how long without a heartbeat a holder on another machine counts as dead. One on this
            machine counts as dead as soon as it is.

    Raises:
        RunError: The folder cannot be written.
    """
    me = this_process()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{me.host}.{me.pid}.{threading.get_ident()}.claim")
        _fill(temporary, asdict(me))
        try:
            return _claim(path, temporary, me, stale_seconds)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            Problem(str(path), "a lock file that can be written", error.strerror or str(error),
                    "Free space or give another folder with --out; the same command resumes.")
        ) from None  # fmt: skip


def take_in_turn(path: Path, waiting: Callable[[Holder], None]) -> Lock:
    """The lock of that name, as soon as it is free; for work that takes minutes at most.

    Args:
        path: Names the lock.
        waiting: Told who holds it, again and again; may raise to stop waiting.

    Raises:
        RunError: The folder cannot be written.
    """
    while isinstance(taken := take(path), Holder):
        waiting(taken)
        time.sleep(POLL_SECONDS)
    return taken


def _claim(path: Path, temporary: Path, me: Holder, stale_seconds: float) -> Lock | Holder:
    highest = max(_numbers(path), default=-1)
    if highest >= 0:
        holder = _holder(_numbered(path, highest), temporary, me, stale_seconds)
        if holder is not None:
            return holder
    mine = _numbered(path, highest + 1)
    if not _create(temporary, mine):
        return _read(mine) or NOBODY
    numbers = _numbers(path)
    if max(numbers) > highest + 1:  # we had looked long ago, and lower numbers were swept since
        mine.unlink(missing_ok=True)
        return _read(_numbered(path, max(numbers))) or NOBODY
    for number in numbers:
        if number < highest + 1:
            _numbered(path, number).unlink(missing_ok=True)
    return Lock(mine, me)


def _holder(current: Path, temporary: Path, me: Holder, stale_seconds: float) -> Holder | None:
    """Who holds the highest number; None where it was released or its holder is dead."""
    idle = 0.0
    try:
        # both times are the file server's own, so that clocks need not agree
        idle = temporary.stat().st_mtime - current.stat().st_mtime
        content = json.loads(current.read_text(encoding="utf-8"))
    except FileNotFoundError:  # somebody took over while we looked
        return NOBODY
    except ValueError:  # being written where there are no hard links, or left so by a power cut
        return NOBODY if idle <= stale_seconds else None
    if isinstance(content, dict) and content.get("released"):
        return None
    holder = _named(content)
    if holder is not None and holder.machine == me.machine and holder.host == me.host:
        return holder if _process_start(holder.pid) == holder.started else None
    return (holder or NOBODY) if idle <= stale_seconds else None


def _create(temporary: Path, path: Path) -> bool:
    """Gives the filled file its name unless the name is taken; whether it was free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # over NFS the answer to a link that was made may be lost and the question asked again
        return temporary.stat().st_nlink == 2
    except OSError:  # no hard links here: exclusive creation is atomic too, and a torn file counts as held for a while
        try:
            with path.open("xb") as file:
                file.write(temporary.read_bytes())
        except FileExistsError:
            return False
    return True


def _numbers(path: Path) -> list[int]:
    start = f"{path.name}."
    tails = (file.name.removeprefix(start) for file in path.parent.iterdir() if file.name.startswith(start))
    return [int(tail) for tail in tails if tail.isascii() and tail.isdecimal()]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _fill(path: Path, content: dict[str, object]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> Holder | None:
    """The holder that a lock file names; None where it names nobody."""
    try:
        return _named(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _named(content: object) -> Holder | None:
    names = {field.name for field in fields(Holder)}
    if not isinstance(content, dict) or content.keys() != names or not isinstance(content["pid"], int):
        return None
    others = {name: str(value) for name, value in content.items() if name != "pid"}
    return Holder(pid=content["pid"], **others)


def _machine() -> str:
    """What process numbers are unique within: the boot of a machine, and the namespace of a container on it."""
    parts = []
    with suppress(OSError):
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str((_PROC / "self/ns/pid").readlink()))
    return " ".join(parts)


def _process_start(pid: int) -> str | None:
    """When a process of this machine started, in the system's own count; None for one that is gone or a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # somebody else's: it lives
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return "unknown" if not _PROC.is_dir() else None
    fields = stat.rpartition(")")[2].split()  # the command, in brackets, may hold anything
    return None if fields[0] in "ZX" else fields[19]
