"""Weights come from training labels, missing labels weigh nothing, scores are written without the weights' shift."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tapfm_eval.errors import SplitError
from tapfm_eval.methods.losses import TargetWeights, slide_loss, target_weights

NAN = float("nan")


def slow_loss(logits: list[float], labels: list[float], p: list[float], target: list[float], smoothing: float) -> float:
    """method.md, one target after the other."""
    total = 0.0
    for logit, y, prevalence, weight in zip(logits, labels, p, target, strict=True):
        if not math.isnan(y):
            chance = 1 / (1 + math.exp(-logit))
            soft = y * (1 - smoothing) + smoothing / 2
            entropy = -(soft * math.log(chance) + (1 - soft) * math.log(1 - chance))
            total += weight * (1 - prevalence if y == 1 else prevalence) * entropy
    return total


def test_labels_may_lie_elsewhere_than_the_logits() -> None:
    """A device without arithmetic stands in for a GPU: whatever is not moved there raises."""
    logits = torch.empty(3, device="meta", requires_grad=True)
    loss = slide_loss(logits, torch.tensor([1.0, NAN, 0.0]), TargetWeights((0.5,) * 3, (1.0,) * 3), 0.1)
    loss.backward()
    assert loss.device.type == "meta"
    assert logits.grad is not None


def test_weights_count_training_patients_with_a_known_label() -> None:
    labels = np.array([[1, NAN], [0, 1], [0, NAN], [0, 0], [NAN, 1], [NAN, 1]])
    weights = target_weights(labels, ("A", "B"), "fold 0")
    assert weights.prevalence == (0.25, 0.75)
    assert weights.target == pytest.approx((1.5, 0.5))  # 4 and 4/3, divided by their mean
    assert np.mean(weights.target) == pytest.approx(1)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    logits=st.lists(st.floats(-20, 20), min_size=3, max_size=3),
    labels=st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=3, max_size=3),
    p=st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3),
    smoothing=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_the_loss_equals_its_formula(
    logits: list[float], labels: list[float], p: list[float], smoothing: float
) -> None:
    target = [0.5, 1.0, 1.5]
    weights = TargetWeights(tuple(p), tuple(target))
    got = slide_loss(torch.tensor(logits, dtype=torch.float64), torch.tensor(labels), weights, smoothing)
    assert float(got) == pytest.approx(slow_loss(logits, labels, p, target, smoothing), rel=1e-9, abs=1e-12)


def test_a_missing_label_gives_exactly_no_loss_and_no_gradient() -> None:
    weights = TargetWeights((0.2, 0.5, 0.7), (1.0, 1.0, 1.0))
    logits = torch.tensor([0.3, 5.0, -2.0], requires_grad=True)
    loss = slide_loss(logits, torch.tensor([1.0, NAN, 0.0]), weights, 0.1)
    loss.backward()
    without = slide_loss(
        torch.tensor([0.3, -2.0]), torch.tensor([1.0, 0.0]), TargetWeights((0.2, 0.7), (1.0, 1.0)), 0.1
    )
    assert float(loss.detach()) == float(without)
    assert logits.grad is not None
    assert logits.grad[1] == 0
    assert logits.grad[0] < 0 < logits.grad[2]


def test_a_slide_without_any_label_gives_no_loss_and_no_gradient() -> None:
    logits = torch.tensor([0.3, 5.0], requires_grad=True)
    loss = slide_loss(logits, torch.tensor([NAN, NAN]), TargetWeights((0.2, 0.5), (1.0, 1.0)), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert logits.grad.tolist() == [0, 0]


def test_smoothing_moves_labels_towards_a_half() -> None:
    """With s = 0.2 labels are 0.9 and 0.1, so that the loss is least at logit log(9)."""
    weights = TargetWeights((0.5,), (1.0,))
    for label, best in ((1.0, math.log(9)), (0.0, -math.log(9))):
        logit = torch.tensor([best], dtype=torch.float64, requires_grad=True)
        slide_loss(logit, torch.tensor([label]), weights, 0.2).backward()
        assert logit.grad is not None
        assert float(logit.grad) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("positives", "n"), [(3, 100), (123, 1000), (60, 100), (1, 2)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_intercept_fitted_under_the_weights_less_its_offset_is_the_prevalence(
    positives: int, n: int, smoothing: float
) -> None:
    """The weights shift the fitted logit by log((1 - p) / p); smoothing does not move the balanced point."""
    labels = np.r_[np.ones(positives), np.zeros(n - positives)][:, None]
    weights = target_weights(labels, ("A",), "fold 0")
    intercept = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([intercept], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum(count * slide_loss(intercept - 3 + 3, torch.tensor([y]), weights, smoothing)
                   for y, count in ((1.0, positives), (0.0, n - positives)))  # fmt: skip
        loss.backward()  # type: ignore[union-attr]
        return loss  # type: ignore[return-value]

    with torch.no_grad():
        intercept += 1.5
    optimizer.step(closure)
    corrected = float(intercept.detach()) - weights.offsets[0]
    assert 1 / (1 + math.exp(-corrected)) == pytest.approx(positives / n, abs=1e-6)


@pytest.mark.parametrize("label", [0.0, 1.0, NAN])
def test_a_target_without_both_classes_is_refused_before_training(label: float) -> None:
    labels = np.array([[1.0, label], [0.0, label], [NAN, NAN]])
    with pytest.raises(SplitError) as error:
        target_weights(labels, ("EGFR", "ALK"), "fold 3")
    assert "fold 3, target ALK" in str(error.value)
    assert "EGFR" not in str(error.value)


def test_all_targets_that_cannot_be_trained_are_named_at_once() -> None:
    with pytest.raises(SplitError) as error:
        target_weights(np.zeros((0, 2)), ("A", "B"), "fold 0")
    assert len(error.value.problems) == 2
    assert "0 positive, 0 negative" in str(error.value)
