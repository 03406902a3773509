"""Site, scanner, covariates, other labels and missingness that tell a label are found, and their absence is silent."""

from collections.abc import Callable

import numpy as np
import pytest
from audit_studies import Study, found, one

from tapfm_eval.audit.confounding import category_auroc
from tapfm_eval.audit.tables import generator
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


@pytest.mark.parametrize("column", ["sex", "stage", "age"])
def test_a_label_that_follows_a_covariate_is_a_note(study: Study, column: str) -> None:
    follow(study, column)
    notes = found(study.audit(), "covariate-label-association")
    assert {note.where.rsplit(" ", 1)[1] for note in notes} == {column}
    assert {note.severity for note in notes} == {"note"}


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
