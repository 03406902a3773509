"""The shipped cohorts: built from their sources to the byte, and their READMEs say what is in them."""

import importlib.util
import re
from pathlib import Path

import pytest
import scipy

from tapfm_eval.cohort.covariates import patient_covariates
from tapfm_eval.cohort.labels import patient_labels
from tapfm_eval.cohort.manifest import Manifest, read_manifest
from tapfm_eval.cohort.splits import read_split

ROOT = Path(__file__).resolve().parents[2]
COHORTS = ROOT / "cohorts"
SOURCES = ROOT / ".." / "shared" / "data" / "cohorts"
NAMES = ("tcga-luad", "cptac-luad", "tcga-blca")


def load(name: str) -> Manifest:
    return read_manifest(COHORTS / name / "manifest.csv", name)


def table_of(name: str, first_heading: str) -> dict[str, list[str]]:
    """The README's table whose first heading is this one, by first cell."""
    text = (COHORTS / name / "README.md").read_text(encoding="utf-8")
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            break
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        if not line.startswith("|---"):
            first, *rest = [cell.strip() for cell in line.strip("|").split("|")]
            rows[first] = rest
    return rows


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build", COHORTS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_manifests_are_rebuilt_from_their_sources_to_the_byte(build, tmp_path):
    if not SOURCES.is_dir():
        pytest.skip("the source tables are not beside the repository")
    build.build_manifests(SOURCES, tmp_path)
    for name in NAMES:
        assert (tmp_path / name / "manifest.csv").read_bytes() == (COHORTS / name / "manifest.csv").read_bytes()


@pytest.mark.long
def test_the_split_is_made_again_to_the_byte(build, tmp_path):
    committed = (COHORTS / "tcga-luad" / "split-1.csv").read_bytes()
    if f"scipy {scipy.__version__}".encode() not in committed.splitlines()[0]:
        pytest.skip("the committed split was made with another version of SciPy's solver")
    (tmp_path / "tcga-luad").mkdir()
    (tmp_path / "tcga-luad" / "manifest.csv").write_bytes((COHORTS / "tcga-luad" / "manifest.csv").read_bytes())
    build.build_split(tmp_path)
    assert (tmp_path / "tcga-luad" / "split-1.csv").read_bytes() == committed


@pytest.mark.parametrize(
    ("name", "rows", "patients", "expected"),
    [
        ("tcga-luad", 540, 477, {"EGFR": 58, "KRAS": 146, "STK11": 72, "KEAP1": 86, "TP53": 243, "MET": 9, "ALK": 3}),
        ("cptac-luad", 110, 110, {"EGFR": 38, "KRAS": 33, "STK11": 20, "ALK": 7}),
        ("tcga-blca", 457, 386, {"FGFR3": 56, "PIK3CA": 82, "TP53": 186, "RB1": 74}),
    ],
)
def test_counts_are_those_of_the_sources(name, rows, patients, expected):
    manifest = load(name)
    assert len(manifest.table) == rows
    assert manifest.table["patient_id"].nunique() == patients
    labels = patient_labels(manifest, {target: target for target in expected})
    assert labels.sum().astype(int).to_dict() == expected


