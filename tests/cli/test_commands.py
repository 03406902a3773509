"""A user's mistake is a message with where, expected, got and remedy, exit code 2, and nothing left behind."""

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import REPOSITORY, Command

from tapfm_eval.backbones.check import BackboneCheck

LUAD = REPOSITORY / "protocols" / "luad.yaml"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A copy of the shipped study that a test may break; returns its protocol."""
    for name in ("protocols", "cohorts"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    return tmp_path / "protocols" / "luad.yaml"


def broken(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def assert_explains(err: str, *words: str) -> None:
    for word in ("expected", "got", "remedy", *words):
        assert word in err, f"{word!r} is not in:\n{err}"
    assert "Traceback" not in err


def test_a_run_without_slides_says_in_one_screen_what_is_missing_and_the_ways_on(command: Command) -> None:
    said = command("run", LUAD)
    assert said.code == 2
    assert_explains(
        said.err,
        "--slides tcga-luad=DIR",
        "download-list",
        "--rehearse",
        "532 slides",
        "110 of 110 patients",
        "column `path`",
    )
    assert len(said.err.splitlines()) <= 24
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("selection:", "selektion:", ["selektion", "Did you mean `selection`?"]),
        ("backbone: uni,", "backbone: uno,", ["arms[1].backbone", "Did you mean `uni`?"]),
        ("seeds: [1]", "seeds: !!python/object/apply:os.system ['touch pwned']", ["line", "tag"]),
        ("seeds: [1]", "seeds: !!set {3, 1}", ["line", "tag"]),
        ("seeds: [1]", "seeds: [1]\nseeds: [2]", ["duplicate key"]),
        ("adapt: frozen}", "adapt: frozen, training: {lr_backbone: 1.0e-5}}", ["arms[2].training.lr_backbone"]),
        ("aggregator: tapfm,", "aggregator: clam,", ["arms[0].aggregator", "clam-sb, clam-mb"]),
        ("regions: none", "regions: tumour", ["tiles.regions", "'none' or 'annotations'"]),
        ("  EGFR: {}", "  EGFR: {}\n  BRAFF: {}", ["BRAFF", "no such column"]),
        ("version: 1.0.0", "version: 1.0", ["version", "Put the value in quotes"]),
        ("tile_px: 224", "tile_px: 256", ["tile_px", "224"]),
        ("id: luad", "id: ../luad", ["id", "../luad"]),
        ("rehearsal: {train: 40", "rehearsal: {train: 8", ["rehearsal.train", "Raise it to"]),
    ],
)
def test_a_wrong_protocol_is_explained_and_leaves_nothing_behind(
    command: Command, study: Path, old: str, new: str, words: list[str]
) -> None:
    broken(study, old, new)
    said = command("run", study, "--rehearse")
    assert said.code == 2
    assert_explains(said.err, *words)
    assert not Path("reports").exists()
    assert not Path("pwned").exists()


def test_every_problem_of_a_protocol_is_reported_at_once(command: Command, study: Path) -> None:
    broken(study, "selection:", "selektion:")
    broken(study, "backbone: uni,", "backbone: uno,")
    broken(study, "role: external", "role: extern")
    said = command("run", study, "--rehearse")
    assert said.code == 2
    assert "3 problems" in said.err
    assert_explains(said.err, "selektion", "uno", "cohorts.cptac-luad.role")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"patient_id,EGFR\nP1,1\n", ["slide_id", "column"]),
        (bytes(range(256)) * 40, ["manifest.csv"]),
        (b"", ["manifest.csv"]),
        (b"patient_id;slide_id;EGFR\nP1;S1;1\n", ["manifest.csv", "semicolon"]),
    ],
)
def test_a_wrong_manifest_is_explained(command: Command, study: Path, content: bytes, words: list[str]) -> None:
    (study.parents[1] / "cohorts" / "cptac-luad" / "manifest.csv").write_bytes(content)
    said = command("run", study, "--rehearse")
    assert said.code == 2
    assert_explains(said.err, *words)
    assert not Path("reports").exists()


def test_a_label_that_is_no_label_is_explained(command: Command, study: Path) -> None:
    manifest = study.parents[1] / "cohorts" / "cptac-luad" / "manifest.csv"
    broken(manifest, "C3L-00001,,,,0,", "C3L-00001,,,,mut,")
    said = command("run", study, "--rehearse")
    assert said.code == 2
    assert_explains(said.err, "row 2", "EGFR", "'mut'", "targets.EGFR.values")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--slides", "tcga-luad"], ["--slides", "NAME=PATH"]),
        (["--slides", "tcga=x"], ["--slides", "tcga-luad"]),
        (["--weights", "unix=x"], ["--weights", "h-optimus-0"]),
        (["--arm", "abmil"], ["--arm", "abmil-hoptimus0"]),
        (["--slides", "tcga-luad=nowhere"], ["nowhere", "folder"]),
        (["--weights", "uni=nowhere.bin"], ["--weights uni", "nowhere.bin"]),
        (["--device", "abacus"], ["--device", "abacus"]),
        (["--slides", "tcga-luad=~nobody-at-all/x"], ["--slides tcga-luad", "nobody-at-all"]),
        (["--rehearse", "--out", LUAD], ["luad.yaml"]),
    ],
)
def test_a_wrong_option_is_explained(command: Command, arguments: list[str], words: list[str]) -> None:
    said = command("run", LUAD, *arguments)
    assert said.code == 2
    assert_explains(said.err, *words)


def test_a_protocol_that_does_not_exist_is_explained(command: Command) -> None:
    said = command("run", "protocols/none.yaml")
    assert said.code == 2
    assert_explains(said.err, "protocols/none.yaml", "No such file")


def test_paths_may_stand_in_a_local_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "paths.toml").write_text('[slides]\ntcga-luad = "here"\n', encoding="utf-8")
    (tmp_path / "here").mkdir()
    said = command("run", LUAD)
    assert said.code == 2
    assert_explains(said.err, "532 missing")
    (tmp_path / "paths.toml").write_text("[slides\n", encoding="utf-8")
    assert_explains(command("run", LUAD).err, "paths.toml", "TOML")


def test_the_resolved_protocol_is_printed_as_yaml_and_json(command: Command) -> None:
    shown = command("protocol", "show", LUAD)
    assert shown.code == 0
    assert "min_per_class: 3" in shown.out
    assert json.loads(command("protocol", "show", LUAD, "--json").out)["id"] == "luad"


def test_the_schema_names_every_key(command: Command) -> None:
    schema = json.loads(command("protocol", "schema").out)
    assert {"cohorts", "targets", "arms", "analysis", "rehearsal"} <= set(schema["properties"])


@pytest.mark.parametrize("flag", ["--slides tcga-luad=", "--features tcga-luad=", "--weights uni="])
def test_a_rehearsal_refuses_what_it_would_not_use(command: Command, tmp_path: Path, flag: str) -> None:
    option, name = flag.split()
    said = command("run", LUAD, "--rehearse", option, f"{name}{tmp_path}", "--out", tmp_path / "out")
    assert said.code == 2
    assert_explains(said.err, "none in a rehearsal", f"Leave out {option}")
    assert not (tmp_path / "out").exists()


def test_a_role_of_two_columns_is_refused(command: Command, tmp_path: Path) -> None:
    scores = tmp_path / "s.csv"
    scores.write_text("a,b,label,score\nA,B,1,0.5\n", encoding="utf-8")
    said = command("score", scores, "--columns", "patient=a,patient=b", "--out", tmp_path / "out")
    assert said.code == 2
    assert_explains(said.err, "each role once", "patient of several columns")


def test_backbones_are_listed_with_licence(command: Command) -> None:
    assert "CC-BY-NC-ND" in command("backbones", "list").out
    listed = json.loads(command("backbones", "list", "--json").out)
    assert listed["format"] == "tapfm-eval/backbones/1"
    assert {card["name"] for card in listed["backbones"]} >= {"uni", "gigapath", "h-optimus-0"}


def test_checks_of_backbones_are_one_object_that_names_its_format(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = BackboneCheck("uni", 303_350_784, builds=True, weights=None, loads=False, problem=None)
    monkeypatch.setattr("tapfm_eval.api.backbones_check", lambda name, weights: (check,))
    said = json.loads(command("backbones", "check", "uni", "--json").out)
    assert said["format"] == "tapfm-eval/backbone-checks/1"
    assert [found["name"] for found in said["checks"]] == ["uni"]


def test_reporting_a_folder_that_is_no_run_is_explained(command: Command, tmp_path: Path) -> None:
    said = command("report", tmp_path)
    assert said.code == 2
    assert_explains(said.err, "predictions.csv")
    assert_explains(command("report", tmp_path, "--paper", "a5", "--format", "doc").err, "a5", "doc")


def test_help_of_every_command_has_an_example(command: Command) -> None:
    for words in (["run"], ["report"], ["protocol", "show"], ["protocol", "schema"], ["backbones", "list"]):
        said = command(*words, "--help")
        assert said.code == 0
        assert f"tapfm-eval {' '.join(words)}" in said.out.replace(os.linesep, " ")
