"""Units for the tests of executors: they write files, fail, die, are held or wait; nothing of a study is in them."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tapfm_eval.errors import PausedError, StudyError
from tapfm_eval.executors.work import HeldError
from tapfm_eval.progress import skip
from tapfm_eval.stages.graph import WorkUnit


def nothing(shared: Any, unit: WorkUnit, advance: Callable[[int], None], guard: Callable[[], None]) -> None:
    """Costs nothing."""


def is_done(shared: Path, unit: WorkUnit) -> bool:
    """Whether a job has left its result."""
    return (shared / (unit.name.replace("/", "_") + ".done")).is_file()


def odd_job(shared: Path, unit: WorkUnit, advance: Callable[[int], None], guard: Callable[[], None]) -> None:
    """Does what its arguments say, in the folder `shared`; its result lists the results that were there before."""
    what = unit.arguments.get("what", "write")
    marks = shared / "marks"
    marks.mkdir(exist_ok=True)
    tried = marks / (unit.name.replace("/", "_") + f".{time.monotonic_ns()}")
    tried.write_text(str(os.getpid()))
    attempts = len(list(marks.glob(unit.name.replace("/", "_") + ".*")))
    if what == "fail":
        raise StudyError("the loss is nan")
    if what == "crash":
        raise ZeroDivisionError("a fault of the program")
    if what == "die always" or (what == "die once" and attempts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "held once" and attempts == 1:
        raise HeldError("held by process 1 on elsewhere")
    done = shared / (unit.name.replace("/", "_") + ".progress")
    start = int(done.read_text()) if done.is_file() else 0
    skip(advance, start)
    for step in range(start, unit.steps):
        if what == "slow":
            time.sleep(0.1)
        if what == "die midway" and step == unit.steps // 2 and attempts == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        done.write_text(str(step + 1))
        try:
            advance(1)
        except PausedError:
            (shared / (unit.name.replace("/", "_") + ".paused")).write_text("kept")
            raise
    seen = sorted(path.name for path in shared.glob("*.done"))
    (shared / (unit.name.replace("/", "_") + ".done")).write_text(f"{start} {' '.join(seen)}")


def worker_sizes_mb() -> list[float]:
    """Memory of each idle worker process of Ray on this machine, shared pages counted in every one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended since
            text = status.read_text(encoding="utf-8", errors="replace")
            if text.startswith("Name:\tray::IDLE"):
                found += [int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS:")]
    return found
