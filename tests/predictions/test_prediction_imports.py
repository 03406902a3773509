"""Files of other tools become rows of the predictions table, or are refused with every fault and its rows."""

from pathlib import Path

import pytest

from tapfm_eval.errors import PredictionsError
from tapfm_eval.predictions.imports import (
    ImportedPredictions,
    ImportOptions,
    import_predictions,
    read_slide_table,
)
from tapfm_eval.predictions.table import predictions_csv, predictions_frame


def imported(path: Path, text: str, **options: object) -> ImportedPredictions:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return import_predictions(path, ImportOptions(**options))  # type: ignore[arg-type]


def faults(path: Path, text: str, **options: object) -> str:
    with pytest.raises(PredictionsError) as error:
        imported(path, text, **options)
    return "\n".join(map(str, error.value.problems))


def cells(read: ImportedPredictions) -> list[tuple[object, ...]]:
    columns = ["patient_id", "slide_id", "target", "label", "score"]
    return list(read.rows[columns].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    "header", ["patient,label,score", "patient_id,label,score", "Patient,LABEL,Score", '"","patient","label","score"']
)
def test_plain_names_are_recognised_in_any_case_and_beside_r_row_names(tmp_path: Path, header: str) -> None:
    lead = '"1",' if header.startswith('""') else ""
    read = imported(tmp_path / "m.csv", f"{header}\n{lead}P1,1,0.75\n")
    assert read.source == "CSV"
    assert cells(read) == [("P1", "P1", "label", 1.0, 0.75)]


def test_columns_of_any_name_are_mapped_and_the_label_column_names_the_target(tmp_path: Path) -> None:
    text = "ID,EGFR,p,seen\nP1,0,0.5,val\nP2,1,0.25,test\n"
    columns = {"patient": "ID", "label": "EGFR", "score": "p", "split": "seen"}
    read = imported(tmp_path / "m.csv", text, columns=columns)
    assert cells(read) == [("P1", "P1", "EGFR", 0.0, 0.5), ("P2", "P2", "EGFR", 1.0, 0.25)]
    assert list(read.rows["split"]) == ["validation", "test"]


def test_what_r_and_pandas_write_for_truth_and_absence_is_read(tmp_path: Path) -> None:
    read = imported(tmp_path / "m.csv", "patient,label,score\nA,TRUE,1\nB,FALSE,0\nC,NA,1e-3\nD,,.5\n")
    assert [str(label) for label in read.rows["label"]] == ["1.0", "0.0", "nan", "nan"]
    assert list(read.rows["score"]) == [1.0, 0.0, 0.001, 0.5]


def test_a_named_positive_class_makes_the_other_spelling_negative(tmp_path: Path) -> None:
    read = imported(tmp_path / "m.csv", "patient,label,score\nA,mut,0.5\nB,wt,0.5\nC,NA,0.5\n", positive="mut")
    assert [str(label) for label in read.rows["label"]] == ["1.0", "0.0", "nan"]
    three = "patient,label,score\nA,mut,0.5\nB,wt,0.5\nC,unknown,0.5\n"
    assert "one spelling beside 'mut'" in faults(tmp_path / "m.csv", three, positive="mut")
    assert "the cells say mut, wt" in faults(tmp_path / "m.csv", three.replace("unknown", "wt"), positive="MUT")
    assert "rows 2, column label" not in faults(tmp_path / "m.csv", three)
    assert "--positive" in faults(tmp_path / "m.csv", three)


def test_every_fault_of_a_file_is_listed_at_once_with_its_rows(tmp_path: Path) -> None:
    text = "patient,label,score\nA,1,0.5\nA,1,0.6\nB,2,0.5\nC,0,1.5\nD,0,-3\nE,0,high\n,1,0.5\nF,1,\n"
    said = faults(tmp_path / "m.csv", text)
    for place in (
        "row 3: expected one row a patient, got 'A' again, as in row 2",
        "row 4, column label: expected 0, 1 or empty, got '2'",
        "rows 5, 6, column score: expected a probability from 0 to 1, got 2 numbers from -3 to 1.5",
        "row 7, column score: expected a number from 0 to 1, got 'high'",
        "row 8: expected a patient's id",
        "row 9, column score: expected a score, got none",
    ):
        assert place in said, said


def test_logits_are_refused_with_the_formula_and_percentages_with_theirs(tmp_path: Path) -> None:
    logits = "patient,label,score\n" + "".join(f"P{i},{i % 2},{i - 6}\n" for i in range(12))
    assert "plogis(x) in R" in faults(tmp_path / "m.csv", logits)
    percent = "patient,label,score\n" + "".join(f"P{i},{i % 2},{8 * i}\n" for i in range(12))
    assert "divide by 100" in faults(tmp_path / "m.csv", percent)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,truth,p\nA,1,0.5\n", "--columns patient=NAME,score=NAME,label=NAME"),
        ("patient;label;score\nA;1;0,5\n", "semicolon"),
        ("patient,patient_id,label,score\nA,A,1,0.5\n", "--columns patient=patient"),
        ("patient,label,score\n", "at least one row"),
        ("# something\npatient,label,score\nA,1,0.5\n", "Delete the comment line"),
        ("patient,label,score,fold\nA,1,0.5,first\n", "a whole number from 0"),
        ("patient,label,score,split\nA,1,0.5,holdout\n", "train, validation, test, external"),
        ("patient,label,score\nA,NA,0.5\n", "known labels"),
        (
            "patient,label,prob\nA,1,0.5\n",
            "column named score, got columns patient, label, prob. Say which column it is: --columns score=prob.",
        ),
        ("patient,label,score\nA,1,0.5\nB,2,0.4\nC,1,0.1\n", "if 2 means positive, --positive 2"),
        ("patient,label,score\nA,mut,0.5\nB,wt,0.4\n", "got 'mut' and 'wt'. Say which of them is positive"),
    ],
)
def test_a_table_that_cannot_be_understood_says_what_to_do(tmp_path: Path, text: str, words: str) -> None:
    assert words in faults(tmp_path / "m.csv", text)


