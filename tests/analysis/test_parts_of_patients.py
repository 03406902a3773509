"""Subgroups, the flow of participants, and what is left out of a study."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analysis_study import TARGETS, Study

from tapfm_eval.analysis import analyse, levels_of
from tapfm_eval.results import Results
from tapfm_eval.statistics import subgroup_auroc


def test_covariates_become_levels() -> None:
    def levels(*values: object) -> list[str]:
        return levels_of(pd.Series(list(values))).tolist()

    assert levels("m", "f", "") == ["m", "f", "unknown"]
    assert levels(1.0, 2.0, math.nan) == ["1.0", "2.0", "unknown"]
    assert levels("1", "2", "nan") == ["1", "2", "unknown"]
    ages = [float(age) for age in range(41, 52)]
    assert levels(*ages, math.nan) == ["up to 46"] * 6 + ["above 46"] * 5 + ["unknown"]
    assert levels(*[str(age) for age in ages]) == ["up to 46"] * 6 + ["above 46"] * 5
    assert levels(*ages[:8]) == [str(age) for age in ages[:8]]
    assert levels(*[*map(str, ages), "old"])[-1] == "old"
    assert levels("", "") == ["unknown", "unknown"]


def test_subgroups_part_the_patients_of_the_primary_arm(study: Study, results: Results) -> None:
    assert {s.arm for s in results.subgroups} == {"a"}
    assert {s.variable for s in results.subgroups} == {"sex", "age"}
    whole = {(r.target, r.split): r.auroc for r in results.aurocs if r.arm == "a"}
    for variable in ("sex", "age"):
        for (target, split), estimate in whole.items():
            parts = [s for s in results.subgroups if (s.variable, s.target, s.split) == (variable, target, split)]
            assert sum(s.auroc.n for s in parts) == estimate.n
            assert sum(s.auroc.positives for s in parts) == estimate.positives
            assert len({s.heterogeneity_p for s in parts if not math.isnan(s.heterogeneity_p)}) <= 1
            assert len(parts) == 2


SHIFTS = {"a": 0.5, "b": 0.5, "c": 0.0}  # of which no level is separated: it would have no variance


def with_sex(study: Study, cohort: str, sexes: Callable[[int, str], str]) -> Study:
    """The study with other sexes in one cohort: by a patient's place and what the manifest says."""
    found = study.cohorts[cohort]
    column = found.covariates["sex"]
    changed = pd.Series([sexes(i, sex) for i, sex in enumerate(column)], index=column.index)
    study.cohorts[cohort] = replace(found, covariates=found.covariates.assign(sex=changed))
    return study


def test_patients_of_unknown_level_have_a_row_and_no_say_in_the_test(study_with: Callable[..., Study]) -> None:
    study = with_sex(study_with(), "ext", lambda i, sex: "" if i % 3 == 0 else sex)
    frame = study.predictions(SHIFTS)
    results = study.results(frame)
    rows = [s for s in results.subgroups if (s.variable, s.target, s.split) == ("sex", "EGFR", "external")]
    assert [(s.level, s.tested) for s in rows] == [("f", True), ("m", True), ("unknown", False)]
    assert min(rows[-1].auroc.positives, rows[-1].auroc.n - rows[-1].auroc.positives) >= 5  # large enough, but unknown
    own = frame[(frame["arm"] == "a") & (frame["target"] == "EGFR") & (frame["cohort"] == "ext")]
    means = own.assign(logit=np.log(own["score"] / (1 - own["score"]))).groupby("patient_id").agg(
        logit=("logit", "mean"), label=("label", "first")
    )  # fmt: skip
    sexes = study.cohorts["ext"].covariates["sex"].reindex(means.index)
    known = (sexes != "").to_numpy()
    alone = subgroup_auroc(means["label"].to_numpy()[known], means["logit"].to_numpy()[known], sexes.to_numpy()[known])
    assert rows[0].heterogeneity_p == pytest.approx(alone.heterogeneity.p_value)


def test_over_folds_heterogeneity_is_the_test_that_holds_its_level(study: Study) -> None:
    """Of scores within folds, by Welch's F as with one fold; Cochran's Q of AUROCs is liberal with few positives."""
    frame = study.predictions(SHIFTS)
    results = study.results(frame)
    rows = [s for s in results.subgroups if (s.variable, s.target, s.split) == ("sex", "EGFR", "test")]
    own = frame[(frame["arm"] == "a") & (frame["target"] == "EGFR") & (frame["split"] == "test")]
    logits = own.assign(logit=np.log(own["score"] / (1 - own["score"])))
    means = logits.groupby(["fold", "patient_id"], as_index=False).agg(
        logit=("logit", "mean"), label=("label", "first")
    )
    sexes = study.cohorts["dev"].covariates["sex"].reindex(means["patient_id"])
    found = subgroup_auroc(
        means["label"].to_numpy(), means["logit"].to_numpy(), sexes.to_numpy(), strata=means["fold"].to_numpy()
    )
    assert [s.heterogeneity_p for s in rows] == pytest.approx([found.heterogeneity.p_value] * 2)
    assert found.heterogeneity.p_value != pytest.approx(found.cochran_q.p_value)


def test_the_flow_ends_with_the_patients_that_were_predicted(results: Results) -> None:
    last = {step.cohort: step for step in results.flow}
    assert (last["ext"].step, last["ext"].patients) == ("external patients predicted", 60)
    assert (last["dev"].step, last["dev"].patients) == ("test patients predicted", 40)
    assert last["dev"].excluded_patients == 40
    assert last["dev"].reason == "used for training and validation"


def test_a_study_of_one_arm_without_comparisons_is_analysed(study_with: Callable[..., Study]) -> None:
    one = [{"id": "a", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}]
    study = study_with(arms=one, analysis={"primary": None, "operating_points": [], "subgroups": ["sex"], "families": [
        {"name": "nobody else", "comparisons": {"all_against": "a"}}]})  # fmt: skip
    frame = study.predictions()
    results = study.results(frame[frame["arm"] == "a"])
    assert results.primary is None
    assert results.comparisons == ()
    assert {s.arm for s in results.subgroups} == {"a"}


def test_the_negative_control_is_estimated_but_is_no_part_of_the_study(study: Study) -> None:
    frame = study.predictions()
    control = frame[frame["target"] == "EGFR"].assign(target="NULL")
    targets = {**study.protocol.targets, "NULL": study.protocol.targets["EGFR"]}
    rehearsed = study.protocol.model_copy(update={"targets": targets})
    cohorts = {
        name: replace(cohort, labels=cohort.labels.assign(NULL=cohort.labels["EGFR"]), assessed=(*TARGETS, "NULL"))
        for name, cohort in study.cohorts.items()
    }
    results = analyse(rehearsed, pd.concat([frame, control]), cohorts, [])
    assert "NULL" in {r.target for r in results.aurocs}
    assert all("NULL" not in m.targets and "NULL" not in m.left_out for m in results.macros)
    for part in (results.operating_points, results.calibrations, results.subgroups):
        assert "NULL" not in {item.target for item in part}
    plain = study.results()
    assert [m.macro for m in results.macros] == [m.macro for m in plain.macros]
    assert results.primary == plain.primary
