"""The training loop learns what is planted, selects as the protocol says, repeats to the bit, and stops in words."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from toy_study import DIM, RECIPE, FeatureStore, TileStore, feature_store, study_slide, toy_data

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.cohort.patients import mean_logit
from tapfm_eval.errors import SplitError, StudyError
from tapfm_eval.methods import train
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.aggregator import Aggregator, SlideOutput
from tapfm_eval.methods.checkpoint import Checkpoints
from tapfm_eval.methods.losses import target_weights
from tapfm_eval.methods.model import SlideModel, build_aggregator, inference_draws, slide_logits
from tapfm_eval.methods.precision import LossScaler
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.methods.sources import Draw, FeatureBag
from tapfm_eval.methods.train import Trained, adamw, cosine_factor, selection_json, train_unit, validate
from tapfm_eval.methods.unit import TrainingData, Unit, epoch_draws, selection_targets
from tapfm_eval.protocol.schema import Adapt, LastBlocks, Lora, LoraPlan

UNIT = Unit("arm", seed=1, fold=0)
CPU = torch.device("cpu")


def frozen_model(name: str = "tapfm", targets: int = 2, recipe: Recipe = RECIPE, seed: int = 1) -> SlideModel:
    return SlideModel(None, build_aggregator(name, DIM, targets, recipe, seed, 0, "arm"), CPU)


def run(data: TrainingData, store: FeatureStore, recipe: Recipe = RECIPE, **options: object) -> Trained:
    model = frozen_model(recipe=recipe, targets=len(data.targets), **options)  # type: ignore[arg-type]
    return train_unit(UNIT, model, recipe, data, store, store, lambda _: None)


@pytest.mark.parametrize("name", ["tapfm", "abmil", "mean"])
def test_a_frozen_arm_learns_a_planted_signal(name: str) -> None:
    data = toy_data()
    trained = run(data, feature_store(data, signal=1.5), name=name)
    assert trained.history[trained.selected_epoch - 1].validation_auroc > 0.9
    assert trained.history[-1].train_loss < 0.8 * trained.history[0].train_loss
    assert trained.metric_targets == ("T0", "T1")


def test_nothing_is_learnt_where_nothing_is_planted() -> None:
    data = toy_data(60, 200)
    trained = run(data, feature_store(data, signal=0.0))
    assert abs(trained.history[-1].validation_auroc - 0.5) < 0.12


@pytest.mark.parametrize(
    "adapt", ["full", LastBlocks(last_blocks=1), Lora(lora=LoraPlan(rank=4))], ids=["full", "last_blocks", "lora"]
)
def test_an_adapted_arm_learns_from_pixels_and_moves_what_it_may(
    tiny_encoder: Callable[..., TileEncoder], adapt: Adapt
) -> None:
    """Positive slides hold stripes; the aggregator is all but still, so that the backbone has to learn."""
    data = replace(toy_data(20, 12, targets=1, tiles=4), tiles_per_slide=3)
    stripes = (torch.arange(48) // 8 % 2 * 60).to(torch.uint8)
    tiles = {}
    for i, slide in enumerate((*data.train, *data.validation)):
        noise = torch.randint(60, 120, (len(slide.grid), 3, 48, 48), generator=torch.Generator().manual_seed(i))
        tiles[slide.slide_id] = noise.to(torch.uint8) + (stripes if data.labels[slide.patient_id][0] == 1 else 0)
    recipe = replace(RECIPE, epochs=4, lr_backbone=5e-3, lr_aggregator=1e-3, drop_path=0.1, micro_batch=2)
    encoder = tiny_encoder(dtype=torch.float32)
    adapt_encoder(encoder, adapt, "arm", 1)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    model = SlideModel(encoder, build_aggregator("tapfm", DIM, 1, recipe, 1), CPU)
    store = TileStore(tiles)
    trained = train_unit(UNIT, model, recipe, data, store, store, lambda _: None)
    assert trained.history[trained.selected_epoch - 1].validation_auroc > 0.9
    moved = {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert set(trained.state) == {f"backbone.{name}" for name in moved} | {
        f"aggregator.{name}" for name, _ in model.aggregator.named_parameters()
    }
    assert trained.history[0].lr_backbone == 5e-3


def test_the_same_seed_gives_the_same_result_to_the_bit() -> None:
    data = toy_data()
    recipe = replace(RECIPE, epochs=2)
    results = []
    for scramble in (0, 1):
        torch.manual_seed(scramble)
        np.random.default_rng(scramble).random()
        results.append(run(data, feature_store(data, signal=1.0), recipe))
    one, two = results
    assert one.history == two.history
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)
    other = train_unit(
        replace(UNIT, seed=2), frozen_model(), recipe, data, feature_store(data, signal=1.0),
        feature_store(data, signal=1.0), lambda _: None,
    )  # fmt: skip
    assert other.history != one.history


def test_the_order_in_which_slides_are_listed_does_not_matter() -> None:
    data = toy_data()
    store = feature_store(data, signal=1.0)
    backwards = replace(data, train=data.train[::-1])
    recipe = replace(RECIPE, epochs=2)
    one, two = run(data, store, recipe), run(backwards, store, recipe)
    assert one.history == two.history
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)


def test_the_micro_batch_changes_no_result_beyond_rounding(tiny_encoder: Callable[..., TileEncoder]) -> None:
    data = replace(toy_data(8, 8, targets=1), min_per_class=1)
    generator = torch.Generator().manual_seed(0)
    tiles = {
        s.slide_id: torch.randint(0, 256, (len(s.grid), 3, 48, 48), dtype=torch.uint8, generator=generator)
        for s in (*data.train, *data.validation)
    }
    found = []
    for micro_batch in (1, 3, 16):
        recipe = replace(RECIPE, epochs=2, micro_batch=micro_batch, drop_path=0.3)
        model = SlideModel(tiny_encoder(), build_aggregator("tapfm", DIM, 1, recipe, 1).double(), CPU)
        store = TileStore(tiles)
        found.append(train_unit(UNIT, model, recipe, data, store, store, lambda _: None))
    for other in found[1:]:
        for ours, theirs in zip(found[0].history, other.history, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-9)
            assert ours.validation_loss == pytest.approx(theirs.validation_loss, abs=1e-9)


def test_the_history_is_complete_and_follows_the_schedule() -> None:
    data = toy_data()
    steps: list[int] = []
    recipe = replace(RECIPE, epochs=5, restart_epochs=2)
    store = feature_store(data, signal=1.0)
    trained = train_unit(UNIT, frozen_model(), recipe, data, store, store, steps.append)
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3, 4, 5]
    rates = [epoch.lr_aggregator / recipe.lr_aggregator for epoch in trained.history]
    assert rates == pytest.approx([1, 0.5, 1, 0.5 + math.cos(math.pi / 4) / 2, 0.5])  # periods of 2 and 4 epochs
    assert {epoch.lr_backbone for epoch in trained.history} == {0.0}
    assert all(math.isfinite(value) for epoch in trained.history for value in asdict(epoch).values())
    assert sum(steps) == 5 * (40 + len(data.validation))
    said = json.loads(selection_json(trained))
    assert said["selected_epoch"] == trained.selected_epoch
    assert said["epochs"] == 5
    assert (said["arm"], said["seed"], said["fold"]) == ("arm", 1, 0)
    assert said["prevalence"] == list(trained.weights.prevalence)


@pytest.mark.parametrize("growth", [1, 2, 3])
def test_cosine_periods_grow_as_torchs_do(growth: int) -> None:
    """torch's CosineAnnealingWarmRestarts(T_0=3, T_mult=growth), stepped once an epoch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=3, T_mult=growth)
    for epoch in range(30):
        assert cosine_factor(epoch, 3, growth) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        schedule.step()