def test_a_wrong_separator_is_one_fault_and_not_one_a_row(tmp_path: Path) -> None:
    text = "patient;label;score\n" + "".join(f"P{i};1;0,{i}\n" for i in range(50))
    assert len(faults(tmp_path / "m.csv", text).splitlines()) == 1


def test_a_clam_file_gives_its_fold_and_takes_patients_from_the_slides_table(tmp_path: Path) -> None:
    text = ",slide_id,Y,Y_hat,p_0,p_1\n0,s1,0.0,0,0.9,0.1\n1,s2,1.0,1,0.25,0.75\n"
    (tmp_path / "slides.csv").write_text("case_id,slide_id,label\nA,s1.svs,x\nB,s2.svs,x\n", encoding="utf-8")
    patient_of = read_slide_table(tmp_path / "slides.csv")
    read = imported(tmp_path / "fold_3.csv", text, patient_of=patient_of, target="EGFR")
    assert read.source == "CLAM"
    assert cells(read) == [("A", "s1", "EGFR", 0.0, 0.1), ("B", "s2", "EGFR", 1.0, 0.75)]
    assert set(read.rows["fold"]) == {3}
    assert "--slides-table" in faults(tmp_path / "fold_3.csv", text)
    assert "1 unknown: s2" in faults(tmp_path / "fold_3.csv", text, patient_of={"s1": "A"})


def test_tcga_slides_name_their_patients_and_the_note_says_so(tmp_path: Path) -> None:
    text = "slide_id,Y,Y_hat,p_0,p_1\nTCGA-05-4244-01Z-00-DX1,0,0,0.9,0.1\n"
    read = imported(tmp_path / "fold_0.csv", text)
    assert list(read.rows["patient_id"]) == ["TCGA-05-4244"]
    assert "TCGA barcodes" in read.notes[0]


def test_more_than_two_clam_classes_are_refused(tmp_path: Path) -> None:
    text = "slide_id,Y,Y_hat,p_0,p_1,p_2\nTCGA-05-4244-01Z,0,0,0.8,0.1,0.1\n"
    assert "two classes" in faults(tmp_path / "fold_0.csv", text)


def test_a_stamp_file_gives_its_fold_target_and_positive_class(tmp_path: Path) -> None:
    text = "PATIENT,EGFR,pred,EGFR_0,EGFR_1,loss\nA,1.0,1,0.25,0.75,0.3\nB,,0,0.9,0.1,\n"
    read = imported(tmp_path / "split-2" / "patient-preds.csv", text)
    assert read.source == "STAMP"
    assert cells(read)[0] == ("A", "A", "EGFR", 1.0, 0.75)
    assert str(cells(read)[1][3]) == "nan"
    assert set(read.rows["fold"]) == {2}
    named = "PATIENT,MSI,pred,MSI_MSI-H,MSI_nonMSI-H,loss\nA,MSI-H,MSI-H,0.75,0.25,0.3\nB,nonMSI-H,x,0.4,0.6,0.1\n"
    assert "--positive MSI-H" in faults(tmp_path / "split-0" / "patient-preds.csv", named)
    read = imported(tmp_path / "split-0" / "patient-preds.csv", named, positive="MSI-H")
    assert cells(read) == [("A", "A", "MSI", 1.0, 0.75), ("B", "B", "MSI", 0.0, 0.4)]


def test_a_stamp_file_of_several_targets_gives_each_and_keeps_alike_names_apart(tmp_path: Path) -> None:
    header = "PATIENT,EGFR,pred_EGFR,EGFR_0,EGFR_1,EGFR_T790M,pred_EGFR_T790M,EGFR_T790M_0,EGFR_T790M_1\n"
    read = imported(tmp_path / "patient-preds.csv", header + "A,1,1,0.2,0.8,0,0,0.7,0.3\n")
    assert cells(read) == [("A", "A", "EGFR", 1.0, 0.8), ("A", "A", "EGFR_T790M", 0.0, 0.3)]


def test_our_own_table_is_read_as_it_is(tmp_path: Path) -> None:
    rows = [("a", 1, 0, "c", "external", f"P{i}", f"S{i}", "EGFR", float(i % 2), 0.1 * i) for i in range(4)]
    frame = predictions_frame(rows)
    read = imported(tmp_path / "p.csv", predictions_csv(frame))
    assert read.source == "tapfm-eval"
    assert read.rows.drop(columns="row").equals(frame)


def test_a_slide_of_two_patients_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("PATIENT,FILENAME\nA,s1.h5\nB,s1.h5\n", encoding="utf-8")
    with pytest.raises(PredictionsError, match="one patient"):
        read_slide_table(tmp_path / "slides.csv")
