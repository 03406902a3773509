"""A training that stops anywhere goes on to the same bits; damaged checkpoints are passed over; two good ones stay."""

import contextlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_study import DIM, RECIPE, FeatureStore, feature_store, toy_data

from tapfm_eval import rundir
from tapfm_eval.errors import PausedError, RunError
from tapfm_eval.methods import checkpoint
from tapfm_eval.methods.checkpoint import Best, Checkpoints, Pace, Saved, check_hash, write_tensors
from tapfm_eval.methods.model import SlideModel, build_aggregator
from tapfm_eval.methods.train import Trained, train_unit
from tapfm_eval.methods.unit import TrainingData, Unit, training_key

UNIT = Unit("arm", seed=1, fold=0)
BRIEF = replace(RECIPE, epochs=3)
STEPS = 3 * (8 + 8)


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on what outlasts a power cut."""
    monkeypatch.setattr(rundir.os, "fsync", lambda _: None)


def study() -> tuple[TrainingData, FeatureStore]:
    data = replace(toy_data(8, 7, targets=1), min_per_class=1)
    assert len(data.validation) == 8  # one patient of two slides
    return data, feature_store(data, signal=1.0)


def trained(
    folder: Path | None, advance: Callable[[int], None] = lambda _: None, said: list[str] | None = None
) -> Trained:
    """The unit, trained from its newest checkpoint on."""
    data, store = study()
    model = SlideModel(None, build_aggregator("tapfm", DIM, 1, BRIEF, 1, 0, "arm"), torch.device("cpu"))
    kept = None
    if folder is not None:
        say = (lambda _: None) if said is None else said.append
        kept = Checkpoints(folder, training_key(UNIT, BRIEF, data), pace=Pace(slides=1), say=say)
    return train_unit(UNIT, model, BRIEF, data, store, store, advance, kept)


@pytest.fixture(scope="module")
def whole() -> Trained:
    return trained(None)


def same(one: Trained, two: Trained) -> bool:
    """Whether two trainings came to the same to the bit."""
    return (
        one.history == two.history
        and one.selected_epoch == two.selected_epoch
        and one.state.keys() == two.state.keys()
        and all(torch.equal(one.state[name], two.state[name]) for name in one.state)
        and all((one.validation_scores[s] == two.validation_scores[s]).all() for s in one.validation_scores)
    )


def stopping_after(slides: int) -> Callable[[int], None]:
    """Stops a training after so many slides, as a signal does."""
    left = slides

    def advance(count: int) -> None:
        nonlocal left
        left -= count
        if count and left <= 0:
            raise PausedError("stop")

    return advance


@pytest.mark.parametrize("slides", [1, 8, 9, 15, 16, 17, STEPS - 1])
def test_a_training_that_stopped_anywhere_goes_on_to_the_same_bits(tmp_path: Path, whole: Trained, slides: int) -> None:
    with pytest.raises(PausedError):
        trained(tmp_path, stopping_after(slides))
    assert same(trained(tmp_path), whole)


def test_a_training_that_stops_after_every_single_slide_still_ends_with_the_same_bits(
    tmp_path: Path, whole: Trained
) -> None:
    sessions, done = 0, None
    while done is None:
        sessions += 1
        calls: list[int] = []

        def once(count: int, calls: list[int] = calls) -> None:
            calls.append(count)
            if len(calls) > 1 and count:  # the first call tells what earlier sessions did
                raise PausedError("stop")

        with contextlib.suppress(PausedError):
            done = trained(tmp_path, once)
    assert same(done, whole)
    assert sessions > STEPS / 2
    assert len(done.sessions) == sessions
    assert done.sessions[1]["from"] == "epoch 1, 1 slides trained on and 0 validated"


def kept_after(folder: Path, slides: int) -> list[Path]:
    with pytest.raises(PausedError):
        trained(folder, stopping_after(slides))
    return sorted(folder.iterdir(), key=lambda path: path.name)


def test_two_checkpoints_are_kept_and_the_best_weights_once_for_both(tmp_path: Path) -> None:
    names = [path.name for path in kept_after(tmp_path, 20)]
    numbers = sorted(int(name[11:-5]) for name in names if name.endswith(".json"))
    assert len(numbers) == 2
    assert numbers[1] == numbers[0] + 1
    assert [name for name in names if name.startswith("best")] == ["best-1.safetensors"]
    assert len(names) == 5


@pytest.mark.parametrize("seed", range(12))
def test_a_torn_or_altered_file_costs_one_checkpoint_and_no_bit_of_the_result(
    tmp_path: Path, whole: Trained, seed: int
) -> None:
    files = kept_after(tmp_path, 20)
    chance = random.Random(seed)
    newest = max(int(path.stem[11:]) for path in files if path.suffix == ".json")
    damaged = [path for path in files if path.stem == f"checkpoint-{newest}" or path.name.startswith("best")][seed % 3]
    content = bytearray(damaged.read_bytes())
    if seed // 3 % 2:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    else:
        del content[chance.randrange(len(content)) :]
    damaged.write_bytes(bytes(content))
    said: list[str] = []
    assert same(trained(tmp_path, said=said), whole)
    assert any("damaged" in line for line in said)


@pytest.mark.parametrize("content", ["5", "null", '"x"', "true", "NaN", "[1]", "{}", "[" * 100_000])
def test_json_that_is_no_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, content: str) -> None:
    said: list[str] = []
    kept = Checkpoints(tmp_path, "key", say=said.append)
    kept.write(Saved({}, None, {"a": 1}))
    (tmp_path / "checkpoint-2.json").write_text(content)
    assert kept.newest(lambda saved: saved.facts) == {"a": 1}
    assert len(said) == 1
    assert "checkpoint-2.json is damaged" in said[0]


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    saved = Saved({"weights.x": torch.ones(2)}, Best(1, {"x": torch.zeros(2)}), {"a": 1})
    Checkpoints(tmp_path, "one").write(saved)
    assert Checkpoints(tmp_path, "other").newest(lambda saved: saved.facts) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", range(1, 5))
def test_a_full_disk_is_a_message_and_leaves_the_checkpoints_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Trained, failing: int
) -> None:
    """Refused are, in turn, the sync of the tensors, of their folder (which may fail), of the JSON, of its folder."""
    kept_after(tmp_path, 20)
    calls = 0
    real = rundir.os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= failing:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(rundir.os, "fsync", full)
    with pytest.raises(RunError, match=r"No space left on device.*Free space"):
        trained(tmp_path)
    monkeypatch.undo()
    assert same(trained(tmp_path), whole)


def test_a_full_disk_as_the_tensor_library_reports_it_is_the_same_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RunError, match=r"w\.safetensors.*No space left on device"):
        write_tensors(tmp_path / "w.safetensors", {"x": torch.ones(1)}, "f")
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_in_the_place_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    folder = tmp_path / "kept"
    kept = Checkpoints(folder, "key")
    kept.write(Saved({"x": torch.ones(1)}, None, {}))
    torch.save({"x": Bomb()}, folder / "checkpoint-1.safetensors")
    # even where the record is made to fit
    record = json.loads((folder / "checkpoint-1.json").read_text())
    record["files"]["checkpoint-1.safetensors"] = rundir.sha256_file(folder / "checkpoint-1.safetensors")
    del record["format"], record["sha256"]
    digest = checkpoint._hash(record)
    (folder / "checkpoint-1.json").write_text(json.dumps({"format": checkpoint.FORMAT, "sha256": digest, **record}))
    assert kept.newest(lambda saved: saved) is None
    assert not (tmp_path / "ran").exists()


def test_a_takeover_stops_the_writer_before_it_writes(tmp_path: Path) -> None:
    def lost() -> None:
        raise RunError(())

    with pytest.raises(RunError):
        Checkpoints(tmp_path / "kept", "key", guard=lost).write(Saved({}, None, {}))
    assert not (tmp_path / "kept").exists()


def test_facts_alone_make_a_checkpoint_and_clearing_leaves_nothing(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "kept", "key")
    kept.write(Saved({}, None, {"logits": {"a": [0.1 + 0.2]}}))
    assert kept.newest(lambda saved: saved.facts) == {"logits": {"a": [0.1 + 0.2]}}
    kept.clear()
    assert not (tmp_path / "kept").exists()


def test_large_checkpoints_on_slow_disks_are_written_less_often(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path, "key", pace=Pace(seconds=10, share=0.1))
    now[0] = 11
    assert kept.due()
    monkeypatch.setattr(checkpoint, "write_text", lambda *_: now.__setitem__(0, now[0] + 30))  # half a minute to write
    kept.write(Saved({}, None, {}))
    now[0] += 11
    assert not kept.due()
    now[0] += 260
    assert kept.due()  # 30 seconds are a tenth of 300


def test_weights_that_are_not_those_that_were_written_are_refused(tmp_path: Path) -> None:
    digest = write_tensors(tmp_path / "w", {"x": torch.ones(2)}, "f")
    check_hash(tmp_path / "w", digest)
    content = bytearray((tmp_path / "w").read_bytes())
    content[-1] ^= 1
    (tmp_path / "w").write_bytes(bytes(content))
    with pytest.raises(RunError, match="the file whose hash was recorded"):
        check_hash(tmp_path / "w", digest)
    with pytest.raises(RunError, match="a file that can be read"):
        check_hash(tmp_path / "absent", digest)
