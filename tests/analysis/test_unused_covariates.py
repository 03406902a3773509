"""A covariate that cannot be looked at is said to be so, with the reason; country stands in for the site."""

from dataclasses import replace
from typing import Any

import pandas as pd
from analysis_study import Study

from tapfm_eval.analysis import analyse
from tapfm_eval.results import Results


def with_columns(study: Study, cohort: str, **columns: Any) -> Results:
    found = study.cohorts[cohort]
    table = found.covariates.copy()
    for name, values in columns.items():
        table[name] = pd.Series(values, index=table.index) if not isinstance(values, str) else values
    cohorts = {**study.cohorts, cohort: replace(found, covariates=table)}
    return analyse(study.protocol, study.predictions(), cohorts, [])


def reasons(results: Results, split: str) -> dict[str, str]:
    return {u.variable: u.reason for u in results.unused_covariates if u.split == split}


def test_every_wanted_covariate_is_used_or_has_a_reason(study: Study) -> None:
    size = len(study.cohorts["ext"].covariates)
    results = with_columns(
        study, "ext", site="A", country=["X", "Y"] * (size // 2), scanner="", specimen=[f"s{i}" for i in range(size)]
    )
    found = reasons(results, "external")
    assert found == {
        "site": "one value among these patients",
        "scanner": "known of none of these patients",
        "mpp": "not recorded",
        "stage": "not recorded",
        "smoking": "not recorded",
    }
    used = {s.variable for s in results.stratified if s.split == "external"}
    assert {"country", "sex", "age", "specimen"} <= used
    assert not used & set(found)
    assert ("country",) in {c.covariates for c in results.controls if c.split == "external"}
    assert reasons(results, "test")["country"] == "not recorded"
