"""What runs in a Ray worker: one unit of work after another, its log, and word of its progress.

Imports neither torch nor anything else that is heavy: idle workers stay small, and a unit brings what it needs.
"""

import contextlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import ray
from ray.exceptions import RayError

from tapfm_eval.errors import PausedError, Problem, TapfmEvalError
from tapfm_eval.executors.sight import Needed
from tapfm_eval.executors.work import HeldError, Work, do_unit, log_path
from tapfm_eval.stages.graph import WorkUnit

SECONDS_BETWEEN_WORDS = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit."""

    name: str
    status: str  # done, failed, held, paused, or unseen: this machine lacks what the run needs
    message: str = ""
    problems: tuple[Problem, ...] = ()  # of an unseen one


class Board:
    """Where workers leave word of their progress, and learn whether they are to stop; an actor of Ray."""

    def __init__(self) -> None:
        self._news: dict[str, tuple[int, int]] = {}
        self._stop = False

    def told(self, name: str, done: int, skipped: int) -> bool:
        """Takes note of how many steps of a unit are done in all; whether its worker is to stop."""
        if done or skipped:
            self._news[name] = (done, skipped)
        return self._stop

    def stop(self) -> None:
        """From now on workers are told to stop."""
        self._stop = True

    def news(self) -> dict[str, tuple[int, int]]:
        """What units have come to since the last time somebody asked."""
        news, self._news = self._news, {}
        return news


class _Told:
    """What a unit's body is told its steps by: passes them on now and then, and raises where it is to stop."""

    def __init__(self, name: str, board: Any) -> None:
        self._name, self._board = name, board
        self._done = self._skipped = 0
        self._last = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._last >= SECONDS_BETWEEN_WORDS:
            self._send()

    def skip(self, count: int) -> None:
        """Steps that an earlier session had done."""
        if count:
            self._skipped += count
            self._send()

    def _send(self) -> None:
        self._last = time.monotonic()
        if _word(self._board, self._name, self._done, self._skipped):
            raise PausedError("The run was stopped; what is done is kept.")


def perform(work: Work, units: Sequence[WorkUnit], board: Any, needed: Needed | None) -> list[Outcome]:
    """Does units one after another; a failing one does not stop those behind it."""
    if needed is not None and (lacking := _lacking(needed)):
        return [Outcome(unit.name, "unseen", problems=lacking) for unit in units]
    found: list[Outcome] = []
    stop = False
    for unit in units:
        stop = stop or _word(board, unit.name, 0, 0)  # before each: small ones do not ask themselves
        found.append(Outcome(unit.name, "paused") if stop else _outcome(work, unit, board))
        stop = found[-1].status == "paused"
    return found


@lru_cache
def _lacking(needed: Needed) -> tuple[Problem, ...]:
    """What this machine lacks; asked once a process, since a machine may join when the others have been looked at."""
    return tuple(needed.lacking(ray.get_runtime_context().get_node_id()[:8]))


def _word(board: Any, name: str, done: int, skipped: int) -> bool:
    """Leaves word of a unit's progress; whether its worker is to stop."""
    with suppress(RayError):  # the board went with its machine: only the display suffers
        return bool(ray.get(board.told.remote(name, done, skipped), timeout=10))
    return False


def _outcome(work: Work, unit: WorkUnit, board: Any) -> Outcome:
    told = _Told(unit.name, board)
    if unit.small:  # seconds of work: a log for each would be more files than results
        return _attempt(work, unit, told, None)
    path = log_path(work.folder, unit.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("a", encoding="utf-8")
    except OSError as error:
        return Outcome(unit.name, "failed", f"{path}: {error.strerror or error}. Free space, or mend the storage.")
    with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        where = f"{socket.gethostname()}, process {os.getpid()}"
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        _line(log, f"started on {where}{f', GPU {gpus}' if gpus and unit.resources.gpus else ''}")
        started = time.monotonic()
        outcome = _attempt(work, unit, told, log)
        _line(log, f"{outcome.status} after {time.monotonic() - started:.1f} s {outcome.message}".rstrip())
    return outcome


def _attempt(work: Work, unit: WorkUnit, told: Callable[[int], None], log: Any) -> Outcome:
    try:
        do_unit(work, unit, told)
    except HeldError as error:
        return Outcome(unit.name, "held", str(error))
    except PausedError as error:
        return Outcome(unit.name, "paused", str(error))
    except TapfmEvalError as error:
        return Outcome(unit.name, "failed", str(error))
    except Exception as error:
        if log is not None:
            traceback.print_exc(file=log)
        return Outcome(unit.name, "failed", f"{type(error).__name__}: {error}")
    return Outcome(unit.name, "done")


def _line(log: Any, text: str) -> None:
    log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
    log.flush()
