"""Units side by side in worker processes of an embedded instance of Ray: `make test-ray`."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from odd_jobs import worker_sizes_mb

from tapfm_eval import progress
from tapfm_eval.errors import InputError, PausedError, RunError, StudyError
from tapfm_eval.executors import ray_session
from tapfm_eval.executors.ray import RayExecutor
from tapfm_eval.executors.work import Work
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import RunFolder
from tapfm_eval.stages.graph import Graph, Resources, WorkUnit

pytest.importorskip("ray", reason="needs the extra: pip install 'tapfm-eval[ray]'", exc_type=ImportError)
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("ray")]
QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv(
            "RAY_ADDRESS", "127.0.0.1:1"
        )  # of a cluster that somebody once had: no business of an embedded one
        with RayExecutor(tmp_path_factory.mktemp("logs"), cpus=2) as made:
            yield made


def job(name: str, what: str = "write", *after: str, steps: int = 4) -> WorkUnit:
    return WorkUnit(name, name.split("/")[0], name, steps, after, arguments={"what": what})


def run(executor: RayExecutor, folder: Path, *units: WorkUnit, reporter: Reporter = QUIET) -> None:
    executor.run(Graph(units), Work("odd_jobs:odd_job", "odd_jobs:is_done", folder, RunFolder(folder)), reporter)


def test_a_killed_workers_unit_goes_on_from_what_it_had_written(executor: RayExecutor, tmp_path: Path) -> None:
    run(executor, tmp_path, job("train/a", "die midway"), job("train/b", "die once"), job("select", "", "train/a"))
    assert (tmp_path / "train_a.done").read_text().startswith("2")
    assert (tmp_path / "train_b.done").is_file()
    assert "train_a.done" in (tmp_path / "select.done").read_text()


def test_what_fails_is_named_with_its_log_and_stops_nothing_else(executor: RayExecutor, tmp_path: Path) -> None:
    units = [job("train/a", "fail"), job("train/b", "crash"), job("train/c", "die always"), job("train/d")]
    with pytest.raises(StudyError) as error:
        run(executor, tmp_path, *units, job("predict/a", "write", "train/a"), job("predict/d", "write", "train/d"))
    said = str(error.value)
    assert said.startswith("3 units of work failed")
    assert "train/a: the loss is nan" in said
    assert "train/b: ZeroDivisionError: a fault of the program" in said
    assert "train/c: its worker was lost 3 times" in said
    assert "Not started because of that: 1 (predict/a)" in said
    assert "Traceback" in (tmp_path / "logs" / "train" / "b.log").read_text()
    assert (tmp_path / "predict_d.done").is_file()


def test_nothing_is_predicted_before_all_is_selected(executor: RayExecutor, tmp_path: Path) -> None:
    trained = [job(f"train/{i}", "slow" if i == 2 else "write") for i in range(4)]
    names = [one.name for one in trained]
    run(
        executor, tmp_path, *trained, job("select", "write", *names), *(job(f"predict/{i}", "", "select") for i in "ab")
    )
    for name in "ab":
        seen = (tmp_path / f"predict_{name}.done").read_text().split()
        assert {f"train_{i}.done" for i in range(4)} | {"select.done"} <= set(seen)


def test_a_stop_has_units_write_what_they_have_and_the_same_call_resumes(
    executor: RayExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units = [job(f"train/{i}", "slow", steps=30) for i in range(5)]
    reporter = Reporter(quiet=True)

    def check() -> None:
        if list(tmp_path.glob("*.progress")):  # one is under way, however long its worker took to start
            raise PausedError("SIGINT came.")

    reporter.check = check
    with pytest.raises(PausedError):
        run(executor, tmp_path, *units, reporter=reporter)
    assert list(tmp_path.glob("*.paused"))
    kept = sum(int(path.read_text()) for path in tmp_path.glob("*.progress"))
    run(executor, tmp_path, *units, reporter=Reporter())
    going_on = re.findall(r"^  Training: going on from ([0-9]+) of 150$", capsys.readouterr().err, re.MULTILINE)
    assert int(going_on[0]) <= kept  # what the first run did counts as kept, not as done in this second
    started = [int(path.read_text().split()[0]) for path in tmp_path.glob("*.done")]
    assert len(started) == 5
    assert max(started) > 0


def test_a_stop_names_what_had_failed_before(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter, said = Reporter(quiet=True), list[str]()

    def check() -> None:
        if "train/a failed: the loss is nan" in said:
            raise PausedError("SIGINT came.")

    reporter.check = check
    monkeypatch.setattr(reporter, "say", said.append)
    with pytest.raises(PausedError):
        run(executor, tmp_path, job("train/a", "fail"), job("train/b", "slow", steps=50), reporter=reporter)
    assert "1 unit of work failed; whatever else could be is done.\n  train/a: the loss is nan" in said[-1]


def test_a_stop_waits_for_no_unit_that_waits_for_a_machine_that_is_gone(
    executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([[{"CPU": 8.0}]] * 2)  # a machine that leaves before its unit starts: there never is one here
    monkeypatch.setattr(executor, "machines", lambda: next(counts, [{"CPU": 2.0}]))
    monkeypatch.setattr(ray_session, "SECONDS_BETWEEN_COUNTS", 0.2)
    reporter, said = Reporter(quiet=True), list[str]()
    monkeypatch.setattr(reporter, "say", said.append)

    def check() -> None:
        if any("train/a waits for a machine with 4 CPUs" in line for line in said):
            raise PausedError("SIGINT came.")

    reporter.check = check
    started = time.monotonic()
    with pytest.raises(PausedError):
        executor.run(
            Graph([WorkUnit("train/a", "train", "Training", resources=Resources(4))]),
            Work("odd_jobs:odd_job", "odd_jobs:is_done", tmp_path, RunFolder(tmp_path)), reporter,
        )  # fmt: skip
    assert time.monotonic() - started < 60


def test_one_display_says_rate_and_time_left_of_units_side_by_side(
    executor: RayExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.5)
    run(executor, tmp_path, *(job(f"train/{i}", "slow", steps=20) for i in range(3)), reporter=Reporter())
    said = capsys.readouterr().err
    assert said.startswith("Training (60)\n")
    assert re.search(r"^  Training: [0-9]+ of 60, [0-9.]+(/s| s each), 0:0[0-9]:[0-9]{2} left$", said, re.MULTILINE)


def test_a_unit_that_fits_no_machine_is_refused_before_anything_starts(executor: RayExecutor, tmp_path: Path) -> None:
    wants = WorkUnit("train/b", "train", "Training", resources=Resources(1, gpus=1))
    with pytest.raises(RunError, match="a machine with 1 CPU and 1 GPU, for `train/b`"):
        run(executor, tmp_path, job("train/a"), wants)
    assert not list(tmp_path.glob("*"))


def test_an_instance_of_its_own_lets_nobody_in_without_its_token(tmp_path: Path) -> None:
    """In a process of its own, as Ray reads the mode once, when it is imported."""
    script = f"""