def test_alk_has_no_known_negative_in_tcga():
    assert (patient_labels(load("tcga-luad"), {"ALK": "ALK"})["ALK"] == 0).sum() == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_counts_labels_truly(name):
    said = table_of(name, "label")
    labels = patient_labels(load(name), {target: target for target in said})
    counted = {
        target: [
            str(int((labels[target] == 1).sum())),
            str(int((labels[target] == 0).sum())),
            str(int(labels[target].isna().sum())),
        ]
        for target in said
    }
    assert said == counted
    table = load(name).table
    binary = {column for column in table if {"0", "1"} & set(table[column]) and set(table[column]) <= {"", "0", "1"}}
    assert binary | {"MET", "MET_driver", "ALK", "ROS1", "RET"} & set(said) == set(said)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_counts_covariates_truly(name):
    said = table_of(name, "covariate")
    table = patient_covariates(load(name).included).table
    known = {column: int((table[column].notna() & (table[column].astype(str) != "")).sum()) for column in said}
    assert said == {column: [str(known[column]), str(len(table) - known[column])] for column in said}


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_counts_rows_truly(name):
    manifest = load(name)
    table = manifest.table
    labels = patient_labels(manifest, {target: target for target in table_of(name, "label")})
    labelled = labels.index[labels.notna().any(axis=1)]
    kept = manifest.included[manifest.included["patient_id"].isin(labelled)]
    counted = {
        "rows": len(table),
        "slides": int((table["slide_id"] != "").sum()),
        "patients": table["patient_id"].nunique(),
        "rows with a reason in `exclude`": int((table["exclude"] != "").sum()),
        "patients with a known label": len(labelled),
    }
    if "site" in table:
        site_sizes = kept.drop_duplicates("patient_id")["site"].value_counts()
        counted |= {
            "slides of patients with a known label": len(kept),
            "sites of patients with a known label": len(site_sizes),
            "sites with fewer than 10 of them": int((site_sizes < 10).sum()),
            "slides with GDC file id, md5 and size": int(
                ((table["gdc_file_id"] != "") & (table["md5"] != "") & table["size"].notna()).sum()
            ),
            "slides with mpp and magnification": int((table["mpp"].notna() & table["magnification"].notna()).sum()),
        }
    assert {what: int(number) for what, (number,) in table_of(name, "what").items()} == counted


def test_the_committed_split_has_enough_of_every_class_and_parts_no_site():
    manifest = load("tcga-luad")
    split = read_split(COHORTS / "tcga-luad" / "split-1.csv", manifest)
    targets = ("EGFR", "KRAS", "STK11", "TP53")
    labels = patient_labels(manifest, {target: target for target in targets})
    site = manifest.included.drop_duplicates("patient_id").set_index("patient_id")["site"]
    said = table_of("tcga-luad", "block")
    assert split.folds == (0, 1, 2, 3, 4)
    for fold in split.folds:
        sides = {}
        for part in ("train", "validation", "test"):
            patients = list(split.patients(fold, part))
            for name in site.loc[patients].unique():
                assert sides.setdefault(name, part) == part
            for target in targets:
                assert labels.loc[patients, target].value_counts().reindex([0.0, 1.0], fill_value=0).min() >= 3
        tested = list(split.patients(fold, "test"))
        counted = [len(tested), *(int(labels.loc[tested, target].sum()) for target in targets)]
        assert said[str(fold)] == list(map(str, counted))


@pytest.mark.parametrize("name", ["tcga-luad", "tcga-blca"])
def test_ids_of_a_slide_agree_with_one_another(name):
    table = load(name).table
    assert (table["slide_id"].str[:12] == table["patient_id"]).all()
    assert (table["patient_id"].str[5:7] == table["site"]).all()
    assert (table["path"] == table["slide_id"] + ".svs").all()
    assert table["slide_id"].map(lambda text: bool(re.search(r"-DX\d+\.", text))).all()


def test_patients_whom_tcga_withdrew_or_whose_slide_is_of_a_recurrence_are_out():
    blca = load("tcga-blca").table
    assert sorted(blca.loc[blca["exclude"] != "", "patient_id"]) == ["TCGA-C4-A0EZ", "TCGA-C4-A0F1", "TCGA-C4-A0F7"]
    luad = load("tcga-luad").table
    assert luad.loc[luad["exclude"] != "", "slide_id"].str.startswith("TCGA-50-5066-02Z").tolist() == [True]


def test_what_the_luad_readme_says_of_smoking_is_true():
    manifest = load("tcga-luad")
    egfr = patient_labels(manifest, {"EGFR": "EGFR"})["EGFR"].dropna()
    smoking = patient_covariates(manifest.included).table["smoking"].loc[egfr.index]
    text = (COHORTS / "tcga-luad" / "README.md").read_text(encoding="utf-8")
    text = " ".join(text.split())
    never, current = egfr[smoking == "never"], egfr[smoking == "current"]
    assert f"{int(never.sum())} of {len(never)} never-smokers are positive" in text
    assert f"and {int(current.sum())} of {len(current)} current smokers" in text
