"""What each machine of a cluster sees of a run, and what is wrong with that; knows nothing of Ray."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tapfm_eval.errors import Problem
from tapfm_eval.provenance import ABSENT, shared_software


@dataclass(frozen=True, slots=True)
class NodeSight:
    """What one machine of a cluster sees and runs."""

    host: str
    mark: str  # what it read from the file that the run put down; empty where it sees none
    unwritable: str  # why it cannot write beside that file; empty where it can, or sees none
    software: Mapping[str, str]  # versions of all that decides numbers, and the content of this suite's source
    missing: tuple[str, ...]  # of the paths asked for


@dataclass(frozen=True, slots=True)
class Needed:
    """What every machine that takes part in a run must see, whenever it joins."""

    folder: Path  # of the run
    mark: Path  # a file in it that nobody else could have put down
    paths: tuple[Path, ...]  # slides, weights, stored embeddings
    here: NodeSight = field(compare=False)  # what the machine sees that leads the run; the mark stands for it

    def problems(self, node: str, sight: NodeSight) -> list[Problem]:
        """What keeps the machine that sees this from taking part; `node` is Ray's name for it."""
        return sight_problems(f"Ray node {node} ({sight.host})", sight, self.here, self.folder)


def look_around(mark: Path, paths: Sequence[Path]) -> NodeSight:
    """Tells what a machine sees of the run folder and of other paths, and whether it can write to the former."""
    seen = unwritable = ""
    try:
        seen = mark.read_text(encoding="utf-8")
        trial = mark.with_name(f"{mark.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        trial.write_text(seen, encoding="utf-8")
        trial.unlink()
    except OSError as error:
        unwritable = (error.strerror or str(error)) if seen else ""
    missing = tuple(str(path) for path in paths if not path.exists())
    return NodeSight(socket.gethostname(), seen, unwritable, shared_software(), missing)


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
    problems += [Problem(where, path, "nothing there", "Mount it there under the same path.") for path in sight.missing]
    problems += [
        Problem(where, f"{name} {version} as on {here.host}", sight.software.get(name, ABSENT),
                "Install the same on every machine.")
        for name, version in here.software.items()
        if sight.software.get(name) != version
    ]  # fmt: skip
    return problems
