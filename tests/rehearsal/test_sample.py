"""A rehearsal's patients: enough of each class, the same for the same seed, a plain word where there are too few."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import ProtocolError
from tapfm_eval.rehearsal.sample import MIN_PER_CLASS, draw_patients, permuted

TARGETS = ("EGFR", "KRAS", "ALK")


def cohort(count: int, *, rare: float = 0.2, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = (rng.random((count, 3)) < [0.3, 0.4, rare]).astype(float)
    table[rng.random(table.shape) < 0.1] = np.nan
    return pd.DataFrame(table, index=[f"P{i:04d}" for i in range(count)], columns=list(TARGETS))


def draw(labels: pd.DataFrame, size: int, part: str, *, seed: int = 1, targets: tuple[str, ...] = TARGETS) -> list[str]:
    return list(
        draw_patients(labels, targets, size, part, seed=seed, where="rehearsal.x of c", least=MIN_PER_CLASS[part])
    )


@settings(max_examples=40, derandomize=True, deadline=None)
@given(part=st.sampled_from(list(MIN_PER_CLASS)), size=st.integers(60, 110), seed=st.integers(0, 10**6))
def test_every_planted_target_has_patients_of_both_classes(part: str, size: int, seed: int) -> None:
    labels = cohort(150, rare=0.12, seed=seed % 5)
    drawn = draw(labels, size, part, seed=seed)
    assert len(drawn) == len(set(drawn)) == size
    assert drawn == sorted(drawn)
    sample = labels.loc[drawn]
    for target in TARGETS:
        available = min((labels[target] == 1).sum(), (labels[target] == 0).sum())
        assert available >= MIN_PER_CLASS[part]
        assert min((sample[target] == 1).sum(), (sample[target] == 0).sum()) >= MIN_PER_CLASS[part]


def test_a_rare_class_is_enriched_and_a_common_one_is_not() -> None:
    labels = cohort(600, rare=0.04)
    sample = labels.loc[draw(labels, 60, "external")]
    assert (sample["ALK"] == 1).sum() == MIN_PER_CLASS["external"]
    assert (labels["ALK"] == 1).mean() < 0.05


def test_the_draw_depends_on_patients_and_seed_alone() -> None:
    labels = cohort(150)
    first = draw(labels, 60, "train")
    assert draw(labels.sample(frac=1, random_state=0), 60, "train") == first
    assert draw(labels, 60, "train", targets=TARGETS[::-1]) == first
    assert draw(labels, 60, "train", seed=2) != first


def test_a_cohort_smaller_than_the_sample_is_taken_whole() -> None:
    labels = cohort(60, rare=0.4)
    assert draw(labels, 500, "validation") == sorted(labels.index)


def test_a_target_that_the_cohort_does_not_know_makes_no_demand() -> None:
    labels = cohort(100)
    labels["ALK"] = np.nan
    assert len(draw(labels, 50, "external")) == 50


def test_too_few_patients_of_a_class_are_said_for_every_target_at_once() -> None:
    labels = cohort(100)
    labels["ALK"] = [1.0] * 3 + [0.0] * 97
    labels["KRAS"] = [0.0] * 5 + [1.0] * 95
    with pytest.raises(ProtocolError) as error:
        draw(labels, 60, "external")
    assert len(error.value.problems) == 2
    assert "rehearsal.x of c: expected 12 patients with ALK = 1, got 3. Leave ALK out" in str(error.value)
    assert "expected 12 patients with KRAS = 0, got 5." in str(error.value)


def test_a_sample_too_small_for_its_quotas_says_how_large_it_must_be() -> None:
    labels = cohort(150)
    with pytest.raises(ProtocolError, match=r"Raise it to \d+ or more") as error:
        draw(labels, 13, "external")
    needed = int(str(error.value).split("Raise it to ")[1].split()[0])
    assert len(draw(labels, needed, "external")) == needed


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, math.nan]), max_size=30), st.integers(0, 1000))
def test_permuted_labels_are_the_same_labels_of_the_same_patients(values: list[float], seed: int) -> None:
    labels = {f"P{i}": value for i, value in enumerate(values)}
    dealt = permuted(labels, seed=seed, group="c/train")
    assert set(dealt) == set(labels)
    assert sorted(map(str, dealt.values())) == sorted(map(str, labels.values()))
    backwards = permuted(dict(reversed(labels.items())), seed=seed, group="c/train")
    assert repr(sorted(backwards.items())) == repr(sorted(dealt.items()))


def test_permuted_labels_know_nothing_of_the_real_ones() -> None:
    labels = {f"P{i:04d}": float(i % 2) for i in range(2000)}
    dealt = permuted(labels, seed=1, group="c/train")
    agree = np.mean([dealt[patient] == label for patient, label in labels.items()])
    assert abs(agree - 0.5) < 0.05
    assert permuted(labels, seed=1, group="c/test") != dealt != permuted(labels, seed=2, group="c/train")
