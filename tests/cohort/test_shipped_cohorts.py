"""The shipped cohorts: built from their sources to the byte, and their READMEs say what is in them."""

import importlib.util
import re
from pathlib import Path

import pandas as pd
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
def test_the_splits_are_made_again_to_the_byte(build, tmp_path):
    committed = {name: (COHORTS / name / "split-1.csv").read_bytes() for name in ("tcga-luad", "tcga-blca")}
    if any(f"scipy {scipy.__version__}".encode() not in split.splitlines()[0] for split in committed.values()):
        pytest.skip("the committed splits were made with another version of SciPy's solver")
    for name in committed:
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_bytes((COHORTS / name / "manifest.csv").read_bytes())
    build.build_splits(tmp_path)
    assert {name: (tmp_path / name / "split-1.csv").read_bytes() for name in committed} == committed


@pytest.mark.parametrize("name", ["tcga-luad", "tcga-blca"])
def test_the_readme_gives_the_command_that_makes_the_split(build, name):
    targets = ",".join(build.SPLIT_TARGETS[name])
    command = (
        f"tapfm-eval split cohorts/{name}/manifest.csv --targets {targets} --scheme site-preserved --folds 5 --seed 1"
    )
    assert command in (COHORTS / name / "README.md").read_text(encoding="utf-8")


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


def studied(name: str, target: str) -> tuple[pd.DataFrame, pd.Series]:
    """Covariates and labels of the patients with a known label."""
    manifest = load(name)
    labels = patient_labels(manifest, {target: target})[target].dropna()
    return patient_covariates(manifest.included).table.loc[labels.index], labels


def of(labels: pd.Series, chosen: pd.Series) -> str:
    return f"{int(labels[chosen].sum())} of {int(chosen.sum())}"


def most(site: pd.Series, chosen: pd.Series, sites: int) -> str:
    """How many of the chosen come from the sites with most of them."""
    return f"{site[chosen].value_counts().iloc[:sites].sum()} of {{}}{int(chosen.sum())}"


def test_every_number_by_which_the_luad_readme_explains_warnings_is_true():
    table, egfr = studied("tcga-luad", "EGFR")
    year = table["dx_year"].replace("", None).astype(float).groupby(table["site"]).median()
    sizes = table["site"].value_counts()
    said(
        "tcga-luad",
        f"{of(egfr, table['smoking'] == 'never')} never-smokers are positive",
        f"and {of(egfr, table['smoking'] == 'current')} current smokers",
        f"({most(table['site'], table['race'] == '', 2).format('')} at two sites)",
        f"({most(table['site'], table['ethnicity'] == '', 3).format('')} at three sites)",
        f"{year['49']:g} at site 49 and {year['97']:g} at site 97",
        f"({sizes.min()} to {sizes.max()} patients with a known label)",
    )


def test_every_number_by_which_the_blca_readme_explains_warnings_is_true():
    table, fgfr3 = studied("tcga-blca", "FGFR3")
    year = table["dx_year"].replace("", None).astype(float).groupby(table["site"]).median()
    low = table["grade"] == "Low Grade"
    assert year["CF"] == year["FD"]
    assert table.loc[low, "site"].nunique() == 2
    assert set(table.loc[low, "site"]) == set(table.loc[table["race"] == "asian", "site"].value_counts().index[:2])
    said(
        "tcga-blca",
        f"{of(fgfr3, low)} low-grade tumours have the mutation",
        f"and {of(fgfr3, table['grade'] == 'High Grade')} high-grade ones",
        f"{int(low.sum())} patients are low grade",
        f"as few as {['none', 'one', 'two'][(table['stage'] == 'I').sum()]} are stage I",
        f"{most(table['site'], table['race'] == 'asian', 2).format('the ')} patients recorded as Asian",
        f"all {int(low.sum())} low-grade tumours come from two sites",
        f"{most(table['site'], table['ethnicity'] == '', 1).format('the ')} patients whose ethnicity is not recorded",
        f"{year['XF']:g} at site XF and {year['CF']:g} at sites CF and FD",
    )


def test_every_number_by_which_the_cptac_readme_explains_warnings_is_true():
    table, egfr = studied("cptac-luad", "EGFR")
    other, theirs = studied("tcga-luad", "EGFR")
    packs = [one["pack_years"].replace("", None).astype(float).mean() for one in (table, other)]
    race = table["race"]
    assert (table["sex"] == "male").mean() > (other["sex"] == "male").mean()
    assert (table["smoking"] == "never").mean() > (other["smoking"] == "never").mean()
    said(
        "cptac-luad",
        f"EGFR {int(egfr.sum())} of {len(egfr)} here, {int(theirs.sum())} of {len(theirs)} there",
        f"{(race == 'asian').sum()} of {(race != '').sum()} are Asian here",
        f"({packs[0]:.1f} pack-years here and {packs[1]:.1f} there)",
        f"none of the {len(table)} patients has a named slide",
    )


def said(name: str, *phrases: str) -> None:
    text = " ".join((COHORTS / name / "README.md").read_text(encoding="utf-8").split())
    assert [phrase for phrase in phrases if phrase not in text] == []
