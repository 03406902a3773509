"""`audit` shows all findings and says by its exit code whether one is an error; an error stops `run` as well."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import REPOSITORY, Command

LUAD = REPOSITORY / "protocols" / "luad.yaml"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A copy of the shipped study that a test may break; returns its protocol."""
    for name in ("protocols", "cohorts"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    return tmp_path / "protocols" / "luad.yaml"


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def clinical(study: Path) -> None:
    replaced(study, "Research use. Triage", "Clinical use. Triage")


def test_the_shipped_study_audits_clean_of_errors(command: Command) -> None:
    said = command("audit", LUAD)
    assert said.code == 0
    assert "0 errors" in said.out
    assert "backbone-undisclosed" in said.out


def test_json_is_for_machines_and_holds_every_line(command: Command) -> None:
    content = json.loads(command("audit", LUAD, "--json").out)
    assert content["format"] == "tapfm-eval/audit/1"
    keys = {"code", "severity", "where", "what", "evidence", "rows", "numbers", "remedy", "accepted"}
    assert all(set(finding) == keys for finding in content["findings"])


def test_an_error_gives_exit_code_1_and_is_accepted_by_an_override(command: Command, study: Path) -> None:
    clinical(study)
    said = command("audit", study)
    assert said.code == 1
    assert "licence-forbids-use" in said.out
    replaced(study, "overrides: []", "overrides: [{finding: licence-forbids-use, reason: a licence was granted}]")
    accepted = command("audit", study)
    assert accepted.code == 0
    assert "Accepted: a licence was granted" in accepted.out


def test_an_error_stops_a_run_before_anything_is_written(command: Command, study: Path) -> None:
    clinical(study)
    said = command("run", study, "--rehearse")
    assert said.code == 1
    assert "licence-forbids-use" in said.err
    assert "overrides:" in said.err
    assert not Path("reports").exists()
    replaced(study, "overrides: []", "overrides: [{finding: licence-forbids-use, reason: a licence was granted}]")
    assert "locked as luad 1.0.0" in command("run", study).err  # one version stands for one content
    replaced(study, "version: 1.0.0", "version: 1.0.1")
    assert "slides for every cohort" in command("run", study).err


def test_an_override_of_a_finding_that_does_not_exist_is_explained(command: Command, study: Path) -> None:
    replaced(study, "overrides: []", "overrides: [{finding: licence-forbid-use, reason: a licence was granted}]")
    said = command("audit", study)
    assert said.code == 2
    assert "Did you mean `licence-forbids-use`?" in said.err
    assert command("run", study, "--rehearse").code == 2


def test_faults_of_a_manifest_are_findings_and_a_file_that_is_none_is_exit_code_2(
    command: Command, study: Path
) -> None:
    manifest = study.parents[1] / "cohorts" / "cptac-luad" / "manifest.csv"
    replaced(manifest, "C3L-00001,,,,0,", "C3L-00001,,,,mut,")
    said = command("audit", study)
    assert said.code == 1
    assert "label-fault" in said.out
    assert "label-fault" in command("audit", manifest).out  # on its own too: one cell hides no label column
    manifest.write_bytes(b"PK\x03\x04")
    for path in (study, manifest):
        said = command("audit", path)
        assert said.code == 2
        assert "manifest.csv" in said.err


def test_a_manifest_is_audited_on_its_own_with_its_split(command: Command) -> None:
    folder = REPOSITORY / "cohorts" / "tcga-luad"
    said = command("audit", folder / "manifest.csv", "--split", folder / "split-1.csv", "--targets", "EGFR,KRAS")
    assert said.code == 0
    assert "0 errors" in said.out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--split", "x.csv"], "--split"),
        (["--targets", "EGFR"], "--targets"),
        (["--slides", "tcga=."], "tcga-luad"),
        (["--slides", "tcga-luad=nowhere"], "nowhere"),
    ],
)
def test_a_wrong_option_is_explained(command: Command, arguments: list[str], word: str) -> None:
    said = command("audit", LUAD, *arguments)
    assert said.code == 2
    assert word in said.err


def test_an_unknown_target_of_a_manifest_is_explained(command: Command) -> None:
    said = command("audit", REPOSITORY / "cohorts" / "tcga-luad" / "manifest.csv", "--targets", "EGFR,BRAFF")
    assert said.code == 2
    assert "BRAFF" in said.err


def test_the_page_holds_every_finding_escaped(command: Command, study: Path, tmp_path: Path) -> None:
    replaced(study, "Research use. Triage", "Clinical use <script>alert(1)</script>. Triage")
    said = command("audit", study, "--html", tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert said.code == 1
    assert "licence-forbids-use" in page
    assert "backbone-undisclosed" in page
    assert "<script>alert" not in page


def test_no_network_library_is_loaded() -> None:
    script = "import sys\nfrom tapfm_eval.cli import main\nsys.argv = ['tapfm-eval', 'audit', sys.argv[1]]\n"
    script += "try:\n    main()\nexcept SystemExit:\n    pass\nprint(sorted({'torch', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script, str(LUAD)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_has_an_example(command: Command) -> None:
    assert "tapfm-eval audit protocols/luad.yaml" in command("audit", "--help").out


def test_a_manifest_whose_labels_are_words_says_how_to_read_them(command: Command, tmp_path: Path) -> None:
    rows = [f"P{i},S{i},{('mut', 'wt')[i % 2]},{50 + i % 30}" for i in range(60)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["patient_id,slide_id,GENE,age", *rows]) + "\n", encoding="utf-8")
    said = command("audit", manifest)
    text = " ".join(said.out.split())
    assert said.code == 1
    assert "GENE: mut, wt" in text
    assert "--values 'GENE:mut=1,wt=0'" in text
    found = json.loads(command("audit", manifest, "--values", "GENE:mut=1,wt=0", "--json").out)["findings"]
    precision = next(finding for finding in found if finding["code"] == "expected-precision")
    assert precision["numbers"]["GENE_positives"] == 30
    assert command("audit", manifest, "--values", "GEN:mut=1").code == 2


def test_json_and_page_hold_every_line_of_a_finding_of_which_the_terminal_shows_the_first(
    command: Command, tmp_path: Path
) -> None:
    manifest, page = tmp_path / "m.csv", tmp_path / "a.html"
    rows = [f"P{at:03},S{at:03},{at % 2},{200 + at}" for at in range(180)]  # years beyond 130
    manifest.write_text("\n".join(["patient_id,slide_id,GENE,age", *rows]) + "\n", encoding="utf-8")
    said = command("audit", manifest, "--html", page)
    assert "and 172 more lines (audit --json shows all)" in " ".join(said.out.split())
    (fault,) = json.loads(command("audit", manifest, "--json").out)["findings"]
    assert len(fault["evidence"]) == len(fault["rows"]) == fault["numbers"]["faults"] == 180
    assert fault["evidence"][-1].startswith("row 181, column age: ")
    assert "row 181, column age" in page.read_text(encoding="utf-8")
