"""Who is averaged with whom, and whose scores are never held against each other."""

import math

import numpy as np
import pandas as pd
import pytest
from analysis_study import ARMS, Study, expit, logit, make_protocol

from tapfm_eval.analysis import panels_of
from tapfm_eval.predictions.table import predictions_frame
from tapfm_eval.results import Results


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
    assert found.average_precision.reason.startswith("scores of different folds are not pooled")
    assert found.missing == int(np.isnan(y).sum())
    assert found.negatives + found.auroc.positives + found.missing == len(y)
