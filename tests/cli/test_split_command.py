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
        (["--targets", "EGFR", "--shares", "0.6,0.2,0.2"], "none beside --scheme site-preserved"),
        (["--targets", "EGFR", "--scheme", "holdout", "--folds", "5"], "none beside --scheme holdout"),
    ],
)
def test_a_wrong_option_is_explained(command: Command, tmp_path: Path, arguments: list[str], word: str) -> None:
    said = command("split", MANIFEST, *arguments, "--out", tmp_path / "s.csv")
    assert said.code == 2
    assert word in said.err
    assert not (tmp_path / "s.csv").exists()


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A manifest whose labels are words."""
    rows = [f"P{i},S{i},{('mut', 'wt', 'n/a')[i % 3]},site{i % 9}" for i in range(90)]
    (tmp_path / "m.csv").write_text("\n".join(["patient_id,slide_id,GENE,site", *rows]) + "\n", encoding="utf-8")
    return tmp_path / "m.csv"


def test_labels_in_words_are_split_once_their_meaning_is_said(command: Command, words: Path) -> None:
    arguments = (
        "split",
        words,
        "--targets",
        "GENE",
        "--scheme",
        "kfold",
        "--folds",
        "3",
        "--out",
        words.parent / "s.csv",
    )
    refused = command(*arguments)
    assert refused.code == 2
    assert "'mut' in 30 rows" in refused.err
    assert "--values 'GENE:mut=1'" in " ".join(refused.err.split())
    assert command(*arguments, "--values", "GENE:mut=1,wt=0,n/a=").code == 0
    split = read_split(words.parent / "s.csv", read_manifest(words, "m"))
    assert len(split.table.query("fold == 0")) == 60
    wrong = command(*arguments[:-1], words.parent / "t.csv", "--values", "GENE=mut")
    assert (wrong.code, "--values" in wrong.err) == (2, True)


def test_a_wrong_target_names_the_columns_that_hold_labels(command: Command, tmp_path: Path) -> None:
    said = command("split", MANIFEST, "--targets", "EGFRR", "--out", tmp_path / "s.csv")
    assert said.code == 2
    assert "a label column of" in said.err
    assert "EGFR_driver" in said.err
    assert "targets.EGFRR" not in said.err


@pytest.mark.parametrize("scheme", ["kfold", "site-preserved"])
def test_a_target_of_one_class_is_refused(command: Command, tmp_path: Path, scheme: str) -> None:
    said = command("split", MANIFEST, "--targets", "EGFR,ALK", "--scheme", scheme, "--out", tmp_path / "s.csv")
    assert said.code == 2
    assert "3 positive, 0 negative" in said.err
    assert "leave it out" in said.err
    assert not (tmp_path / "s.csv").exists()


def test_the_shares_that_were_reached_are_said_and_kept(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    shares = ("--scheme", "holdout", "--shares", "0.998,0.001,0.001")
    said = command("split", MANIFEST, "--targets", "EGFR", *shares, "--out", out)
    split = read_split(out, read_manifest(MANIFEST, "m"))
    reached = split.meta["shares_reached"]
    sizes = split.table["split"].value_counts()
    assert reached == [round(sizes[part] / len(split.table), 4) for part in ("train", "validation", "test")]
    assert reached[1] > 0.001
    assert f"shares: {reached[0]:.1%}, {reached[1]:.1%}, {reached[2]:.1%} (asked for: 99.8%, 0.1%, 0.1%)" in said.out


def test_an_existing_split_is_never_written_over(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    out.write_text("mine", encoding="utf-8")
    said = command("split", MANIFEST, "--scheme", "kfold", "--targets", "EGFR", "--out", out)
    assert said.code == 2
    assert out.read_text(encoding="utf-8") == "mine"


def test_help_has_an_example(command: Command) -> None:
    assert "tapfm-eval split cohorts/tcga-luad/manifest.csv" in command("split", "--help").out
