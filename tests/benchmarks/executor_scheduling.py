"""What it costs to schedule 100,000 units, and where that stops scaling.

    python tests/benchmarks/executor_scheduling.py [--units N]

Seven eighths of the units embed 32 slides each for 28 frozen backbones; the others are trainings, the barrier before
the one look, and predictions. They do nothing, and last as long as they would by the clock of a simulation. The code
that schedules is that of `--executor ray`, with a stand-in for Ray that starts nothing: what is measured is our share.
`executor_overhead.py` measures Ray itself.
"""

import argparse
import heapq
import resource
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import Any

from tapfm_eval.executors.work import Work
from tapfm_eval.planning.makespan import Gpus, Need, makespan
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import RunFolder
from tapfm_eval.stages.graph import Graph, Resources, WorkUnit

HOURS = {"features": 1.4, "train": 24.0, "predict": 6.0}  # 32 slides of 158 s each; what units of luad take
BACKBONES = 28


def hours_of(unit: WorkUnit) -> float:
    """How long a unit lasts: half to one and a half times the mean of its stage, always the same."""
    return HOURS.get(unit.stage, 0.0) * (0.5 + zlib.crc32(unit.name.encode()) / 2**32)


def study(units: int) -> Graph:
    """The graph of a study: seven eighths of it embeddings, the rest trainings and predictions in equal parts."""
    share = units // 16
    gpu = Resources(1, 1.0)
    embedded = [
        WorkUnit(f"features/{i}", "features", "Embedding", 32, resources=gpu, lock=f"features/{i}", waits=True)
        for i in range(units - 2 * share - 1)
    ]
    trained = []
    for i in range(share):
        # every eighth arm is frozen and waits for the embeddings of one backbone
        after = tuple(unit.name for unit in embedded[i % BACKBONES :: BACKBONES][:200]) if i % 8 == 0 else ()
        trained.append(WorkUnit(f"train/{i}", "train", "Training", 100, after, gpu, lock=f"units/{i}"))
    select = WorkUnit(
        "select", "select", "Closing", after=tuple(unit.name for unit in trained), lock="look", waits=True
    )
    predicted = [
        WorkUnit(f"predict/{i}", "predict", "Predicting", 100, ("select",), gpu, lock=f"units/{i}")
        for i in range(share)
    ]
    return Graph([*embedded, *trained, select, *predicted])


class Landings(SimpleQueue[Any]):
    """What the scheduler waits at: the clock goes on to the next end instead."""

    clockwork: "Clockwork"

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if self.empty() and not self.clockwork.go_on():
            raise AssertionError("the scheduler waits while nothing is under way")
        return super().get(block, timeout)


@dataclass(frozen=True)
class Task:
    """What the scheduler holds of a task under way."""

    number: int
    told: dict[int, Callable[[None], None]] = field(compare=False)

    def future(self) -> "Task":
        return self

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        self.told[self.number] = call


