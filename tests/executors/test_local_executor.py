"""Units one after another in this process."""

from pathlib import Path

import pytest

from tapfm_eval.errors import PausedError, StudyError
from tapfm_eval.executors.local import LocalExecutor
from tapfm_eval.executors.work import Work
from tapfm_eval.progress import Reporter
from tapfm_eval.stages.graph import Graph, WorkUnit


def job(name: str, what: str = "write", *after: str, small: bool = False) -> WorkUnit:
    return WorkUnit(name, name.split("/")[0], name, 2, after, arguments={"what": what}, small=small)


def run(folder: Path, *units: WorkUnit, workers: int = 0, reporter: Reporter | None = None) -> None:
    work = Work("odd_jobs:odd_job", folder, folder / "logs")
    LocalExecutor(workers).run(Graph(units), work, reporter or Reporter(quiet=True))


def test_units_run_in_order(tmp_path: Path) -> None:
    run(tmp_path, job("train/a"), job("train/b"), job("select", "write", "train/a", "train/b"))
    assert (tmp_path / "select.done").read_text() == "0 train_a.done train_b.done"


def test_a_failing_unit_stops_only_those_that_depend_on_it_and_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"^the loss is nan$"):
        run(tmp_path, job("train/a", "fail"), job("train/b"), job("select", "write", "train/a", "train/b"))
    assert (tmp_path / "train_b.done").is_file()
    assert not (tmp_path / "select.done").exists()


def test_several_failures_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as error:
        run(tmp_path, job("train/a", "fail"), job("train/b", "fail"), job("train/c"), job("select", "", "train/b"))
    assert str(error.value).startswith("2 units of work failed")
    assert "train/a: the loss is nan" in str(error.value)
    assert "train/b: the loss is nan" in str(error.value)
    assert "Not started because of that: 1 (select)" in str(error.value)


def test_anything_else_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, job("train/a", "crash"), job("train/b"))
    assert not (tmp_path / "train_b.done").exists()


def test_a_stop_between_two_steps_is_passed_on_and_the_rest_goes_on_from_there(tmp_path: Path) -> None:
    reporter = Reporter(quiet=True)

    def check() -> None:
        raise PausedError("SIGTERM came.")

    reporter.check = check
    with pytest.raises(PausedError):
        run(tmp_path, job("train/a"), reporter=reporter)
    run(tmp_path, job("train/a"))
    assert (tmp_path / "train_a.done").read_text().startswith("1")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_small_units_give_the_same_side_by_side(tmp_path: Path, workers: int) -> None:
    units = [job(f"tiles/{i}", "fail" if i == 1 else "write", small=True) for i in range(4)]
    with pytest.raises(StudyError, match="the loss is nan"):
        run(tmp_path, *units, workers=workers)
    assert len(list(tmp_path.glob("tiles_*.done"))) == 3