class Scripted(Aggregator):
    """Says in each epoch what a script gives: logits of the validation slides, by a tag in their embeddings."""

    def __init__(self, script: Tensor) -> None:
        super().__init__()
        self.script = script  # (epochs, slides)
        self.parameter = nn.Parameter(torch.zeros(1))
        self.epoch = -1

    def train(self, mode: bool = True) -> "Scripted":
        self.epoch += int(mode)
        return self

    def forward(self, z: Tensor, a: Tensor) -> SlideOutput:
        tag = int(z[0, 0])
        logit = self.parameter if tag < 0 else self.script[self.epoch, tag : tag + 1] + 0 * self.parameter
        return SlideOutput(logit, torch.full((len(z),), 1 / len(z)))


def scripted(script: list[list[float]], ties: tuple[str, ...]) -> Trained:
    """Three negatives, then three positives to validate; smoothing off, so that a surer logit has a smaller loss."""
    slides = [study_slide(f"S{i}", f"P{i}", 1) for i in range(8)]
    labels = {f"P{i}": np.array([y]) for i, y in enumerate([0.0, 0, 0, 1, 1, 1, 0, 1])}
    data = TrainingData(
        targets=("T",), selecting=("T",), train=tuple(slides[6:]), validation=tuple(slides[:6]), labels=labels,
        tiles_per_slide=None, min_per_class=3, ties=ties,
    )  # fmt: skip
    tags = {f"S{i}": torch.full((1, DIM), float(i if i < 6 else -1)) for i in range(8)}
    store = FeatureStore(tags, dict.fromkeys(tags, torch.ones(1)))
    recipe = replace(RECIPE, epochs=len(script), label_smoothing=0.0, lr_aggregator=1e-9)
    model = SlideModel(None, Scripted(torch.tensor(script)), CPU)
    return train_unit(UNIT, model, recipe, data, store, store, lambda _: None)


