"""From predictions to results: who is averaged with whom, which patients set a threshold, and when no test is made."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tapfm_eval import statistics
from tapfm_eval.analysis import analyse, levels_of, mean_roc, panels_of
from tapfm_eval.cohort.load import Cohort, load_cohorts
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.predictions.table import predictions_frame
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.results import Results

Floats = NDArray[np.float64]
ARMS, TARGETS = ("a", "b", "c"), ("EGFR", "ALK")


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def make_protocol(**changes: Any) -> Protocol:
    content: dict[str, Any] = {
        "format": "tapfm-eval/protocol/1", "id": "p", "version": "1.0.0", "title": "t", "intended_use": "u",
        "seeds": [1, 2],
        "cohorts": {
            "dev": {"role": "development", "manifest": "dev.csv", "split": "split.csv"},
            "ext": {"role": "external", "manifest": "ext.csv"},
        },
        "targets": {target: {} for target in TARGETS},
        "arms": [{"id": arm, "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"} for arm in ARMS],
        "analysis": {
            "primary": {"target": "EGFR", "cohort": "ext", "arm": "a", "versus": "b"},
            "families": [{"name": "against a", "comparisons": {"all_against": "a"}},
                         {"name": "pairs", "comparisons": "all_pairs"}],
            "operating_points": [{"at_sensitivity": 0.9}, {"at_specificity": 0.9}, "youden"],
            "subgroups": ["sex", "age"],
        },
    }  # fmt: skip
    analysis = {**content["analysis"], **changes.pop("analysis", {})}
    return Protocol.model_validate({**content, **changes, "analysis": analysis})


class Study:
    """Two folds of development and an external cohort, with scores that separate the classes by a known shift."""

    def __init__(self, folder: Path, protocol: Protocol, *, external: int = 60, rare: int = 6) -> None:
        self.protocol = protocol
        rng = np.random.default_rng(3)
        self.labels = {
            "dev": self._labels(80, "D", rng, rare=20),
            "ext": self._labels(external, "E", rng, rare=rare),
        }
        for name in ("dev", "ext"):
            rows = [
                f"{p},{p}-1,{p}.svs,{'mf'[i % 2]},{40 + i % 30},{self._cell(y[0])},{self._cell(y[1])}"
                for i, (p, y) in enumerate(self.labels[name].items())
            ]
            header = "patient_id,slide_id,path,sex,age,EGFR,ALK"
            (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
        patients = list(self.labels["dev"])
        self.parts = {  # fold -> part -> patients; test parts are disjoint
            0: {"test": patients[:20], "validation": patients[20:40], "train": patients[40:]},
            1: {"test": patients[60:], "validation": patients[40:60], "train": patients[:40]},
        }
        lines = [f"{p},{fold},{part}" for fold, parts in self.parts.items() for part, ps in parts.items() for p in ps]
        digest = read_manifest(folder / "dev.csv", "dev").sha256
        head = json.dumps({"scheme": "kfold", "seed": 1, "manifest_sha256": digest})
        (folder / "split.csv").write_text("\n".join([f"# tapfm-eval/split/1 {head}", "patient_id,fold,split", *lines]))
        self.cohorts: dict[str, Cohort] = load_cohorts(protocol, folder)

    @staticmethod
    def _labels(count: int, prefix: str, rng: np.random.Generator, rare: int) -> dict[str, Floats]:
        egfr = rng.permutation(np.arange(count) % 2).astype(float)
        alk = rng.permutation(np.arange(count) < rare).astype(float)
        egfr[:3] = np.nan
        alk[3] = np.nan
        return {f"{prefix}{i:03d}": np.array(row) for i, row in enumerate(zip(egfr, alk, strict=True))}

    @staticmethod
    def _cell(label: float) -> str:
        return "" if math.isnan(label) else str(int(label))

    def rows(self, shifts: Mapping[str, float] | None = None) -> Iterator[tuple[object, ...]]:
        shift_of = {"a": 3.0, "b": 1.0, "c": 0.0} if shifts is None else shifts
        for arm in ARMS:
            for seed in self.protocol.seeds:
                for fold, parts in self.parts.items():
                    where = [("dev", part, patients) for part, patients in parts.items() if part != "train"]
                    where.append(("ext", "external", list(self.labels["ext"])))
                    for cohort, part, patients in where:
                        for patient in patients:
                            for j, target in enumerate(TARGETS):
                                label = self.labels[cohort][patient][j]
                                key = [*f"{arm}{patient}{target}".encode(), seed, fold]
                                noise = np.random.default_rng(key).standard_normal()
                                score = expit(shift_of[arm] * (np.nan_to_num(label) - 0.5) + noise)
                                yield (arm, seed, fold, cohort, part, patient, f"{patient}-1", target, label, score)

    def predictions(self, shifts: Mapping[str, float] | None = None) -> pd.DataFrame:
        return predictions_frame(list(self.rows(shifts)))

    def results(self, predictions: pd.DataFrame | None = None) -> Results:
        return analyse(self.protocol, self.predictions() if predictions is None else predictions, self.cohorts, [])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("study"), make_protocol())


@pytest.fixture(scope="module")
def results(study: Study) -> Results:
    return study.results()


@pytest.fixture
def study_with(tmp_path: Path) -> Callable[..., Study]:
    """A study whose protocol or sizes differ."""

    def make(external: int = 60, rare: int = 6, **changes: Any) -> Study:
        return Study(tmp_path, make_protocol(**changes), external=external, rare=rare)

    return make


# --- who is averaged with whom ---


def score_rows(rows: list[tuple[int, int, str, str, str, float]], split: str, cohort: str) -> pd.DataFrame:
    """(seed, fold, patient, slide, arm, score) as predictions for EGFR."""
    return predictions_frame(
        [
            (arm, seed, fold, cohort, split, p, s, "EGFR", float(p == "P1"), score)
            for seed, fold, p, s, arm, score in rows
        ]
    )


def test_external_patients_average_slides_then_seeds_and_folds_as_logits() -> None:
    protocol = make_protocol(arms=[{"id": "a", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}],
                             targets={"EGFR": {}}, analysis={"primary": None, "families": []})  # fmt: skip
    rows = []
    rng = np.random.default_rng(0)
    expected: dict[str, list[float]] = {"P1": [], "P2": []}
    for seed in (1, 2):
        for fold in (0, 1, 2):
            for patient, slides in (("P1", ("x", "y", "z")), ("P2", ("w",))):
                scores = rng.uniform(0.01, 0.99, len(slides))
                rows += [(seed, fold, patient, s, "a", float(v)) for s, v in zip(slides, scores, strict=True)]
                expected[patient].append(float(np.mean([logit(v) for v in scores])))
    (panel,) = panels_of(score_rows(rows, "external", "ext"), protocol).values()
    assert panel.folds is None
    assert panel.patients == ("P1", "P2")
    assert panel.labels[:, 0].tolist() == [1, 0]
    found = panel.scores["a"][:, 0]
    assert found == pytest.approx([expit(float(np.mean(expected[p]))) for p in ("P1", "P2")])


def test_test_patients_average_seeds_within_their_fold_and_keep_folds_apart() -> None:
    protocol = make_protocol(arms=[{"id": "a", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}],
                             targets={"EGFR": {}}, analysis={"primary": None, "families": []})  # fmt: skip
    rows = [(1, 0, "P1", "x", "a", 0.2), (2, 0, "P1", "x", "a", 0.9), (1, 1, "P2", "y", "a", 0.4),
            (2, 1, "P2", "y", "a", 0.4), (1, 1, "P1", "x", "a", 0.7), (2, 1, "P1", "x", "a", 0.7)]  # fmt: skip
    (panel,) = panels_of(score_rows(rows, "test", "dev"), protocol).values()
    assert list(zip(panel.folds.tolist(), panel.patients, strict=True)) == [(0, "P1"), (1, "P1"), (1, "P2")]  # type: ignore[union-attr]
    between = expit((logit(0.2) + logit(0.9)) / 2)
    assert panel.scores["a"][:, 0] == pytest.approx([between, 0.7, 0.4])


def test_one_fold_needs_no_strata_and_train_patients_are_never_evaluated() -> None:
    protocol = make_protocol(arms=[{"id": "a", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}],
                             targets={"EGFR": {}}, analysis={"primary": None, "families": []})  # fmt: skip
    rows = [(1, 0, "P1", "x", "a", 0.2), (1, 0, "P2", "y", "a", 0.4)]
    assert panels_of(score_rows(rows, "test", "dev"), protocol)["dev", "test"].folds is None
    assert panels_of(score_rows(rows, "train", "dev"), protocol) == {}


def test_all_arms_of_a_panel_share_rows_and_missing_labels_stay_missing(study: Study) -> None:
    panels = panels_of(study.predictions(), study.protocol)
    assert set(panels) == {("dev", "test"), ("dev", "validation"), ("ext", "external")}
    for (cohort, split), panel in panels.items():
        n = len(panel.patients)
        assert panel.labels.shape == (n, 2)
        assert {arm: scores.shape for arm, scores in panel.scores.items()} == dict.fromkeys(ARMS, (n, 2))
        truth = np.array([study.labels[cohort][patient] for patient in panel.patients])
        assert np.array_equal(panel.labels, truth, equal_nan=True)
        assert (panel.folds is None) == (split == "external")
        assert all(np.isfinite(scores).all() for scores in panel.scores.values())


def test_the_order_of_rows_does_not_matter(study: Study, results: Results) -> None:
    shuffled = study.predictions().sample(frac=1, random_state=0)
    assert repr(study.results(shuffled)) == repr(results)


def test_an_auroc_over_folds_is_the_pair_weighted_mean_of_its_folds(study: Study, results: Results) -> None:
    panel = panels_of(study.predictions(), study.protocol)["dev", "test"]
    assert panel.folds is not None
    y, s = panel.labels[:, 0], panel.scores["a"][:, 0]
    wins = pairs = 0.0
    for fold in (0, 1):
        positive, negative = (s[(panel.folds == fold) & (y == label)] for label in (1, 0))
        wins += sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
        pairs += len(positive) * len(negative)
    (found,) = [r for r in results.aurocs if (r.target, r.arm, r.split) == ("EGFR", "a", "test")]
    assert found.auroc.value == pytest.approx(wins / pairs)
    assert math.isnan(found.average_precision.value)
    assert found.average_precision.reason == "scores of different folds are not pooled"
    assert found.missing == int(np.isnan(y).sum())
    assert found.negatives + found.auroc.positives + found.missing == len(y)


# --- ROC curves ---


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=50
    )
)
def test_the_area_under_the_mean_curve_is_the_pair_weighted_auroc(rows: list[tuple[float, int, int]]) -> None:
    labels, scores, strata = (np.array(column) for column in zip(*rows, strict=True))
    wins = pairs = 0.0
    for stratum in np.unique(strata):
        positive, negative = (scores[(strata == stratum) & (labels == label)] for label in (1, 0))
        wins += sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
        pairs += len(positive) * len(negative)
    fpr, tpr = mean_roc(labels, scores / 5, strata)
    if pairs == 0:
        assert len(fpr) == len(tpr) == 0
        return
    assert float(np.trapezoid(tpr, fpr)) == pytest.approx(wins / pairs, abs=1e-12)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == pytest.approx((0, 0, 1, 1))
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= -1e-12).all()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40))
def test_without_strata_the_curve_is_the_empirical_one(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([float(y) for y, _ in rows]), np.array([s / 8 for _, s in rows])
    if len(set(labels)) < 2:
        return
    fpr, tpr = mean_roc(labels, scores, None)
    points = {
        ((scores[labels == 0] >= t).mean(), (scores[labels == 1] >= t).mean()) for t in [*np.unique(scores), math.inf]
    }
    corners = {(round(float(x), 12), round(float(y), 12)) for x, y in zip(fpr, tpr, strict=True)}
    assert corners <= {(round(float(x), 12), round(float(y), 12)) for x, y in points}
    for x, y in points:
        assert y == pytest.approx(np.interp(x, fpr, tpr), abs=1e-9) or x in fpr


def test_the_curves_of_the_results_have_the_area_that_is_reported(results: Results) -> None:
    aurocs = {(r.target, r.arm, r.cohort, r.split): r.auroc.value for r in results.aurocs}
    assert len(results.curves) == len(aurocs) == 2 * 3 * 2
    for curve in results.curves:
        area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
        assert area == pytest.approx(aurocs[curve.target, curve.arm, curve.cohort, curve.split])


# --- comparisons ---


def test_every_family_compares_its_arms_on_each_target_and_the_macro(results: Results) -> None:
    keys = {(c.family, c.target, c.split, c.arm_a, c.arm_b) for c in results.comparisons}
    against = {("a", "b"), ("a", "c")}
    assert keys == {
        (family, target, split, *pair)
        for family, pairs in (("against a", against), ("pairs", against | {("b", "c")}))
        for target in (*TARGETS, "macro") for split in ("test", "external") for pair in pairs
    }  # fmt: skip


def test_p_values_are_adjusted_within_family_target_and_cohort(results: Results) -> None:
    chosen = [c for c in results.comparisons if (c.family, c.target, c.split) == ("pairs", "EGFR", "external")]
    assert [c.p_adjusted for c in chosen] == pytest.approx(
        statistics.adjust_p([c.difference.p_value for c in chosen], method="holm")
    )
    assert all(c.p_adjusted >= c.difference.p_value for c in chosen)


@pytest.mark.parametrize(("rare", "tested"), [(4, False), (5, True)])
def test_fewer_than_five_patients_of_a_class_carry_no_test(
    study_with: Callable[..., Study], rare: int, tested: bool
) -> None:
    study = study_with(rare=rare)
    rare_known = sum(row[1] == 1 for row in study.labels["ext"].values())
    assert (rare_known >= 5) == tested
    for comparison in study.results().comparisons:
        if comparison.split == "external" and comparison.target in ("ALK", "macro"):
            assert math.isfinite(comparison.difference.value)
            assert math.isfinite(comparison.difference.p_value) == tested
            assert math.isfinite(comparison.p_adjusted) == tested
            if not tested:
                assert "fewer than 5 patients of a class: no test" in str(comparison.difference.reason)
        elif comparison.split == "external":
            assert math.isfinite(comparison.difference.p_value)


def test_a_comparison_that_carries_no_test_does_not_weigh_on_the_others(study_with: Callable[..., Study]) -> None:
    """Holm over the tests that were made: a NaN is no test."""
    study = study_with(rare=4)
    made = [c for c in study.results().comparisons if c.target == "ALK" and c.split == "external"]
    assert made
    assert all(math.isnan(c.p_adjusted) for c in made)


def test_the_macro_average_leaves_out_targets_without_both_classes(study_with: Callable[..., Study]) -> None:
    study = study_with(rare=0)
    results = study.results()
    external = [m for m in results.macros if m.split == "external"]
    assert {m.targets for m in external} == {("EGFR",)}
    assert {m.left_out for m in external} == {("ALK",)}
    for m in external:
        (alone,) = [r for r in results.aurocs if (r.target, r.arm, r.split) == ("EGFR", m.arm, "external")]
        assert m.macro.value == pytest.approx(alone.auroc.value)
    missing = [r for r in results.aurocs if r.target == "ALK" and r.split == "external"]
    assert all(math.isnan(r.auroc.value) and r.auroc.reason for r in missing)


def test_a_cohort_without_any_usable_target_is_reported_as_not_estimable(study_with: Callable[..., Study]) -> None:
    study = study_with(rare=0)
    frame = study.predictions()
    frame.loc[(frame["cohort"] == "ext") & (frame["target"] == "EGFR") & frame["label"].notna(), "label"] = 0.0
    results = study.results(frame)
    for m in results.macros:
        if m.split == "external":
            assert m.targets == ()
            assert math.isnan(m.macro.value)
            assert m.macro.reason
    for c in results.comparisons:
        if c.split == "external":
            assert math.isnan(c.difference.value)
            assert c.difference.reason
    assert results.primary is not None
    assert results.primary.met is None
    assert "could not be tested" in results.primary.verdict
    for curve in results.curves:
        assert (curve.false_positive_rate == ()) == (curve.split == "external")


# --- the primary comparison ---


def test_superiority_is_shown_where_it_is_and_not_where_it_is_not(study: Study, results: Results) -> None:
    assert results.primary is not None
    assert results.primary.met is True
    assert results.primary.difference.p_value < 0.025
    assert results.primary.difference.lower > 0
    assert results.primary.verdict == "Superiority of a to b for EGFR in ext was shown."
    same = study.results(study.predictions({"a": 1.0, "b": 1.0, "c": 0.0})).primary
    assert same is not None
    assert same.met is False
    assert same.verdict == "Superiority of a to b for EGFR in ext was not shown."


def test_the_primary_test_is_one_sided_in_the_stated_direction(study_with: Callable[..., Study]) -> None:
    study = study_with(analysis={"primary": {"target": "EGFR", "cohort": "ext", "arm": "b", "versus": "a"}})
    primary = study.results().primary
    assert primary is not None
    assert primary.met is False
    assert primary.difference.value < 0
    assert primary.difference.p_value > 0.9


@pytest.mark.parametrize(("margin", "shifts", "met"), [
    (0.2, {"a": 2.0, "b": 2.0, "c": 0.0}, True),
    (0.2, {"a": 0.0, "b": 3.0, "c": 0.0}, False),
    (0.001, {"a": 2.0, "b": 2.0, "c": 0.0}, False),
])  # fmt: skip
def test_non_inferiority_is_judged_against_its_margin(
    study_with: Callable[..., Study], margin: float, shifts: dict[str, float], met: bool
) -> None:
    study = study_with(analysis={"primary": {"target": "EGFR", "cohort": "ext", "arm": "a", "versus": "b",
                                             "hypothesis": {"non_inferiority": {"margin": margin}}}})  # fmt: skip
    primary = study.results(study.predictions(shifts)).primary
    assert primary is not None
    assert (primary.hypothesis, primary.margin, primary.met) == ("non-inferiority", margin, met)
    assert (primary.difference.lower > -margin) == met
    assert f"with a margin of {margin:g} was {'shown' if met else 'not shown'}" in primary.verdict


def test_a_primary_comparison_on_the_development_cohort_is_about_its_test_patients(
    study_with: Callable[..., Study],
) -> None:
    study = study_with(analysis={"primary": {"target": "EGFR", "cohort": "dev", "arm": "a", "versus": "b"}})
    primary = study.results().primary
    assert primary is not None
    (test,) = [r for r in study.results().aurocs if (r.target, r.arm, r.split) == ("EGFR", "a", "test")]
    assert primary.arm_auroc == test.auroc


def test_too_few_patients_leave_the_primary_comparison_untested(study_with: Callable[..., Study]) -> None:
    study = study_with(rare=4, analysis={"primary": {"target": "ALK", "cohort": "ext", "arm": "a", "versus": "b"}})
    primary = study.results().primary
    assert primary is not None
    assert primary.met is None
    assert "could not be tested: fewer than 5 patients of a class" in primary.verdict


# --- thresholds ---


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


# --- subgroups and the flow ---


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


def test_the_flow_ends_with_the_patients_that_were_predicted(results: Results) -> None:
    last = {step.cohort: step for step in results.flow}
    assert (last["ext"].step, last["ext"].patients) == ("external patients predicted", 60)
    assert (last["dev"].step, last["dev"].patients) == ("test patients predicted", 40)
    assert last["dev"].excluded_patients == 40
    assert last["dev"].reason == "in training and validation parts only"


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
