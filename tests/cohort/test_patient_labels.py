"""A patient's label is 0, 1 or unknown, never the first row's word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.cohort.labels import patient_labels, read_spellings, values_option
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.errors import InputError, ManifestError

COLUMNS = {"EGFR": "EGFR"}


def test_labels_are_sorted_by_patient_and_unknown_is_nan(manifest_of):
    manifest = manifest_of("patient_id,slide_id,EGFR,KRAS\nB,1,1.0,\nA,2,0,1\nB,3,1,\n")
    labels = patient_labels(manifest, {"KRAS": "KRAS", "EGFR": "EGFR"})
    assert list(labels.index) == ["A", "B"]
    assert labels.index.name == "patient_id"
    assert list(labels.columns) == ["KRAS", "EGFR"]
    np.testing.assert_array_equal(labels.to_numpy(), [[1, 0], [np.nan, 1]])


def test_other_spellings_are_mapped_only_where_the_protocol_says_so(manifest_of):
    manifest = manifest_of("patient_id,slide_id,EGFR\nA,1,mut\nB,2,wt\nC,3,n/a\n")
    labels = patient_labels(manifest, COLUMNS, {"EGFR": {"mut": 1, "wt": 0, "n/a": None}})
    np.testing.assert_array_equal(labels["EGFR"].to_numpy(), [1, 0, np.nan])
    with pytest.raises(ManifestError) as caught:
        patient_labels(manifest, COLUMNS)
    assert len(caught.value.problems) == 3
    assert str(caught.value.problems[0]).endswith(
        "m.csv, row 2, column EGFR: expected 0, 1 or empty, got 'mut'. "
        "Map it: under targets.EGFR.values in a protocol, or with --values 'EGFR:mut=1' where there is none."
    )


def test_a_spelling_is_one_fault_however_many_rows_have_it(manifest_of):
    rows = "".join(f"P{i},s{i},{'mut' if i % 2 else 'wt'}\n" for i in range(40))
    with pytest.raises(ManifestError) as caught:
        patient_labels(manifest_of("patient_id,slide_id,EGFR\n" + rows), COLUMNS)
    assert [problem.got for problem in caught.value.problems] == [
        "'wt' in 20 rows (2, 4, 6, 8, 10, 12, 14, 16, ...)",
        "'mut' in 20 rows (3, 5, 7, 9, 11, 13, 15, 17, ...)",
    ]


def test_spellings_are_read_from_a_command_line():
    assert read_spellings(["EGFR:mut=1, wt=0 ,a=b=", "MET:+=1", "EGFR:n/a="]) == {
        "EGFR": {"mut": 1, "wt": 0, "a=b": None, "n/a": None},
        "MET": {"+": 1},
    }


@pytest.mark.parametrize("text", ["EGFR", "EGFR:", "EGFR:mut", "EGFR:mut=2", ":mut=1", "EGFR:=1", "E:a=1,a=0", ""])
def test_spellings_that_say_nothing_are_refused(text):
    with pytest.raises(InputError, match="--values"):
        read_spellings([text])


@pytest.mark.parametrize(
    ("cells", "option"),
    [
        (["negative", "positive"], "--values 'T:positive=1,negative=0'"),
        (["No", "Yes", "NA"], "--values 'T:Yes=1,No=0,NA='"),
        (["False", "True"], "--values 'T:True=1,False=0'"),
        (["wildtype", "mutant"], "--values 'T:mutant=1,wildtype=0'"),
        (["-1", "1"], "--values 'T:-1=0'"),
        (["-1", "0", "1"], "--values 'T:WORD=1,WORD=0'"),
        (["0", "MUT"], "--values 'T:MUT=1'"),
        (["0", "1", "unknown"], "--values 'T:unknown='"),
        (["0", "2"], "--values 'T:WORD=1,WORD=0'"),
        (["1", "2"], "--values 'T:WORD=1,WORD=0'"),
        (["responder", "stable"], "--values 'T:WORD=1,WORD=0'"),
        (["it's", "no"], "--values 'T:WORD=1,WORD=0'"),
    ],
)
def test_a_remedy_that_can_be_pasted_never_inverts_labels(cells, option):
    assert values_option("T", cells, cells) == option


def test_the_remedy_of_one_cell_leaves_open_what_is_not_known(manifest_of):
    manifest = manifest_of("patient_id,slide_id,EGFR\nA,1,NA\nB,2,-1\nC,3,1\nD,4,blue\n")
    with pytest.raises(ManifestError) as caught:
        patient_labels(manifest, COLUMNS)
    said = [problem.remedy.partition("--values ")[2].partition(" where")[0] for problem in caught.value.problems]
    assert said == ["'EGFR:NA='", "'EGFR:-1=0'", "'EGFR:WORD=1,WORD=0'"]
    with pytest.raises(InputError):
        read_spellings(["EGFR:WORD=1,WORD=0"])  # pasted as it is


@pytest.mark.parametrize("cell", ["2", "-1", "0.5", "true", "NaN", "NA", "yes", "01", "1e0", "2024-01-01"])
def test_nothing_else_is_a_label(manifest_of, cell):
    with pytest.raises(ManifestError, match="expected 0, 1 or empty"):
        patient_labels(manifest_of(f"patient_id,slide_id,EGFR\nA,1,{cell}\n"), COLUMNS)


@pytest.mark.parametrize(("first", "second"), [("0", "1"), ("1", "0"), ("", "1"), ("0", "")])
def test_rows_of_a_patient_that_disagree_are_listed(manifest_of, first, second):
    manifest = manifest_of(f"patient_id,slide_id,EGFR\nA,1,{first}\nB,2,0\nA,3,{second}\n")
    with pytest.raises(ManifestError) as caught:
        patient_labels(manifest, COLUMNS)
    (problem,) = caught.value.problems
    assert "patient A" in problem.where
    assert "row 2" in problem.got
    assert "row 4" in problem.got


def test_an_excluded_row_has_no_say_but_its_spelling_counts(manifest_of):
    manifest = manifest_of("patient_id,slide_id,exclude,EGFR\nA,1,,0\nA,2,recurrence,1\nB,3,withdrawn,1\n")
    labels = patient_labels(manifest, COLUMNS)
    assert labels["EGFR"].to_dict() == {"A": 0.0}
    with pytest.raises(ManifestError, match="row 3"):
        patient_labels(manifest_of("patient_id,slide_id,exclude,EGFR\nA,1,,0\nA,2,recurrence,mut\n"), COLUMNS)


def test_a_misspelt_label_is_one_fault_not_two(manifest_of):
    with pytest.raises(ManifestError) as caught:
        patient_labels(manifest_of("patient_id,slide_id,EGFR\nA,1,0\nA,2,mut\n"), COLUMNS)
    assert len(caught.value.problems) == 1


def test_a_missing_column_and_a_bad_one_are_reported_together(manifest_of):
    with pytest.raises(ManifestError) as caught:
        patient_labels(manifest_of("patient_id,slide_id,EGFR\nA,1,x\n"), {"EGFR": "EGFR", "MET": "MET_driver"})
    assert [problem.got for problem in caught.value.problems] == ["'x'", "no such column"]


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ABCDE"), st.sampled_from(["0", "1", "", "0.0", "1.0"])), min_size=1, max_size=12
    ),
    st.randoms(use_true_random=False),
)
def test_row_order_never_matters_and_the_slow_twin_agrees(tmp_path_factory, rows, random):
    lines = [f"{patient},s{number},{cell}\n" for number, (patient, cell) in enumerate(rows)]
    said: dict[str, set[str]] = {}
    for patient, cell in rows:
        said.setdefault(patient, set()).add(cell.removesuffix(".0"))
    torn = sorted(patient for patient, cells in said.items() if len(cells) > 1)
    path = tmp_path_factory.mktemp("labels") / "m.csv"
    for _ in range(2):
        path.write_text("patient_id,slide_id,EGFR\n" + "".join(lines))
        manifest = read_manifest(path, "x")
        if torn:
            with pytest.raises(ManifestError) as caught:
                patient_labels(manifest, COLUMNS)
            assert [problem.where.split("patient ")[1][0] for problem in caught.value.problems] == torn
        else:
            labels = patient_labels(manifest, COLUMNS)["EGFR"]
            for patient, cells in said.items():
                (cell,) = cells
                assert np.isnan(labels[patient]) if cell == "" else labels[patient] == float(cell)
        random.shuffle(lines)