WRONG, UNSURE, SURE = [1.0, 1, 1, -1, -1, -1], [-0.1, -0.1, -0.1, 0.1, 0.1, 0.1], [-2.0, -2, -2, 2, 2, 2]
MIXED = [-9.0, -9, 2, 1, 9, 9]


def test_the_best_validation_auroc_selects_the_epoch_whatever_its_loss() -> None:
    trained = scripted([WRONG, MIXED, UNSURE, WRONG], ("validation_loss", "earliest"))
    assert trained.selected_epoch == 3
    assert [epoch.validation_auroc for epoch in trained.history] == pytest.approx([0, 8 / 9, 1, 0])


@pytest.mark.parametrize(
    ("ties", "chosen"),
    [
        (("validation_loss", "earliest"), 3),
        (("earliest", "validation_loss"), 2),
        (("earliest",), 2),
        (("validation_loss",), 3),
        ((), 2),
    ],
)
def test_ties_are_resolved_in_the_protocols_order(ties: tuple[str, ...], chosen: int) -> None:
    assert scripted([WRONG, UNSURE, SURE, UNSURE, SURE], ties).selected_epoch == chosen


def test_the_selected_state_and_scores_are_those_of_the_selected_epoch() -> None:
    data = toy_data()
    store = feature_store(data, signal=0.4)
    recipe = replace(RECIPE, lr_aggregator=5e-2)
    model = frozen_model(recipe=recipe)
    trained = train_unit(UNIT, model, recipe, data, store, store, lambda _: None)
    aurocs = [epoch.validation_auroc for epoch in trained.history]
    assert trained.selected_epoch - 1 == int(np.argmax(aurocs))
    assert trained.selected_epoch < recipe.epochs, "the last epoch is the best: the case is too easy"
    for name, parameter in model.aggregator.named_parameters():
        parameter.data.copy_(trained.state[f"aggregator.{name}"])
    bags = store.bags(inference_draws(data.validation, recipe))
    raw = slide_logits(model, bags, data.validation, recipe, lambda _: None)
    for slide_id, logits in raw.items():
        scores = 1 / (1 + np.exp(-(logits - trained.weights.offsets)))
        assert np.allclose(scores, trained.validation_scores[slide_id], atol=1e-12)


def test_validation_is_about_patients() -> None:
    """Slides of a patient are combined as the mean of their logits before the AUROC."""
    data = toy_data(20, 20)
    rng = np.random.default_rng(0)
    scores = {slide.slide_id: rng.random(2) for slide in data.validation}
    weights = target_weights(np.array([data.labels[s.patient_id] for s in data.train]), data.targets, "fold 0")
    auroc, loss = validate(data, scores, weights, RECIPE, ("T1",))
    patients = sorted({slide.patient_id for slide in data.validation})
    combined = [
        mean_logit(np.array([scores[s.slide_id][1] for s in data.validation if s.patient_id == patient]))
        for patient in patients
    ]
    labels = np.array([data.labels[patient][1] for patient in patients])
    known = ~np.isnan(labels)
    assert auroc == roc_auc_score(labels[known], np.array(combined)[known])
    assert loss > 0


