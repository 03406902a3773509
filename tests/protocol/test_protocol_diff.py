"""Two protocols differ where they say something else, and nowhere else."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cli.app import app
from tapfm_eval.protocol.diff import Difference, protocol_difference
from tapfm_eval.protocol.load import read_protocol

SHIPPED = Path(__file__).resolve().parents[2] / "protocols"
LUAD = (SHIPPED / "luad.yaml").read_text(encoding="utf-8")


def between(folder: Path, *changes: tuple[str, str]) -> tuple[Difference, ...]:
    """What differs between the shipped protocol and the same with words replaced."""
    text = LUAD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "other.yaml"
    path.write_text(text, encoding="utf-8")
    first, second = (read_protocol(file, backbones=CARDS) for file in (SHIPPED / "luad.yaml", path))
    return protocol_difference(first, second)


def test_layout_comments_and_a_default_written_out_are_no_difference(tmp_path: Path) -> None:
    assert between(tmp_path, ("seeds:", "# a comment\nseeds:")) == ()
    assert between(tmp_path, ("overrides: []\n", "")) == ()


def test_a_key_that_differs_is_named_with_both_values(tmp_path: Path) -> None:
    assert between(tmp_path, ("min_tissue: 0.5", "min_tissue: 0.25")) == (Difference("tiles.min_tissue", 0.5, 0.25),)


def test_arms_are_matched_by_id_and_an_arm_of_one_side_is_one_difference(tmp_path: Path) -> None:
    first = next(line for line in LUAD.splitlines(keepends=True) if line.startswith("  - {id: "))
    name = first.split("id: ")[1].split(",")[0]
    found = between(tmp_path, (first, first + first.replace(f"id: {name}", "id: one-more")))
    assert [(difference.key, difference.first) for difference in found] == [("arms[one-more]", None)]
    assert found[0].second["id"] == "one-more"


def test_the_order_of_targets_is_a_difference(tmp_path: Path) -> None:
    found = between(tmp_path, ("  EGFR: {}\n", ""), ("  KRAS: {}\n", "  KRAS: {}\n  EGFR: {}\n"))
    assert [difference.key for difference in found] == ["targets (order)"]
    assert found[0].first[:2] == ["EGFR", "KRAS"]
    assert found[0].second[:2] == ["KRAS", "EGFR"]


def test_the_command_prints_the_keys_for_people_and_for_machines(tmp_path: Path) -> None:
    between(tmp_path, ("min_tissue: 0.5", "min_tissue: 0.25"))
    files = [str(SHIPPED / "luad.yaml"), str(tmp_path / "other.yaml")]
    shown = CliRunner().invoke(app, ["protocol", "diff", *files])
    assert "tiles.min_tissue" in shown.stdout
    assert "0.25" in shown.stdout
    machine = CliRunner().invoke(app, ["protocol", "diff", *files, "--json"])
    assert machine.exit_code == shown.exit_code
    assert json.loads(machine.stdout)["differences"] == [{"key": "tiles.min_tissue", "a": 0.5, "b": 0.25}]
    same = CliRunner().invoke(app, ["protocol", "diff", files[0], files[0]])
    assert same.exit_code == 0
