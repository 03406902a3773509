"""What an executor is handed beside a graph: the function that does a unit; and what it says of units that failed."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tapfm_eval.errors import StudyError, TapfmEvalError
from tapfm_eval.progress import Reporter
from tapfm_eval.stages.graph import Graph, WorkUnit

Body = Callable[[Any, WorkUnit, Callable[[int], None]], None]
"""Does a unit: what all units share, the unit, and what is told of every step and may raise to stop."""


@dataclass(frozen=True, slots=True)
class Work:
    """How the units of a graph are done."""

    body: str  # `module:function`, so that a worker imports no more than it needs, and only when it does
    shared: Any  # what all units need; small, and the same in all processes
    logs: Path  # folder of the units' logs, where the executor writes any


class HeldError(TapfmEvalError):
    """Another process has the unit in hand; it is to be asked for again later."""

    exit_code = 75


class Executor(Protocol):
    """Runs graphs."""

    def run(self, graph: Graph, work: Work, reporter: Reporter) -> None:
        """Does all units of a graph, each after those it depends on."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that could not be done."""

    name: str
    message: str
    log: Path | None = None


def body_of(work: Work) -> Body:
    """The function that does a unit."""
    module, _, name = work.body.partition(":")
    found: Body = getattr(importlib.import_module(module), name)
    return found


def failed_study(failures: Sequence[Failure], kept_from: Sequence[str]) -> StudyError:
    """Names what failed and why, and what could not start because of it."""
    lines = [f"{len(failures)} unit{'s' if len(failures) != 1 else ''} of work failed; all others are done."]
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