def test_an_epoch_visits_each_patient_once_with_tiles_drawn_anew() -> None:
    data = toy_data(30, 10, tiles=30)
    epochs = [epoch_draws(data, UNIT, epoch) for epoch in (1, 2, 3, 4, 5, 6)]
    patients = sorted({slide.patient_id for slide in data.train})
    for draws in epochs:
        assert sorted(slide.patient_id for slide, _ in draws) == patients
        assert all(len(draw.indices) == len(set(draw.indices.tolist())) == 4 for _, draw in draws)
    orders = [[slide.patient_id for slide, _ in draws] for draws in epochs]
    assert orders[0] != orders[1]
    slides = {frozenset(slide.slide_id for slide, _ in draws) for draws in epochs}
    assert len(slides) > 1, "a patient's second slide is never drawn"
    tiles = [{slide.slide_id: draw.indices.tolist() for slide, draw in draws} for draws in epochs]
    assert tiles[0]["P001-0"] != tiles[1]["P001-0"]


def test_inference_covers_all_tiles_in_chunks() -> None:
    data = toy_data(10, 10)
    store = feature_store(data, signal=1.0)
    recipe = replace(RECIPE, epochs=1)
    run(data, store, recipe)
    for slide in data.validation:
        chunks = [draw.indices for draw in store.asked if draw.slide_id == slide.slide_id]
        assert all(len(chunk) <= recipe.micro_batch for chunk in chunks)
        assert np.concatenate(chunks).tolist() == list(range(len(slide.grid)))


class Broken(FeatureStore):
    """A store one of whose slides holds numbers that are none."""

    def bags(self, draws: Iterable[Draw]) -> Iterator[FeatureBag]:
        for bag in super().bags(draws):
            yield replace(bag, z=bag.z * math.nan) if bag.draw.slide_id == "P007-0" else bag


def test_a_loss_that_is_no_number_stops_the_unit_before_it_spoils_the_weights() -> None:
    data = toy_data()
    good = feature_store(data, signal=1.0)
    model = frozen_model()
    with pytest.raises(StudyError) as error:
        train_unit(UNIT, model, RECIPE, data, Broken(good.z, good.a), good, lambda _: None)
    assert "arm, seed 1, fold 0" in str(error.value)
    assert "epoch 1 at slide P007-0" in str(error.value)
    assert "Lower the learning rate" in str(error.value)
    assert all(torch.isfinite(p).all() for p in model.aggregator.parameters())


