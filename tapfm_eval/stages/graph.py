"""A study as a graph of units: what there is to do, after what, with which means, and what makes it done.

Units are plain records. Each is pure and idempotent: it reads what earlier units wrote, writes files of its own, and
may be repeated at any time, on any machine that sees the run folder. Executors know nothing else of a study.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

STAGES = ("tiles", "features", "train", "select", "predict")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a unit occupies while it runs."""

    cpus: float = 1.0
    gpus: float = 0.0  # below 1: several such units share a GPU
    memory_mb: float = 0.0  # of the host; 0 asks for nothing

    def __str__(self) -> str:
        said = [f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"]
        said += [f"{self.gpus:g} GPU{'s' if self.gpus > 1 else ''}"] if self.gpus else []
        said += [f"{self.memory_mb / 1024:.1f} GB of memory"] if self.memory_mb else []
        return " and ".join(said)


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """One piece of work."""

    name: str  # path-like and unique: `train/tapfm-uni/seed-1/fold-0`
    stage: str  # one of STAGES
    title: str  # what the display says; units that follow each other under one title share a line
    steps: int = 1  # how far its progress counts, for the display
    after: tuple[str, ...] = ()  # names of units that must be done before
    resources: Resources = Resources()
    outputs: tuple[str, ...] = ()  # files in the run folder; the unit is done when all are there
    hashes: Mapping[str, str] = field(default_factory=dict)  # of all it is made from; the run's id stands for them
    arguments: Mapping[str, Any] = field(default_factory=dict)  # plain values for the body
    lock: str | None = None  # of the run folder: who does the unit holds it; None where nobody else would do it
    waits: bool = False  # whoever finds it held waits: it takes minutes, and all that follows needs it
    small: bool = False  # takes seconds: several may travel together


class Graph:
    """Units in an order in which each comes after all that it depends on."""

    def __init__(self, units: Iterable[WorkUnit]) -> None:
        """Checks the order, which also excludes circles.

        Raises:
            ValueError: A name occurs twice, or a unit stands before one that it depends on.
        """
        self.units: dict[str, WorkUnit] = {}
        for unit in units:
            if unit.name in self.units:
                raise ValueError(f"two units are called {unit.name}")
            missing = [name for name in unit.after if name not in self.units]
            if missing:
                raise ValueError(f"{unit.name} comes after {missing[0]}, which does not stand before it")
            self.units[unit.name] = unit

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[WorkUnit]:
        return iter(self.units.values())

    def left(self, is_done: Callable[[WorkUnit], bool]) -> "Graph":
        """The units that are still to be done; what they come after may be done already."""
        todo = {unit.name for unit in self if not is_done(unit)}
        return Graph(
            replace(unit, after=tuple(name for name in unit.after if name in todo))
            for unit in self
            if unit.name in todo
        )


class Queue:
    """Which units of a graph may start now: those in order whose predecessors are done, and none after a failed one."""

    def __init__(self, graph: Graph) -> None:
        self._open = {unit.name: len(unit.after) for unit in graph}
        self._next: dict[str, list[str]] = {}
        for unit in graph:
            for name in unit.after:
                self._next.setdefault(name, []).append(unit.name)
        self.ready: list[str] = [name for name, count in self._open.items() if count == 0]

    def done(self, name: str) -> list[str]:
        """Takes note of a finished unit; returns those that may start because of it."""
        freed = []
        for other in self._next.get(name, ()):
            self._open[other] -= 1
            if self._open[other] == 0:
                freed.append(other)
        return freed

    def blocked_by(self, name: str) -> list[str]:
        """All units that can never start once this one has failed, in order of distance."""
        found: dict[str, None] = {}
        around = [name]
        while around:
            around = [other for one in around for other in self._next.get(one, ()) if other not in found]
            found |= dict.fromkeys(around)
        return list(found)
