"""Predictions of any model, in any of the known forms, become the same analysis and an honest report."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished_run import edited
from pypdf import PdfReader

from tapfm_eval import statistics
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.comparison import compare_runs
from tapfm_eval.errors import InputError
from tapfm_eval.predictions.table import predictions_csv, predictions_frame, read_predictions
from tapfm_eval.rundir import sha256_file
from tapfm_eval.scoring.gather import ScoreOptions
from tapfm_eval.scoring.plan import DeclaredThreshold
from tapfm_eval.scoring.score import ScoreOutcome, score_predictions
from tapfm_eval.verification import verify_run

Row = tuple[str, int | None, float]
ROOT = Path(__file__).resolve().parents[1]
# Runs the command line as if all but the named packages of this project's dependencies were not installed.
WITHOUT = """
import importlib.metadata, sys
kept, modules = sys.argv.pop(1).split(","), {"pyyaml": "yaml", "pillow": "PIL", "scikit-learn": "sklearn",
    "scikit-image": "skimage", "openslide-python": "openslide", "openslide-bin": "openslide_bin"}
names = [text.partition(">")[0] for text in importlib.metadata.requires("tapfm-eval") if "extra" not in text]
hidden = set(names) - set(kept)
assert "torch" in hidden
absent = {modules.get(name, name) for name in hidden}
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hiding())
version = importlib.metadata.version
def seen(name):
    if name in hidden:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = seen
from tapfm_eval.cli import main
main()
"""


def patients(count: int = 60, *, seed: int = 4, shift: float = 1.5, unknown: int = 3) -> list[Row]:
    """Patient, label and score; the first few labels are unknown."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(9).integers(0, 2, count)
    scores = 1 / (1 + np.exp(-(shift * (labels - 0.5) + rng.standard_normal(count))))
    return [
        (f"P{i:03d}", None if i < unknown else int(y), float(s))
        for i, (y, s) in enumerate(zip(labels, scores, strict=True))
    ]


def csv_text(header: str, rows: Sequence[Sequence[object]]) -> str:
    return "\n".join([header, *(",".join("" if cell is None else str(cell) for cell in row) for row in rows)]) + "\n"


def plain_file(path: Path, rows: list[Row]) -> Path:
    path.write_text(csv_text("patient,label,score", rows), encoding="utf-8")
    return path


def scored(tmp_path: Path, *files: Path, formats: Sequence[str] = ("html",), **options: Any) -> ScoreOutcome:
    return score_predictions(ScoreOptions(files=files, **options), tmp_path / "reports", formats=formats)


def results_of(outcome: ScoreOutcome) -> Any:
    return json.loads((outcome.folder / "results.json").read_text(encoding="utf-8"))


