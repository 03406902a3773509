"""One graph on its way through Ray: which units may start, what became of them, and what is said of it."""

import contextlib
import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from tapfm_eval.errors import PausedError, Problem, RunError
from tapfm_eval.executors.machines import described, fits, remedy_for
from tapfm_eval.executors.sight import Needed
from tapfm_eval.executors.work import Failure, Work, failed_study, log_path
from tapfm_eval.progress import Advance, Reporter, skip
from tapfm_eval.stages.graph import Graph, Queue, WorkUnit

LOST_IN_A_ROW = 3  # losses of a unit that made no progress in between, before it counts as failed
HELD_SECONDS = 20.0  # before a unit that another process holds is asked for again
PAUSE_SECONDS = 300.0  # that units under way have for their checkpoints
SMALL_TOGETHER = 16  # small units that travel in one task
SECONDS_BETWEEN_LOOKS = 0.5  # at the board
SECONDS_BETWEEN_COUNTS = 30.0  # of the machines, which come and go
DISPLAYED = {
    "tiles": "Finding tissue", "features": "Embedding", "train": "Training", "select": "Selecting",
    "predict": "Predicting",
}  # fmt: skip


@dataclass(slots=True)
class _Flight:
    """A task under way."""

    units: list[WorkUnit]
    started: float = field(default_factory=time.monotonic)


