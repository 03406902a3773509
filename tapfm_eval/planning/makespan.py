"""When a study ends on given GPUs: its own graph of units, each started as soon as it may and a GPU is free.

Units start in the order of the graph, as the executors start them, on the fastest GPU that holds them. Graham's bound
(1966) holds for equal GPUs: no order ends in less than half of the time.
"""

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tapfm_eval.errors import InputError, Problem
from tapfm_eval.stages.graph import Graph, Queue

PEAK: Mapping[str, tuple[float, float]] = MappingProxyType({
    # GB, and dense 16-bit matrix products in TFLOP/s by the maker's data sheet
    "h200": (141, 989), "h100": (80, 989), "a100": (80, 312), "a100-40": (40, 312), "l40s": (48, 362),
    "a40": (48, 150), "a10": (24, 125), "v100": (32, 125), "l4": (24, 121), "t4": (16, 65),
})  # fmt: skip
MEASURED = "h100"  # what the paper's hours are of
MANY = 100_000  # GPUs
_SPEC = re.compile(r"([0-9]{1,9})(?:x([A-Za-z0-9][A-Za-z0-9._-]{0,39}))?(?:=([0-9.]{1,12}))?")


@dataclass(frozen=True, slots=True)
class Gpus:
    """Some GPUs of one kind."""

    count: int
    kind: str  # `` where the plan's hours are measured on such GPUs
    speed: float  # beside those that the plan's hours are of
    memory_gb: float | None  # each; None: not known, so not asked

    def __str__(self) -> str:
        return f"{self.count} x {self.kind}" if self.kind else f"{self.count}"


@dataclass(frozen=True, slots=True)
class Need:
    """What a unit takes."""

    hours: float  # on the GPUs that the plan's hours are of
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Makespan:
    """When a study ends on some GPUs."""

    gpus: str  # as asked for
    count: int
    hours: float  # from the first unit to the last
    busy: float  # share of the GPUs' time in which they work
    chain_hours: float  # the longest row of units that wait for each other, on the fastest: no number of GPUs beats it


def read_gpus(specs: Sequence[str], *, probed: bool) -> tuple[Gpus, ...]:
    """The GPUs that `--gpus` names: `8`, `4xa100` or `4xmine=0.5`, each spec some more of them.

    Args:
        specs: What was given.
        probed: Whether hours were measured by the user: how fast another kind is beside that machine, only they know.

    Raises:
        InputError: A spec is none, or names a kind of unknown speed.
    """
    problems, found = [], []
    known = ", ".join(PEAK)
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        count = 0 if match is None else int(match[1])
        try:
            speed = float(match[3]) if match is not None and match[3] else None
        except ValueError:
            speed = 0.0
        if match is None or not 1 <= count <= MANY or (speed is not None and not 0.001 <= speed <= 1000):
            expected = f"N, NxKIND or NxKIND=SPEED, N from 1 to {MANY}"
            remedy = "8 is eight of the GPUs that the hours are of; 4xa100=0.4 is four of 0.4 times their speed."
            problems.append(Problem("--gpus", expected, repr(spec)[:60], remedy))
            continue
        kind = (match[2] or "").lower()
        memory, rate = PEAK.get(kind, (None, None))
        if speed is None and kind:
            if rate is None or probed:
                got = f"{spec!r}, " + ("while the hours are your own" if probed else "of which no speed is known")
                remedy = f"Write {spec}=SPEED, its speed beside the machine that the hours are of." + (
                    "" if probed else f" Known by the paper's hours: {known}."
                )
                problems.append(Problem("--gpus", "a speed beside the hours' machine", got[:100], remedy))
                continue
            speed = rate / PEAK[MEASURED][1]
        if not kind and not probed:
            memory = PEAK[MEASURED][0]
        found.append(Gpus(count, kind, 1.0 if speed is None else speed, memory))
    if problems:
        raise InputError(problems)
    return tuple(found)


