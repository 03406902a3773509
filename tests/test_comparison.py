"""Two runs are compared, paired, on the patients that both predicted unseen, or refused."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_run import edited, finished_run

from tapfm_eval import statistics
from tapfm_eval.cohort.patients import expit, logit, mean_logit
from tapfm_eval.comparison import RunDifference, compare_runs
from tapfm_eval.errors import RunError
from tapfm_eval.predictions.table import predictions_csv, read_predictions
from tapfm_eval.scoring.gather import ScoreOptions
from tapfm_eval.scoring.score import score_predictions


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and another of the same patients whose TAPFM arm tells less."""
    folder = tmp_path_factory.mktemp("runs")
    first, second = finished_run(folder / "a"), folder / "b"
    shutil.copytree(first, second)
    table = read_predictions(second / "predictions.csv")
    noise = np.random.default_rng(3).standard_normal(len(table))
    blurred = expit(0.2 * logit(table["score"].to_numpy()) + noise)
    table["score"] = np.where(table["arm"] == "tapfm", blurred, table["score"])
    (second / "predictions.csv").write_text(predictions_csv(table), encoding="utf-8")
    return first, second


def without_patients(run: Path, to: Path, *patients: str) -> Path:
    """A copy of a run that did not predict these patients."""
    shutil.copytree(run, to)
    table = read_predictions(to / "predictions.csv")
    (to / "predictions.csv").write_text(
        predictions_csv(table[~table["patient_id"].isin(patients)].reset_index(drop=True)), encoding="utf-8"
    )
    return to


