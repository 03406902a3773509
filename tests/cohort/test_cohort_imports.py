"""Other tools' tables become a manifest and a split, several slides a patient in any row order."""

import json

import pandas as pd
import pytest

from tapfm_eval.cohort import imports
from tapfm_eval.cohort.imported import draw_validation, write_import
from tapfm_eval.cohort.labels import patient_labels
from tapfm_eval.errors import InputError, ManifestError, SplitError

TCGA = ("TCGA-05-4244", "TCGA-05-4249", "TCGA-05-4250")


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def parts(imported, fold=0):
    table = imported.split[imported.split["fold"] == fold]
    return dict(zip(table["patient_id"], table["split"], strict=True))


def labels_of(imported, tmp_path, target, **values):
    manifest, _ = write_import(imported, tmp_path / "out.csv")
    return patient_labels(manifest, {target: target}, {target: values})[target].to_dict()


def test_clam(file, tmp_path):
    labels = file("l.csv", "case_id,slide_id,label\nB,b1,wt\nA,a2,mut\nC,c1,wt\nA,a1,mut\nD,d1,wt\n")
    zero = file("splits_0.csv", ",train,val,test\n0,a1,b1,c1\n1,a2,,\n")
    one = file("splits_1_bool.csv", ",train,val,test\nc1,True,False,False\na2,False,True,False\nb1,False,False,True\n")
    imported = imports.import_clam(labels, [one, zero], target="EGFR")
    assert parts(imported, 0) == {"A": "train", "B": "validation", "C": "test"}
    assert parts(imported, 1) == {"A": "validation", "B": "test", "C": "train"}
    assert imported.notes == ("1 patient in no part of the split",)
    assert imported.rows["slide_id"].tolist() == ["a1", "a2", "b1", "c1", "d1"]
    assert labels_of(imported, tmp_path, "EGFR", mut=1, wt=0) == {"A": 1, "B": 0, "C": 0, "D": 0}
    manifest, split = write_import(imported, tmp_path / "m.csv", tmp_path / "s.csv")
    assert split.scheme == "imported from CLAM"
    assert split.patients(1, "train") == ("C",)
    assert split.manifest_sha256 == manifest.sha256


def test_clam_ids_that_pandas_turned_into_floats_are_found(file):
    labels = file("l.csv", "case_id,slide_id,label\nA,11,1\nB,12,0\nC,13,0\n")
    imported = imports.import_clam(labels, [file("splits_3.csv", ",train,val,test\n0,11,12.0,13.0\n1,,,\n")])
    assert parts(imported) == {"A": "train", "B": "validation", "C": "test"}


def test_stamp(file, tmp_path):
    clinical = file("c.csv", "PATIENT,EGFR\nB,0\nA,1\nN,1\n")
    slides = file("s.csv", "PATIENT,FILENAME\nA,a2.h5\nB,sub/b1.svs\nA,a1.h5\nZ,z.h5\n")
    splits = file("splits.json", json.dumps({"splits": [{"train_patients": ["B", "N"], "test_patients": ["A"]}]}))
    imported = imports.import_stamp(clinical, slides, splits)
    assert imported.rows.to_dict("list") == {
        "patient_id": ["A", "A", "B", "N", "Z"],
        "EGFR": ["1", "1", "0", "1", ""],
        "slide_id": ["a1", "a2", "b1", "", "z"],
        "path": ["", "", "b1.svs", "", ""],
    }
    assert parts(imported) == {"A": "test", "B": "train", "N": "train"}
    assert "fold 0 has no validation patients" in imported.notes
    with pytest.raises(SplitError, match="expected validation patients"):
        write_import(imported, tmp_path / "m.csv", tmp_path / "x.csv")
    drawn = draw_validation(imported, 0.5, seed=1)
    assert sorted(parts(drawn).values()) == ["test", "train", "validation"]
    assert draw_validation(imported, 0.5, seed=1).split.equals(drawn.split)
    assert write_import(drawn, tmp_path / "m.csv", tmp_path / "x.csv")[1] is not None


def test_validation_is_drawn_evenly_over_labels(file):
    patients = [f"p{number:03d}" for number in range(90)]
    clinical = file("c.csv", "PATIENT,EGFR\n" + "".join(f"{p},{n % 3 == 0:d}\n" for n, p in enumerate(patients)))
    slides = file("s.csv", "PATIENT,FILENAME\n" + "".join(f"{p},{p}.svs\n" for p in patients))
    split = {"train_patients": patients[:60], "test_patients": patients[60:]}
    imported = imports.import_stamp(clinical, slides, file("s.json", json.dumps({"splits": [split]})))
    chosen = [p for p, part in parts(draw_validation(imported, 0.2, seed=3)).items() if part == "validation"]
    assert len(chosen) == 12
    assert sum(patients.index(p) % 3 == 0 for p in chosen) == 4


def test_patho_bench(file, tmp_path):
    text = "case_id\tslide_id\tEGFR\tfold_0\tfold_1\nB\tb\t0\tval\ttrain\nA\ta\t1\ttrain\ttest\nC\tc\t0\ttest\tval\n"
    imported = imports.import_patho_bench(file("k=all.tsv", text))
    assert parts(imported, 1) == {"A": "test", "B": "train", "C": "validation"}
    assert labels_of(imported, tmp_path, "EGFR") == {"A": 1, "B": 0, "C": 0}


