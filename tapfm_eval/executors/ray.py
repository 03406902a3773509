"""Units of a study side by side on one machine or many: an instance of Ray, and whether its machines can do a graph.

Ray is asked for nothing but processes, means and word of what was lost. Everything that counts lies in the run folder,
so a lost worker, a lost machine or a lost driver costs what was not yet written there, and the same command resumes.
"""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from tapfm_eval import __version__
from tapfm_eval.errors import InputError, Problem, RunError
from tapfm_eval.executors.machines import described, fits, remedy_for
from tapfm_eval.executors.ray_session import Session
from tapfm_eval.executors.sight import Needed, NodeSight, Place, look_around
from tapfm_eval.executors.work import Work, usable_cores
from tapfm_eval.locks import Holder
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import write_text
from tapfm_eval.stages.graph import Graph

LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's own switch, on any system: 0 keeps to 127.0.0.1
AUTH_MODE = "RAY_AUTH_MODE"
INSTALL = "pip install 'tapfm-eval[ray]'"
WORKER_SECONDS = 120.0  # that a machine has to start its first worker
OBJECT_STORE_BYTES = 128 * 2**20  # of an embedded instance: nothing large goes through it


def check_installed() -> None:
    """Makes sure that Ray is there.

    Raises:
        InputError: It is not.
    """
    if find_spec("ray") is None:
        raise InputError(Problem("--executor ray", "the package ray", "none", f"Install it with `{INSTALL}`."))


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
            Problem("--executor ray", f"a machine with {wanted}, for `{name}`", described(machines),
                    remedy_for(wanted, machines))
            for wanted, name in {unit.resources: unit.name for unit in graph}.items()
            if not any(fits(wanted, machine) for machine in machines)
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
            Session(graph, work, reporter, self.machines, self._needed).run()
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
