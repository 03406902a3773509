"""`split` writes a split that fits its manifest, prints its imbalance, and audits it."""

from pathlib import Path

import pytest
from command_line import REPOSITORY, Command

from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.cohort.splits import read_split

MANIFEST = REPOSITORY / "cohorts" / "tcga-luad" / "manifest.csv"


@pytest.mark.parametrize("scheme", ["holdout", "kfold"])
def test_a_split_is_written_shown_and_audited(command: Command, tmp_path: Path, scheme: str) -> None:
    out = tmp_path / "new" / "split.csv"
    said = command("split", MANIFEST, "--scheme", scheme, "--targets", "EGFR,KRAS", "--seed", "7", "--out", out)
    assert said.code == 0, said.err
    read = read_split(out, read_manifest(MANIFEST, "tcga-luad"))
    assert read.scheme == scheme
    assert read.seed == 7
    assert "EGFR" in said.out
    assert "0 errors" in said.out
    assert str(out) in said.out


def test_the_same_seed_gives_the_same_bytes(command: Command, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        assert command("split", MANIFEST, "--scheme", "kfold", "--targets", "EGFR", "--out", tmp_path / name).code == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_sites_stay_on_one_side(command: Command, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    rows = [f"P{i},S{i},{i % 2},site{i % 9}" for i in range(90)]
    manifest.write_text("\n".join(["patient_id,slide_id,GENE,site", *rows]) + "\n", encoding="utf-8")
    said = command("split", manifest, "--targets", "GENE", "--folds", "3", "--out", tmp_path / "s.csv")
    assert said.code == 0, said.out
    assert "site-on-two-sides" not in said.out
    table = read_split(tmp_path / "s.csv", read_manifest(manifest, "m")).table.query("fold == 0")
    sides = table.assign(site=[int(patient[1:]) % 9 for patient in table["patient_id"]]).groupby("site")["split"]
    assert (sides.nunique() == 1).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--targets", "EGFR", "--scheme", "random"], "--scheme"),
        (["--targets", ","], "--targets"),
        (["--targets", "BRAFF"], "BRAFF"),
        (["--targets", "EGFR", "--scheme", "holdout", "--shares", "1,2"], "--shares"),
        (["--targets", "EGFR", "--scheme", "holdout", "--shares", "0.5,0.4,0.3"], "shares"),
    ],
)
def test_a_wrong_option_is_explained(command: Command, tmp_path: Path, arguments: list[str], word: str) -> None:
    said = command("split", MANIFEST, *arguments, "--out", tmp_path / "s.csv")
    assert said.code == 2
    assert word in said.err
    assert not (tmp_path / "s.csv").exists()


def test_an_existing_split_is_never_written_over(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    out.write_text("mine", encoding="utf-8")
    said = command("split", MANIFEST, "--scheme", "kfold", "--targets", "EGFR", "--out", out)
    assert said.code == 2
    assert out.read_text(encoding="utf-8") == "mine"


def test_help_has_an_example(command: Command) -> None:
    assert "tapfm-eval split cohorts/tcga-luad/manifest.csv" in command("split", "--help").out