def test_eagle_takes_patients_from_tcga_names_or_from_a_table(file, tmp_path):
    rows = [
        f"{name}-01Z-00-DX1.X,/data/{name}.svs,{part},0\n"
        for name, part in zip(TCGA, ("train", "val", "test"), strict=True)
    ]
    table = file("e.csv", "slide,path,split,EGFR\n" + "".join(rows))
    imported = imports.import_eagle(table)
    assert list(parts(imported)) == list(TCGA)
    assert imported.rows["path"].tolist() == [f"{name}.svs" for name in TCGA]
    assert len(imported.notes) == 2
    assert write_import(imported, tmp_path / "m.csv")[0].table["patient_id"].tolist() == list(TCGA)
    other = file("o.csv", "slide,path,split,EGFR\ns1,x/s1.svs,train,0\ns2,x/s2.svs,test,1\n")
    with pytest.raises(ManifestError, match="names the patient of every slide"):
        imports.import_eagle(other)
    named = imports.import_eagle(other, {"s1": "A", "s2": "B"})
    assert parts(named) == {"A": "train", "B": "test"}
    assert named.rows["path"].tolist() == ["x/s1.svs", "x/s2.svs"]


def test_tapfm_script(file):
    text = "slide_id,slide,set,EGFR,KRAS\n7,s1,train,0,1\n8,s2,val,1,0\n9,s3,test,1,0\n"
    imported = imports.import_tapfm_script(file("t.csv", text), {"s1": "A", "s2": "B", "s3": "C"})
    assert list(imported.rows.columns) == ["patient_id", "slide_id", "path", "EGFR", "KRAS"]
    assert imported.rows["path"].tolist() == ["s1.svs", "s2.svs", "s3.svs"]
    assert parts(imported) == {"A": "train", "B": "validation", "C": "test"}


def test_nnmil(file):
    text = "slide_id,patient_id,split,label\nb,B,val,0\na2,A,train,1\nc,C,test,0\na1,A,train,1\n"
    imported = imports.import_nnmil(file("n.csv", text), target="EGFR")
    assert parts(imported) == {"A": "train", "B": "validation", "C": "test"}
    assert imported.rows["EGFR"].tolist() == ["1", "1", "0", "0"]


def test_slideflow(file, tmp_path):
    imported = imports.import_slideflow(file("a.csv", "patient,slide,site,EGFR\nB,b,s1,1\nA,a,s2,0\n"))
    assert imported.split is None
    assert imported.rows.columns.tolist() == ["patient_id", "slide_id", "path", "site", "EGFR"]
    with pytest.raises(SplitError, match="tapfm-eval split"):
        write_import(imported, tmp_path / "m.csv", tmp_path / "s.csv")


def test_row_order_never_matters(file):
    lines = ["b,B,val,0\n", "a2,A,train,1\n", "c,C,test,0\n", "a1,A,train,1\n"]
    one = imports.import_nnmil(file("1.csv", "slide_id,patient_id,split,label\n" + "".join(lines)))
    two = imports.import_nnmil(file("2.csv", "slide_id,patient_id,split,label\n" + "".join(reversed(lines))))
    pd.testing.assert_frame_equal(one.rows, two.rows)
    pd.testing.assert_frame_equal(one.split, two.split)


def test_slides_of_a_patient_on_two_sides_are_refused(file):
    text = "slide_id,patient_id,split,label\na1,A,train,1\na2,A,test,1\nb,B,val,0\n"
    with pytest.raises(SplitError) as caught:
        imports.import_nnmil(file("n.csv", text))
    (problem,) = caught.value.problems
    assert problem.where == "patient A, fold 0"
    assert "row 2" in problem.got
    assert "row 3" in problem.got


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slide_id,patient_id,split,label\na,A,tune,1\n", "train, val or test"),
        ("slide_id,patient_id,split,label\na,A,train,1\na,B,train,1\n", "several for a"),
        ("slide_id,split,label\na,train,1\n", "a column 'patient_id'"),
    ],
)
def test_what_does_not_fit_is_refused(file, text, expected):
    with pytest.raises(InputError, match=expected):
        imports.import_nnmil(file("n.csv", text))


@pytest.mark.parametrize("text", ["{}", "[1]", '{"splits": [{"train_patients": [1]}]}', '{"splits": 3}', "[" * 9000])
def test_a_splits_json_of_another_shape_is_refused(file, text):
    clinical, slides = file("c.csv", "PATIENT,EGFR\nA,1\n"), file("s.csv", "PATIENT,FILENAME\nA,a.h5\n")
    with pytest.raises(SplitError, match=r"a STAMP splits\.json"):
        imports.import_stamp(clinical, slides, file("splits.json", text))


def test_a_split_of_unknown_slides_is_refused(file):
    labels = file("l.csv", "case_id,slide_id,label\nA,a1,1\n")
    with pytest.raises(SplitError, match="a slide of"):
        imports.import_clam(labels, [file("splits_0.csv", ",train,val,test\n0,a1,q,\n")])
    with pytest.raises(SplitError, match=r"splits_<fold>\.csv"):
        imports.import_clam(labels, [file("fold.csv", ",train,val,test\n0,a1,,\n")])