def test_a_gradient_that_is_no_number_stops_the_unit_and_keeps_the_weights_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root of zero, a division by a spread of none: the loss says nothing of it, and one step would spoil all."""
    data = toy_data()
    store, model, taken = feature_store(data, signal=1.0), frozen_model(), 0
    real = train.aggregator_gradients

    def spoiled(aggregator: Aggregator, *given: Any) -> Any:
        nonlocal taken
        found, taken = real(aggregator, *given), taken + 1
        if taken == 5:
            gradient = next(aggregator.parameters()).grad
            assert gradient is not None
            gradient.view(-1)[0] = math.nan
        return found

    monkeypatch.setattr(train, "aggregator_gradients", spoiled)
    kept = Checkpoints(tmp_path, "key")
    with pytest.raises(
        StudyError, match=r"seed 1, fold 0: a gradient is not a number in epoch 1 at slide P.* although"
    ):
        train_unit(UNIT, model, RECIPE, data, store, store, lambda _: None, kept)
    saved = kept.newest(lambda found: found)
    assert saved is not None
    assert len(saved.facts["losses"]) == 4  # of the slides before it
    assert all(tensor.isfinite().all() for tensor in saved.tensors.values())


def test_fp16_gradients_that_are_no_numbers_at_any_scale_stop_the_unit() -> None:
    """Else the backbone would be left out of every step, for days, and nobody told."""
    data = toy_data()
    store, model = feature_store(data, signal=1.0), frozen_model()
    object.__setattr__(model, "scaler", LossScaler())
    assert model.scaler is not None
    model.scaler.scale = 0.5
    before = {name: value.clone() for name, value in model.aggregator.state_dict().items()}
    with pytest.raises(
        StudyError, match=r"arm, seed 1, fold 0: .*fp16 gradients are not numbers in epoch 1 at slide P"
    ):
        train_unit(UNIT, model, RECIPE, data, store, store, lambda _: None)
    assert all(torch.equal(value, before[name]) for name, value in model.aggregator.state_dict().items())


def test_validation_logits_that_are_no_numbers_stop_the_unit() -> None:
    data = toy_data(20, 20)
    swapped = replace(data, train=data.validation, validation=data.train)
    good = feature_store(data, signal=1.0)
    with pytest.raises(StudyError, match="validation slide P007-0 are not numbers after epoch 1"):
        train_unit(UNIT, frozen_model(), RECIPE, swapped, good, Broken(good.z, good.a), lambda _: None)


class Greedy(FeatureStore):
    """A store one of whose slides is too large for the device."""

    def bags(self, draws: Iterable[Draw]) -> Iterator[FeatureBag]:
        for bag in super().bags(draws):
            if bag.draw.slide_id == "P007-0":
                raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
            yield bag


def test_memory_that_runs_out_over_a_validation_slide_is_said_and_the_epoch_kept(tmp_path: Path) -> None:
    data = toy_data(20, 20)
    swapped = replace(data, train=data.validation, validation=data.train)
    good, kept = feature_store(data, signal=1.0), Checkpoints(tmp_path, "key")
    with pytest.raises(
        StudyError, match=r"fold 0: the memory of cpu ran out at validation slide P007-0, .* smaller `micro_batch`"
    ):
        train_unit(UNIT, frozen_model(), RECIPE, swapped, good, Greedy(good.z, good.a), lambda _: None, kept)
    saved = kept.newest(lambda found: found)
    assert saved is not None
    assert len(saved.facts["losses"]) == swapped.steps


def test_only_targets_with_enough_patients_of_each_class_select() -> None:
    data = toy_data(targets=3)
    patients = sorted({slide.patient_id for slide in data.validation})
    labels = dict(data.labels) | {
        p: np.array([float(i % 2), float(i < 2), float(i < 3)]) for i, p in enumerate(patients)
    }
    rare = replace(data, labels=labels)
    assert selection_targets(rare, UNIT) == ("T0", "T2")
    assert selection_targets(replace(rare, min_per_class=2), UNIT) == ("T0", "T1", "T2")
    assert selection_targets(replace(rare, selecting=("T2",)), UNIT) == ("T2",)
    with pytest.raises(SplitError) as error:
        selection_targets(replace(rare, min_per_class=50), UNIT)
    assert "fold 0, validation" in str(error.value)
    assert "50 patients of each class" in str(error.value)
    with pytest.raises(SplitError):
        selection_targets(replace(rare, validation=()), UNIT)


def test_a_target_that_cannot_be_trained_stops_before_training() -> None:
    data = toy_data()
    labels = {patient: np.array([row[0], 0.0]) for patient, row in data.labels.items()}
    steps: list[int] = []
    store = feature_store(data, signal=1.0)
    for broken in (replace(data, labels=labels), replace(data, train=())):
        with pytest.raises(SplitError, match="training patients of both classes"):
            train_unit(UNIT, frozen_model(), RECIPE, broken, store, store, steps.append)
    assert steps == []


def test_biases_and_norms_are_not_decayed() -> None:
    """With a gradient of zero AdamW shrinks what it decays, by lr times the decay, and leaves the rest."""
    module = build_aggregator("tapfm", DIM, 2, RECIPE, 1)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = adamw(list(module.parameters()), lr=0.1, weight_decay=0.5)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in module.named_parameters():
        assert torch.allclose(parameter, before[name] * (0.95 if name == "classifier.weight" else 1)), name


def test_a_saved_state_comes_back_to_the_bit(tmp_path: Path, tiny_encoder: Callable[..., TileEncoder]) -> None:
    def fresh(seed: int) -> SlideModel:
        encoder = tiny_encoder(dtype=torch.float32)
        adapt_encoder(encoder, Lora(lora=LoraPlan(rank=2)), "arm", seed)
        return SlideModel(encoder, build_aggregator("abmil", DIM, 2, RECIPE, seed), CPU)

    one, other = fresh(1), fresh(2)
    one.save(one.state(), tmp_path / "w.safetensors")
    other.load(tmp_path / "w.safetensors")
    saved, loaded = one.state(), other.state()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert not any(".base." in name for name in saved), "frozen weights are not saved again"
