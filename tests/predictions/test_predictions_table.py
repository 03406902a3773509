"""The predictions table keeps every bit, refuses what it cannot mean, and turns slides into patients."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import PredictionsError
from tapfm_eval.predictions.table import (
    COLUMNS,
    FORMAT,
    check_predictions,
    patient_scores,
    predictions_csv,
    predictions_frame,
    read_predictions,
)

Row = tuple[Any, ...]


def row(**changes: Any) -> Row:
    plain = {
        "arm": "tapfm", "seed": 1, "fold": 0, "cohort": "ext", "split": "external", "patient_id": "P1",
        "slide_id": "S1", "target": "EGFR", "label": 1.0, "score": 0.25,
    }  # fmt: skip
    return tuple({**plain, **changes}[name] for name in COLUMNS)


def round_trip(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    path = folder / "predictions.csv"
    path.write_text(predictions_csv(frame), encoding="utf-8")
    return read_predictions(path)


SCORES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 5e-324, 1e-300, 0.1 + 0.2, 1 - 2**-53, 2**-53]))


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.lists(st.tuples(SCORES, st.sampled_from([0.0, 1.0, math.nan])), min_size=1, max_size=20))
def test_scores_and_labels_come_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, content: list[tuple[float, float]]
) -> None:
    rows = [row(patient_id=f"P{i}", slide_id=f"S{i}", label=y, score=s) for i, (s, y) in enumerate(content)]
    frame = predictions_frame(rows)
    after = round_trip(tmp_path_factory.mktemp("p"), frame)
    pd.testing.assert_frame_equal(after, frame, check_exact=True)
    assert after["score"].to_numpy().tobytes() == frame["score"].to_numpy().tobytes()
    assert predictions_csv(after) == predictions_csv(frame)


def test_ids_that_look_like_something_else_stay_text(tmp_path: Path) -> None:
    ids = ["007", "NA", "nan", "1e5", 'quo"ted', "comma,", "# hash", "line\nbreak", " space ", "True", "é中"]
    frame = predictions_frame([row(patient_id=name, slide_id=name, target="T,1") for name in ids])
    after = round_trip(tmp_path, frame)
    assert sorted(after["patient_id"]) == sorted(ids)
    pd.testing.assert_frame_equal(after, frame)


def test_the_file_begins_with_its_format_and_rows_are_sorted() -> None:
    rows = [row(slide_id="S2"), row(slide_id="S1"), row(arm="abmil")]
    lines = predictions_csv(predictions_frame(rows)).splitlines()
    assert lines[0] == f"# {FORMAT}"
    assert lines[1] == ",".join(COLUMNS)
    assert [line.split(",")[0] for line in lines[2:]] == ["abmil", "tapfm", "tapfm"]
    assert predictions_csv(predictions_frame(rows)) == predictions_csv(predictions_frame(rows[::-1]))
    assert lines[2].endswith(",1,0.25")
    assert predictions_csv(predictions_frame([row(label=math.nan)])).splitlines()[2].endswith(",EGFR,,0.25")


def test_a_table_without_rows_is_a_table(tmp_path: Path) -> None:
    assert len(round_trip(tmp_path, predictions_frame([]))) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": 1.0000001}, "column score: expected a probability from 0 to 1, got 1.0000001"),
        ({"score": -0.1}, "column score"),
        ({"score": math.nan}, "column score"),
        ({"score": math.inf}, "column score"),
        ({"label": 2.0}, "column label: expected 0, 1 or empty, got 2.0"),
        ({"label": 0.5}, "column label"),
        ({"split": "val"}, "column split: expected train, validation, test, external, got 'val'"),
        ({"seed": -1}, "column seed"),
        ({"fold": -1}, "column fold"),
        ({"patient_id": ""}, "column patient_id"),
        ({"arm": ""}, "column arm"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_row(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    frame = predictions_frame([row(), row(patient_id="P2", slide_id="S2")]).astype({"label": float})
    for name, value in changes.items():
        frame.loc[1, name] = value
    path = tmp_path / "p.csv"
    body = frame.to_csv(index=False, lineterminator="\n")
    path.write_text(f"# {FORMAT}\n{body}", encoding="utf-8")
    with pytest.raises(PredictionsError) as error:
        read_predictions(path)
    assert f"{path}, row 4, " in str(error.value), "the fourth line of the file"
    assert said in str(error.value)


def test_all_bad_values_are_reported_at_once() -> None:
    frame = predictions_frame([row(slide_id=f"S{i}") for i in range(3)])
    frame["score"] = [1.5, -1, 0.5]
    frame.loc[2, "split"] = "dev"
    with pytest.raises(PredictionsError) as error:
        check_predictions(frame, "table")
    assert len(error.value.problems) == 3


def test_a_slide_that_one_model_scored_twice_is_refused() -> None:
    with pytest.raises(PredictionsError, match="1 repeated"):
        predictions_frame([row(score=0.1), row(score=0.2)])
    assert len(predictions_frame([row(), row(seed=2), row(fold=1), row(target="KRAS"), row(arm="b")])) == 5


@pytest.mark.parametrize("other", [0.0, math.nan])
def test_a_patient_with_two_labels_is_refused(other: float) -> None:
    with pytest.raises(PredictionsError, match="two for patient P1"):
        predictions_frame([row(slide_id="S1"), row(slide_id="S2", label=other)])
    assert len(predictions_frame([row(), row(target="KRAS", label=other), row(cohort="dev", label=other)])) == 3


HEADER = ",".join(COLUMNS)
GOOD = "tapfm,1,0,ext,external,P1,S1,EGFR,1,0.5"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1"),
        (f"{HEADER}\n{GOOD}\n", "line 1"),
        (f"# tapfm-eval/predictions/2\n{HEADER}\n{GOOD}\n", "'# tapfm-eval/predictions/2'"),
        (f"# {FORMAT}\n", "a CSV table"),
        (f"# {FORMAT}\n{HEADER.replace(',score', '')}\n{GOOD[:-4]}\n", "a column score, got no such column"),
        (f"# {FORMAT}\n{HEADER},extra\n{GOOD},1\n", "got a column extra"),
        (f"# {FORMAT}\n{HEADER}\n{GOOD},1\n", ""),
        (f"# {FORMAT}\n{HEADER}\n{GOOD}\n{GOOD[:-4]}\n", ""),
        (f"# {FORMAT}\n{HEADER}\n{GOOD.replace('0.5', 'high')}\n", "a CSV table"),
        (f"# {FORMAT}\n{HEADER}\n{GOOD.replace('tapfm,1', 'tapfm,one')}\n", "column seed: expected a whole number"),
        (f'# {FORMAT}\n{HEADER}\n"{GOOD}\n', ""),
    ],
)
def test_a_file_that_is_no_predictions_table_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PredictionsError) as error:
        read_predictions(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_surplus_cells_do_not_shift_columns(tmp_path: Path) -> None:
    """pandas would take the first cell for an index and read the rest one column to the left."""
    shifted = "x,1,2,3,external,P,S,T,1,0.5,0.5"
    path = tmp_path / "p.csv"
    path.write_text(f"# {FORMAT}\n{HEADER}\n{shifted}\n", encoding="utf-8")
    with pytest.raises(PredictionsError, match="as many cells in each row"):
        read_predictions(path)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, head: bool
) -> None:
    path = tmp_path_factory.mktemp("p") / "p.csv"
    path.write_bytes((f"# {FORMAT}\n{HEADER}\n".encode() if head else b"") + content)
    try:
        read = read_predictions(path)
    except PredictionsError as error:
        said = str(error)
    else:
        said = str(path) if len(read) == 0 else "rows out of nowhere"
    assert str(path) in said


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(PredictionsError, match="Check the path"):
            read_predictions(path)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=6))
def test_a_patients_score_is_the_mean_of_its_slides_clipped_logits(scores: list[float]) -> None:
    frame = predictions_frame([row(slide_id=f"S{i}", score=s) for i, s in enumerate(scores)])
    clipped = [min(max(s, 1e-6), 1 - 1e-6) for s in scores]
    mean = sum(math.log(s / (1 - s)) for s in clipped) / len(scores)
    (found,) = patient_scores(frame).to_dict("records")
    assert found["logit"] == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert found["score"] == pytest.approx(1 / (1 + math.exp(-mean)), rel=1e-9)
    assert (found["patient_id"], found["label"]) == ("P1", 1.0)


def test_models_patients_and_targets_are_kept_apart() -> None:
    rows = [
        row(arm=arm, seed=seed, fold=fold, patient_id=patient, slide_id=f"{patient}-{s}", target=target, label=label)
        for arm in ("a", "b") for seed in (1, 2) for fold in (0, 1) for patient in ("P1", "P2") for s in range(2)
        for target, label in (("EGFR", 1.0), ("ALK", math.nan))
    ]  # fmt: skip
    found = patient_scores(predictions_frame(rows))
    assert len(found) == 2 * 2 * 2 * 2 * 2
    assert set(found.loc[found["target"] == "EGFR", "label"]) == {1.0}
    assert found.loc[found["target"] == "ALK", "label"].isna().all()
    assert np.allclose(found["score"], 0.25)
