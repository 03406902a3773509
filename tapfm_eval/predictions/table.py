"""The predictions table: one tidy row per model, slide and target; every number of a report comes from it alone."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from tapfm_eval.cohort.patients import expit, logit
from tapfm_eval.errors import PredictionsError, Problem

FORMAT = "tapfm-eval/predictions/1"
COLUMNS = ("arm", "seed", "fold", "cohort", "split", "patient_id", "slide_id", "target", "label", "score")
SPLITS = ("train", "validation", "test", "external")
KEY = ("arm", "seed", "fold", "cohort", "split", "patient_id", "slide_id", "target")
MAX_BYTES = 2_000_000_000
_FIRST_ROW = 3  # of a file: after the format line and the header
_TYPES: dict[str, str | type[str]] = {
    **dict.fromkeys(COLUMNS, str), "seed": "int64", "fold": "int64", "label": "float64", "score": "float64",
}  # fmt: skip
_EXPECTED = {
    "seed": "a whole number from 0",
    "fold": "a whole number from 0",
    "split": ", ".join(SPLITS),
    "label": "0, 1 or empty",
    "score": "a probability from 0 to 1",
}

_SCHEMA = pa.DataFrameSchema(
    {
        **{name: pa.Column(str, pa.Check.str_length(1, 500)) for name in ("arm", "cohort", "patient_id", "slide_id")},
        "seed": pa.Column("int64", pa.Check.ge(0)),
        "fold": pa.Column("int64", pa.Check.ge(0)),
        "split": pa.Column(str, pa.Check.isin(SPLITS)),
        "target": pa.Column(str, pa.Check.str_length(1, 200)),
        "label": pa.Column("float64", pa.Check.isin([0.0, 1.0]), nullable=True),
        "score": pa.Column("float64", pa.Check.in_range(0, 1)),
    },
    strict=True,
)


def predictions_frame(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    """Rows in the order of `COLUMNS` as a checked table, sorted by its key."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(_TYPES)
    return check_predictions(frame, "predictions")


def check_predictions(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """`frame` sorted by its key, or an error that lists what is wrong with it; rows are named by the frame's index.

    Raises:
        PredictionsError: A column is missing or holds values it must not; a key occurs twice; a patient has two labels.
    """
    try:
        _SCHEMA.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.head(20).to_dict("records")
        raise PredictionsError(_problem(where, case) for case in cases) from None
    repeated = frame.duplicated(list(KEY))
    if repeated.any():
        first = frame.loc[repeated, list(KEY)].iloc[0].to_dict()
        raise PredictionsError(
            Problem(where, "one row per model, slide and target", f"{int(repeated.sum())} repeated, first {first}",
                    "Remove the repeated rows.")
        )  # fmt: skip
    labels = frame.drop_duplicates(["cohort", "target", "patient_id", "label"])
    twice = labels.duplicated(["cohort", "target", "patient_id"])
    if twice.any():
        raise PredictionsError(
            Problem(where, "one label per patient and target",
                    f"two for patient {labels.loc[twice, 'patient_id'].iloc[0]}", "Correct the labels.")
        )  # fmt: skip
    return frame.sort_values(list(KEY), kind="stable").reset_index(drop=True)


def _problem(where: str, case: Mapping[Any, Any]) -> Problem:
    """One of pandera's failure cases in the words of this suite."""
    check, got = str(case["check"]), case["failure_case"]
    if check == "column_in_dataframe":
        return Problem(where, f"a column {got}", "no such column", "Add the column.")
    if check == "column_in_schema":
        return Problem(where, f"the columns {', '.join(COLUMNS)}", f"a column {got}", "Remove the column.")
    column = str(case["column"])
    row = "" if pd.isna(case["index"]) else f"row {int(case['index'])}, "
    expected = _EXPECTED.get(column, "text of 1 to 500 characters")
    return Problem(f"{where}, {row}column {column}", expected, repr(got)[:80], "Correct the table.")


def predictions_csv(frame: pd.DataFrame) -> str:
    """The table as text: a format line, a header, rows; scores keep every digit."""
    written = frame.copy()
    written["label"] = [("" if np.isnan(x) else str(int(x))) for x in frame["label"]]
    written["score"] = [repr(float(x)) for x in frame["score"]]
    return f"# {FORMAT}\n" + written.to_csv(index=False, lineterminator="\n")


def read_predictions(path: Path) -> pd.DataFrame:
    """A predictions table as written by this suite.

    Raises:
        PredictionsError: The file cannot be read as what it claims to be.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PredictionsError(Problem(str(path), f"at most {MAX_BYTES:,} bytes", "more", "Is it the right file?"))
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PredictionsError(
            Problem(str(path), "a predictions table", error.strerror or str(error), "Check the path.")
        ) from None
    except UnicodeDecodeError:
        raise PredictionsError(Problem(str(path), "UTF-8 text", "other bytes", "Save it as UTF-8 CSV.")) from None
    first, _, body = text.partition("\n")
    if first.strip() != f"# {FORMAT}":
        raise PredictionsError(
            Problem(f"{path}, line 1", f"# {FORMAT}", repr(first[:60]), "Give a table that this suite wrote.")
        )
    try:
        # scores by way of text: the CSV parser of older pandas may miss the nearest float by one bit;
        # seeds and folds too: it warns, or rounds, where they are no whole numbers
        types = _TYPES | {"score": str, "seed": str, "fold": str}
        frame = pd.read_csv(io.StringIO(body), dtype=types, keep_default_na=False, na_values={"label": [""]})
        if "score" in frame:
            # an empty cell becomes NaN, which the schema then names with its row
            frame = frame.assign(score=[float(str(text) or "nan") for text in frame["score"]])
    except (ValueError, TypeError, OverflowError, pd.errors.ParserError) as error:
        raise PredictionsError(
            Problem(str(path), "a CSV table", str(error).splitlines()[0][:120], "Correct the table.")
        ) from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus cells at the left for an index
        raise PredictionsError(
            Problem(str(path), "as many cells in each row as in the header", "more", "Remove the surplus cells.")
        )
    frame.index = pd.RangeIndex(_FIRST_ROW, _FIRST_ROW + len(frame))
    frame = _with_whole_numbers(frame, str(path))
    return check_predictions(frame, str(path))


def _with_whole_numbers(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table with seeds and folds as numbers.

    Raises:
        PredictionsError: A cell is no whole number from 0; each spelling is named once, with its first row.
    """
    problems: list[Problem] = []
    for name in ("seed", "fold"):
        if name in frame:
            codes, spellings = pd.factorize(frame[name])
            wrong = [i for i, text in enumerate(spellings) if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII)]
            problems += [
                Problem(f"{where}, row {frame.index[int(np.argmax(codes == i))]}, column {name}", _EXPECTED[name],
                        repr(spellings[i])[:80], "Correct the table.")
                for i in wrong[:10]
            ]  # fmt: skip
            if not wrong:
                numbers = np.array([int(text) for text in spellings], dtype=np.int64)
                frame = frame.assign(**{name: numbers[codes] if len(frame) else numbers})
    if problems:
        raise PredictionsError(problems)
    return frame


def patient_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per model, patient and target: the mean of the slides' clipped logits, as `logit` and `score`."""
    keys = [name for name in KEY if name != "slide_id"]
    scored = frame.assign(logit=logit(frame["score"].to_numpy(dtype=np.float64)))
    grouped = scored.groupby(keys, sort=True, as_index=False).agg(label=("label", "first"), logit=("logit", "mean"))
    return grouped.assign(score=expit(grouped["logit"].to_numpy(dtype=np.float64)))