def refused(tmp_path: Path, *files: Path, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        scored(tmp_path, *files, **options)
    assert not (tmp_path / "reports").exists()
    return "\n".join(map(str, error.value.problems))


def test_the_same_predictions_in_all_four_formats_give_identical_results(tmp_path: Path) -> None:
    rows = patients()
    own = [("m", 0, 0, "cohort", "test", p, p, "EGFR", math.nan if y is None else float(y), s) for p, y, s in rows]
    (tmp_path / "own.csv").write_text(predictions_csv(predictions_frame(own)), encoding="utf-8")
    # CLAM knows no unknown label as such: its cell stays empty
    clam = [(f"{p}.svs", y, int(s > 0.5), 1 - s, s) for p, y, s in rows]
    (tmp_path / "fold_0.csv").write_text(csv_text("slide_id,Y,Y_hat,p_0,p_1", clam), encoding="utf-8")
    (tmp_path / "slides.csv").write_text(csv_text("case_id,slide_id", [(p, p) for p, _, _ in rows]), encoding="utf-8")
    stamp = [(p, y, int(s > 0.5), 1 - s, s, 0.1) for p, y, s in rows]
    (tmp_path / "split-0").mkdir()
    (tmp_path / "split-0" / "patient-preds.csv").write_text(
        csv_text("PATIENT,EGFR,pred,EGFR_0,EGFR_1,loss", stamp), encoding="utf-8"
    )
    (tmp_path / "r.csv").write_text(csv_text("ID,truth,p", rows), encoding="utf-8")
    columns = {"patient": "ID", "label": "truth", "score": "p"}
    outcomes = [
        scored(tmp_path, tmp_path / "own.csv"),
        scored(tmp_path, names=(("m", tmp_path / "fold_0.csv"),), slides_table=tmp_path / "slides.csv", target="EGFR"),
        scored(tmp_path, names=(("m", tmp_path / "split-0" / "patient-preds.csv"),)),
        scored(tmp_path, names=(("m", tmp_path / "r.csv"),), columns=columns, target="EGFR"),
    ]
    found = [(outcome.folder / "results.json").read_bytes() for outcome in outcomes]
    assert len({outcome.folder for outcome in outcomes}) == 4
    assert found[0] == found[1] == found[2] == found[3]
    auroc = json.loads(found[0])["aurocs"][0]["auroc"]
    expected = statistics.auroc([y for _, y, _ in rows if y is not None], [s for _, y, s in rows if y is not None])
    assert auroc["value"] == pytest.approx(expected.value, abs=1e-12)
    assert (auroc["lower"], auroc["upper"]) == pytest.approx((expected.lower, expected.upper), abs=1e-9)
    assert auroc["n"] == 57


def test_a_scored_folder_verifies_until_it_is_edited(tmp_path: Path) -> None:
    outcome = scored(tmp_path, plain_file(tmp_path / "mine.csv", patients()), formats=("html", "pdf"))
    assert verify_run(outcome.folder).mismatches == ()
    row = (outcome.folder / "predictions.csv").read_text().splitlines()[10]
    edited(outcome.folder / "predictions.csv", row, row[:-1] + str((int(row[-1]) + 1) % 10))
    assert any(m.where == "predictions.csv, sha256" for m in verify_run(outcome.folder).mismatches)


def test_the_same_files_give_the_same_folder_and_bytes(tmp_path: Path) -> None:
    file = plain_file(tmp_path / "mine.csv", patients())
    first = scored(tmp_path, file, formats=("html", "pdf"))
    names = ("results.json", "report.html", "report.pdf")
    before = {name: (first.folder / name).read_bytes() for name in names}
    again = scored(tmp_path, file, formats=("html", "pdf"))
    assert again.folder == first.folder
    assert before == {name: (again.folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("second", ["html", "pdf"])
def test_a_format_that_is_there_is_written_anew_with_the_one_asked_for(tmp_path: Path, second: str) -> None:
    file = plain_file(tmp_path / "mine.csv", patients())

    def made(command: str, *formats: str) -> Path:
        options = ScoreOptions(files=(file,))
        return score_predictions(options, tmp_path / "reports", formats=formats, paper="letter", command=command).folder

    made("the first", "html", "pdf")
    folder = made("the second", second)
    assert verify_run(folder).mismatches == ()
    assert "the second" in (folder / "report.html").read_text(encoding="utf-8")
    pages = PdfReader(folder / "report.pdf").pages
    assert any("the second" in page.extract_text() for page in pages)
    assert float(pages[0].mediabox.width) == pytest.approx(612, abs=1)  # still on Letter


def test_several_files_are_compared_on_the_patients_they_share_and_the_others_are_counted(tmp_path: Path) -> None:
    ours, theirs = patients(60), patients(70, seed=5, shift=0.5)[5:]
    theirs = [(p, y, s) for p, y, s in theirs if p != "P030"]
    outcome = scored(tmp_path, plain_file(tmp_path / "ours.csv", ours), plain_file(tmp_path / "theirs.csv", theirs))
    counts = {row.arm: (row.scored, row.shared, row.left_out) for row in outcome.sharing}
    assert counts == {"ours": (60, 54, 6), "theirs": (64, 54, 10)}
    results = results_of(outcome)
    assert {row["auroc"]["n"] for row in results["aurocs"]} == {54}
    a = {p: (y, s) for p, y, s in ours}
    b = {p: s for p, _, s in theirs}
    both = [p for p in a if p in b]
    expected = statistics.compare_auroc([a[p][0] for p in both], [a[p][1] for p in both], [b[p] for p in both])
    difference = next(row for row in results["comparisons"] if row["target"] == "label")["difference"]
    assert difference["value"] == pytest.approx(expected.value, abs=1e-12)
    assert difference["p_value"] == pytest.approx(expected.p_value, rel=1e-9)
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert "compared on the patients that all of them scored" in page
    assert (outcome.folder / "tables" / "sharing.csv").read_text().splitlines()[1].endswith("ours,60,54,6,54")


def test_folds_of_clam_and_stamp_are_one_arm_and_their_scores_are_not_pooled(tmp_path: Path) -> None:
    rows = patients(80, unknown=0)
    (tmp_path / "clam").mkdir()
    for fold in (0, 1):
        text = csv_text("slide_id,Y,Y_hat,p_0,p_1", [(p, y, 0, 1 - s, s) for p, y, s in rows[fold::2]])
        (tmp_path / "clam" / f"fold_{fold}.csv").write_text(text, encoding="utf-8")
    (tmp_path / "slides.csv").write_text(csv_text("case_id,slide_id", [(p, p) for p, _, _ in rows]), encoding="utf-8")
    outcome = scored(
        tmp_path, *sorted((tmp_path / "clam").iterdir()), slides_table=tmp_path / "slides.csv", target="EGFR"
    )
    results = results_of(outcome)
    assert results["arms"] == ["clam"]
    folds = [i % 2 for i in range(80)]
    expected = statistics.auroc([y for _, y, _ in rows], [s for _, _, s in rows], strata=folds)  # type: ignore[arg-type]
    assert results["aurocs"][0]["auroc"]["value"] == pytest.approx(expected.value, abs=1e-12)


@pytest.mark.parametrize("folds", [None, [(i // 2) % 3 for i in range(80)]])
def test_an_arm_with_folds_and_one_with_others_or_none_share_all_patients_as_compare_says(
    tmp_path: Path, folds: list[int] | None
) -> None:
    ours, theirs = patients(80, unknown=0), patients(80, unknown=0, seed=5, shift=0.7)
    one, other = tmp_path / "ours.csv", plain_file(tmp_path / "theirs.csv", theirs)
    one.write_text(csv_text("patient,label,score,fold", [(*row, i % 2) for i, row in enumerate(ours)]), "utf-8")
    if folds is not None:
        rows = [(*row, fold) for row, fold in zip(theirs, folds, strict=True)]
        other.write_text(csv_text("patient,label,score,fold", rows), "utf-8")
    together = scored(tmp_path, one, other)
    assert {(row.scored, row.shared, row.left_out) for row in together.sharing} == {(80, 80, 0)}
    assert any("compared within the folds of all" in note for note in together.notes)
    said = next(row for row in results_of(together)["comparisons"] if row["target"] == "label")["difference"]
    alone = [scored(tmp_path, path).folder for path in (one, other)]
    compared = compare_runs(alone[0], alone[1], arms=[("ours", "theirs")]).rows[0].difference
    assert said["value"] == pytest.approx(compared.value, abs=1e-12)
    assert (said["lower"], said["upper"]) == pytest.approx((compared.lower, compared.upper), abs=1e-9)
    assert verify_run(together.folder).mismatches == ()


def test_a_patient_tested_in_several_folds_never_counts_twice(tmp_path: Path) -> None:
    rows = patients(20, unknown=0)
    path = tmp_path / "tenfold.csv"
    again = [(*row, fold) for fold in range(10) for row in rows[: 10 if fold > 1 else 20]]
    path.write_text(csv_text("patient,label,score,fold", again), encoding="utf-8")
    text = refused(tmp_path, path)
    assert "arm tenfold, seed 0" in text
    assert "each patient in the test part of one fold" in text
    assert "20 patients in 2 to 10 folds: P000" in text
    assert "Score one fold at a time" in text
    path.write_text(csv_text("patient,label,score,fold,split", [(*row, "external") for row in again]), "utf-8")
    assert results_of(scored(tmp_path, path))["aurocs"][0]["auroc"]["n"] == 10  # those of all ten models


def test_slides_of_a_patient_are_averaged_as_logits(tmp_path: Path) -> None:
    path = tmp_path / "slides.csv"
    rows = [(p, y, s, f"{p}-{k}") for p, y, s in patients(20, unknown=0) for k in "ab"]
    rows[0] = (rows[0][0], rows[0][1], 0.2, rows[0][3])
    rows[1] = (rows[1][0], rows[1][1], 0.8, rows[1][3])
    path.write_text(csv_text("patient,label,score,slide", rows), encoding="utf-8")
    outcome = scored(tmp_path, path)
    assert len(read_predictions(outcome.folder / "predictions.csv")) == 40
    assert results_of(outcome)["aurocs"][0]["auroc"]["n"] == 20


def test_without_validation_patients_or_a_declared_threshold_there_are_no_operating_points(tmp_path: Path) -> None:
    outcome = scored(tmp_path, plain_file(tmp_path / "mine.csv", patients()))
    assert results_of(outcome)["operating_points"] == []
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert "no validation patients on whom a threshold could be fixed" in page


def test_a_declared_threshold_gives_its_two_by_two_table_as_declared(tmp_path: Path) -> None:
    rows = patients()
    outcome = scored(tmp_path, plain_file(tmp_path / "mine.csv", rows), thresholds=(DeclaredThreshold("", 0.4),))
    (point,) = results_of(outcome)["operating_points"]
    assert point["rule"] == "declared 0.4"
    assert point["true_positives"] == sum(y == 1 and s >= 0.4 for _, y, s in rows)
    assert point["false_positives"] == sum(y == 0 and s >= 0.4 for _, y, s in rows)
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert "Thresholds declared by the user: 0.4" in page
    assert "fixed on validation patients and carried unchanged" not in page
    assert "Rings: operating points of mine as declared." in page
    assert "as fixed on validation" not in page
    assert "Scores are at the prevalence of the training patients" not in page  # whose, the suite does not know


def test_validation_patients_fix_thresholds_that_are_carried_to_test_patients(tmp_path: Path) -> None:
    rows = [(p, y, s, "validation" if i % 2 else "test") for i, (p, y, s) in enumerate(patients(120, unknown=0))]
    path = tmp_path / "mine.csv"
    path.write_text(csv_text("patient,label,score,split", rows), encoding="utf-8")
    points = results_of(scored(tmp_path, path))["operating_points"]
    page = next((tmp_path / "reports" / "scored").glob("*/report.html")).read_text(encoding="utf-8")
    assert "Rings: operating points of mine as fixed on validation." in page
    both = scored(tmp_path, path, thresholds=(DeclaredThreshold("", 0.4),))
    page = (both.folder / "report.html").read_text(encoding="utf-8")
    assert "Rings: operating points of mine as fixed on validation, and as declared." in page
    tested = {point["rule"]: point for point in points if point["split"] == "test"}
    assert set(tested) == {"sensitivity 0.95", "specificity 0.95", "Youden"}
    held = sorted(s for _, y, s, part in rows if part == "validation" and y == 1)
    expected = statistics.threshold_at(
        [y for _, y, _, part in rows if part == "validation"],  # type: ignore[arg-type]
        [s for _, _, s, part in rows if part == "validation"], {"at_sensitivity": 0.95},
    )  # fmt: skip
    assert tested["sensitivity 0.95"]["threshold"] == pytest.approx(expected.threshold, abs=1e-12)
    assert min(held) <= expected.threshold <= max(held)


def test_labels_split_and_subgroups_can_come_from_a_manifest(tmp_path: Path) -> None:
    rows = patients(90, unknown=0)
    manifest = tmp_path / "m.csv"
    lines = [(p, f"{p}-1", f"{p}.svs", "mut" if y else "wt", "mf"[i % 2]) for i, (p, y, _) in enumerate(rows)]
    manifest.write_text(csv_text("patient_id,slide_id,path,EGFR,sex", lines), encoding="utf-8")
    parts = [(p, 0, ("train", "validation", "test")[i % 3]) for i, (p, _, _) in enumerate(rows)]
    table = pd.DataFrame(parts, columns=["patient_id", "fold", "split"])
    write_split(tmp_path / "s.csv", table, {"scheme": "own", "manifest_sha256": sha256_file(manifest)})
    path = tmp_path / "mine.csv"
    path.write_text(csv_text("patient,score", [(p, s) for p, _, s in rows]), encoding="utf-8")
    outcome = scored(tmp_path, path, manifest=manifest, split=tmp_path / "s.csv", target="EGFR", positive="mut",
                     subgroups=("sex",))  # fmt: skip
    results = results_of(outcome)
    assert [row["auroc"]["n"] for row in results["aurocs"]] == [30]
    assert {row["level"] for row in results["subgroups"]} == {"m", "f"}
    assert {point["split"] for point in results["operating_points"]} >= {"test"}
    assert verify_run(outcome.folder).mismatches == ()


def test_a_split_neither_overrides_what_a_file_says_nor_drops_rows_in_silence(tmp_path: Path) -> None:
    rows = patients(60, unknown=0)
    manifest = tmp_path / "m.csv"
    manifest.write_text(csv_text("patient_id,slide_id,path,EGFR", [(p, p, f"{p}.svs", y) for p, y, _ in rows]), "utf-8")
    parts = ("train", "validation", "test")
    for name, folds in (("s.csv", 1), ("k.csv", 3)):
        placed = [(p, k, parts[(i + k) % 3]) for k in range(folds) for i, (p, _, _) in enumerate(rows)]
        table = pd.DataFrame(placed, columns=["patient_id", "fold", "split"])
        write_split(tmp_path / name, table, {"scheme": "own", "manifest_sha256": sha256_file(manifest)})
    seen, plain = tmp_path / "seen.csv", plain_file(tmp_path / "plain.csv", rows)
    seen.write_text(csv_text("patient,score,split", [(p, s, "train") for p, _, s in rows]), encoding="utf-8")
    options: dict[str, Any] = {"manifest": manifest, "target": "EGFR"}
    text = refused(tmp_path, seen, split=tmp_path / "s.csv", **options)
    assert "seen.csv, row 4: expected test, as" in text
    assert "train in 20 rows, of patients P002, P005" in text
    text = refused(tmp_path, plain, split=tmp_path / "k.csv", **options)
    assert "plain.csv: expected the fold of each score, as" in text
    assert "has 3, got no column fold" in text
    outcome = scored(tmp_path, plain, split=tmp_path / "s.csv", **options)
    said = ("cohort, parted by s.csv: 20 rows of 20 patients train (left out: the model was trained on them), "
            "20 rows of 20 patients validation, 20 rows of 20 patients test")  # fmt: skip
    assert said in outcome.notes
    assert said in (outcome.folder / "report.html").read_text(encoding="utf-8")


def test_predictions_of_a_rehearsal_are_marked_on_every_page(tmp_path: Path) -> None:
    rows = patients(unknown=0)
    own = [("m", 0, 0, "cohort", "test", p, p, t, float(y or 0), s) for t in ("EGFR", "NULL") for p, y, s in rows]
    (tmp_path / "own.csv").write_text(predictions_csv(predictions_frame(own)), encoding="utf-8")
    outcome = scored(tmp_path, tmp_path / "own.csv", formats=("html", "pdf"))
    pages = [" ".join(p.extract_text().split()) for p in PdfReader(outcome.folder / "report.pdf").pages]
    assert all("REHEARSAL" in page for page in pages)
    assert "These are predictions of a rehearsal" in pages[0]
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert "Predictions of a rehearsal on synthetic slides" in page
    real = scored(tmp_path, plain_file(tmp_path / "mine.csv", rows))
    assert "rehearsal" not in (real.folder / "report.html").read_text(encoding="utf-8").lower().split("</head>")[1]


def test_a_table_of_one_arm_takes_the_name_that_it_is_given(tmp_path: Path) -> None:
    files = []
    for k, seed in enumerate((4, 5)):
        rows = patients(unknown=0, seed=seed)
        own = [("m", 0, 0, "cohort", "test", p, p, "EGFR", float(y or 0), s) for p, y, s in rows]
        files.append(tmp_path / f"{k}.csv")
        files[-1].write_text(predictions_csv(predictions_frame(own)), encoding="utf-8")
    assert "--name first=" in refused(tmp_path, *files)
    outcome = scored(tmp_path, names=(("first", files[0]), ("second", files[1])))
    assert results_of(outcome)["arms"] == ["first", "second"]
    both = predictions_frame([*own, *(("n", *row[1:]) for row in own)])
    files[0].write_text(predictions_csv(both), encoding="utf-8")
    with pytest.raises(InputError, match=r"a file of one arm, got 2: m, n\. Give the file without --name"):
        scored(tmp_path, names=(("first", files[0]),))


def test_remedies_are_of_this_command(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("patient_id,slide_id,path,EGFR\n" + "".join(
        f"{p},{p},{p}.svs,{'yes' if y else 'no'}\n" for p, y, _ in patients(unknown=0)), encoding="utf-8")  # fmt: skip
    path = plain_file(tmp_path / "mine.csv", patients(unknown=0))
    text = refused(tmp_path, path, manifest=manifest, target="EGFR")
    assert "--positive TEXT" in text
    assert "--values" not in text
    rows = [(p, y, s, ("train", "validation")[i % 2]) for i, (p, y, s) in enumerate(patients(unknown=0))]
    path.write_text(csv_text("patient,label,score,split", rows), encoding="utf-8")
    text = refused(tmp_path, path)
    assert "rows of test or external patients, got 30 rows train, 30 rows validation" in text


def test_the_report_says_what_it_is_and_makes_nothing_up(tmp_path: Path) -> None:
    outcome = scored(tmp_path, plain_file(tmp_path / "mine.csv", patients()), formats=("html", "pdf"))
    text = "\n".join(page.extract_text() for page in PdfReader(outcome.folder / "report.pdf").pages)
    text = " ".join(text.split())
    for words in ("It did not train the models", "No protocol fixed this analysis", "mine.csv", "authors to complete"):
        assert words in text
    for words in ("Training and selection", "Otsu", "backbone", "stand-in", "Participant flow, step by step",
                  "the protocol names", "0.0.0", "usable slide"):  # fmt: skip
        assert words not in text
    assert results_of(outcome)["flow"] == []


@pytest.mark.parametrize(
    ("second", "options", "words"),
    [
        ("P000,0,0.5\nP001,1,0.5\n", {}, ["P004", "one label in all rows and files"]),
        ("Q1,0,0.5\nQ2,1,0.5\n", {}, ["that all arms scored", "other: 2 patients"]),
        ("P004,1,0.5\nP004,1,7\n", {}, ["row 3", "one row a patient", "from 0 to 1"]),
        ("P004,1,0.5\n", {"split": Path("s.csv")}, ["--split", "--manifest beside it"]),
        ("P004,1,0.5\n", {"subgroups": ("sex",)}, ["'sex'", "no such column"]),
        ("P004,1,0.5\n", {"subgroups": ("sex", "sex")}, ["--subgroups", "each column once", "sex 2 times"]),
        ("P004,1,0.5\n", {"subgroups": ("cohort",)}, ["--subgroups", "columns other than cohort"]),
        ("P004,1,0.5\n", {"thresholds": (DeclaredThreshold("x", 0.5),)}, ["--threshold", "other"]),
        ("P004,1,0.5\n", {"columns": {"patients": "p"}}, ["--columns patients", "patient, label, score"]),
        ("P004,1,0.5\n", {"target": "../x"}, ["--target", "letters, digits"]),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_written(
    tmp_path: Path, second: str, options: dict[str, Any], words: list[str]
) -> None:
    rows = [(p, 1 - y if y is not None else 1, s) for p, y, s in patients(20, unknown=0)]
    rows[4] = ("P004", 1 if "one label" not in words[-1] else 0, 0.5)
    first = plain_file(tmp_path / "mine.csv", rows)
    other = tmp_path / "other.csv"
    other.write_text("patient,label,score\n" + second, encoding="utf-8")
    if "one label" in words[-1]:
        other.write_text("patient,label,score\nP004,1,0.5\n", encoding="utf-8")
    said = refused(tmp_path, first, other, **options)
    for word in words:
        assert word in said, said


def test_one_file_given_under_two_names_is_two_arms_and_twice_under_one_is_refused(tmp_path: Path) -> None:
    file = plain_file(tmp_path / "mine.csv", patients())
    results = results_of(scored(tmp_path, names=(("a", file), ("b", file))))
    assert results["arms"] == ["a", "b"]
    with pytest.raises(InputError, match="--name first="):
        scored(tmp_path, file, file)


@pytest.mark.parametrize(
    ("given", "words"),
    [("https://example.org/preds.csv", ["an address", "Download it first"]), ("-", ["standard input", "to a file"])],
)
def test_what_is_no_file_is_said_to_be_none(tmp_path: Path, given: str, words: list[str]) -> None:
    text = refused(tmp_path, Path(given))
    for word in words:
        assert word in text


def test_json_is_said_to_be_no_table_instead_of_a_fault_a_line(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"aurocs": list(range(500))}, indent=1), encoding="utf-8")
    text = refused(tmp_path, tmp_path / "results.json")
    assert "got JSON" in text
    assert len(text.splitlines()) == 1


def test_an_unknown_label_beside_a_known_one_is_to_be_filled_in(tmp_path: Path) -> None:
    one = plain_file(tmp_path / "one.csv", patients(unknown=0))
    two = plain_file(tmp_path / "two.csv", [(p, None if p == "P005" else y, s) for p, y, s in patients(unknown=0)])
    text = refused(tmp_path, one, two)
    assert "patient P005" in text
    assert "Fill in the label where it is empty" in text


def test_a_subgroup_that_no_file_has_is_said_with_the_file(tmp_path: Path) -> None:
    path = plain_file(tmp_path / "mine.csv", patients())
    assert f"{path}: expected a column 'sex'" in refused(tmp_path, path, subgroups=("sex",))


@pytest.mark.long
def test_score_and_what_follows_need_no_more_packages_than_the_docs_say(tmp_path: Path) -> None:
    said = re.search(r"^pip install (imagecodecs .*)$", (ROOT / "docs" / "score.md").read_text(encoding="utf-8"), re.M)
    assert said is not None

    def command(*words: str | Path) -> str:
        packages = ",".join(said.group(1).split())
        arguments = [sys.executable, "-c", WITHOUT, packages, *map(str, words)]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("score", plain_file(tmp_path / "mine.csv", patients()))
    (folder,) = (tmp_path / "reports" / "scored").iterdir()
    assert (folder / "report.pdf").is_file()
    assert '"torch": "not installed"' in (folder / "provenance.json").read_text(encoding="utf-8")
    assert "Everything matches" in command("verify", folder)
    assert "Report: " in command("report", folder)
    assert "Compared on up to 57" in command("compare", folder, folder, "--arms", "mine=mine")
    assert "warning" in command("audit", ROOT / "cohorts" / "tcga-luad" / "manifest.csv", "--targets", "EGFR")