from pathlib import Path
import os, subprocess, sys
from tapfm_eval.executors.ray import RayExecutor
with RayExecutor(Path({str(tmp_path)!r}), cpus=1):
    import ray
    address = ray.get_runtime_context().gcs_address
    ask = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    for token in ("", "0" * 64):
        mode = {{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}} if token else {{"RAY_AUTH_MODE": "disabled"}}
        done = subprocess.run(ask, env={{**os.environ, **mode}}, capture_output=True, text=True)
        print("ANSWER", done.returncode, "node_" in done.stdout, file=sys.stderr)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    answers = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("ANSWER")]
    assert len(answers) == 2, done.stderr[-2000:]
    assert all(code != "0" and seen == "False" for code, seen in answers)


def test_every_machine_must_see_the_slides(executor: RayExecutor, tmp_path: Path) -> None:
    executor.check_sight(tmp_path, [(tmp_path,)])
    with pytest.raises(RunError, match="expected /nowhere/slides, got nothing there"):
        executor.check_sight(tmp_path, [(Path("/nowhere/slides"),)])


def test_a_machine_that_joins_later_and_sees_no_run_folder_does_nothing_there(
    executor: RayExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mark that only a machine with the run folder can read is taken away when all have been looked at."""
    executor.check_sight(tmp_path)
    (mark,) = (tmp_path / "locks").iterdir()
    text = mark.read_text(encoding="utf-8")
    mark.unlink()
    with pytest.raises(
        RunError, match=r"Ray node [0-9a-f]{8} \(.+\): expected the run folder .* that all machines share"
    ):
        run(executor, tmp_path, job("train/a"), job("train/b"), reporter=Reporter())
    assert "What is done is kept" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.done"))
    mark.write_text(text, encoding="utf-8")
    executor.check_sight(tmp_path)
    run(executor, tmp_path, job("train/a"), job("train/b"))
    assert len(list(tmp_path.glob("*.done"))) == 2


def test_units_that_wait_for_a_machine_that_is_gone_say_so_once(
    executor: RayExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last machine of a kind is lost while its units are under way; here the count of machines alone says so."""
    counts = iter([[{"CPU": 2.0}]] * 2)
    monkeypatch.setattr(executor, "machines", lambda: next(counts, [{"CPU": 0.5}]))
    monkeypatch.setattr(ray_session, "SECONDS_BETWEEN_COUNTS", 0.2)
    run(executor, tmp_path, job("train/a", "slow", steps=30), reporter=Reporter())
    said = capsys.readouterr().err
    assert said.count("train/a waits for a machine with 1 CPU; there is now 0.5 CPUs.") == 1


def test_a_thousand_small_units_cost_little_and_idle_workers_hold_no_torch(
    executor: RayExecutor, tmp_path: Path
) -> None:
    work = Work("odd_jobs:nothing", "odd_jobs:is_done", None, RunFolder(tmp_path))
    units = [WorkUnit(f"tiles/{i}", "tiles", "Tiles", small=True) for i in range(1000)]
    started = time.monotonic()
    executor.run(Graph(units), work, QUIET)
    assert (time.monotonic() - started) / 1000 < 0.010
    sizes = worker_sizes_mb()
    assert sizes
    assert max(sizes) < 300


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "auto"])
def test_an_address_where_no_cluster_is_says_how_to_start_one(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # what `auto` finds
    with pytest.raises(InputError, match="ray start --head"), RayExecutor(tmp_path, address):
        pytest.fail("it joined something")