def row_of(rows: tuple[RunDifference, ...], **wanted: str) -> RunDifference:
    found = [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def external_scores(run: Path, arm: str, target: str) -> pd.DataFrame:
    """Label and score of each external patient, the slow way: the mean of the folds' logits."""
    table = read_predictions(run / "predictions.csv")
    rows = table[(table["arm"] == arm) & (table["target"] == target) & (table["split"] == "external")]
    return rows.groupby("patient_id").agg(
        label=("label", "first"), score=("score", lambda scores: mean_logit(scores.to_numpy()))
    )


def test_external_patients_are_compared_on_the_mean_of_the_folds_as_the_statistics_say(runs: tuple[Path, Path]) -> None:
    compared = compare_runs(*runs)
    row = row_of(compared.rows, cohort="ext", target="EGFR", arm_a="tapfm")
    a, b = (external_scores(run, "tapfm", "EGFR") for run in runs)
    expected = statistics.compare_auroc(a["label"], a["score"], b["score"])
    assert row.difference.value == pytest.approx(expected.value, abs=1e-12)
    assert row.difference.p_value == pytest.approx(expected.p_value, rel=1e-9)
    assert row.auroc_a.value - row.auroc_b.value == pytest.approx(row.difference.value, abs=1e-12)
    assert (row.patients_a, row.patients_b, row.shared) == (59, 59, 59)  # one of 60 has no known label
    assert row.difference.value > 0


def test_a_run_against_its_copy_differs_nowhere(runs: tuple[Path, Path], tmp_path: Path) -> None:
    copy = without_patients(runs[0], tmp_path / "copy")
    compared = compare_runs(runs[0], copy)
    assert {row.split for row in compared.rows} == {"test", "external"}
    assert {(row.arm_a, row.arm_b) for row in compared.rows} == {("tapfm", "tapfm"), ("abmil", "abmil")}
    for row in compared.rows:
        assert row.difference.value == pytest.approx(0, abs=1e-12)


def test_swapping_the_runs_turns_every_sign(runs: tuple[Path, Path]) -> None:
    forth, back = compare_runs(*runs), compare_runs(*reversed(runs))
    assert [row.difference.value for row in forth.rows] == pytest.approx([-row.difference.value for row in back.rows])
    assert [row.p_adjusted for row in forth.rows] == pytest.approx([row.p_adjusted for row in back.rows], nan_ok=True)


def test_patients_of_one_run_alone_are_left_out_and_counted(runs: tuple[Path, Path], tmp_path: Path) -> None:
    fewer = without_patients(runs[1], tmp_path / "fewer", "E001", "E002", "E003", "E007")
    row = row_of(compare_runs(runs[0], fewer).rows, cohort="ext", target="EGFR", arm_a="tapfm")
    assert (row.patients_a, row.patients_b, row.shared, row.only_a, row.only_b) == (59, 56, 56, 3, 0)
    assert row.difference.n == 56
    assert row.auroc_a.n == 56


def test_test_patients_are_compared_within_their_folds(runs: tuple[Path, Path]) -> None:
    row = row_of(compare_runs(*runs).rows, cohort="dev", split="test", target="KRAS", arm_a="tapfm")
    sides = []
    for run in runs:
        table = read_predictions(run / "predictions.csv")
        rows = table[(table["arm"] == "tapfm") & (table["target"] == "KRAS") & (table["split"] == "test")]
        sides.append(rows.set_index(["fold", "patient_id"])[["label", "score"]].sort_index())
    a, b = sides
    folds = a.index.get_level_values("fold").to_numpy()
    expected = statistics.compare_auroc(a["label"], a["score"], b["score"], strata=folds)
    assert row.difference.value == pytest.approx(expected.value, abs=1e-12)
    assert row.difference.p_value == pytest.approx(expected.p_value, rel=1e-9)


def test_p_values_are_adjusted_over_all_rows(runs: tuple[Path, Path]) -> None:
    rows = compare_runs(*runs).rows
    expected = statistics.adjust_p([row.difference.p_value for row in rows], method="holm")
    assert np.allclose([row.p_adjusted for row in rows], expected, equal_nan=True)
    assert any(row.p_adjusted > row.difference.p_value for row in rows if not math.isnan(row.p_adjusted))


def test_a_run_is_compared_with_scored_predictions_of_anybody(runs: tuple[Path, Path], tmp_path: Path) -> None:
    theirs = external_scores(runs[1], "abmil", "EGFR").reset_index().rename(columns={"patient_id": "patient"})
    theirs.assign(split="external").to_csv(tmp_path / "theirs.csv", index=False)
    options = ScoreOptions(files=(tmp_path / "theirs.csv",), target="EGFR", cohort="ext")
    scored = score_predictions(options, tmp_path / "reports", formats=("html",))
    compared = compare_runs(runs[0], scored.folder, arms=[("tapfm", "theirs")])
    (row,) = compared.rows
    expected = row_of(compare_runs(*runs, arms=[("tapfm", "abmil")]).rows, cohort="ext", target="EGFR")
    assert row.difference == expected.difference
    assert any("KRAS" in note for note in compared.notes)
    assert any("dev test" in note for note in compared.notes)


def test_arms_without_a_common_name_are_compared_when_named(runs: tuple[Path, Path]) -> None:
    rows = compare_runs(*runs, arms=[("tapfm", "abmil")]).rows
    assert {(row.arm_a, row.arm_b) for row in rows} == {("tapfm", "abmil")}
    with pytest.raises(RunError, match="--arms tapfm=nobody"):
        compare_runs(*runs, arms=[("tapfm", "nobody")])


def test_runs_that_do_not_meet_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = runs[0]
    with pytest.raises(RunError, match=r"no predictions\.csv"):
        compare_runs(run, tmp_path)
    with pytest.raises(RunError, match="the same folder twice"):
        compare_runs(run, run)
    with pytest.raises(RunError, match="--level"):
        compare_runs(*runs, level=95)
    strangers = without_patients(run, tmp_path / "strangers")
    text = (strangers / "predictions.csv").read_text().replace(",E", ",X").replace(",D", ",Y").replace(",XGFR", ",EGFR")
    (strangers / "predictions.csv").write_text(text)
    with pytest.raises(RunError, match="that both predicted"):
        compare_runs(run, strangers)
    rehearsal = tmp_path / "rehearsal-0123456789ab"
    shutil.copytree(run, rehearsal)
    edited(rehearsal / "provenance.json", '"planted": null', '"planted": {"EGFR": 0.9}')
    with pytest.raises(RunError, match="synthetic"):
        compare_runs(run, rehearsal)


def test_runs_that_disagree_on_a_label_are_refused_with_the_patient(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = without_patients(runs[1], tmp_path / "other")
    table = read_predictions(other / "predictions.csv")
    flipped = (table["patient_id"] == "E011") & (table["target"] == "KRAS")
    table.loc[flipped, "label"] = 1 - table.loc[flipped, "label"]
    (other / "predictions.csv").write_text(predictions_csv(table))
    with pytest.raises(RunError, match=r"ext external, KRAS.*E011"):
        compare_runs(runs[0], other)


def test_runs_that_split_the_cohort_otherwise_are_compared_within_the_folds_of_both(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """Moving one patient to the other fold of B makes joint folds; the note says so, and no pair crosses a fold."""
    other = without_patients(runs[1], tmp_path / "other")
    table = read_predictions(other / "predictions.csv")
    test = table["split"] == "test"
    moved = test & (table["patient_id"].isin(sorted(set(table.loc[test & (table["fold"] == 0), "patient_id"]))[:5]))
    table.loc[moved, "fold"] = 1
    (other / "predictions.csv").write_text(predictions_csv(table))
    compared = compare_runs(runs[0], other)
    assert any("split the patients differently" in note for note in compared.notes)
    row = row_of(compared.rows, cohort="dev", target="KRAS", arm_a="tapfm")
    a = read_predictions(runs[0] / "predictions.csv")
    keep = ["patient_id", "fold", "label", "score"]
    first, second = (t[(t["arm"] == "tapfm") & (t["target"] == "KRAS") & (t["split"] == "test")][keep]
                     for t in (a, table))  # fmt: skip
    both = first.merge(second, on="patient_id", suffixes=("_a", "_b"))
    joint = (2 * both["fold_a"] + both["fold_b"]).to_numpy()
    expected = statistics.compare_auroc(both["label_a"], both["score_a"], both["score_b"], strata=joint)
    assert row.difference.value == pytest.approx(expected.value, abs=1e-12)
