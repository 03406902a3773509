"""A full disk, storage that is away, slides that cannot be read, torn files: a clear message, and nothing is lost."""

import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from small_study import brief_options, know_tiny, small_study

from tapfm_eval import reporting, rundir, study
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.errors import PausedError, Problem, RunError, SlideError, StudyError, TapfmEvalError
from tapfm_eval.locks import Lock, take
from tapfm_eval.methods import steady
from tapfm_eval.predictions.table import read_predictions
from tapfm_eval.preparation import RunOptions
from tapfm_eval.progress import Reporter
from tapfm_eval.protocol.schema import Failures
from tapfm_eval.rundir import RunFolder
from tapfm_eval.slides.bags import TileReads, TileRequest
from tapfm_eval.stages import failures, units
from tapfm_eval.stages.failures import Losses
from tapfm_eval.study import RunOutcome, run_protocol
from tapfm_eval.verification import verify_run

LONG = pytest.mark.long
SELECTED = "arms/*/*/*/selection.json"
FIRST, SECOND = "tapfm, seed 1, fold 0", "tapfm, seed 1, fold 1"
Brief = tuple[Path, RunOptions]


class Heard(Reporter):
    """Keeps what a user would be told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def at_hand(patch: pytest.MonkeyPatch) -> None:
    """Runs end with the predictions, read a slide again at once, and do not care for power cuts."""
    know_tiny(patch.setattr)
    patch.setattr(study, "_draw", lambda run, data: None)
    patch.setattr(reporting, "write_analysis", lambda root: ((), ()))
    patch.setattr(steady, "RETRY_SECONDS", (0.0, 0.0))
    patch.setattr(rundir.os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study, trained and not yet predicted; written once."""
    folder = tmp_path_factory.mktemp("study")
    small_study(folder)
    with pytest.MonkeyPatch.context() as patch:
        at_hand(patch)
        run((folder / "brief.yaml", brief_options(folder)), arms=("tapfm", "abmil"))
    return folder


