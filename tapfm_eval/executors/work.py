"""What an executor is handed beside a graph: how a unit is done; and what it says of units that failed."""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tapfm_eval.errors import StudyError, TapfmEvalError
from tapfm_eval.locks import Holder, take
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import RunFolder
from tapfm_eval.stages.graph import Graph, WorkUnit

Body = Callable[[Any, WorkUnit, Callable[[int], None], Callable[[], None]], None]
"""Does a unit. Given what all units share, the unit, what is told of every step and may raise to stop, and what is
asked before anything is written and raises where somebody else took the unit over."""
IsDone = Callable[[Any, WorkUnit], bool]


@dataclass(frozen=True, slots=True)
class Work:
    """How the units of a graph are done, in any process."""

    body: str  # `module:function`, so that a worker imports no more than it needs, and only when it does
    is_done: str  # the same for the question whether a unit is done, by its files alone
    shared: Any  # what all units need
    folder: RunFolder  # for locks and logs


class HeldError(TapfmEvalError):
    """Another process has the unit in hand; it is to be asked for again later."""

    exit_code = 75


class Executor(Protocol):
    """Runs graphs."""

    def run(self, graph: Graph, work: Work, reporter: Reporter) -> Mapping[str, Holder]:
        """Does all units of a graph, each after those it depends on.

        Returns:
            Who holds the units that are not done because another process is at them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that could not be done."""

    name: str
    message: str
    log: Path | None = None


def named_function(name: str) -> Any:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def do_unit(work: Work, unit: WorkUnit, advance: Callable[[int], None]) -> None:
    """Does a unit under its lock, unless it is done.

    Raises:
        HeldError: Another process has it in hand.
    """
    body: Body = named_function(work.body)
    is_done: IsDone = named_function(work.is_done)
    if unit.lock is None:
        body(work.shared, unit, advance, lambda: None)
        return
    taken = take(work.folder.lock(unit.lock))
    if isinstance(taken, Holder):
        raise HeldError(f"It is held by {taken}.")
    with taken:
        if not is_done(work.shared, unit):
            body(work.shared, unit, advance, taken.check)


def log_path(folder: RunFolder, name: str) -> Path:
    """Where the log of a unit lies."""
    return folder.root / "logs" / f"{name}.log"


def failed_study(failures: Sequence[Failure], kept_from: Sequence[str]) -> StudyError:
    """Names what failed and why, and what could not start because of it."""
    lines = [f"{len(failures)} unit{'s' if len(failures) != 1 else ''} of work failed; whatever else could be is done."]
    for failure in failures[:20]:
        where = f" (log: {failure.log})" if failure.log is not None else ""
        lines += [f"  {failure.name}: {failure.message}{where}"]
    if len(failures) > 20:
        lines += [f"  and {len(failures) - 20} more"]
    if kept_from:
        shown = ", ".join(kept_from[:5]) + (" ..." if len(kept_from) > 5 else "")
        lines += [f"Not started because of that: {len(kept_from)} ({shown})."]
    lines += ["Once the cause is mended, the same command does what is missing."]
    return StudyError("\n".join(lines))


def usable_cores() -> int:
    """The cores that this process may use: those of a batch system's job, not of its machine, where it has some."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
