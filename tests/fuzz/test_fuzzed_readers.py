"""Whatever a file holds, a reader gives a record or one of our errors: no traceback, no lost row, nothing executed."""

import faulthandler
import resource
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS, TRIED, Reader
from watching import watched

from tapfm_eval.errors import InputError

SECONDS, MEBIBYTES = 10.0, 512.0
HANGS = 120.0  # seconds by the clock, however busy the machine is
QUICK, LONG = 30, 800  # inputs a reader and test
Folder = pytest.TempPathFactory
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=SUPPRESSED
    )


class Trial:
    """A reader in a folder of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.reader: Reader = READERS[name]
        self.whole = self.reader.whole(folder)
        self.path = folder / f"{TRIED}{self.reader.suffix}"
        self.outcomes: set[str] = set()

    def read(self, data: bytes) -> None:
        """Reads one file; whatever a reader may not do fails here."""
        self.path.write_bytes(data)
        # a reader that hangs in a library hears no signal and never comes to the checks below
        faulthandler.dump_traceback_later(HANGS, exit=True)
        memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with watched() as seen:
            try:
                rows = self.reader.read(self.path)
                self.outcomes.add("read")
            except self.reader.raises as error:
                self._check(error)
                self.outcomes.add("refused")
            else:
                if self.reader.rows is not None:
                    assert rows == self.reader.rows(data)
        faulthandler.cancel_dump_traceback_later()
        assert [event for event in seen if event.partition(" ")[0] not in self.reader.may] == []
        assert time.process_time() - started < SECONDS
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024 < MEBIBYTES

    def _check(self, error: InputError) -> None:
        assert error.problems
        for problem in error.problems:
            assert problem.where
            assert problem.expected
            assert problem.got
            assert len(str(problem)) < 3_000
            assert "\x1b" not in str(problem)
            assert "\n" not in problem.where + problem.got


@pytest.fixture
def trial(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.chdir(tmp_path)  # where a bomb would leave its mark
    return Trial(request.param, tmp_path)


every_reader = pytest.mark.parametrize("trial", READERS, indirect=True)


@every_reader
def test_a_whole_file_is_read(trial: Trial) -> None:
    for data in trial.whole:
        trial.read(data)
    assert trial.outcomes == {"read"}


def mutated(trial: Trial, examples: int) -> None:
    @bounded(examples)
    @given(which=st.integers(0, len(trial.whole) - 1), seed=st.integers(0, 2**32 - 1))
    def check(which: int, seed: int) -> None:
        trial.read(trial.reader.mutate(trial.whole[which], Random(seed)))

    check()
    assert "refused" in trial.outcomes
    assert not Path("pwned").exists()


def arbitrary(trial: Trial, examples: int) -> None:
    @bounded(examples)
    @given(head=st.sampled_from([b"", trial.whole[0][:8], trial.whole[0][:64]]), data=st.binary(max_size=300))
    def check(head: bytes, data: bytes) -> None:
        trial.read(head + data)

    check()


@every_reader
def test_a_mutated_file_is_read_whole_or_refused(trial: Trial) -> None:
    mutated(trial, QUICK)


@every_reader
def test_arbitrary_bytes_are_read_or_refused(trial: Trial) -> None:
    arbitrary(trial, QUICK // 3)


@pytest.mark.long
@pytest.mark.timeout(1800)
@every_reader
def test_many_mutated_files_are_read_whole_or_refused(trial: Trial) -> None:
    mutated(trial, LONG)


@pytest.mark.long
@pytest.mark.timeout(1800)
@every_reader
def test_many_arbitrary_files_are_read_or_refused(trial: Trial) -> None:
    arbitrary(trial, LONG // 4)