@pytest.fixture
def brief(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Brief:
    """A copy of the trained study that a test may damage."""
    folder = Path(shutil.copytree(made, tmp_path / "study"))
    at_hand(monkeypatch)
    return folder / "brief.yaml", brief_options(folder)


@pytest.fixture(scope="module")
def undisturbed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The predictions of a run in which nothing went wrong."""
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("undisturbed") / "study"))
    with pytest.MonkeyPatch.context() as patch:
        at_hand(patch)
        return predictions(run((folder / "brief.yaml", brief_options(folder))))


def root_of(brief: Brief) -> Path:
    return next((brief[0].parent / "reports").glob("*/*"))


def forget(brief: Brief, unit: str) -> None:
    """Takes back the training of a unit: `tapfm/seed-1/fold-1`."""
    shutil.rmtree(root_of(brief) / "arms" / unit)


def run(brief: Brief, reporter: Reporter | None = None, **changes: object) -> RunOutcome:
    options = replace(brief[1], **changes)  # type: ignore[arg-type]
    return run_protocol(brief[0], options, reporter or Reporter(quiet=True))


def predictions(outcome: RunOutcome) -> bytes:
    return (outcome.folder / "predictions.csv").read_bytes()


def when(patch: pytest.MonkeyPatch, name: str, unit: str, act: Callable[[], None]) -> None:
    """Acts just before a unit is trained or predicted."""
    real = getattr(units, name)

    def work(data: object, arm: object, this: object, *rest: object) -> object:
        if str(this) == unit:
            act()
        return real(data, arm, this, *rest)

    patch.setattr(units, name, work)


def unreadable(patch: pytest.MonkeyPatch, slide_id: str, times: int) -> list[str]:
    """The next reads of a slide fail, so many of them, as a bad block or a hiccup would make them; lists all reads."""
    real, left = TileReads._read, [times]
    reads: list[str] = []

    def read(self: TileReads, request: TileRequest) -> object:
        reads.append(request.slide_id)
        if request.slide_id == slide_id and left[0] > 0:
            left[0] -= 1
            raise SlideError(Problem(str(request.path), "tiles", "Input/output error", "Check the storage."))
        return real(self, request)

    patch.setattr(TileReads, "_read", read)
    return reads


@pytest.mark.parametrize(
    ("place", "slide"), [("train_and_save", "slide2"), pytest.param("predict_and_save", "slide9", marks=LONG)]
)
def test_a_read_that_fails_twice_changes_no_byte(
    brief: Brief, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch, place: str, slide: str
) -> None:
    forget(brief, "tapfm/seed-1/fold-1")
    reads: list[list[str]] = []
    when(monkeypatch, place, SECOND, lambda: reads.append(unreadable(monkeypatch, slide, 2)))
    outcome = run(brief)
    assert slide in reads[0]
    assert predictions(outcome) == undisturbed
    assert failures.read_failures(RunFolder(outcome.folder)) == ()


def test_a_slide_that_fails_in_training_is_tried_again_and_then_left_out_with_its_reason(
    brief: Brief, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(brief, "tapfm/seed-1/fold-1")  # the other units have learnt from the slide
    reads: list[list[str]] = []
    heard = Heard()
    with monkeypatch.context() as patch:
        when(patch, "train_and_save", SECOND, lambda: reads.append(unreadable(patch, "slide2", 10**6)))
        outcome = run(brief, heard)
    assert reads[0].count("slide2") == 3  # tried three times, and then by nobody any more
    (failure,) = failures.read_failures(RunFolder(outcome.folder))
    assert (failure.slide_id, failure.patient_id, failure.stage) == ("slide2", "P2", "training")
    assert "Input/output error" in failure.reason
    assert [line for line in heard.lines if "is excluded" in line and "slide2" in line]
    # all arms and folds are compared without it, and it stays out although it can be read again
    before = predictions(outcome)
    assert "P2" not in set(read_predictions(outcome.folder / "predictions.csv")["patient_id"])
    assert predictions(run(brief)) == before


@pytest.mark.long
def test_a_slide_that_fails_in_prediction_leaves_every_arm_and_verify_and_report_know_it(
    brief: Brief, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # the first fold has predicted the slide by then
        when(patch, "predict_and_save", SECOND, lambda: unreadable(patch, "slide9", 10**6) and None)
        folder = run(brief).folder
    first = read_predictions(folder / "arms/tapfm/seed-1/fold-0/predictions.csv")
    assert "P9" in set(first["patient_id"])
    assert "P9" not in set(read_predictions(folder / "predictions.csv")["patient_id"])
    monkeypatch.undo()
    know_tiny(monkeypatch.setattr)
    reporting.write_analysis(folder)
    gone = [row for row in json.loads((folder / "results.json").read_text())["exclusions"] if row["slide_id"]]
    assert [(row["slide_id"], "Input/output error" in row["reason"]) for row in gone] == [("slide9", True)]
    assert verify_run(folder).mismatches == ()


@pytest.mark.parametrize(
    "policy", [Failures(policy="stop"), pytest.param(Failures(policy="exclude", max_share=0.1), marks=LONG)]
)
def test_where_the_protocol_allows_no_failure_the_study_stops_and_resumes_once_the_slide_is_mended(
    brief: Brief, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch, policy: Failures
) -> None:
    forget(brief, "tapfm/seed-1/fold-1")
    with monkeypatch.context() as patch:
        losses = property(lambda self: Losses(self.folder, policy, {"here": 8, "there": 4}))
        patch.setattr(study._Run, "losses", losses)
        when(patch, "train_and_save", SECOND, lambda: unreadable(patch, "slide2", 10**6) and None)
        with pytest.raises(StudyError, match=r"(?s)here: 1 of 8 slides failed, the protocol allows [01] .*slide2") as e:
            run(brief)
    assert "What is done is kept" in str(e.value)
    assert e.value.exit_code == 1
    outcome = run(brief)
    assert failures.read_failures(RunFolder(outcome.folder)) == ()
    assert predictions(outcome) == undisturbed


def test_storage_that_is_away_stops_the_run_and_blames_no_slide(
    brief: Brief, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, root = brief[0].parent, root_of(brief)
    forget(brief, "tapfm/seed-1/fold-1")
    with monkeypatch.context() as patch:
        when(patch, "train_and_save", SECOND, lambda: shutil.move(folder / "here", folder / "away") and None)
        with pytest.raises(RunError, match=r"here, slides of here: .*none of 6 tried.*Bring the storage") as error:
            run(brief)
    assert error.value.exit_code == 2
    assert failures.read_failures(RunFolder(root)) == ()
    assert len(list(root.glob(SELECTED))) == 3  # the other units are kept
    shutil.move(folder / "away", folder / "here")
    assert predictions(run(brief)) == undisturbed


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write more into one file, as a full disk does midway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("size", "torn"),
    [pytest.param(600, "protocol.yaml", marks=LONG), (6_500, "slide0.h5"), (60_000, "checkpoint-1.safetensors")],
)
def test_a_disk_that_is_full_is_a_message_and_the_run_goes_on_where_it_was(
    brief: Brief, undisturbed: bytes, size: int, torn: str
) -> None:
    """The smallest refuses the protocol, the next the features of a slide, the last a checkpoint."""
    forget(brief, "tapfm/seed-1/fold-1")
    shutil.rmtree(root_of(brief) / "features" / "tiny" / "here")
    with files_of_at_most(size), pytest.raises(RunError, match="expected a file that can be written") as error:
        run(brief)
    assert torn in str(error.value)
    assert "give the same command again" in str(error.value)
    assert predictions(run(brief)) == undisturbed


@pytest.mark.long
@pytest.mark.parametrize("after", range(0, 130, 11))
def test_wherever_the_disk_fills_up_nothing_is_lost(
    brief: Brief, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    forget(brief, "tapfm/seed-1/fold-1")
    calls = 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rundir.os, "fsync", fsync)
        with pytest.raises(RunError, match="No space left on device"):
            run(brief)
    assert predictions(run(brief)) == undisturbed


@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=LONG), "SIGTERM", pytest.param("SIGUSR1", marks=LONG)])
def test_a_signal_stops_a_training_with_everything_kept(
    brief: Brief, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The pace would not have written a checkpoint for hours: the signal does."""
    slow = replace(brief[1], checkpoint_slides=None, checkpoint_seconds=1e9)
    folder = root_of(brief) / "arms/tapfm/seed-1/fold-1"
    before, selected = signal.getsignal(getattr(signal, name)), (folder / "selected.safetensors").read_bytes()
    forget(brief, "tapfm/seed-1/fold-1")
    with monkeypatch.context() as patch:
        when(patch, "train_and_save", SECOND, lambda: signal.raise_signal(getattr(signal, name)))
        with pytest.raises(PausedError) as error:
            run((brief[0], slow))
    # the very folder, not the one under which it lies
    assert str(error.value).startswith(f"{name} came. What is done is kept in {root_of(brief)}: the same command")
    assert error.value.exit_code == 75
    assert signal.getsignal(getattr(signal, name)) == before
    assert len(list(folder.glob("checkpoints/checkpoint-*.json"))) == 1
    run((brief[0], slow), arms=("tapfm",))
    assert (folder / "selected.safetensors").read_bytes() == selected
    sessions = json.loads((folder / "selection.json").read_text())["sessions"]
    assert [session["from"] for session in sessions] == [
        "epoch 1, 0 slides trained on and 0 validated", "epoch 1, 1 slides trained on and 0 validated",
    ]  # fmt: skip


def test_a_signal_amid_predictions_keeps_those_that_are_made(
    brief: Brief, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(brief)
    with monkeypatch.context() as patch:
        when(patch, "predict_and_save", FIRST, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(PausedError):
            run(brief)
    assert len(list(root.glob("arms/tapfm/seed-1/fold-0/predicting/*.json"))) == 1
    reads = unreadable(monkeypatch, "none", 0)
    assert predictions(run(brief)) == undisturbed
    # the first fold has one of its six slides kept, the second reads all of its own, the frozen arm reads none
    assert len([name for name, _ in groupby(reads)]) == 11
    assert reads[0] == "slide7"
    assert not list(root.glob("arms/*/*/*/predicting"))


def test_a_held_unit_is_named_with_its_holder_and_the_others_are_done(brief: Brief, undisturbed: bytes) -> None:
    for fold in (0, 1):
        forget(brief, f"tapfm/seed-1/fold-{fold}")
    root, heard = root_of(brief), Heard()
    lock = take(RunFolder(root).lock("units/tapfm/seed-1/fold-0"))
    assert isinstance(lock, Lock)
    with lock:
        outcome = run(brief, heard)
    ((name, holder),) = outcome.held.items()
    assert FIRST in name
    assert str(holder).startswith("process ")
    assert [line for line in heard.lines if FIRST in line and "is held by process" in line]
    assert outcome.report == ()
    assert len(list(root.glob(SELECTED))) == 3
    assert not list(root.rglob("predictions.csv"))  # nobody looks before all are selected
    assert predictions(run(brief)) == undisturbed


TORN = ("weights.json", "slides.json", "failures.json", "arms/tapfm/seed-1/fold-0/selection.json",
        "arms/tapfm/seed-1/fold-0/selected.safetensors", "features/tiny/here/slide6.h5")  # fmt: skip


def test_a_torn_file_is_a_message_that_names_it_or_is_made_anew(brief: Brief, undisturbed: bytes) -> None:
    root = root_of(brief)
    for name in TORN:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(TapfmEvalError) as error:
            run(brief)
        assert Path(name).name in str(error.value), name
        assert error.value.exit_code == 2
        (root / name).write_bytes(content)
    # tiles and the journal are repaired without a word, and a stray half of a file hurts nobody
    tiles = root / "tiles" / "here" / "slide2.h5"
    tiles.write_bytes(tiles.read_bytes()[:500])
    with (root / "journal.jsonl").open("ab") as file:
        file.write(b'{"time": "2026-')
    (root / ".predictions.csv.1.1.tmp").write_bytes(b"half")
    assert predictions(run(brief)) == undisturbed


def test_halves_that_a_killed_prediction_left_are_swept_wherever_they_lie(brief: Brief, undisturbed: bytes) -> None:
    folder = root_of(brief) / "arms" / "tapfm" / "seed-1" / "fold-1"
    assert not (folder / "predictions.csv").exists()
    halves = [folder / ".predictions.csv.1.1.tmp", folder / "attention" / "there" / ".slide11.h5.1.1.tmp"]
    for half in halves:
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"half")
    assert predictions(run(brief)) == undisturbed
    assert not any(half.exists() for half in halves)


def test_another_environment_is_recorded_and_other_weights_are_refused(
    brief: Brief, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(brief, "tapfm/seed-1/fold-1")
    real = study.environment
    monkeypatch.setattr(study, "environment", lambda device: {**real(device), "torch": "9.9.9", "host": "node7"})
    outcome = run(brief)
    assert predictions(outcome) == undisturbed
    sections = json.loads((outcome.folder / "provenance.json").read_text())["sections"]
    first, second = (section for title, section in sections.items() if title.startswith("environment "))
    assert (second["host"], second["torch"]) == ("node7", "9.9.9")
    assert "numpy" not in second  # only what differs is named
    assert first.keys() == second.keys()
    made_in = {
        path.parent.relative_to(outcome.folder).as_posix(): json.loads(path.read_text())["sessions"][0]["torch"]
        for path in outcome.folder.glob(SELECTED)
    }
    assert {place for place, torch in made_in.items() if torch == "9.9.9"} == {"arms/tapfm/seed-1/fold-1"}
    # as where the hub has published other weights since: the run's own record of them tells
    monkeypatch.setattr(units, "weights_hashes", lambda cards, weights: {"tiny": "0" * 64})
    with pytest.raises(RunError, match=r"the weights that this run began with.*tiny"):
        run(brief)


def test_the_record_of_failures_is_sorted_and_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lost = [Exclusion("b", "P", "2", "training", "r"), Exclusion("a", "P", "1", "slides", "r")]
    failures.write_failures(folder, lost)
    assert failures.read_failures(folder) == (lost[1], lost[0])
    assert failures.lost_later(folder) == (lost[0],)