@dataclass
class Clockwork:
    """A stand-in for Ray: so many GPUs, and a clock that goes on when somebody waits."""

    slots: int
    now: float = 0.0  # hours
    busy: float = 0.0  # GPU hours
    tasks: int = 0
    _running: list[tuple[float, int]] = field(default_factory=list)  # end, task
    _waiting: deque[tuple[float, int]] = field(default_factory=deque)  # hours, task; first come, first served
    _told: dict[int, Callable[[None], None]] = field(default_factory=dict)
    _units: dict[int, list[WorkUnit]] = field(default_factory=dict)

    def submit(self, units: list[WorkUnit]) -> "Task":
        """Takes a task; it runs once a GPU is free."""
        self.tasks += 1
        hours = sum(map(hours_of, units))
        self._units[self.tasks] = units
        self.busy += hours
        if len(self._running) < self.slots:
            heapq.heappush(self._running, (self.now + hours, self.tasks))
        else:
            self._waiting.append((hours, self.tasks))
        return Task(self.tasks, self._told)

    def go_on(self) -> bool:
        """The next task ends; False where none is under way."""
        if not self._running:
            return False
        self.now, task = heapq.heappop(self._running)
        if self._waiting:
            hours, following = self._waiting.popleft()
            heapq.heappush(self._running, (self.now + hours, following))
        self._told.pop(task)(None)
        return True

    def outcomes(self, task: Any) -> Any:
        """What `ray.get` gives: of a task, or of the board, which has nothing to say."""
        if not isinstance(task, Task):
            return {}
        return [SimpleNamespace(name=unit.name, status="done", message="") for unit in self._units.pop(task.number)]

    def module(self) -> ModuleType:
        """What `import ray` gives."""
        ray: Any = ModuleType("ray")

        def remote(*given: Any, **_: Any) -> Any:
            if not given:
                return remote
            made = SimpleNamespace(options=lambda **_: made, remote=lambda *a: self.submit(a[1]) if a else board)
            return made

        told = SimpleNamespace(remote=lambda *_: None)
        board = SimpleNamespace(news=told, stop=told, told=told)
        ray.exceptions = ModuleType("ray.exceptions")
        ray.exceptions.RayError = ray.exceptions.RayTaskError = type("RayError", (Exception,), {})
        ray.util = ModuleType("ray.util")
        ray.util.scheduling_strategies = ModuleType("ray.util.scheduling_strategies")
        ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy = lambda *_, **__: None
        ray.get_runtime_context = lambda: SimpleNamespace(get_node_id=lambda: "here")
        ray.remote, ray.put, ray.kill = remote, lambda content: content, lambda _: None
        ray.get = lambda task, **_: self.outcomes(task)
        for name in ("ray", "ray.exceptions", "ray.util", "ray.util.scheduling_strategies"):
            sys.modules[name] = eval(name, {"ray": ray})  # noqa: S307 - one of these four names
        return ray


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process's time, and what came out."""
    started = time.process_time()
    found = act()
    return time.process_time() - started, found


def under_ray(graph: Graph, slots: int, folder: Path) -> tuple[float, Clockwork]:
    """Seconds that our scheduling takes of a study on so many GPUs."""
    clockwork = Clockwork(slots)
    clockwork.module()
    from tapfm_eval.executors.ray_session import Session

    machines = [{"CPU": 8.0, "GPU": 8.0, "memory": 1e15} for _ in range(max(1, slots // 8))]
    work = Work("m:f", "m:g", None, RunFolder(folder))
    session = Session(graph, work, Reporter(quiet=True), lambda: machines, None)
    session._landed = Landings()
    session._landed.clockwork = clockwork
    return timed(session.run)[0], clockwork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100_000)
    units = parser.parse_args().units
    for count in (units // 100, units // 10, units):
        seconds, graph = timed(lambda count=count: study(count))
        print(f"{len(graph):>7} units: graph of {sum(len(u.after) for u in graph):,} edges in {seconds:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        seconds, left = timed(lambda: graph.left(lambda unit: (Path(folder) / unit.name).is_file()))
        print(f"what is left of {len(left)}: {seconds:.2f} s, {1e6 * seconds / units:.0f} us a unit")
        print("\nGPUs   study, h  busy  planned, h  scheduling, s  us/unit  shortest mean unit that keeps all busy, s")
        for slots in (8, 64, 512, 4096, 32768):
            seconds, clockwork = under_ray(graph, slots, Path(folder))
            needs = {unit.name: Need(hours_of(unit), 1.0) for unit in graph}
            planned = makespan(graph, needs, [Gpus(slots, "", 1.0, None)])
            each = seconds / len(graph)
            print(
                f"{slots:<6} {clockwork.now:>8,.0f} {clockwork.busy / slots / clockwork.now:>5.0%} "
                f"{planned.hours:>11,.0f} {seconds:>14.1f} {1e6 * each:>8.0f} {slots * each:>10.3f}"
            )
    print(f"\nlargest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
