"""`tapfm_eval.api` mirrors the command line: a function for each command, with every option of it."""

import inspect
from pathlib import Path

import pytest
from command_line import REPOSITORY
from test_every_command import EVERY

from tapfm_eval import api
from tapfm_eval.errors import InputError

LUAD = REPOSITORY / "protocols" / "luad.yaml"
# What Python says with other means than the option, and why.
OTHERWISE = {
    ("audit", "html"): "findings are records; the page is the command's way to show them",
    ("protocol schema", "markdown"): "how it is printed",
    ("cohort download-list", "out"): "the list is part of the record",
}
PRINTING = {"as_json", "quiet"}  # records are neither
# Python takes several where the command line repeats an option; and it names what stands without a flag there.
NAMES = {
    "arm": "arms", "name": "names", "threshold": "thresholds", "specimen": "specimens", "predictions": "files",
    ("diagnose-blocks", "arm"): "arm", ("backbones check", "name"): "name", ("backbones fetch", "name"): "name",
    ("compare", "first"): "run_a", ("compare", "second"): "run_b",
}  # fmt: skip


@pytest.mark.parametrize("command", EVERY)
def test_a_command_has_its_function_with_every_option(command: str) -> None:
    function = getattr(api, command.replace(" ", "_").replace("-", "_"))
    assert function.__doc__
    known = set(inspect.signature(function).parameters)
    asked = [str(parameter.name) for parameter in EVERY[command].params]
    wanted = {NAMES.get((command, name), NAMES.get(name, name)) for name in asked if (command, name) not in OTHERWISE}
    assert wanted - PRINTING - known - {"help"} == set()
    said = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"api.{function.__name__}(" in said


def test_the_exceptions_are_still_options() -> None:
    for command, name in [*OTHERWISE, *(key for key in NAMES if isinstance(key, tuple))]:
        assert name in {parameter.name for parameter in EVERY[command].params}


def test_functions_return_records(tmp_path: Path) -> None:
    made = api.split(REPOSITORY / "cohorts" / "tcga-luad" / "manifest.csv", tmp_path / "s.csv", targets=["EGFR"])
    assert made.path.is_file()
    assert set(made.plan.imbalance["block"])
    with pytest.raises(InputError, match="not there yet"):
        api.split(REPOSITORY / "cohorts" / "tcga-luad" / "manifest.csv", tmp_path / "s.csv", targets=["EGFR"])
    keys = [one.key for one in api.protocol_diff(LUAD, LUAD.with_name("blca.yaml"))]
    assert "id" in keys
    assert api.protocol_diff(LUAD, LUAD) == ()
    assert api.protocol_show(LUAD).id == "luad"
    assert "cohorts" in api.protocol_schema()["properties"]
    assert {card.name for card in api.backbones_list()} >= {"uni", "h-optimus-0"}
    with pytest.raises(InputError, match="Did you mean `uni`"):
        api.backbones_fetch("unix", tmp_path)
    patients = tmp_path / "p.csv"
    patients.write_text("patient_id,slide_id,EGFR\nP1,,1\nP2,,0\n", encoding="utf-8")
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "P1-a.svs").write_bytes(b"x")
    links = api.cohort_link(patients, tmp_path / "slides", tmp_path / "linked.csv")
    assert links.unmatched == ("P2",)
    found = api.cohort_check(tmp_path / "linked.csv", tmp_path / "slides", quiet=True)
    assert [fault.fault for fault in found.faults] == ["unreadable"]
    assert api.cohort_download_list(REPOSITORY / "cohorts" / "tcga-luad" / "manifest.csv").slides > 400
