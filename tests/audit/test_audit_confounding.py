"""Site, scanner, covariates, other labels and missingness that tell a label are found, and their absence is silent."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from audit_studies import Study, found, one
from scipy import stats

from tapfm_eval.audit.confounding import category_auroc
from tapfm_eval.audit.tables import association, generator
from tapfm_eval.statistics.covariates_alone import covariate_auroc

CODES = ("site-label-association", "site-predicts-label", "scan-predicts-label", "covariate-label-association",
         "targets-exclusive", "targets-co-occur", "missing-labels", "missing-labels-depend")  # fmt: skip


def follow(study: Study, column: str, label: str = "GENE", wrong: int = 5) -> None:
    """Makes `label` follow the two values of a column of both manifests, but for one row in `wrong`."""
    for table in (study.ours, study.theirs):
        first = sorted(set(table[column]))[: len(set(table[column])) // 2]
        agrees = np.arange(len(table)) % wrong != 0
        table[label] = (table[column].isin(first) == agrees).astype(int).astype(str)


def test_a_clean_study_is_not_confounded(study: Study) -> None:
    assert not [finding for finding in study.audit() if finding.code in CODES]


def test_a_label_that_follows_the_site_is_found_by_association_and_by_site_alone(study: Study) -> None:
    follow(study, "site")
    findings = study.audit()
    for code in ("site-label-association", "site-predicts-label"):
        assert {tuple(f.numbers) for f in found(findings, code)} == {("GENE",)}
    ours = next(f for f in found(findings, "site-predicts-label") if "ours" in f.where)
    assert 0.7 < ours.numbers["GENE"] < 0.9


@pytest.mark.parametrize("column", ["mpp", "scanner", "specimen", "magnification"])
def test_a_label_that_follows_the_scan_is_found(study: Study, column: str) -> None:
    for table in (study.ours, study.theirs):
        table[column] = (
            ["20" if value == "0.25" else "40" for value in table["mpp"]] if column != "mpp" else table["mpp"]
        )
    follow(study, column)
    for finding in found(study.audit(), "scan-predicts-label"):
        assert finding.severity == "warning"
        assert f"GENE_{column}_v" in finding.numbers
        assert finding.numbers["GENE_auroc"] > 0.7
    assert len(found(study.audit(), "scan-predicts-label")) == 2


def test_a_label_or_a_part_that_annotation_follows_is_found_where_annotations_restrict_tiles(study: Study) -> None:
    for table in (study.ours, study.theirs):
        often = table["GENE"].eq("1") | table["block"].eq("2")
        drawn = (often & (np.arange(len(table)) % 5 < 4)) | (~often & (np.arange(len(table)) % 5 == 0))
        table["regions"] = [f"{slide}.geojson" if one else "" for slide, one in zip(table.slide_id, drawn, strict=True)]
    assert not [f for f in study.audit() if f.code in ("scan-predicts-label", "split-drift", "cohort-shift")]
    study.protocol = {"tiles": {"regions": "annotations"}}
    findings = study.audit()
    bound = found(findings, "scan-predicts-label")
    assert len(bound) == 2
    assert all("GENE_annotated_v" in finding.numbers and "or annotated tells GENE" in finding.what for finding in bound)
    assert any(finding.where.endswith("annotated") for finding in found(findings, "split-drift"))


@pytest.mark.parametrize("column", ["sex", "stage", "age"])
def test_a_label_that_follows_a_covariate_is_a_note(study: Study, column: str) -> None:
    follow(study, column)
    notes = found(study.audit(), "covariate-label-association")
    assert {note.where.rsplit(" ", 1)[1] for note in notes} == {column}
    assert {note.severity for note in notes} == {"note"}


def test_a_label_that_follows_a_batch_is_a_warning_for_nobody_knows_what_a_batch_is(study: Study) -> None:
    for table in (study.ours, study.theirs):
        table["batch"] = [
            ("b1", "b2", "b3", "b4")[2 * (sex == "male") + (i // 2) % 2] for i, sex in enumerate(table["sex"])
        ]
    assert not found(study.audit(), "covariate-label-association")
    follow(study, "batch", wrong=3)
    bound = found(study.audit(), "covariate-label-association")
    assert {finding.where.rsplit(" ", 1)[1] for finding in bound if finding.severity == "warning"} == {"batch"}
    study.protocol = {"analysis": {"subgroups": ["batch"]}}
    assert {finding.severity for finding in found(study.audit(), "covariate-label-association")} == {"note"}


def test_a_label_that_follows_any_number_is_found_and_so_is_what_is_missing_by_it(study: Study) -> None:
    for table in (study.ours, study.theirs):
        table["pack_years"] = [str((i * 13) % 61) for i in range(len(table))]
    heavy = study.ours["pack_years"].astype(int) > 40
    study.ours.loc[heavy, "OTHER"] = ""
    assert list(one(study.audit_ours(), "missing-labels-depend").numbers) == ["OTHER_pack_years"]
    study.ours.loc[heavy, "OTHER"] = "1"
    assert one(study.audit_ours(), "covariate-label-association").where.endswith("column pack_years")


def test_an_association_outlives_the_adjustment_for_hundreds_of_columns() -> None:
    values = pd.Series(["a", "b"] * 200)
    labels = pd.Series((np.arange(400) % 2 + (np.arange(400) % 10 == 0)) % 2, dtype=float)
    strong = association("x", "GENE", values, labels, np.random.default_rng(0))
    assert strong.p_value == pytest.approx(stats.chi2.sf(400 * strong.v**2, 1))
    assert strong.p_value < 1e-20
    weak = association("x", "GENE", values, pd.Series([0.0, 0.0, 1.0, 1.0] * 100), np.random.default_rng(0))
    assert weak.p_value > 0.5


def test_what_the_site_alone_reaches_hardly_depends_on_the_dealing_of_folds() -> None:
    rng = np.random.default_rng(5)
    sites, labels = rng.integers(0, 30, 300).astype(np.intp), (rng.random(300) < 0.2).astype(float)
    values = [category_auroc(labels, sites, np.random.default_rng(seed), 0.95).value for seed in range(12)]
    assert np.std(values) < 0.015


def test_targets_that_exclude_each_other_or_occur_together_are_noted(study: Study) -> None:
    both = (study.ours["GENE"] == "1") & (study.ours["OTHER"] == "1")
    study.ours.loc[both, "OTHER"] = "0"
    assert "exclude each other" in one(study.audit_ours(), "targets-exclusive").what
    study.ours["OTHER"] = study.ours["GENE"]
    assert one(study.audit_ours(), "targets-co-occur").numbers["both"] == (study.ours["GENE"] == "1").sum()


def test_missing_labels_are_counted_and_what_they_depend_on_is_found(study: Study) -> None:
    study.ours.loc[np.arange(len(study.ours)) % 29 == 5, "OTHER"] = ""
    findings = study.audit_ours()
    assert one(findings, "missing-labels").severity == "note"
    assert not found(findings, "missing-labels-depend")
    study.ours.loc[study.ours["stage"] == "II", "OTHER"] = ""
    findings = study.audit_ours()
    assert one(findings, "missing-labels").severity == "warning"
    assert list(one(findings, "missing-labels-depend").numbers) == ["OTHER_stage"]


def test_one_category_alone_scores_as_the_regression_on_its_indicators() -> None:
    rng = np.random.default_rng(5)
    sites = rng.integers(0, 6, 600)
    labels = (rng.random(600) < 0.15 + 0.1 * sites).astype(float)
    quick = category_auroc(labels, sites.astype(np.intp), np.random.default_rng(1), 0.95)
    slow = covariate_auroc(labels, {"site": sites.astype(str)}, rng=np.random.default_rng(1))
    assert quick.value == pytest.approx(slow.value, abs=0.02)
    assert quick.lower == pytest.approx(slow.lower, abs=0.03)


def test_randomness_depends_on_what_it_is_for_and_not_on_the_order_of_calls() -> None:
    draw: Callable[..., float] = lambda *names: generator(1, *names).random()  # noqa: E731
    assert draw("a", "b") == draw("a", "b")
    assert len({draw("a", "b"), draw("b", "a"), draw("ab"), generator(2, "a", "b").random()}) == 4


def test_the_same_study_gives_the_same_findings(study: Study) -> None:
    follow(study, "site")
    first = study.audit()
    study.ours = study.ours.sample(frac=1, random_state=1)
    second = study.audit()
    assert [(f.code, f.what, dict(f.numbers)) for f in first if "site" in f.code] == [
        (f.code, f.what, dict(f.numbers)) for f in second if "site" in f.code
    ]
