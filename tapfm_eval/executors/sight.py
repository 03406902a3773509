"""What each machine of a cluster sees of a run, and what is wrong with that; knows nothing of Ray."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tapfm_eval.errors import Problem
from tapfm_eval.provenance import ABSENT, shared_software

LOOK_AGAIN_SECONDS = (1.0, 3.0, 6.0)  # between attempts: a share that a machine has lost for a moment ends no run
Place = tuple[Path, ...]
"""Paths of which one is enough: a slide or two of a cohort may be lost, an empty mount point has none."""


@dataclass(frozen=True, slots=True)
class NodeSight:
    """What one machine of a cluster sees and runs."""

    host: str
    mark: str  # what it read from the file that the run put down; empty where it sees none
    unwritable: str  # why it cannot write beside that file; empty where it can, or sees none
    software: Mapping[str, str]  # versions of all that decides numbers, and the content of this suite's source
    missing: Mapping[str, str]  # of the places asked for, with what was there instead


@dataclass(frozen=True, slots=True)
class Needed:
    """What every machine that takes part in a run must see, whenever it joins."""

    folder: Path  # of the run
    mark: Path  # a file in it that nobody else could have put down
    places: tuple[Place, ...]  # slides, weights, stored embeddings
    here: NodeSight = field(compare=False)  # what the machine sees that leads the run; the mark stands for it

    def problems(self, node: str, sight: NodeSight) -> list[Problem]:
        """What keeps the machine that sees this from taking part; `node` is Ray's name for it."""
        return sight_problems(f"Ray node {node} ({sight.host})", sight, self.here, self.folder)

    def lacking(self, node: str) -> list[Problem]:
        """What keeps this machine from taking part, looked at again where anything does."""
        problems = self.problems(node, look_around(self.mark, self.places))
        for seconds in LOOK_AGAIN_SECONDS:
            if not problems:
                break
            time.sleep(seconds)
            problems = self.problems(node, look_around(self.mark, self.places))
        return problems


def look_around(mark: Path, places: Sequence[Place]) -> NodeSight:
    """Tells what a machine sees of the run folder and of other places, and whether it can write to the former."""
    seen = unwritable = ""
    try:
        seen = mark.read_text(encoding="utf-8")
        trial = mark.with_name(f"{mark.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        trial.write_text(seen, encoding="utf-8")
        trial.unlink()
    except OSError as error:
        unwritable = (error.strerror or str(error)) if seen else ""
    missing = {}
    for place in places:
        got = [_instead_of(path) for path in place]
        if None not in got:
            others = f", or one of {len(place) - 1} more" if len(place) > 1 else ""
            missing[f"{place[0]}{others}"] = str(got[0])
    return NodeSight(socket.gethostname(), seen, unwritable, shared_software(), missing)


def _instead_of(path: Path) -> str | None:
    """Why a path cannot be seen; None where it can. A share may be there and not answer."""
    try:
        path.stat()
    except FileNotFoundError:
        return "nothing there"
    except OSError as error:
        return error.strerror or str(error)
    return None


def sight_problems(where: str, sight: NodeSight, here: NodeSight, folder: Path) -> list[Problem]:
    """What keeps a machine from taking part in a run.

    Args:
        where: Names the machine.
        sight: What it sees.
        here: What the machine sees that leads the run.
        folder: The run folder.
    """
    problems = []
    if sight.mark != here.mark:
        problems.append(
            Problem(where, f"the run folder {folder} on a file system that all machines share", "none",
                    "Give a shared folder with --out, under the same path on every machine.")
        )  # fmt: skip
    elif sight.unwritable:
        problems.append(
            Problem(where, f"rights to write to the run folder {folder}", sight.unwritable,
                    "Start Ray there as the user who owns the folder, and have the share mounted for writing.")
        )  # fmt: skip
    problems += [
        Problem(where, place, got, "Mount it there under the same path.") for place, got in sight.missing.items()
    ]
    problems += [
        Problem(where, f"{name} {version} as on {here.host}", sight.software.get(name, ABSENT),
                "Install the same on every machine.")
        for name, version in here.software.items()
        if sight.software.get(name) != version
    ]  # fmt: skip
    return problems