def makespan(graph: Graph, needs: Mapping[str, Need], gpus: Sequence[Gpus]) -> Makespan:
    """Plays a study through on some GPUs.

    Args:
        graph: The units; `resources.gpus` says which share of a GPU each occupies, 0 that it runs beside them.
        needs: Hours and memory by unit; a unit that is not in it takes neither.
        gpus: What there is.

    Raises:
        InputError: A unit fits none of the GPUs.
    """
    fleet = _Fleet(gpus)
    _refuse_small(graph, needs, gpus)
    queue, names = Queue(graph), list(graph.units)
    place = {name: i for i, name in enumerate(names)}
    # units of equal wants stand in one row: where its first does not fit, none does
    rows: dict[tuple[float, float], list[int]] = {}

    def stand(name: str) -> None:
        wants = (graph.units[name].resources.gpus, needs.get(name, _NOTHING).memory_gb)
        heapq.heappush(rows.setdefault(wants, []), place[name])

    for name in queue.ready:
        stand(name)
    now = busy = 0.0
    running: list[tuple[float, int, float, int, int]] = []  # end, unit, share, kind and number of its GPU
    while True:
        for wants in sorted((wants for wants, row in rows.items() if row), key=lambda wants: rows[wants][0]):
            row = rows[wants]
            while row and (found := fleet.take(*wants)) is not None:
                at = heapq.heappop(row)
                hours = needs.get(names[at], _NOTHING).hours / fleet.kinds[found[0]].speed
                busy += hours * wants[0]
                heapq.heappush(running, (now + hours, at, wants[0], *found))
        if not running:
            break
        now, at, share, kind, number = heapq.heappop(running)
        fleet.give_back(share, kind, number)
        for name in queue.done(names[at]):
            stand(name)
    count = sum(some.count for some in gpus)
    chain = _chain(graph, needs) / fleet.kinds[0].speed
    return Makespan(" + ".join(map(str, gpus)), count, now, busy / (count * now) if now else 0.0, chain)


_NOTHING = Need(0.0, 0.0)


class _Fleet:
    """Which GPUs are free, and how much of those that several units share."""

    def __init__(self, gpus: Sequence[Gpus]) -> None:
        self.kinds = sorted(gpus, key=lambda some: -some.speed)  # the fastest first
        self._whole = [list(range(some.count)) for some in self.kinds]
        self._spare: list[dict[int, float]] = [{} for _ in self.kinds]  # of those in use that have room for more

    def take(self, share: float, memory_gb: float) -> tuple[int, int] | None:
        """Kind and number of a GPU that a unit now holds its share of; None where none is free."""
        for kind, some in enumerate(self.kinds):
            if not share:
                return kind, 0
            if not _holds(some, memory_gb):
                continue
            spare = self._spare[kind]
            number = next((number for number, room in spare.items() if room >= share), None)
            if number is None:
                if not self._whole[kind]:
                    continue
                number = self._whole[kind].pop()
                spare[number] = 1.0
            spare[number] -= share
            if not spare[number]:
                del spare[number]
            return kind, number
        return None

    def give_back(self, share: float, kind: int, number: int) -> None:
        """A unit has ended."""
        if not share:
            return
        room = self._spare[kind].pop(number, 0.0) + share
        if room < 1:
            self._spare[kind][number] = room
        else:
            self._whole[kind].append(number)


def _holds(some: Gpus, memory_gb: float) -> bool:
    return some.memory_gb is None or memory_gb <= some.memory_gb


def _refuse_small(graph: Graph, needs: Mapping[str, Need], gpus: Sequence[Gpus]) -> None:
    units = (unit.name for unit in graph if unit.resources.gpus)
    largest = max(units, key=lambda name: needs.get(name, _NOTHING).memory_gb, default=None)
    if largest is None or any(_holds(some, needs.get(largest, _NOTHING).memory_gb) for some in gpus):
        return
    said = ", ".join(f"{some} of {some.memory_gb:g} GB" for some in gpus)
    expected = f"a GPU of at least {needs[largest].memory_gb:.1f} GB, for {largest}"
    remedy = "Add a larger kind; or adapt fewer blocks, or lower training.micro_batch, in the protocol."
    raise InputError(Problem("--gpus", expected, said, remedy))


def _chain(graph: Graph, needs: Mapping[str, Need]) -> float:
    """Hours of the longest row of units each of which waits for the one before."""
    ends: dict[str, float] = {}
    for unit in graph:
        started = max((ends[name] for name in unit.after), default=0.0)
        ends[unit.name] = started + needs.get(unit.name, _NOTHING).hours
    return max(ends.values(), default=0.0)
