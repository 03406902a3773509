"""Each patient carries each target's effect at a strength whose AUROC is the planted one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from tapfm_eval.errors import ProtocolError
from tapfm_eval.rehearsal.planting import EFFECTS, dose, effect_of_target, generator, plant, separation

PLANTED = {"EGFR": 0.95, "KRAS": 0.90, "STK11": 0.90, "TP53": 0.70}


def test_class_means_lie_apart_as_the_binormal_model_says() -> None:
    """AUROC = Phi(mu / sqrt(2)) for N(0, 1) and N(mu, 1); R: pnorm(2.326174 / sqrt(2)) is 0.95."""
    assert separation(0.95) == pytest.approx(2.326174, abs=1e-6)
    assert separation(0.5) == pytest.approx(0.0, abs=1e-12)
    for auroc in (0.6, 0.9, 0.99):
        assert norm.cdf(separation(auroc) / math.sqrt(2)) == pytest.approx(auroc, abs=1e-12)


def test_strengths_separate_the_classes_with_the_planted_auroc() -> None:
    patients = 3000
    labels = np.array([[(i >> bit) & 1 for bit in range(4)] for i in range(patients)])
    strengths = np.array(
        [
            list(plant(dict(zip(PLANTED, row, strict=True)), PLANTED, seed=1, patient_id=f"P{i}").values())
            for i, row in enumerate(labels.tolist())
        ]
    )
    for column, auroc in enumerate(PLANTED.values()):
        assert roc_auc_score(labels[:, column], strengths[:, column]) == pytest.approx(auroc, abs=0.02)


def test_strengths_of_different_targets_and_patients_are_independent() -> None:
    nobody = dict.fromkeys(PLANTED, 0)
    strengths = np.array([list(plant(nobody, PLANTED, seed=1, patient_id=f"P{i}").values()) for i in range(2000)])
    correlation = np.corrcoef(strengths.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.08
    assert np.abs(strengths.mean(axis=0)).max() < 0.08
    assert strengths.std(axis=0) == pytest.approx(np.ones(4), abs=0.08)
    assert abs(np.corrcoef(strengths[:-1, 0], strengths[1:, 0])[0, 1]) < 0.08


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    patient=st.text(min_size=1, max_size=20),
    labels=st.fixed_dictionaries({target: st.sampled_from([0, 1, None]) for target in PLANTED}),
)
def test_a_strength_depends_on_seed_patient_target_and_own_label_alone(
    seed: int, patient: str, labels: dict[str, int | None]
) -> None:
    together = plant(labels, PLANTED, seed=seed, patient_id=patient)
    assert together == plant(dict(reversed(labels.items())), PLANTED, seed=seed, patient_id=patient)
    for target in PLANTED:
        alone = plant({target: labels[target]}, {target: PLANTED[target]}, seed=seed, patient_id=patient)
        assert list(alone.values()) == [together[effect_of_target(PLANTED)[target]]]


def test_label_1_shifts_the_strength_by_the_separation() -> None:
    negative = plant({"EGFR": 0}, {"EGFR": 0.9}, seed=3, patient_id="P")
    positive = plant({"EGFR": 1}, {"EGFR": 0.9}, seed=3, patient_id="P")
    assert positive["stromal_eosin"] - negative["stromal_eosin"] == pytest.approx(separation(0.9))


def test_an_unknown_label_draws_as_0() -> None:
    negative = plant({"EGFR": 0}, {"EGFR": 0.9}, seed=3, patient_id="P")
    assert plant({"EGFR": None}, {"EGFR": 0.9}, seed=3, patient_id="P") == negative
    assert plant({}, {"EGFR": 0.9}, seed=3, patient_id="P") == negative


def test_a_target_that_is_not_planted_changes_nothing() -> None:
    labels = {"EGFR": 1, "NULL": 0}
    assert plant(labels, {"EGFR": 0.9}, seed=1, patient_id="P") == plant(
        {**labels, "NULL": 1}, {"EGFR": 0.9}, seed=1, patient_id="P"
    )


def test_targets_take_effects_in_order() -> None:
    assert effect_of_target(PLANTED) == dict(zip(PLANTED, EFFECTS[:4], strict=True))
    assert len(set(EFFECTS)) == len(EFFECTS) >= 8


def test_all_problems_of_what_is_planted_are_reported_at_once() -> None:
    planted = {f"G{i}": 0.9 for i in range(len(EFFECTS))} | {"BAD": 1.0, "WORSE": 0.3}
    with pytest.raises(ProtocolError) as error:
        plant({}, planted, seed=1, patient_id="P")
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
