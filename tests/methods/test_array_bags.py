"""Aggregators on plain arrays: they learn, repeat to the bit, and refuse malformed arrays in words."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tapfm_eval.errors import InputError, SplitError, StudyError
from tapfm_eval.methods.bags import fit_bags
from tapfm_eval.protocol.schema import AGGREGATORS, Arm

Bags = list[NDArray[np.float64]]


def toy(count: int = 40, seed: int = 0, shift: float = 3.0) -> tuple[Bags, NDArray[np.float64]]:
    """Bags of 3 to 8 instances of 6 numbers; a positive one holds two instances that are moved."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    bags = []
    for label in labels:
        bag = rng.normal(size=(rng.integers(3, 9), 6))
        bag[:2, 0] += shift * label
        bags.append(rng.permutation(bag) * 100 + 1000)  # a scale that only standardising undoes
    return bags, labels.astype(float)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_every_aggregator_learns_what_a_bag_holds(aggregator: str) -> None:
    bags, labels = toy(40)
    rate = 1e-2 if aggregator in ("tapfm", "mean", "dsmil", "varmil") else 2e-3  # linear in the embedding: larger steps
    epochs = 2 if aggregator == "transmil" else 5
    fitted = fit_bags(aggregator, bags, labels, seed=1, epochs=epochs, learning_rate=rate)
    others, truth = toy(40, seed=1)
    scores = fitted.scores(others)[:, 0]
    assert ((scores > 0) & (scores < 1)).all()
    higher = scores[truth == 1][:, None] > scores[truth == 0][None, :]
    assert higher.mean() > 0.8
    assert fitted.losses[-1] < fitted.losses[0]
    shares = fitted.instance_weights(others)
    assert [len(share) for share in shares] == [len(bag) for bag in others]
    assert all(abs(share.sum() - 1) < 1e-5 for share in shares)


def test_attention_chooses_the_instances_that_tapfm_reads() -> None:
    """The raw attention marks the moved instances; without it TAPFM is mean pooling."""
    rng = np.random.default_rng(3)
    bags, labels = toy(20)
    attention = [rng.uniform(size=len(bag)) for bag in bags]
    given = fit_bags("tapfm", bags, labels, seed=1, attention=attention, epochs=2)
    uniform = fit_bags("tapfm", bags, labels, seed=1, epochs=2)
    shares = given.instance_weights(bags, attention)
    for share, raw in zip(shares, attention, strict=True):
        scaled = (raw - raw.min()) / (raw.max() - raw.min() + 1e-8) / 0.1
        np.testing.assert_allclose(share, np.exp(scaled) / np.exp(scaled).sum(), atol=1e-5)
    for share in uniform.instance_weights(bags):
        np.testing.assert_allclose(share, 1 / len(share), atol=1e-6)
    assert not np.allclose(given.scores(bags, attention), uniform.scores(bags))


def test_protocols_name_the_aggregators_that_arrays_do() -> None:
    assert set(AGGREGATORS) == {"tapfm", "abmil", "clam-sb", "clam-mb", "dsmil", "varmil", "transmil", "mean"}
    for name in AGGREGATORS:
        arm = Arm.model_validate({"id": "a", "backbone": "uni", "aggregator": name, "adapt": "full"})
        assert arm.aggregator == name
    with pytest.raises(ValueError, match="expected one of tapfm"):
        Arm.model_validate({"id": "a", "backbone": "uni", "aggregator": "clam", "adapt": "full"})


@pytest.mark.parametrize("aggregator", ["abmil", "clam-mb"])
def test_the_same_call_gives_the_same_scores_and_another_seed_others(aggregator: str) -> None:
    bags, labels = toy(12)
    torch.manual_seed(1)
    first = fit_bags(aggregator, bags, labels, seed=4, epochs=2).scores(bags)
    torch.manual_seed(2)
    assert np.array_equal(first, fit_bags(aggregator, bags, labels, seed=4, epochs=2).scores(bags))
    assert not np.array_equal(first, fit_bags(aggregator, bags, labels, seed=5, epochs=2).scores(bags))


def test_standardising_makes_the_scale_of_instances_irrelevant() -> None:
    bags, labels = toy(12)
    moved = [bag * 7 - 3 for bag in bags]
    one, other = (fit_bags("abmil", b, labels, seed=1, epochs=2).scores(b) for b in (bags, moved))
    np.testing.assert_allclose(one, other, atol=1e-4)
    constant = [np.column_stack([bag, np.ones(len(bag))]) for bag in bags]
    assert np.isfinite(fit_bags("abmil", constant, labels, seed=1, epochs=1).scores(constant)).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 123.456])
def test_an_entry_that_never_varies_in_training_says_nothing_afterwards(value: float) -> None:
    """Its standard deviation comes out as rounding dust, by which a new value must not be divided."""
    bags, labels = toy(12)
    wider = [np.column_stack([bag, np.full(len(bag), value)]) for bag in bags]
    fitted = fit_bags("abmil", wider, labels, seed=1, epochs=2)
    assert fitted.scale[-1] == 1
    assert fitted.shift[-1] == value
    moved = [np.column_stack([bag, np.full(len(bag), value + 0.1)]) for bag in bags]
    np.testing.assert_allclose(fitted.scores(moved), fitted.scores(wider), atol=0.1)


