"""A split file fits its manifest in every row, or says where it does not."""

import json

import pandas as pd
import pytest

from tapfm_eval.cohort.splits import read_split, write_split
from tapfm_eval.errors import SplitError

ROWS = "A,0,train\nB,0,validation\nC,0,test\nA,1,test\nB,1,train\nC,1,validation\n"


@pytest.fixture
def manifest(manifest_of):
    return manifest_of("patient_id,slide_id,EGFR\nA,1,0\nB,2,1\nC,3,0\nD,4,1\n")


@pytest.fixture
def split_of(manifest, tmp_path):
    def read(rows, head=None, **meta):
        path = tmp_path / "split.csv"
        fields = {"scheme": "kfold", "seed": 1, "manifest_sha256": manifest.sha256, **meta}
        line = f"# tapfm-eval/split/1 {json.dumps(fields)}\n" if head is None else head
        path.write_text(line + "patient_id,fold,split\n" + rows, encoding="utf-8")
        return read_split(path, manifest)

    return read


def faults(split_of, rows, head=None, **meta):
    with pytest.raises(SplitError) as caught:
        split_of(rows, head, **meta)
    return [str(problem) for problem in caught.value.problems]


def test_a_split_is_read_by_fold_and_part(split_of):
    split = split_of(ROWS)
    assert split.folds == (0, 1)
    assert split.patients(0, "train") == ("A",)
    assert split.patients(1, "test") == ("A",)
    assert (split.scheme, split.seed) == ("kfold", 1)


def test_patients_that_the_split_leaves_out_are_no_fault(split_of):
    assert "D" not in set(split_of(ROWS).table["patient_id"])


def test_writing_and_reading_gives_the_same_bytes_whatever_the_row_order(manifest, tmp_path, split_of):
    split = split_of(ROWS)
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    write_split(one, split.table, split.meta)
    write_split(two, split.table.sample(frac=1, random_state=0), dict(reversed(split.meta.items())))
    assert one.read_bytes() == two.read_bytes()
    again = read_split(one, manifest)
    pd.testing.assert_frame_equal(again.table, split.table)
    assert again.meta == split.meta


def test_every_fault_is_listed_with_its_row(split_of):
    said = faults(split_of, "A,0,train\nA,0,test\nX,0,val\nB,zero,train\nC,1001,test\nB,0,validation\n")
    assert len(said) == 6, said
    for row, column, text in (
        (4, "patient_id", "'A' in test, and in train (row 3)"),
        (5, "split", "Write validation."),
        (5, "patient_id", "'X'"),
        (6, "fold", "'zero'"),
        (7, "fold", "'1001'"),
    ):
        assert any(f"row {row}, column {column}: " in one and text in one for one in said), (row, said)
    assert any("fold 0" in one and "test patients" in one for one in said)


def test_a_patient_twice_in_the_same_part_is_a_fault_too(split_of):
    assert "once in fold 0" in faults(split_of, ROWS + "A,0,train\n")[0]


@pytest.mark.parametrize("missing", ["train", "validation", "test"])
def test_every_fold_has_all_three_parts(split_of, missing):
    other = "validation" if missing == "train" else "train"
    said = faults(split_of, ROWS.replace(f"1,{missing}", f"1,{other}"))
    assert said == [said[0]]
    assert f"fold 1: expected {missing} patients, got none" in said[0]


def test_folds_are_numbered_from_zero_without_gaps(split_of):
    assert "folds 0, 1, 2" in faults(split_of, ROWS.replace(",1,", ",2,"))[0]


def test_a_split_of_another_manifest_is_refused_with_the_remedy(split_of):
    said = faults(split_of, ROWS, manifest_sha256="0" * 64)
    assert "make the split again, or restore the manifest" in said[0]


@pytest.mark.parametrize(
    "head",
    [
        "",
        "# note\n",
        "# tapfm-eval/split/1\n",
        "# tapfm-eval/split/1 [1]\n",
        "# tapfm-eval/split/1 {\n",
        "# tapfm-eval/split/2 {}\n",
        "# tapfm-eval/split/1 " + "[" * 5000 + "\n",
    ],
)
def test_a_missing_first_line_is_answered_with_the_line_to_write(split_of, manifest, head):
    said = faults(split_of, ROWS, head=head)
    assert f'# tapfm-eval/split/1 {{"manifest_sha256": "{manifest.sha256}"' in said[0]


@pytest.mark.parametrize(("field", "value"), [("scheme", 3), ("seed", "one"), ("seed", True)])
def test_fields_of_the_first_line_are_typed(split_of, field, value):
    assert field in faults(split_of, ROWS, **{field: value})[0]
