"""A version stands for one content: its lock is kept, and after a look at test patients nothing else may bear it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tapfm_eval import preparation
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.errors import InputError, ProtocolError
from tapfm_eval.methods import recipe
from tapfm_eval.preparation import RunOptions, lock_protocol, prepare_run
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.protocol.lock import (
    LOOKED,
    Lock,
    find_looks,
    lock_path,
    lock_problems,
    lock_text,
    look_problems,
    read_lock,
)
from tapfm_eval.rundir import sha256_file

SHIPPED = Path(__file__).resolve().parents[2] / "protocols"
PROTOCOL = """
format: tapfm-eval/protocol/1
id: small
version: 1.0.0
title: Small
intended_use: Research use.
seeds: [1]
cohorts:
  ours: {role: development, manifest: ours.csv, split: split.csv}
  theirs: {role: external, manifest: theirs.csv}
targets: {GENE: {}}
arms:
  - {id: a, backbone: uni, aggregator: abmil, adapt: frozen}
"""
NAMES = ("card uni", "manifest ours", "manifest theirs", "protocol", "recipe a", "split ours")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A protocol with its cohorts, all small."""
    rows = "".join(f"P{i},P{i}-1,P{i}.svs,{i % 2}\n" for i in range(6))
    (tmp_path / "ours.csv").write_text("patient_id,slide_id,path,GENE\n" + rows)
    (tmp_path / "theirs.csv").write_text("patient_id,slide_id,path,GENE\n" + rows.replace("P", "Q"))
    resplit(tmp_path, ("train", "validation", "test"))
    path = tmp_path / "small.yaml"
    path.write_text(PROTOCOL)
    return path


