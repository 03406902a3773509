"""What an executor costs beside the work, of Ray and of the local one; needs the extra `ray`.

    python tests/benchmarks/executor_overhead.py [--units N]

Of an embedded instance of Ray: start-up, memory of idle workers, time for each of 10,000 small units that do nothing
(the search for tissue in a slide is small), and for each of some that get a worker process of their own (trainings,
embeddings and predictions, which give all their memory back when they end).
"""

import argparse
import os
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tapfm_eval.executors.local import LocalExecutor
from tapfm_eval.executors.ray import INSTALL, RayExecutor
from tapfm_eval.executors.work import Executor, Work
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import RunFolder
from tapfm_eval.stages.graph import Graph, WorkUnit

ODD_JOBS = Path(__file__).resolve().parents[1] / "executors"


def seconds_per_unit(executor: Executor, folder: Path, count: int, *, small: bool, locks: bool) -> float:
    """Wall time of a unit that does nothing."""
    kind = f"{'small' if small else 'large'}-{'locked' if locks else 'free'}"
    units = [
        WorkUnit(f"tiles/{kind}-{i}", "tiles", "Tiles", small=small, lock=f"{kind}/{i}" if locks else None)
        for i in range(count)
    ]
    work = Work("odd_jobs:nothing", "odd_jobs:is_done", folder, RunFolder(folder))
    started = time.monotonic()
    executor.run(Graph(units), work, Reporter(quiet=True))
    return (time.monotonic() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=40, help="units with a process of their own")
    parser.add_argument("--cpus", type=int, default=2)
    given = parser.parse_args()
    if find_spec("ray") is None:
        print(f"not measured: it needs `{INSTALL}`")
        return
    from odd_jobs import worker_sizes_mb

    os.environ["PYTHONPATH"] = str(ODD_JOBS)  # for the workers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        with RayExecutor(folder / "logs", cpus=given.cpus) as ray:
            begun = time.monotonic() - started
            first = seconds_per_unit(ray, folder, 1, small=True, locks=False)
            many = seconds_per_unit(ray, folder, given.units, small=True, locks=False)
            sizes = worker_sizes_mb()
            locked = seconds_per_unit(ray, folder, given.units // 10, small=True, locks=True)
            large = seconds_per_unit(ray, folder, given.large, small=False, locks=False)
        local = LocalExecutor()
        beside = seconds_per_unit(local, folder, given.units // 10, small=True, locks=True)
    print(f"embedded Ray, {given.cpus} workers; wanted in brackets")
    print(f"start-up                        {begun:8.1f} s (15), and {first:.1f} s to the end of the first unit")
    print(f"idle worker, largest            {max(sizes):8.0f} MB (300); {len(sizes)} of them")
    print(f"small unit, {given.units:>6}              {1000 * many:8.2f} ms (10)")
    print(f"small unit with a lock          {1000 * locked:8.2f} ms; local executor {1000 * beside:.2f} ms")
    print(f"unit with a process of its own  {1000 * large:8.0f} ms")


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(ODD_JOBS))
    main()
