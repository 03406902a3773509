"""Each patient carries each target's effect at a strength whose AUROC is the planted one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from tapfm_eval.errors import ProtocolError
from tapfm_eval.randomness import wide_generator as generator
from tapfm_eval.rehearsal.planting import EFFECTS, dose, effect_of_target, plant, separation

PLANTED = {"EGFR": 0.95, "KRAS": 0.90, "STK11": 0.90, "TP53": 0.70}


def test_class_means_lie_apart_as_the_binormal_model_says() -> None:
    """AUROC = Phi(mu / sqrt(2)) for N(0, 1) and N(mu, 1); R: pnorm(2.326174 / sqrt(2)) is 0.95."""
    assert separation(0.95) == pytest.approx(2.326174, abs=1e-6)
    assert separation(0.5) == pytest.approx(0.0, abs=1e-12)
    for auroc in (0.6, 0.9, 0.99):
        assert norm.cdf(separation(auroc) / math.sqrt(2)) == pytest.approx(auroc, abs=1e-12)


def group(patients: int, labels: dict[str, int | None] | None = None) -> dict[str, dict[str, int | None]]:
    """Patients whose labels run through all combinations, or who all share `labels`."""
    names = list(PLANTED)
    return {
        f"P{i}": dict(labels) if labels is not None else {t: (i >> bit) & 1 for bit, t in enumerate(names)}
        for i in range(patients)
    }


def strengths_of(labels: dict[str, dict[str, int | None]], seed: int = 1) -> np.ndarray:
    planted = plant(labels, PLANTED, seed=seed)
    return np.array([[planted[p][EFFECTS[k]] for k in range(len(PLANTED))] for p in labels])


@pytest.mark.parametrize("patients", [24, 48, 960])
def test_strengths_separate_the_classes_with_the_planted_auroc_even_in_a_small_group(patients: int) -> None:
    labels = group(patients)
    strengths = strengths_of(labels)
    for column, (target, auroc) in enumerate(PLANTED.items()):
        y = [row[target] for row in labels.values()]
        assert roc_auc_score(y, strengths[:, column]) == pytest.approx(auroc, abs=0.03)


def test_strengths_of_different_targets_and_patients_are_independent() -> None:
    strengths = strengths_of(group(2000, dict.fromkeys(PLANTED, 0)))
    correlation = np.corrcoef(strengths.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.08
    assert strengths.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert strengths.std(axis=0) == pytest.approx(np.ones(4), abs=0.02)
    assert abs(np.corrcoef(strengths[:-1, 0], strengths[1:, 0])[0, 1]) < 0.08


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    labels=st.dictionaries(
        st.text(min_size=1, max_size=20),
        st.fixed_dictionaries({target: st.sampled_from([0, 1, None]) for target in PLANTED}),
        min_size=1,
        max_size=12,
    ),
)
def test_strengths_do_not_depend_on_the_order_of_patients_or_on_other_targets(
    seed: int, labels: dict[str, dict[str, int | None]]
) -> None:
    together = plant(labels, PLANTED, seed=seed)
    assert plant(dict(reversed(labels.items())), PLANTED, seed=seed) == together
    for target in PLANTED:
        alone = plant({p: {target: row[target]} for p, row in labels.items()}, {target: PLANTED[target]}, seed=seed)
        for patient, strengths in alone.items():
            assert list(strengths.values()) == [together[patient][effect_of_target(PLANTED)[target]]]


def test_label_1_shifts_the_strengths_by_the_separation() -> None:
    negative = plant({"P": {"EGFR": 0}}, {"EGFR": 0.9}, seed=3)["P"]
    positive = plant({"P": {"EGFR": 1}}, {"EGFR": 0.9}, seed=3)["P"]
    assert positive["stromal_eosin"] - negative["stromal_eosin"] == pytest.approx(separation(0.9))


def test_an_unknown_label_counts_as_0() -> None:
    negative = plant({"P": {"EGFR": 0}, "Q": {"EGFR": 1}}, {"EGFR": 0.9}, seed=3)
    assert plant({"P": {"EGFR": None}, "Q": {"EGFR": 1}}, {"EGFR": 0.9}, seed=3) == negative
    assert plant({"P": {}, "Q": {"EGFR": 1}}, {"EGFR": 0.9}, seed=3) == negative


def test_a_target_that_is_not_planted_changes_nothing() -> None:
    ours, theirs = {"P": {"EGFR": 1, "NULL": 0}}, {"P": {"EGFR": 1, "NULL": 1}}
    assert plant(ours, {"EGFR": 0.9}, seed=1) == plant(theirs, {"EGFR": 0.9}, seed=1)


def test_targets_take_effects_in_order() -> None:
    assert effect_of_target(PLANTED) == dict(zip(PLANTED, EFFECTS[:4], strict=True))
    assert len(set(EFFECTS)) == len(EFFECTS) >= 8


def test_all_problems_of_what_is_planted_are_reported_at_once() -> None:
    planted = {f"G{i}": 0.9 for i in range(len(EFFECTS))} | {"BAD": 1.0, "WORSE": 0.3}
    with pytest.raises(ProtocolError) as error:
        plant({"P": {}}, planted, seed=1)
    text = str(error.value)
    assert len(error.value.problems) == 3
    assert "rehearsal.planted.BAD" in text
    assert "rehearsal.planted.WORSE" in text
    assert f"at most {len(EFFECTS)} targets" in text
    assert "Leave 2 of them out" in text


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.floats(-4, 7), st.floats(-4, 7))
def test_dose_keeps_the_order_of_strengths(a: float, b: float) -> None:
    if a < b - 1e-9:
        assert 0 < dose(a) < dose(b) < 1


def test_keys_that_read_alike_are_kept_apart() -> None:
    draws = {float(generator(*key).random()) for key in (("1", "2"), ("12",), (1, 2), (12,), ("1", 2))}
    assert len(draws) == 5