def resplit(folder: Path, parts: tuple[str, str, str]) -> None:
    import pandas as pd

    rows = [(f"P{i}", 0, parts[i // 2]) for i in range(6)]
    meta = {"scheme": "holdout", "manifest_sha256": sha256_file(folder / "ours.csv")}
    write_split(folder / "split.csv", pd.DataFrame(rows, columns=["patient_id", "fold", "split"]), meta)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def look(out: Path, study: str, run: str, hashes: dict[str, str] | None, time: str = "2026-11-25T10:00:00Z") -> Path:
    """The folder of a run that has predicted test patients, as far as a lock looks at it."""
    folder = out / study / run
    folder.mkdir(parents=True)
    events = [{"event": "selected", "time": "2026-11-25T09:00:00Z"}, {"event": LOOKED, "time": time}]
    (folder / "journal.jsonl").write_text("\n".join(map(json.dumps, events)) + '\n{"event": "cut sho')
    if hashes is not None:
        (folder / "provenance.json").write_text(json.dumps({"sections": {"hashes (sha256)": hashes}}))
    return folder


def changes(study: Path, what: str) -> None:
    """Changes one thing that a version stands for."""
    folder = study.parent
    if what == "protocol":
        edit(study, "title: Small", "title: Smaller")
    elif what == "manifest theirs":
        edit(folder / "theirs.csv", "Q5,Q5-1,Q5.svs,1", "Q5,Q5-1,Q5.svs,0")
    elif what == "split ours":
        resplit(folder, ("train", "test", "validation"))


def refusals(study: Path, out: Path) -> list[str]:
    """What a run is told before anything else is looked at; empty where the lock lets it pass."""
    protocol = read_protocol(study, backbones=CARDS)
    with pytest.raises(InputError) as error:  # there are no slides, so it is refused in any case
        prepare_run(protocol, preparation.load_cohorts(protocol, study.parent), study, RunOptions(out=out))
    said = [str(problem) for problem in error.value.problems]
    return said if isinstance(error.value, ProtocolError) else []


def test_a_lock_holds_every_hash_and_is_the_same_bytes_each_time(study: Path, tmp_path: Path) -> None:
    lock, changed = lock_protocol(study, tmp_path / "reports")
    assert tuple(sorted(lock.sha256)) == NAMES
    assert changed is None
    written = lock_path(study).read_bytes()
    assert lock_protocol(study, tmp_path / "reports")[1] == ()
    assert lock_path(study).read_bytes() == written
    assert read_lock(lock_path(study)) == lock
    assert lock.sha256["manifest ours"] == sha256_file(tmp_path / "ours.csv")


def test_comments_and_layout_of_the_protocol_are_no_change(study: Path, tmp_path: Path) -> None:
    lock_protocol(study, tmp_path / "reports")
    study.write_text("# said differently\n" + study.read_text().replace("{GENE: {}}", "\n  GENE: {}"))
    assert lock_protocol(study, tmp_path / "reports")[1] == ()
    assert refusals(study, tmp_path / "reports") == []


@pytest.mark.parametrize("what", ["protocol", "manifest theirs", "split ours"])
def test_a_run_is_refused_whose_content_is_not_that_of_the_lock(study: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "reports"
    lock_protocol(study, out)
    assert refusals(study, out) == []
    changes(study, what)
    (said,) = refusals(study, out)
    assert said.startswith(f"{what}, locked as small 1.0.0 in {lock_path(study)}")
    assert "raise `version` above 1.0.0" in said
    edit(study, "version: 1.0.0", "version: 1.1.0")  # another version is free
    assert refusals(study, out) == []


def test_a_card_that_changes_what_a_number_means_breaks_the_lock(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_protocol(study, tmp_path / "reports")
    other = replace(CARDS["uni"], mean=(0.4, 0.4, 0.4))
    monkeypatch.setattr(preparation, "CARDS", {**CARDS, "uni": other})
    (said,) = refusals(study, tmp_path / "reports")
    assert said.startswith("card uni, locked as small 1.0.0")


def test_a_preset_that_comes_to_other_numbers_breaks_the_lock(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_protocol(study, tmp_path / "reports")
    monkeypatch.setattr(recipe, "PAPER_EPOCHS_OTHERS", 40)
    (said,) = refusals(study, tmp_path / "reports")
    assert said.startswith("recipe a, locked as small 1.0.0")


@pytest.mark.parametrize("what", ["protocol", "manifest theirs", "split ours"])
def test_after_a_look_neither_run_nor_lock_takes_other_content(study: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "reports"
    lock, _ = lock_protocol(study, out)
    look(out, "small-1.0.0", "abc", dict(lock.sha256))
    assert refusals(study, out) == []  # the same content may be looked at again: the report says so
    assert lock_protocol(study, out)[1] == ()
    before = lock_path(study).read_bytes()
    changes(study, what)
    with pytest.raises(ProtocolError, match="looked at test patients on 2026-11-25"):
        lock_protocol(study, out)
    assert lock_path(study).read_bytes() == before
    lock_path(study).unlink()  # without a lock the look alone forbids it
    assert refusals(study, out)[0].startswith(f"{what}, under which")


def test_before_a_look_the_lock_may_be_made_again_and_says_what_changed(study: Path, tmp_path: Path) -> None:
    lock_protocol(study, tmp_path / "reports")
    changes(study, "manifest theirs")
    assert lock_protocol(study, tmp_path / "reports")[1] == ("manifest theirs",)
    assert refusals(study, tmp_path / "reports") == []


def test_rehearsals_and_other_versions_are_no_look(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    lock, _ = lock_protocol(study, out)
    look(out, "small-1.0.0", "rehearsal-abc", {"protocol": "0" * 64})
    look(out, "small-0.9.0", "abc", {"protocol": "0" * 64})
    look(out, "small-other-1.0.0", "abc", {"protocol": "0" * 64})
    unfinished = look(out, "small-1.0.0", "unfinished", {"protocol": "0" * 64})
    (unfinished / "journal.jsonl").write_text(json.dumps({"event": "selected", "time": "t"}) + "\n")
    assert find_looks(out, "small", "1.0.0") == ()
    assert [one.folder.parent.name for one in find_looks(out, "small")] == ["small-0.9.0"]
    assert refusals(study, out) == []
    assert look_problems(study, find_looks(out, "small", "1.0.0"), lock) == []


@pytest.mark.parametrize("hashes", [None, {}, {"weights uni": "0" * 64}])
def test_a_look_that_does_not_say_at_what_is_other_content(
    study: Path, tmp_path: Path, hashes: dict[str, str] | None
) -> None:
    out = tmp_path / "reports"
    look(out, "small-1.0.0", "abc", hashes)
    (said,) = refusals(study, out)
    assert said.startswith("protocol, under which")


def test_looks_come_earliest_first(tmp_path: Path) -> None:
    look(tmp_path, "small-1.0.0", "a", {}, "2026-11-25T12:00:00Z")
    look(tmp_path, "small-1.1.0", "b", {}, "2026-11-24T12:00:00Z")
    assert [one.folder.name for one in find_looks(tmp_path, "small")] == ["b", "a"]


def test_a_lock_of_another_protocol_or_version_binds_nobody(study: Path) -> None:
    here = Lock("small", "1.0.0", {"protocol": "0" * 64})
    for other in (replace(here, version="1.0.1"), replace(here, id="large")):
        assert lock_problems(study, replace(other, sha256={"protocol": "1" * 64}), here) == []
    assert lock_problems(study, None, here) == []
    assert len(lock_problems(study, replace(here, sha256={"protocol": "1" * 64}), here)) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'"lock"', b"[" * 5000, b'{"format": "tapfm-eval/lock/2"}',
     b'{"format": "tapfm-eval/lock/1", "id": "a", "version": "1", "sha256": {"protocol": "short"}}',
     b'{"format": "tapfm-eval/lock/1", "id": "a", "version": "1", "sha256": ["protocol"]}',
     b'{"format": "tapfm-eval/lock/1", "id": 3, "version": "1", "sha256": {}}'],
)  # fmt: skip
def test_a_file_that_is_no_lock_is_explained_and_never_passed_over(study: Path, content: bytes) -> None:
    lock_path(study).write_bytes(content)
    with pytest.raises(ProtocolError, match="a lock"):
        read_lock(lock_path(study))
    assert refusals(study, study.parent / "reports")


def test_the_lock_is_small_sorted_text() -> None:
    text = lock_text(Lock("small", "1.0.0", {"split ours": "b" * 64, "protocol": "a" * 64}))
    assert text.endswith("}\n")
    assert text.index("protocol") < text.index("split ours")
    assert json.loads(text)["format"] == "tapfm-eval/lock/1"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_protocol_has_a_lock_of_what_it_is_now(path: Path) -> None:
    """Where this fails: raise the protocol's version if it was released, then `tapfm-eval protocol lock` it."""
    protocol = read_protocol(path, backbones=CARDS)
    lock = read_lock(lock_path(path))
    assert lock is not None, f"tapfm-eval protocol lock {path}"
    now = preparation._content(protocol, preparation.load_cohorts(protocol, SHIPPED))
    assert [str(problem) for problem in lock_problems(path, lock, now)] == []
    assert lock_path(path).read_text(encoding="utf-8") == lock_text(now)


def test_no_lock_is_left_of_a_protocol_that_is_gone() -> None:
    assert {path.stem for path in SHIPPED.glob("*.lock")} == {path.stem for path in SHIPPED.glob("*.yaml")}
