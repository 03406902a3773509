"""Runs the small study again and again, killing it at random moments until its predictions are there.

    python tests/killed_study.py FOLDER KILLS SEED WORKERS
    python tests/killed_study.py FOLDER together PROCESSES
    python tests/killed_study.py FOLDER reporting KILLS SEED

A process of its own that never computes anything: it imports everything once and forks a child for each session, so
that a session costs no start. SIGKILL leaves the child no chance to tidy up. Prints what happened as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from small_study import brief_options, know_tiny

import tapfm_eval.methods.train
import tapfm_eval.predictions.table
import tapfm_eval.reporting
import tapfm_eval.stages.units  # noqa: F401 - imported before the first fork, as all above
from tapfm_eval import study
from tapfm_eval.progress import Reporter


def session(folder: Path, out: str, workers: int = 0) -> int:
    """A child that runs the study with so many readers; its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from dataclasses import replace

            os.dup2(os.open(folder / "sessions.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            options = replace(brief_options(folder), out=folder / out, workers=workers)
            study.run_protocol(folder / "brief.yaml", options, Reporter(quiet=True))
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def predictions_of(folder: Path, out: str) -> Path | None:
    """The combined predictions of the run, once they are there."""
    return next((folder / out).glob("*/*/predictions.csv"), None)


def run_until(folder: Path, out: str, seconds: float | None, workers: int) -> str:
    """A session that ends by itself, by a kill after so many seconds, or once the predictions are there."""
    return ended(session(folder, out, workers), seconds, lambda: predictions_of(folder, out) is not None)


def ended(child: int, seconds: float | None, predicted: Callable[[], bool]) -> str:
    """How a session ended: by itself, or by the kill that it gets after so many seconds or once that is so."""
    started = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "ended" if status == 0 else "failed"
        if predicted():
            outcome = "predicted"
        elif seconds is not None and time.monotonic() - started >= seconds:
            outcome = "killed"
        else:
            time.sleep(0.002)
            continue
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return outcome


def what_is_there(folder: Path, out: str) -> str:
    """The furthest that a run has come, for the record."""
    root = next((folder / out).glob("*/*"), None)
    if root is None:
        return "nothing"
    kinds = {"tiled": "tiles/*/*.h5", "embedded": "features/*/*/*.h5",
             "checkpoints": "arms/*/*/*/checkpoints/*.json", "selected": "arms/*/*/*/selection.json",
             "predicted": "arms/*/*/*/predictions.csv"}  # fmt: skip
    counts = {name: len(list(root.glob(pattern))) for name, pattern in kinds.items()}
    # of the unit under way, how many slides it has come through
    counts["slides on"] = max((int(path.stem[11:]) for path in root.glob("arms/*/*/*/*/checkpoint-*.json")), default=0)
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def main(folder: Path, kills: int, seed: int, workers: int) -> dict[str, object]:
    """Kills until there were `kills` of them, in as many runs as that takes; the last is left alone to its end."""
    know_tiny()
    started = time.monotonic()
    whole = run_until(folder, "undisturbed", None, workers)
    if whole != "predicted":
        raise SystemExit(f"the undisturbed run {whole}: {(folder / 'sessions.log').read_text()}")
    seconds = time.monotonic() - started
    moments, runs, finished = [], 1, False
    chance = random.Random(seed)
    longest, before = seconds / 4, ""  # a session looks at all slides before it goes on
    while len(moments) < kills or not finished:
        finished = False
        delay = chance.uniform(0.01, longest) if len(moments) < kills else None
        outcome = run_until(folder, f"killed-{runs}", delay, workers)
        if outcome == "killed":
            left = what_is_there(folder, f"killed-{runs}")
            # sessions long enough to come further every other time, on any machine, and yet as many as were asked for
            longest *= 1.3 if left == before else 0.8
            moments.append({"seconds": delay, "left": left})
            before = left
        elif outcome == "predicted":
            finished = True
            runs += len(moments) < kills
        else:
            raise SystemExit(f"a session {outcome}: {(folder / 'sessions.log').read_text()}")
    return {"undisturbed_seconds": seconds, "kills": moments, "runs": runs}


def reporting(folder: Path, kills: int, seed: int) -> int:
    """Kills sessions that have all predictions and are at analysis and report; returns how many it met there."""
    know_tiny()
    run_until(folder, "whole", None, 0)
    started = time.monotonic()
    if ended(session(folder, "whole"), None, lambda: False) != "ended":
        raise SystemExit((folder / "sessions.log").read_text())
    seconds = time.monotonic() - started
    run_until(folder, "killed", None, 0)
    chance, met = random.Random(seed), 0
    for _ in range(kills):
        met += ended(session(folder, "killed"), chance.uniform(0.2, 1.0) * seconds, lambda: False) == "killed"
    if ended(session(folder, "killed"), None, lambda: False) != "ended":
        raise SystemExit((folder / "sessions.log").read_text())
    return met


def together(folder: Path, count: int) -> None:
    """Several processes that give the same command at once; each ends by itself."""
    know_tiny()
    children = [session(folder, "shared") for _ in range(count)]
    codes = [os.waitpid(child, 0)[1] for child in children]
    if any(codes):
        raise SystemExit((folder / "sessions.log").read_text())


if __name__ == "__main__" and sys.argv[2] == "together":
    together(Path(sys.argv[1]), int(sys.argv[3]))
elif __name__ == "__main__" and sys.argv[2] == "reporting":
    print(reporting(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])))
elif __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:5])), indent=1))
