"""Thresholds come from validation patients and are carried unchanged."""

import math

import numpy as np
from analysis_study import Study

from tapfm_eval.analysis import panels_of
from tapfm_eval.results import Results


def test_thresholds_come_from_validation_patients_alone(study: Study, results: Results) -> None:
    frame = study.predictions()
    elsewhere = frame["split"].isin(["test", "external"])
    rng = np.random.default_rng(0)
    scrambled = frame.assign(score=np.where(elsewhere, rng.random(len(frame)), frame["score"]))
    before = {(o.rule, o.target, o.arm, o.split): o.threshold for o in results.operating_points}
    after = {(o.rule, o.target, o.arm, o.split): o.threshold for o in study.results(scrambled).operating_points}
    assert before == after
    assert len(before) == 3 * 2 * 3 * 3  # rules, targets, arms; validation, test and external patients
    validation = ~elsewhere
    moved = frame.assign(score=np.where(validation, frame["score"] ** 2, frame["score"]))
    changed = {(o.rule, o.target, o.arm, o.split): o.threshold for o in study.results(moved).operating_points}
    assert all(changed[key] != before[key] for key in before if math.isfinite(before[key]))
    assert any(math.isfinite(threshold) for threshold in before.values())


def test_a_threshold_is_carried_unchanged_and_keeps_what_its_rule_asks_on_validation(
    study: Study, results: Results
) -> None:
    validation = panels_of(study.predictions(), study.protocol)["dev", "validation"]
    for point in results.operating_points:
        twins = {o.threshold for o in results.operating_points
                 if (o.rule, o.target, o.arm) == (point.rule, point.target, point.arm)}  # fmt: skip
        assert len(twins) == 1
        j = validation.column(point.target)
        y, s = validation.labels[:, j], validation.scores[point.arm][:, j]
        if point.rule == "sensitivity 0.9":
            assert (s[y == 1] >= point.threshold).mean() >= 0.9
        elif point.rule == "specificity 0.9":
            assert (s[y == 0] < point.threshold).mean() >= 0.9
    external = panels_of(study.predictions(), study.protocol)["ext", "external"]
    for point in results.operating_points:
        if point.split == "external":
            j = external.column(point.target)
            y, s = external.labels[:, j], external.scores[point.arm][:, j]
            assert point.true_positives == int((s[y == 1] >= point.threshold).sum())
            assert point.false_positives == int((s[y == 0] >= point.threshold).sum())
            assert point.true_positives + point.false_negatives == int((y == 1).sum())
            assert point.true_negatives + point.false_positives == int((y == 0).sum())