class Session:
    """One graph on its way through Ray; lives as long as `run` does."""

    def __init__(
        self,
        graph: Graph,
        work: Work,
        reporter: Reporter,
        machines: Callable[[], Sequence[Mapping[str, float]]],
        needed: Needed | None,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from tapfm_eval.executors.ray_worker import Board, perform

        self._ray, self._graph, self._work, self._reporter = ray, graph, work, reporter
        # a worker that has done something large ends, and gives all its memory back, of the host and of the GPU
        self._perform_small: Any = ray.remote(max_retries=0)(perform)
        self._perform_one: Any = ray.remote(max_retries=0, max_calls=1)(perform)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        board: Any = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Board)
        self._board = board.remote()
        self._shared = ray.put(work)
        self._needed, self._machines = needed, machines
        self._count()
        self._queue = Queue(graph)
        self._place = {unit.name: i for i, unit in enumerate(graph)}
        self._ready = [(self._place[name], name) for name in self._queue.ready]
        heapq.heapify(self._ready)
        self._later: list[tuple[float, int, str]] = []  # held by others: when to ask again
        self._alone: set[str] = set()  # lost once: travels alone, so that a unit that kills its worker is known
        self._lost: dict[str, int] = {}
        self._flights: dict[Any, _Flight] = {}
        self._landed: SimpleQueue[Any] = SimpleQueue()  # told by Ray: to ask of thousands again and again takes longer
        self._failures: list[Failure] = []
        self._blocked: dict[str, None] = {}
        self._said_held: set[str] = set()
        self._said_waiting: frozenset[str] = frozenset()
        self._progress: dict[str, int] = {}
        self._advances: Mapping[str, Advance] = {}
        self._shown = time.monotonic()

    def run(self) -> None:
        totals: dict[str, int] = {}
        for unit in self._graph:
            name = DISPLAYED[unit.stage]
            totals[name] = totals.get(name, 0) + unit.steps
        with self._reporter.stages(totals) as self._advances:
            try:
                with self._quick_end():
                    while self._ready or self._later or self._flights:
                        self._reporter.check()
                        self._take_back()
                        self._launch()
                        self._land()
                        self._show()
                        self._watch()
            except (PausedError, KeyboardInterrupt) as error:
                self._pause()
                self._say_failures()
                if isinstance(error, PausedError):
                    raise
                raise PausedError("Stopped. What is done is kept: the same command resumes.") from None
            finally:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.kill(self._board)
        if self._failures:
            raise failed_study(self._failures, list(self._blocked))

    @contextlib.contextmanager
    def _quick_end(self) -> Iterator[None]:
        """Makes an end of Ray itself a message."""
        try:
            yield
        except self._ray.exceptions.RayError as error:
            raise RunError(
                Problem("Ray", "an instance that lives to the end", " ".join(str(error).split())[:200],
                        "Nothing that was done is lost: the same command resumes.")
            ) from None  # fmt: skip

    def _take_back(self) -> None:
        """Units that were held elsewhere a while ago may be asked for again."""
        while self._later and self._later[0][0] <= time.monotonic():
            _, place, name = heapq.heappop(self._later)
            heapq.heappush(self._ready, (place, name))

    def _launch(self) -> None:
        """Keeps a few times as many tasks in Ray's hands as it can run, so that no slot waits for this process."""
        while self._ready and len(self._flights) < 4 * self._slots + 8:
            units = self._next_units()
            first = units[0].resources
            options: dict[str, Any] = {"num_cpus": first.cpus, "num_gpus": first.gpus, "name": units[0].name}
            if first.memory_mb:
                options["memory"] = int(first.memory_mb * 2**20)
            if self._spread:
                options["scheduling_strategy"] = "SPREAD"
            perform = (self._perform_small if units[0].small else self._perform_one).options(**options)
            reference = perform.remote(self._shared, units, self._board, self._needed)
            self._flights[reference] = _Flight(units)
            reference.future().add_done_callback(lambda _, ended=reference: self._landed.put(ended))

    def _next_units(self) -> list[WorkUnit]:
        """The next unit; with others like it where they are small and there are many."""
        unit = self._graph.units[heapq.heappop(self._ready)[1]]
        units = [unit]
        if unit.small and unit.name not in self._alone:
            together = min(SMALL_TOGETHER, max(1, len(self._ready) // (4 * self._slots)))
            while len(units) < together and self._ready:
                other = self._graph.units[self._ready[0][1]]
                if not other.small or other.resources != unit.resources or other.name in self._alone:
                    break
                heapq.heappop(self._ready)
                units.append(other)
        return units

    def _land(self) -> None:
        """Takes in what has ended, waiting for it a moment."""
        if not self._flights:
            time.sleep(0.2)  # all that is left is held elsewhere
            return
        ended = []
        with contextlib.suppress(Empty):
            ended.append(self._landed.get(timeout=0.5))
            while True:
                ended.append(self._landed.get_nowait())
        if not ended:  # a Ray that has ended tells nobody: asked, it raises
            self._ray.wait(list(islice(self._flights, 1)), timeout=0)
        for reference in ended:
            flight = self._flights.pop(reference)
            try:
                outcomes = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                for unit in flight.units:
                    self._failed(unit, " ".join(str(error).split())[-300:])
            except self._ray.exceptions.RayError as error:
                self._lose(flight, type(error).__name__)
            else:
                for outcome in outcomes:
                    self._take(self._graph.units[outcome.name], outcome)

    def _take(self, unit: WorkUnit, outcome: Any) -> None:
        if outcome.status == "done":
            self._tell(unit, unit.steps)
            for name in self._queue.done(unit.name):
                heapq.heappush(self._ready, (self._place[name], name))
        elif outcome.status == "failed":
            self._failed(unit, outcome.message)
        elif outcome.status == "held":
            if unit.name not in self._said_held:
                self._said_held.add(unit.name)
                self._reporter.say(f"{unit.name}: {outcome.message}")
            heapq.heappush(self._later, (time.monotonic() + HELD_SECONDS, self._place[unit.name], unit.name))
        elif outcome.status == "unseen":  # a machine that joined later: whatever went there would fail
            self._pause()
            self._say_failures()
            self._reporter.say("What is done is kept. Mend that machine, or run `ray stop` there; then resume.")
            raise RunError(outcome.problems)
        # `paused` comes only after everybody was told to stop

    def _failed(self, unit: WorkUnit, message: str) -> None:
        log = None if unit.small else log_path(self._work.folder, unit.name)
        self._failures.append(Failure(unit.name, message, log))
        self._blocked |= dict.fromkeys(self._queue.blocked_by(unit.name))
        self._reporter.say(f"{unit.name} failed: {message.splitlines()[0] if message else ''}")

    def _say_failures(self) -> None:
        """Names what has failed where the run ends by something else, too."""
        if self._failures:
            self._reporter.say(str(failed_study(self._failures, list(self._blocked))))

    def _lose(self, flight: _Flight, how: str) -> None:
        """A worker or its machine is gone: its units are done again, from their checkpoints where they have any."""
        alone, given_up = len(flight.units) == 1, 0
        for unit in flight.units:
            self._alone.add(unit.name)
            self._lost[unit.name] = self._lost.get(unit.name, 0) + alone
            if self._lost[unit.name] >= LOST_IN_A_ROW:
                given_up += 1
                self._failed(unit, f"its worker was lost {LOST_IN_A_ROW} times without any progress ({how}); most "
                                   "often memory ran out, of the host or of its container.")  # fmt: skip
            else:
                heapq.heappush(self._ready, (self._place[unit.name], unit.name))
        names = flight.units[0].name + (f" and {len(flight.units) - 1} more" if not alone else "")
        if given_up < len(flight.units):
            self._reporter.say(f"{names}: the worker was lost ({how}) and the work starts again from what is kept.")

    def _show(self) -> None:
        if time.monotonic() - self._shown < SECONDS_BETWEEN_LOOKS or not self._flights:
            return
        self._shown = time.monotonic()
        try:
            news = self._ray.get(self._board.news.remote(), timeout=5)
        except self._ray.exceptions.RayError:  # restarting; the display waits
            return
        for name, (done, skipped) in news.items():
            unit = self._graph.units[name]
            if done + skipped > self._progress.get(name, 0):
                self._lost[name] = 0  # it came further than ever
            self._tell(unit, min(unit.steps, done + skipped), skipped)

    def _watch(self) -> None:
        """Takes note of machines that came or went; says which units wait because none is left that could do them."""
        if time.monotonic() - self._counted < SECONDS_BETWEEN_COUNTS:
            return
        with contextlib.suppress(self._ray.exceptions.RayError):  # its head is busy: asked again later
            machines = self._count()
            demands = {flight.units[0].resources: flight.units[0].name for flight in self._flights.values()}
            waiting = {
                f"{name} waits for a machine with {wanted}; there is now {described(machines)}. "
                f"{remedy_for(wanted, machines)}"
                for wanted, name in demands.items()
                if not any(fits(wanted, machine) for machine in machines)
            }
            for line in sorted(waiting - self._said_waiting):
                self._reporter.say(line)
            self._said_waiting = frozenset(waiting)

    def _count(self) -> Sequence[Mapping[str, float]]:
        self._present = machines = self._machines()
        self._slots = max(1, int(sum(machine.get("CPU", 0) for machine in machines)))
        self._spread = len(machines) > 1
        self._counted = time.monotonic()
        return machines

    def _tell(self, unit: WorkUnit, steps: int, skipped: int = 0) -> None:
        before = self._progress.get(unit.name, 0)
        if steps > before:
            self._progress[unit.name] = steps
            advance = self._advances[DISPLAYED[unit.stage]]
            if before == 0 and skipped:
                before = min(skipped, steps)
                skip(advance, before)
            if steps > before:
                advance(steps - before)

    def _pause(self) -> None:
        """Has units under way write their checkpoints, then lets go of them."""
        under_way = [
            reference
            for reference, flight in self._flights.items()  # what waits for a machine that is gone never starts
            if any(fits(flight.units[0].resources, machine) for machine in self._present)
        ]
        if not under_way:
            return
        self._reporter.say(f"Stopping: {len(under_way)} units under way finish their slide and are kept.")
        deadline = time.monotonic() + PAUSE_SECONDS
        with contextlib.suppress(self._ray.exceptions.RayError, KeyboardInterrupt):
            self._ray.get(self._board.stop.remote(), timeout=10)
            while under_way and time.monotonic() < deadline:
                _, under_way = self._ray.wait(under_way, num_returns=1, timeout=1.0)
