"""A protocol's cohorts load together, or every problem of all of them is listed in one error."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.errors import InputError

DEV = "patient_id,slide_id,path,exclude,site,sex,EGFR\n"
DEV_ROWS = (
    "B,b1,b1.svs,,s1,f,1\nA,a2,a2.svs,,s1,m,0\nA,a1,a1.svs,,s1,m,0\n"
    "C,c1,,,s2,m,0\nD,d1,,,s2,f,\nE,e1,,withdrawn,s2,f,1\n"
)
EXT = "patient_id,slide_id,sex,EGFR\nX,,f,1\nY,,m,0\nZ,,m,\n"


@pytest.fixture
def study(tmp_path, protocol_of):
    """Loads a study with these files and protocol changes."""

    def load(dev=DEV + DEV_ROWS, ext=EXT, split="A,0,train\nB,0,validation\nC,0,test\n", sha256=None, **changes):
        (tmp_path / "dev.csv").write_text(dev)
        (tmp_path / "ext.csv").write_text(ext)
        if sha256 is None:
            sha256 = read_manifest(tmp_path / "dev.csv", "dev").sha256
        head = json.dumps({"scheme": "holdout", "seed": 1, "manifest_sha256": sha256})
        (tmp_path / "split.csv").write_text(f"# tapfm-eval/split/1 {head}\npatient_id,fold,split\n{split}")
        return load_cohorts(protocol_of(**changes), tmp_path)

    return load


def faults(study, **changes):
    with pytest.raises(InputError) as caught:
        study(**changes)
    return [str(problem) for problem in caught.value.problems]


def test_a_patient_is_tested_in_one_fold_of_those_that_are_run(study):
    split = "".join(f"{p},{fold},{part}\n" for fold in (0, 1)
                    for p, part in (("A", "train"), ("B", "validation"), ("C", "test")))  # fmt: skip
    (fault,) = faults(study, split=split)
    assert "each patient in the test part of one fold, got 1 patient in 2 folds: C" in fault
    assert "cohorts.dev.folds: [0]" in fault
    plan = {"role": "development", "manifest": "dev.csv", "split": "split.csv", "folds": [1]}
    assert study(split=split, cohorts={"dev": plan})["dev"].folds == (1,)


def test_the_study_holds_labelled_patients_of_the_split_with_all_their_slides(study):
    cohorts = study()
    assert list(cohorts) == ["dev", "ext"]
    dev, ext = cohorts["dev"], cohorts["ext"]
    assert dev.patients == ("A", "B", "C")
    assert dev.slides["slide_id"].tolist() == ["a1", "a2", "b1", "c1"]
    assert list(dev.slides.columns) == ["patient_id", "slide_id", "path", "mpp", "regions"]
    assert np.isnan(dev.slides["mpp"]).all()
    assert dev.folds == (0,)
    assert dev.labels["EGFR"].tolist() == [0, 1, 0]
    assert list(dev.covariates.index) == list(dev.labels.index)
    assert ext.patients == ("X", "Y") == ext.unlinked
    assert len(ext.slides) == 0
    assert ext.split is None
    assert ext.folds == ()


def test_everybody_who_leaves_leaves_with_a_reason(study):
    dev = study()["dev"]
    assert {(one.patient_id, one.slide_id, one.reason) for one in dev.exclusions} == {
        ("E", "", "withdrawn"),
        ("E", "e1", "withdrawn"),
        ("D", "", "no known label of EGFR"),
        ("D", "d1", "no known label of EGFR"),
    }
    assert [(step.step, step.patients, step.slides) for step in dev.flow] == [
        ("in the manifest", 5, 6),
        ("kept by the manifest", 4, 5),
        ("with a known label", 3, 4),
        ("in the split", 3, 4),
    ]


def test_patients_outside_the_split_leave_in_the_flow(study):
    dev = study(dev=DEV + DEV_ROWS + "F,f1,,,s1,f,1\n")["dev"]
    assert dev.flow[-1].excluded_patients == 1
    assert dev.exclusions[-1].reason == "not in split.csv"


def test_folds_of_the_protocol_restrict_the_split(study):
    rows = "A,0,train\nB,0,validation\nC,0,test\nA,1,test\nB,1,train\nC,1,validation\n"
    plan = {"role": "development", "manifest": "dev.csv", "split": "split.csv", "folds": [1]}
    cohorts = {"dev": plan, "ext": {"role": "external", "manifest": "ext.csv"}}
    dev = study(split=rows, cohorts=cohorts)["dev"]
    assert dev.folds == (1,)
    assert dev.split.patients(1, "test") == ("A",)
    plan["folds"] = [1, 4]
    (said,) = faults(study, split=rows, cohorts=cohorts)
    assert said.startswith("protocol, cohorts.dev.folds: expected folds of")


def test_a_target_without_a_column_outside_is_not_assessed_there(study):
    lines = (DEV + DEV_ROWS).splitlines()
    dev = "\n".join([lines[0] + ",KRAS", *(line + ",1" for line in lines[1:])]) + "\n"
    cohorts = study(dev=dev, targets={"EGFR": {}, "KRAS": {}})
    assert cohorts["ext"].assessed == ("EGFR",)
    assert cohorts["ext"].labels["KRAS"].isna().all()
    assert cohorts["dev"].assessed == ("EGFR", "KRAS")


def test_a_target_without_a_column_in_development_is_an_error(study):
    said = faults(study, targets={"EGFR": {}, "MET": {}})
    assert len(said) == 1
    assert "dev.csv, row 1: expected a column 'MET' for target MET" in said[0]


def test_a_column_that_the_protocol_names_must_be_there(study):
    said = faults(study, targets={"EGFR": {"columns": {"ext": "EGFR_driver"}}})
    assert "Correct targets.EGFR.columns.ext" in said[0]


def test_an_outside_cohort_without_any_target_is_an_error(study):
    said = faults(study, ext=EXT.replace("EGFR", "KRAS"))
    assert "ext.csv, row 1: expected a column for at least one target" in said[0]


def test_problems_of_all_cohorts_come_in_one_error(study):
    said = faults(
        study,
        dev=DEV + DEV_ROWS.replace("f,1", "f,mut"),
        ext=EXT.replace("Y,,m,0", "Y,,m,wt"),
        split="A,0,train\nQ,0,test\n",
        sha256="0" * 64,
    )
    assert any("dev.csv, row 2, column EGFR" in text for text in said)
    assert any("ext.csv, row 3, column EGFR" in text for text in said)
    assert any("split.csv, row 4, column patient_id" in text for text in said)
    assert any("manifest_sha256" in text for text in said)
    assert any("fold 0" in text and "validation" in text for text in said)


def test_a_file_that_is_not_there_is_named_as_the_protocol_names_it(tmp_path, protocol_of, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "protocols").mkdir()
    cohorts = {
        "dev": {"role": "development", "manifest": "../cohorts/dev.csv", "split": "s.csv"},
        "ext": {"role": "external", "manifest": "ext.csv"},
    }
    with pytest.raises(InputError) as caught:
        load_cohorts(protocol_of(cohorts=cohorts), tmp_path.relative_to(tmp_path) / "protocols")
    assert [problem.where for problem in caught.value.problems] == ["cohorts/dev.csv", "protocols/ext.csv"]


def test_a_standard_subgroup_may_be_missing_in_one_cohort_only(study):
    analysis = {"subgroups": ["sex", "site"]}
    assert "site" not in study(analysis=analysis)["ext"].covariates
    for column in ("race", "colour"):
        said = faults(study, analysis={"subgroups": [column]})
        assert f"a covariate '{column}'" in said[0]
    said = faults(study, ext=EXT.replace("sex", "colour"), analysis={"subgroups": ["colour"]})
    assert "dev.csv: expected a covariate 'colour'" in said[0]


def test_a_subgroup_in_which_rows_of_a_patient_differ_is_an_error(study):
    dev = DEV + DEV_ROWS.replace("a2.svs,,s1,m", "a2.svs,,s2,m")
    assert study(dev=dev)["dev"].covariate_conflicts[0].patient_id == "A"
    said = faults(study, dev=dev, analysis={"subgroups": ["site"]})
    assert "patient A, column site" in said[0]
    assert "rows 3, 4" in said[0]


def test_cohorts_share_no_patient(study):
    said = faults(study, ext=EXT.replace("X", "A"))
    assert len(said) == 1
    assert "1 in both: A" in said[0]
    assert study(ext=EXT.replace("X", "E"))  # E has left the development cohort


def test_cohorts_share_no_slide_id(study):
    """Scores, tiles and attention are kept by slide id: of two slides of one name, one would take the other's."""
    said = faults(study, ext=EXT.replace("X,", "X,a2"))
    assert len(said) == 1
    assert "cohorts without a slide in common, got 1 in both: a2" in said[0]
    assert "rename" in said[0]
    assert study(ext=EXT.replace("X,", "X,e1"))  # the slide of a patient who has left


