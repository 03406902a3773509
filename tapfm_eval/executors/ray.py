"""The units of a study side by side on one machine or many: Ray places them, this module says what may start.

Ray is asked for nothing but processes, means and word of what was lost. Everything that counts lies in the run folder,
so a lost worker, a lost machine or a lost driver costs what was not yet written there, and the same command resumes.
"""

import contextlib
import heapq
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from tapfm_eval import __version__
from tapfm_eval.errors import InputError, PausedError, Problem, RunError
from tapfm_eval.executors.sight import Needed, NodeSight, Place, look_around
from tapfm_eval.executors.work import Failure, Work, failed_study, log_path, usable_cores
from tapfm_eval.locks import Holder
from tapfm_eval.progress import Advance, Reporter, skip
from tapfm_eval.rundir import write_text
from tapfm_eval.stages.graph import Graph, Queue, Resources, WorkUnit

LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's own switch, on any system: 0 keeps to 127.0.0.1
AUTH_MODE = "RAY_AUTH_MODE"
INSTALL = "pip install 'tapfm-eval[ray]'"
LOST_IN_A_ROW = 3  # losses of a unit that made no progress in between, before it counts as failed
HELD_SECONDS = 20.0  # before a unit that another process holds is asked for again
PAUSE_SECONDS = 300.0  # that units under way have for their checkpoints
WORKER_SECONDS = 120.0  # that a machine has to start its first worker
SMALL_TOGETHER = 16  # small units that travel in one task
SECONDS_BETWEEN_LOOKS = 0.5  # at the board
SECONDS_BETWEEN_COUNTS = 30.0  # of the machines, which come and go
DISPLAYED = {
    "tiles": "Finding tissue", "features": "Embedding", "train": "Training", "select": "Selecting",
    "predict": "Predicting",
}  # fmt: skip
OBJECT_STORE_BYTES = 128 * 2**20  # of an embedded instance: nothing large goes through it


def check_installed() -> None:
    """Makes sure that Ray is there.

    Raises:
        InputError: It is not.
    """
    if find_spec("ray") is None:
        raise InputError(Problem("--executor ray", "the package ray", "none", f"Install it with `{INSTALL}`."))


@dataclass(slots=True)
class _Flight:
    """A task under way."""

    units: list[WorkUnit]
    started: float = field(default_factory=time.monotonic)


