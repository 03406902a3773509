"""A rehearsal is the whole study on synthetic slides: it checks itself, marks every page, and resumes."""

import json
import shutil
from pathlib import Path

import pytest
from pypdf import PdfReader

from tapfm_eval.preparation import RunOptions
from tapfm_eval.progress import Reporter
from tapfm_eval.rehearsal import plan
from tapfm_eval.study import RunOutcome, run_protocol

REPOSITORY = Path(__file__).resolve().parents[2]


def rehearse(folder: Path, changes: dict[str, str], name: str = "luad") -> RunOutcome:
    """Rehearses a shipped protocol with some of its text replaced."""
    for part in ("protocols", "cohorts"):
        shutil.copytree(REPOSITORY / part, folder / part, dirs_exist_ok=True)
    path = folder / "protocols" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    options = RunOptions(out=folder / "reports", device="cpu", workers=2, rehearse=True)
    return run_protocol(path, options, Reporter(quiet=True))


SMALL = {
    "{EGFR: 0.95, KRAS: 0.90, STK11: 0.90, TP53: 0.90}": "{TP53: 0.95}",
    "train: 40, validation: 16, test: 24, external: 48": "train: 26, validation: 8, test: 8, external: 24",
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearsals of one epoch on two tiles a slide."""
    for name in ("EPOCHS", "EPOCHS_FROZEN"):
        monkeypatch.setattr(plan, name, 1)
    monkeypatch.setattr(plan, "TILES_PER_SLIDE", 2)
    monkeypatch.setattr(plan, "TISSUE_TILES", 3)


@pytest.mark.usefixtures("small")
def test_a_small_rehearsal_runs_to_its_report_and_marks_every_page(tmp_path: Path) -> None:
    outcome = rehearse(tmp_path, SMALL)
    assert len(outcome.checks) == 2 + 4  # TP53 for each of two TAPFM arms; the negative control for all four
    pages = [page.extract_text() for page in PdfReader(outcome.folder / "report.pdf").pages]
    assert all("REHEARSAL" in page for page in pages)
    html = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert "synthetic" in html
    results = json.loads((outcome.folder / "results.json").read_text(encoding="utf-8"))
    assert results["targets"] == ["EGFR", "KRAS", "STK11", "TP53", "NULL"]
    assert {row["auroc"]["clusters"] for row in results["aurocs"] if row["split"] == "external"} == {24}
    selected = [json.loads(p.read_text()) for p in outcome.folder.rglob("selection.json")]
    assert len(selected) == 4
    assert all("NULL" not in row["metric_targets"] for row in selected)
    events = [json.loads(line)["event"] for line in (outcome.folder / "journal.jsonl").read_text().splitlines()]
    assert events.count("test and external patients predicted") == 1


@pytest.mark.long
@pytest.mark.usefixtures("small")
def test_a_second_rehearsal_finds_all_done(tmp_path: Path) -> None:
    outcome = rehearse(tmp_path, SMALL)
    stamps = {path: path.stat().st_mtime_ns for path in outcome.folder.rglob("*.safetensors")}
    again = rehearse(tmp_path, SMALL)
    assert again.folder == outcome.folder
    assert {path: path.stat().st_mtime_ns for path in again.folder.rglob("*.safetensors")} == stamps
    events = [json.loads(line)["event"] for line in (again.folder / "journal.jsonl").read_text().splitlines()]
    assert events.count("test and external patients predicted") == 1


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_shipped_rehearsal_finds_what_was_planted_and_nothing_else(tmp_path: Path, seed: int) -> None:
    outcome = rehearse(tmp_path, {"seeds: [1]": f"seeds: [{seed}]"})
    assert outcome.checks
    assert not outcome.failed_checks, [f"{check.name}: {check.detail}" for check in outcome.failed_checks]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["blca", "blca-ablation", "blca-paper", "luad-paper"])
def test_every_other_shipped_protocol_rehearses_with_all_its_arms(tmp_path: Path, name: str) -> None:
    """The paper's matrices whole: 27 arms each, one after another."""
    outcome = rehearse(tmp_path, {}, name)
    arms = json.loads((outcome.folder / "results.json").read_text(encoding="utf-8"))["arms"]
    assert len(arms) == {"blca": 4, "blca-ablation": 6, "blca-paper": 27, "luad-paper": 27}[name]
    assert not outcome.failed_checks, [f"{check.name}: {check.detail}" for check in outcome.failed_checks]