def test_a_fold_emptied_by_missing_labels_is_an_error(study):
    said = faults(study, split="A,0,train\nB,0,validation\nD,0,test\n")
    assert "fold 0: expected test patients with a known label, got none" in said[0]


def test_a_cohort_without_patients_says_why(study):
    said = faults(study, ext="patient_id,slide_id,EGFR\nX,,\n")
    assert "1 left: no known label of EGFR" in said[0]


ROWS = st.lists(
    st.tuples(
        st.sampled_from("ABCDEFGH"),
        st.sampled_from(["", "", "", "withdrawn", "wrong organ"]),
        st.sampled_from([True, True, False]),
    ),
    min_size=6,
    max_size=24,
)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    ROWS,
    st.dictionaries(st.sampled_from("ABCDEFGH"), st.sampled_from(["0", "1", ""])),
    st.sets(st.sampled_from("ABCDEFGH")),
)
def test_flow_adds_up_from_the_manifest_to_the_study(tmp_path_factory, protocol_of, rows, labels, outside):
    folder = tmp_path_factory.mktemp("flow")
    text = "patient_id,slide_id,exclude,EGFR\n"
    text += "P,p,,1\nQ,q,,0\nR,r,,1\n"
    text += "".join(f"{p},s{n},{why},{labels.get(p, '1')}\n" for n, (p, why, _) in enumerate(rows))
    (folder / "dev.csv").write_text(text)
    sha256 = read_manifest(folder / "dev.csv", "dev").sha256
    head = json.dumps({"scheme": "own", "manifest_sha256": sha256})
    parts = ["P,0,train", "Q,0,validation", "R,0,test"]
    parts += [f"{p},0,train" for p in sorted({p for p, _, _ in rows} - outside)]
    (folder / "split.csv").write_text(f"# tapfm-eval/split/1 {head}\npatient_id,fold,split\n" + "\n".join(parts) + "\n")
    plan = {"role": "development", "manifest": "dev.csv", "split": "split.csv"}
    cohort = load_cohorts(protocol_of(cohorts={"dev": plan}), folder)["dev"]
    for before, step in zip(cohort.flow, cohort.flow[1:], strict=False):
        assert before.patients == step.patients + step.excluded_patients
        assert before.slides == step.slides + step.excluded_slides
    assert cohort.flow[0].patients == len({p for p, _, _ in rows}) + 3
    assert cohort.flow[0].slides == len(rows) + 3
    assert cohort.flow[-1].patients == len(cohort.patients)
    assert cohort.flow[-1].slides == len(cohort.slides)
    kinds = Counter(bool(one.slide_id) for one in cohort.exclusions)
    assert kinds[True] == sum(step.excluded_slides for step in cohort.flow)
    assert kinds[False] == sum(step.excluded_patients for step in cohort.flow)
    gone = {one.slide_id for one in cohort.exclusions} - {""}
    assert gone.isdisjoint(cohort.slides["slide_id"])
    assert set(cohort.split.table["patient_id"]) == set(cohort.patients)
