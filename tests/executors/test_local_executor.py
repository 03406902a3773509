"""Units one after another in this process, which may be one of several that run the same command."""

from pathlib import Path

import pytest

from tapfm_eval.errors import PausedError, StudyError
from tapfm_eval.executors.local import LocalExecutor
from tapfm_eval.executors.work import Work
from tapfm_eval.locks import Holder, Lock, take
from tapfm_eval.progress import Reporter
from tapfm_eval.rundir import RunFolder
from tapfm_eval.stages.graph import Graph, WorkUnit


def job(name: str, what: str = "write", *after: str, waits: bool = False) -> WorkUnit:
    return WorkUnit(
        name, name.split("/")[0], name, 2, after, arguments={"what": what}, lock=f"units/{name}", waits=waits
    )


def run(folder: Path, *units: WorkUnit, reporter: Reporter | None = None) -> dict[str, Holder]:
    work = Work("odd_jobs:odd_job", "odd_jobs:is_done", folder, RunFolder(folder))
    return dict(LocalExecutor().run(Graph(units), work, reporter or Reporter(quiet=True)))


def test_units_run_in_order(tmp_path: Path) -> None:
    run(tmp_path, job("train/a"), job("train/b"), job("select", "write", "train/a", "train/b"))
    assert (tmp_path / "select.done").read_text() == "0 train_a.done train_b.done"


def test_an_error_ends_the_run_and_the_same_call_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"^the loss is nan$"):
        run(tmp_path, job("train/a"), job("train/b", "fail"), job("train/c"))
    assert (tmp_path / "train_a.done").is_file()
    assert not (tmp_path / "train_c.done").exists()
    run(tmp_path, job("train/a", "fail"), job("train/b"), job("train/c"))  # what is done is not done again
    assert (tmp_path / "train_c.done").is_file()


def test_what_another_process_holds_is_passed_over_and_with_it_what_depends_on_it(tmp_path: Path) -> None:
    units = [job("train/a"), job("train/b"), job("select", "write", "train/a", "train/b", waits=True)]
    taken = take(RunFolder(tmp_path).lock("units/train/a"))
    assert isinstance(taken, Lock)
    with taken:
        assert list(run(tmp_path, *units, job("predict/a", "write", "select"))) == ["train/a"]
    assert (tmp_path / "train_b.done").is_file()
    assert not (tmp_path / "select.done").exists()
    assert not (tmp_path / "predict_a.done").exists()
    assert run(tmp_path, *units, job("predict/a", "write", "select")) == {}
    assert (tmp_path / "predict_a.done").is_file()


def test_a_stop_between_two_steps_is_passed_on_and_the_rest_goes_on_from_there(tmp_path: Path) -> None:
    reporter = Reporter(quiet=True)

    def check() -> None:
        raise PausedError("SIGTERM came.")

    reporter.check = check
    with pytest.raises(PausedError):
        run(tmp_path, job("train/a"), reporter=reporter)
    run(tmp_path, job("train/a"))
    assert (tmp_path / "train_a.done").read_text().startswith("1")
