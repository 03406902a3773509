"""What every machine of a cluster must see before a run starts there; without Ray."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tapfm_eval.executors import sight as sight_module
from tapfm_eval.executors.sight import Needed, NodeSight, look_around, sight_problems

SOFTWARE = {"tapfm-eval": "0.1.0", "python": "3.11.7", "timm": "1.0.22", "source of tapfm-eval": "sha256 0123456789ab"}
HERE = NodeSight("head", "mark", "", SOFTWARE, {})


def said(sight: NodeSight) -> list[str]:
    return [str(problem) for problem in sight_problems("Ray node 10.0.0.2 (worker)", sight, HERE, Path("/study/run"))]


def test_a_machine_that_sees_and_runs_the_same_has_no_problem() -> None:
    assert said(replace(HERE, host="worker")) == []


@pytest.mark.parametrize("mark", ["", "of an earlier run, in a local folder of the same name"])
def test_a_run_folder_that_is_not_shared_is_named(mark: str) -> None:
    (problem,) = said(replace(HERE, mark=mark))
    assert problem.startswith("Ray node 10.0.0.2 (worker): expected the run folder /study/run on a file system that")
    assert "--out" in problem


def test_a_share_that_cannot_be_written_is_named() -> None:
    (problem,) = said(replace(HERE, unwritable="Permission denied"))
    assert "rights to write to the run folder /study/run, got Permission denied" in problem


@pytest.mark.parametrize(("name", "other"), [("timm", "1.0.9"), ("source of tapfm-eval", "sha256 ba9876543210")])
def test_what_decides_numbers_and_is_another_is_named(name: str, other: str) -> None:
    """Two nodes of other packages, or of other commits of one version, would mix their units in one study."""
    (problem,) = said(replace(HERE, software={**SOFTWARE, name: other}))
    assert f"expected {name} {SOFTWARE[name]} as on head, got {other}. Install the same on every machine." in problem


def test_everything_that_is_wrong_is_said_at_once() -> None:
    software = {name: version for name, version in SOFTWARE.items() if name != "timm"}
    missing = {"/slides": "nothing there", "/weights": "Stale file handle"}
    problems = said(NodeSight("worker", "", "", {**software, "python": "3.12.1"}, missing))
    assert [text.split(", got ")[1].split(".")[0] for text in problems] == [
        "none", "nothing there", "Stale file handle", "3", "not installed",
    ]  # fmt: skip


def test_a_machine_tells_what_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "locks" / "seen-by-all"
    mark.parent.mkdir()
    mark.write_text("abc", encoding="utf-8")
    slides = tmp_path / "slides"
    sight = look_around(mark, [(tmp_path,), (slides,), (slides / "a.svs", slides / "b.svs"), (slides / "c.svs", mark)])
    missing = {str(slides): "nothing there", f"{slides / 'a.svs'}, or one of 1 more": "nothing there"}
    assert (sight.mark, sight.unwritable, sight.missing) == ("abc", "", missing)
    assert [path.name for path in mark.parent.iterdir()] == ["seen-by-all"]
    # a path that is not absolute is another one where Ray was started from another folder
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    assert look_around(Path("locks/seen-by-all"), []).mark == "abc"
    monkeypatch.chdir(elsewhere)
    assert look_around(Path("locks/seen-by-all"), []).mark == ""


def test_a_share_that_does_not_answer_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the error went up and was taken for a suite that is not installed there."""

    stat = Path.stat

    def stale(self: Path, **how: bool) -> os.stat_result:
        if self.name == "a.svs":
            raise OSError(errno.ESTALE, "Stale file handle", str(self))
        return stat(self, **how)

    monkeypatch.setattr(Path, "stat", stale)
    sight = look_around(tmp_path / "mark", [(Path("/slides/a.svs"),)])
    assert sight.missing == {"/slides/a.svs": "Stale file handle"}
    assert "Ray node 10.0.0.2 (worker): expected /slides/a.svs, got Stale file handle." in "\n".join(said(sight))


@pytest.mark.parametrize(("away", "problems"), [(2, 0), (100, 1)])
def test_a_share_is_looked_for_again_before_a_machine_counts_as_unfit(
    away: int, problems: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failed look of one process used to end the run of all machines."""
    looks = iter(range(1, 100))
    mark = tmp_path / "seen-by-all"
    mark.write_text("abc", encoding="utf-8")
    needed = Needed(tmp_path, mark, (), look_around(mark, []))
    read = Path.read_text

    def unsteady(self: Path, encoding: str) -> str:
        if self == mark and next(looks) <= away:
            raise OSError(errno.EIO, "Input/output error")
        return read(self, encoding=encoding)

    monkeypatch.setattr(sight_module, "LOOK_AGAIN_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(Path, "read_text", unsteady)
    assert len(needed.lacking("0123")) == problems
    assert next(looks) == 1 + (3 if problems == 0 else 4)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_machine_tells_that_it_cannot_write(tmp_path: Path) -> None:
    mark = tmp_path / "seen-by-all"
    mark.write_text("abc", encoding="utf-8")
    tmp_path.chmod(0o500)
    try:
        assert look_around(mark, []).unwritable == "Permission denied"
    finally:
        tmp_path.chmod(0o700)