class RayExecutor:
    """An embedded instance of Ray, or a place in a cluster, while it is entered."""

    def __init__(self, logs: Path, address: str | None = None, *, cpus: int | None = None) -> None:
        """Starts nothing yet.

        Args:
            logs: Folder for what Ray itself says.
            address: `auto` or HOST:PORT of a cluster that this machine belongs to; None starts an embedded instance.
            cpus: What an embedded instance may use; None for all cores.
        """
        self._logs, self._address, self._cpus = logs, address, cpus
        self._open = contextlib.ExitStack()
        self._needed: Needed | None = None

    def __enter__(self) -> "RayExecutor":
        check_installed()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a clinical study reports to nobody
        if self._address is None:
            os.environ.setdefault(LOOPBACK_ONLY, "0")
            if "ray" not in sys.modules:  # which reads it when it is imported, and never again
                os.environ.setdefault(AUTH_MODE, "token")  # or every user of this machine could have it run anything
        import ray

        self._logs.mkdir(parents=True, exist_ok=True)
        # Ray prints what it says of lost workers to stdout, which belongs to the command
        said = self._open.enter_context((self._logs / "ray.log").open("a", encoding="utf-8"))
        self._open.enter_context(contextlib.redirect_stdout(said))
        self._open.callback(ray.shutdown)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}
        if self._address is None:
            # `local`, or Ray would look for a cluster that somebody else has started here, or once had
            with _own_sigterm():
                ray.init("local", num_cpus=self._cpus or usable_cores(), _node_ip_address="127.0.0.1",
                         include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)  # fmt: skip
            return self
        try:
            _check_reachable(self._address)
            with _own_sigterm():
                ray.init(address=self._address, **quiet)
        except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
            self._open.close()
            raise InputError(
                Problem(f"--address {self._address}", "a Ray cluster that this machine belongs to",
                        " ".join(str(error).split())[:200],
                        "Start one with `ray start --head --port=6379`, join this machine to it with "
                        "`ray start --address=HOST:6379`, with the same RAY_AUTH_MODE and token everywhere; or leave "
                        "--address out for an instance of its own.")
            ) from None  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def machines(self) -> list[dict[str, float]]:
        """The means of each machine, under Ray's names (`CPU`, `GPU`, `memory` in bytes)."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def has_gpus(self) -> bool:
        """Whether any machine has a GPU."""
        return any(machine.get("GPU") for machine in self.machines())

    def check_sight(self, folder: Path, places: Sequence[Place] = ()) -> None:
        """Makes sure that every machine sees and may write the run folder, sees the rest, and runs the same software.

        Raises:
            RunError: One does not; lists all that is wrong.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        text = uuid.uuid4().hex
        mark = folder / "locks" / f"seen-by-all-{text}"  # of this process alone: others may run the same study
        write_text(mark, text)
        self._open.callback(mark.unlink, missing_ok=True)
        before = self._needed.places if self._needed is not None else ()
        needed = Needed(folder, mark, tuple(dict.fromkeys([*before, *places])), look_around(mark, places))
        remote: Any = ray.remote(num_cpus=0)(look_around)
        asked = {}
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name = f"{node['NodeManagerAddress']}, {node['NodeID'][:8]}"  # an address may have several nodes
                asked[name] = remote.options(scheduling_strategy=there).remote(mark, needed.places)
        problems: list[Problem] = []
        for name, reference in asked.items():
            try:
                sight: NodeSight = ray.get(reference, timeout=WORKER_SECONDS)
            except ray.exceptions.GetTimeoutError:
                remedy = "Look at that machine and its /tmp/ray/session_latest/logs: it may be overloaded."
                problems.append(
                    Problem(f"Ray node {name}", f"a worker within {WORKER_SECONDS:.0f} seconds", "none", remedy)
                )
            except ray.exceptions.RayError as error:
                got = " ".join(str(error).split())[:300]
                remedy = f"Install tapfm-eval {__version__} in the Python that `ray start` runs under there."
                problems.append(Problem(f"Ray node {name}", "a worker that starts", got, remedy))
            else:
                problems += needed.problems(name, sight)
        if problems:
            raise RunError(problems)
        self._needed = needed

    def check_means(self, graph: Graph) -> None:
        """Makes sure that every unit fits at least one machine.

        Raises:
            RunError: One does not: it would wait for ever.
        """
        machines = self.machines()
        problems = [
            Problem("--executor ray", f"a machine with {wanted}, for `{name}`", _described(machines),
                    _remedy(wanted, machines))
            for wanted, name in {unit.resources: unit.name for unit in graph}.items()
            if not any(_fits(wanted, machine) for machine in machines)
        ]  # fmt: skip
        if problems:
            raise RunError(problems)

    def run(self, graph: Graph, work: Work, reporter: Reporter) -> Mapping[str, Holder]:
        """Does all units of a graph, as many at a time as the machines hold; waits for those that others hold.

        Raises:
            StudyError: Units failed; all that do not depend on them are done.
            PausedError: The run was asked to stop; units under way have written their checkpoints.
            RunError: A unit fits no machine, or Ray itself ended.
        """
        if len(graph):
            self.check_means(graph)
            _Session(graph, work, reporter, self.machines, self._needed).run()
        return {}


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps this process's answer to SIGTERM: `ray.init` sets one that ends it at once, without any checkpoint."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # elsewhere Ray sets none
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _check_reachable(address: str) -> None:
    """Connects to a cluster's port and hangs up: Ray itself would end this process where nobody answers.

    Raises:
        OSError: Nobody answers, or the address is none.
    """
    if address == "auto":  # the address that Ray will find: from its environment variable, or its note of a local start
        note = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
        address = os.environ.get("RAY_ADDRESS", "auto")
        if address in ("", "auto"):
            address = _read(note).strip()
        if not address:  # Ray looks among the processes of this machine, and says it where there is none
            return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise OSError(f"{address!r} is neither `auto` nor HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # nobody has left one
        return ""


def _fits(wanted: Resources, machine: Mapping[str, float]) -> bool:
    return (
        wanted.cpus <= machine.get("CPU", 0)
        and wanted.gpus <= machine.get("GPU", 0)
        and wanted.memory_mb * 2**20 <= machine.get("memory", 0)
    )


def _remedy(wanted: Resources, machines: Sequence[Mapping[str, float]]) -> str:
    """What helps where a unit fits no machine: fewer cores do not where it is the GPU that is missing."""
    if wanted.gpus > max((machine.get("GPU", 0.0) for machine in machines), default=0.0):
        return "Start Ray with --num-gpus where there are GPUs that it does not see; else give --device cpu."
    if wanted.gpus >= 1:
        return "Start Ray with more --num-cpus beside the GPUs, give fewer --workers, or add such a machine."
    return "Start Ray with more --num-cpus (or --memory), or add such a machine to the cluster."


def _described(machines: Sequence[Mapping[str, float]]) -> str:
    said = {
        str(Resources(machine.get("CPU", 0), machine.get("GPU", 0), machine.get("memory", 0) / 2**20)): None
        for machine in machines
    }
    return "; ".join(said) or "no machine at all"


class _Session:
    """One graph on its way through Ray."""

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
                f"{name} waits for a machine with {wanted}; there is now {_described(machines)}. "
                f"{_remedy(wanted, machines)}"
                for wanted, name in demands.items()
                if not any(_fits(wanted, machine) for machine in machines)
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
            if any(_fits(flight.units[0].resources, machine) for machine in self._present)
        ]
        if not under_way:
            return
        self._reporter.say(f"Stopping: {len(under_way)} units under way finish their slide and are kept.")
        deadline = time.monotonic() + PAUSE_SECONDS
        with contextlib.suppress(self._ray.exceptions.RayError, KeyboardInterrupt):
            self._ray.get(self._board.stop.remote(), timeout=10)
            while under_way and time.monotonic() < deadline:
                _, under_way = self._ray.wait(under_way, num_returns=1, timeout=1.0)
