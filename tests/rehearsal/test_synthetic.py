"""Planted effects are seen in simple statistics of the tissue at the strength planted, and keep apart."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tapfm_eval.rehearsal.planting import EFFECTS, plant
from tapfm_eval.rehearsal.synthetic import render_slide

PLANTED = {"EGFR": 0.95, "KRAS": 0.90, "STK11": 0.90, "TP53": 0.90}
FIRST = EFFECTS[: len(PLANTED)]
SLIDES = 84


def interior(slide: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pixels (n, 3) well within the tissue."""
    height, width = slide.shape[:2]
    return slide[height // 2 - 175 : height // 2 + 175, width // 2 - 175 : width // 2 + 175].reshape(-1, 3) / 255.0


def statistics(slide: NDArray[np.uint8]) -> dict[str, float]:
    """One plain statistic an effect: how pink stroma is, and shares of white, golden and blue-grey pixels."""
    red, green, blue = interior(slide).T
    white, golden, grey = np.minimum(red, green) > 0.88, green > blue + 0.02, green > red
    tissue = ~(white | golden | grey)
    return {
        "stromal_eosin": float(np.percentile((red - green)[tissue], 80)),
        "lumens": float(white.mean()),
        "pigment": float(golden.mean()),
        "mucin": float(grey.mean()),
    }


@pytest.fixture(scope="module")
def cohort() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """(statistics, labels, strengths) of slides with all four targets planted and correlated labels; NULL is last."""
    rng = np.random.default_rng(0)
    labels = (rng.random((SLIDES, 5)) < 0.35).astype(np.int64)
    labels[:, 1] &= 1 - labels[:, 0]  # as EGFR and KRAS: hardly ever both
    rows, strengths = [], []
    known = {f"P{i}": dict(zip((*PLANTED, "NULL"), row, strict=True)) for i, row in enumerate(labels.tolist())}
    planted = plant(known, PLANTED, seed=5)
    for i in range(SLIDES):
        effects = planted[f"P{i}"]
        strengths.append([effects[effect] for effect in FIRST])
        slide = render_slide(seed=5, slide_id=f"P{i}-1", effects=effects, tissue_tiles=6)
        colours = interior(slide)
        rows.append([*statistics(slide).values(), *colours.mean(axis=0)])
    return np.array(rows), labels, np.array(strengths)


def cross_validated_auroc(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3))
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    return float(
        roc_auc_score(labels, cross_val_predict(model, features, labels, cv=folds, method="decision_function"))
    )


@pytest.mark.long
@pytest.mark.parametrize("column", range(4), ids=PLANTED)
def test_a_linear_model_recovers_each_planted_target(
    cohort: tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]], column: int
) -> None:
    """Nearly as well as from the strengths themselves, which is the best that anything can do."""
    features, labels, strengths = cohort
    best = cross_validated_auroc(strengths, labels[:, column])
    assert cross_validated_auroc(features, labels[:, column]) > best - 0.05
    drawn = roc_auc_score(labels[:, column], strengths[:, column])
    assert drawn == pytest.approx(list(PLANTED.values())[column], abs=0.08)


@pytest.mark.long
def test_nothing_is_found_for_a_target_that_is_not_planted(
    cohort: tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]],
) -> None:
    features, labels, _ = cohort
    assert 0.3 < cross_validated_auroc(features, labels[:, 4]) < 0.7


def test_each_statistic_follows_its_own_effect_and_no_other(
    cohort: tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]],
) -> None:
    features, _, strengths = cohort
    design = np.column_stack([np.ones(SLIDES), (strengths - strengths.mean(axis=0)) / strengths.std(axis=0)])
    for column, effect in enumerate(FIRST):
        slopes = np.linalg.lstsq(design, features[:, column], rcond=None)[0][1:] / features[:, column].std()
        others = np.delete(slopes, column)
        assert slopes[column] > 0.85, (effect, slopes)
        assert np.abs(others).max() < 0.3, (effect, slopes)


@pytest.mark.parametrize("effect", EFFECTS)
def test_every_effect_changes_the_tissue_more_the_stronger_it_is(effect: str) -> None:
    pictures = [
        render_slide(seed=2, slide_id="S", effects={effect: strength}, tissue_tiles=3).astype(float)
        for strength in (-2.0, 0.0, 1.5, 3.0)
    ]
    change = [float(np.abs(picture - pictures[0]).mean()) for picture in pictures]
    assert 0 < change[1] < change[2] < change[3]
    assert change[3] > 1.0


def test_the_layout_does_not_move_when_an_effect_changes() -> None:
    faint, strong = (
        render_slide(seed=2, slide_id="S", effects={"pigment": strength}, tissue_tiles=3) for strength in (-2.0, 3.0)
    )
    same = np.abs(faint.astype(int) - strong.astype(int)).max(axis=2) <= 3
    assert 0.6 < same.mean() < 0.98