def test_scaling_is_that_of_all_instances_together() -> None:
    bags, labels = toy(12)
    fitted, stacked = fit_bags("mean", bags, labels, seed=1, epochs=1), np.concatenate(bags)
    np.testing.assert_allclose(fitted.shift, stacked.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(fitted.scale, stacked.std(0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_of_any_kind_and_a_generator_are_bags_too(dtype: torch.dtype) -> None:
    bags, labels = toy(12)
    tensors = [torch.from_numpy(bag).to(dtype).requires_grad_() for bag in bags]
    plain = [tensor.detach().float().numpy() for tensor in tensors]
    fitted = fit_bags("abmil", (tensor for tensor in tensors), torch.from_numpy(labels), seed=1, epochs=2)
    assert np.array_equal(fitted.scores(tensors), fit_bags("abmil", plain, labels, seed=1, epochs=2).scores(plain))


def test_scores_are_probabilities_at_the_training_prevalence() -> None:
    """Instances that say nothing: one bag in five is positive, and that is what the score says."""
    bags = [np.ones((4, 3)) for _ in range(50)]
    labels = np.array([1.0] * 10 + [0.0] * 40)
    fitted = fit_bags("mean", bags, labels, seed=1, epochs=15, learning_rate=1e-2)
    np.testing.assert_allclose(fitted.scores(bags[:2]), 0.2, atol=0.03)


def test_a_bag_of_which_nothing_is_known_changes_nothing() -> None:
    bags, labels = toy(20)
    second = np.roll(labels, 1)
    second[::3] = np.nan
    both = np.column_stack([labels, second])
    both[5] = np.nan
    changed = list(bags)
    changed[5] = np.zeros((2, 6))  # nothing is known of this bag, so it may hold anything
    fitted = [fit_bags("dsmil", b, both, seed=1, epochs=2, standardise=False) for b in (bags, changed)]
    assert fitted[0].scores(bags).shape == (20, 2)
    assert np.isfinite(fitted[0].scores(bags)).all()
    assert np.array_equal(fitted[0].scores(bags), fitted[1].scores(bags))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"aggregator": "abmill"}, ["aggregator: expected one of tapfm, abmil", "'abmill'"]),
        ({"labels": np.zeros(3)}, ["labels: expected an array (12,) or (12, L)", "shape (3,)"]),
        ({"labels": np.full(12, 0.5)}, ["labels, bag 0, column 0: expected 0, 1 or NaN, got 0.5", "bag 11"]),
        ({"bags": []}, ["at least one bag"]),
        ({"attention": [np.ones(2)] * 12}, ["attention, bag 0", "one per instance"]),
        ({"attention": []}, ["attention: expected one array for each of 12 bags, got 0"]),
        ({"attention": [np.full(4, np.nan)] * 12}, ["attention, bag 0: expected"]),
        ({"labels": ["mut", "wt"] * 6}, ["labels: expected an array (12,)", "no array of real numbers"]),
        ({"bags": [["a", "b"]] * 12}, ["bag 0: expected an array (K, D)", "bag 11"]),
        ({"bags": [[[1.0], [1.0, 2.0]]] * 12}, ["bag 0: expected an array (K, D)", "no array of real numbers"]),
        ({"bags": [np.ones((2, 3), complex)] * 12}, ["bag 0", "no array of real numbers"]),
        ({"bags": [np.full((2, 3), 1e200)] * 12}, ["bag 0: expected finite numbers (float32), got 6 that are not"]),
        ({"epochs": 0}, ["epochs: expected a whole number of at least 1, got 0"]),
        ({"epochs": 1.5}, ["epochs: expected a whole number"]),
        ({"learning_rate": -1.0}, ["learning_rate: expected a number above 0, got -1.0"]),
        ({"learning_rate": np.nan}, ["learning_rate"]),
        ({"label_smoothing": 3}, ["label_smoothing: expected a number of at least 0 and below 1, got 3"]),
        ({"temperature": 0.0, "weight_decay": -1.0}, ["temperature: expected a number above 0", "weight_decay"]),
    ],
)
def test_malformed_arguments_are_refused(change: dict[str, object], said: list[str]) -> None:
    bags, labels = toy(12)
    arguments = {"aggregator": "abmil", "bags": bags, "labels": labels} | change
    with pytest.raises(InputError) as error:
        fit_bags(**{"seed": 1} | arguments)  # type: ignore[arg-type]
    for words in said:
        assert words in str(error.value)


def test_every_malformed_bag_is_listed() -> None:
    bags, labels = toy(12)
    bags[1], bags[2], bags[3] = np.zeros((0, 6)), np.zeros((2, 5)), np.zeros(6)
    bags[4] = np.full((2, 6), np.nan)
    with pytest.raises(InputError) as error:
        fit_bags("abmil", bags, labels, seed=1)
    assert [problem.where for problem in error.value.problems] == ["bag 1", "bag 2", "bag 3", "bag 4"]
    fitted = fit_bags("abmil", toy(12)[0], labels, seed=1, epochs=1)
    with pytest.raises(InputError, match=r"bag 0: expected an array \(K, 6\)"):
        fitted.scores([np.zeros((2, 5))])


def test_one_class_alone_cannot_be_trained() -> None:
    bags, _ = toy(4)
    with pytest.raises(SplitError, match="4 positive, 0 negative"):
        fit_bags("abmil", bags, np.ones(4), seed=1)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    bags, labels = toy(12)
    with pytest.raises(StudyError, match="Lower the learning rate"):
        fit_bags("mean", [bag * 1e30 for bag in bags], labels, seed=1, learning_rate=1e30, standardise=False)
