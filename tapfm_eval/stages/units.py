"""The training stage: every arm, seed and fold that is not done yet, each to its selected weights."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.features import SlideFeatures, features_path, write_features
from tapfm_eval.backbones.load import load_backbone
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.patients import expit
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.attention_store import TileAttention, attention_path, write_attention
from tapfm_eval.methods.losses import target_weights
from tapfm_eval.methods.model import SlideModel, build_aggregator, encode_slides, inference_draws, slide_logits
from tapfm_eval.methods.recipe import Recipe, resolve_recipe
from tapfm_eval.methods.sources import BagSource, FeatureSource, StudySlide, TileSource
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.methods.train import selection_json, train_unit
from tapfm_eval.methods.unit import TrainingData, Unit, selection_targets
from tapfm_eval.predictions.table import predictions_csv, predictions_frame
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, Arm, Protocol
from tapfm_eval.rundir import RunFolder, write_text


@dataclass(frozen=True, slots=True)
class StudyData:
    """What all units of a study share."""

    protocol: Protocol
    cohorts: Mapping[str, Cohort]
    slides: tuple[StudySlide, ...]  # every usable slide of every cohort
    cards: Mapping[str, BackboneCard]  # by the name that arms use
    weights: Mapping[str, Path]  # local checkpoints by backbone
    folder: RunFolder
    device: torch.device
    workers: int

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, in the protocol's order."""
        return tuple(self.protocol.targets)

    def labels(self, cohort: str) -> dict[str, NDArray[np.float64]]:
        """Labels (L,) by patient of one cohort."""
        table = self.cohorts[cohort].labels
        rows = table.to_numpy(np.float64, copy=True)
        return {str(patient): row for patient, row in zip(table.index, rows, strict=True)}

    def of(self, cohort: str, patients: set[str] | None = None) -> tuple[StudySlide, ...]:
        """The slides of a cohort, of these patients."""
        return tuple(s for s in self.slides if s.cohort == cohort and (patients is None or s.patient_id in patients))

    def part(self, fold: int, part: str) -> tuple[StudySlide, ...]:
        """The slides of one part of a fold."""
        cohort = self.cohorts[self.protocol.development]
        assert cohort.split is not None
        return self.of(cohort.name, set(cohort.split.patients(fold, part)))


def units_of(protocol: Protocol, folds: tuple[int, ...]) -> list[tuple[Arm, Unit]]:
    """Every arm, seed and fold in the protocol's order."""
    return [(arm, Unit(arm.id, seed, fold)) for arm in protocol.arms for seed in protocol.seeds for fold in folds]


def unit_folder(data: StudyData, unit: Unit) -> Path:
    """Where a unit's files lie."""
    return data.folder.unit(unit.arm, unit.seed, unit.fold)


def is_trained(data: StudyData, unit: Unit) -> bool:
    """Whether a unit is selected; its selection file is written last."""
    return (unit_folder(data, unit) / "selection.json").is_file()


def check_weights(cards: Mapping[str, BackboneCard], weights: Mapping[str, Path], seed: int) -> None:
    """Loads every backbone once, so that missing or wrong weights are known before the first arm trains for days.

    Raises:
        BackboneError: The weights of a backbone cannot be had or do not fit.
    """
    for name, card in cards.items():
        if not card.stand_in:
            load_backbone(card, weights=weights.get(name), seed=seed)


def check_units(data: StudyData, arms: Sequence[Arm], units: Sequence[tuple[Arm, Unit]]) -> None:
    """Makes sure that every fold can be trained and selected, before the first one is.

    Raises:
        SplitError: A target lacks a class in a training part, or a validation part cannot carry the selection.
    """
    labels = data.labels(data.protocol.development)
    for arm, unit in {unit.fold: (arm, unit) for arm, unit in units if arm in arms}.values():
        training = _training_data(data, arm, unit)
        known = np.array([labels[patient] for patient in sorted({slide.patient_id for slide in training.train})])
        target_weights(known, training.targets, f"fold {unit.fold}")
        selection_targets(training, unit)


def _training_data(data: StudyData, arm: Arm, unit: Unit) -> TrainingData:
    """The patients of a unit's fold; the rehearsal's negative control takes no part in the selection."""
    protocol = data.protocol
    return TrainingData(
        data.targets, tuple(target for target in data.targets if target != NEGATIVE_CONTROL),
        data.part(unit.fold, "train"), data.part(unit.fold, "validation"), data.labels(protocol.development),
        arm.tiles_per_slide, protocol.selection.min_per_class, protocol.selection.ties,
    )  # fmt: skip


def embed_slides(data: StudyData, backbone: str, cohort: str, advance: Callable[[int], None]) -> None:
    """Embeds all tiles of a cohort with a frozen backbone, once for all arms; slides already stored are kept."""
    card = data.cards[backbone]
    root = data.folder.features(backbone, cohort)
    slides = [slide for slide in data.of(cohort) if not features_path(root, slide.slide_id).is_file()]
    advance(len(data.of(cohort)) - len(slides))
    if not slides:
        return
    arm = next(arm for arm in data.protocol.arms if arm.backbone == backbone and arm.adapt == "frozen")
    recipe = resolve_recipe(data.protocol, arm)
    network = load_backbone(card, weights=data.weights.get(backbone), seed=data.protocol.seeds[0])
    encoder = TileEncoder(network, card).requires_grad_(False).to(data.device)
    model = SlideModel(encoder, Tapfm(card.dim, 1, temperature=1.0, layer_norm=False), data.device)
    source = TileSource({slide.slide_id: slide for slide in slides}, data.workers, None)
    for slide, z, a in encode_slides(model, source.bags(inference_draws(slides, recipe)), slides, recipe):
        stored = SlideFeatures(z.cpu().numpy(), a.cpu().numpy(), slide.grid.xy0)
        write_features(features_path(root, slide.slide_id), slide.slide_id, card, stored)
        advance(1)


def build_model(data: StudyData, arm: Arm, unit: Unit, recipe: Recipe) -> SlideModel:
    """A fresh model of one unit on the study's device."""
    card = data.cards[arm.backbone]
    parts = (unit.seed, unit.fold, arm.id)
    aggregator = build_aggregator(arm.aggregator, card.dim, len(data.targets), recipe, *parts).to(data.device)
    if arm.adapt == "frozen":
        return SlideModel(None, aggregator, data.device)
    # stand-ins take their weights from the first seed, as every seed starts from the same published weights
    network = load_backbone(card, weights=data.weights.get(arm.backbone), seed=data.protocol.seeds[0])
    encoder = TileEncoder(network, card)
    adapt_encoder(encoder, arm.adapt, f"arm {arm.id}", *parts)
    return SlideModel(encoder.to(data.device), aggregator, data.device)


def bag_source(data: StudyData, arm: Arm, slides: tuple[StudySlide, ...], augment_seed: int | None) -> BagSource:
    """Bags of these slides for an arm: stored embeddings where its backbone is frozen, tiles otherwise."""
    if arm.adapt == "frozen":
        roots = {s.slide_id: data.folder.features(arm.backbone, s.cohort) for s in slides}
        return FeatureSource(roots, data.cards[arm.backbone])
    return TileSource({slide.slide_id: slide for slide in slides}, data.workers, augment_seed)


def unit_steps(data: StudyData, arm: Arm, unit: Unit) -> int:
    """How many slides a unit's training passes through, for progress."""
    patients = len({slide.patient_id for slide in data.part(unit.fold, "train")})
    return resolve_recipe(data.protocol, arm).epochs * (patients + len(data.part(unit.fold, "validation")))


def train_and_save(data: StudyData, arm: Arm, unit: Unit, advance: Callable[[int], None]) -> None:
    """Trains one unit and writes its history, selected weights, validation predictions and, last, its selection."""
    protocol, recipe = data.protocol, resolve_recipe(data.protocol, arm)
    training = _training_data(data, arm, unit)
    train, validation = training.train, training.validation
    model = build_model(data, arm, unit, recipe)
    trained = train_unit(
        unit, model, recipe, training,
        bag_source(data, arm, train, unit.seed if recipe.augment else None),
        bag_source(data, arm, validation, None),
        advance,
    )  # fmt: skip
    folder = unit_folder(data, unit)
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(_rows(data, unit, protocol.development, "validation", validation, trained.validation_scores))
    write_text(folder / "validation.csv", predictions_csv(predictions_frame(rows)))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(trained.history[0].__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for epoch in trained.history:
        writer.writerow({name: getattr(epoch, name) for name in epoch.__dataclass_fields__})
    write_text(folder / "history.csv", table.getvalue())
    model.save(trained.state, folder / "selected.safetensors")
    write_text(folder / "selection.json", selection_json(trained) + "\n")


def predict_and_save(data: StudyData, arm: Arm, unit: Unit, advance: Callable[[int], None]) -> None:
    """Predicts test and external patients with a unit's selected weights and writes its predictions."""
    recipe = resolve_recipe(data.protocol, arm)
    folder = unit_folder(data, unit)
    selection = json.loads((folder / "selection.json").read_text())
    prevalence = np.asarray(selection["prevalence"])
    offsets = np.log1p(-prevalence) - np.log(prevalence)
    model = build_model(data, arm, unit, recipe)
    model.load(folder / "selected.safetensors")
    rows: list[tuple[object, ...]] = []
    parts = [(data.protocol.development, "test", data.part(unit.fold, "test"))]
    parts += [(name, "external", data.of(name)) for name in data.protocol.external]
    for cohort, split, slides in parts:
        bags = bag_source(data, arm, slides, None).bags(inference_draws(slides, recipe))
        raw = slide_logits(model, bags, slides, recipe, advance, partial(_keep_attention, folder))
        scores = {slide_id: expit(logits - offsets) for slide_id, logits in raw.items()}
        rows += _rows(data, unit, cohort, split, slides, scores)
    write_text(folder / "predictions.csv", predictions_csv(predictions_frame(rows)))


def _keep_attention(folder: Path, slide: StudySlide, a: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Keeps what each tile of a predicted slide weighed, for heatmaps."""
    content = TileAttention(slide.slide_id, slide.grid.xy0, slide.grid.plan.tile_px0, a, weights)
    write_attention(attention_path(folder, slide.cohort, slide.slide_id), content)


def _rows(
    data: StudyData,
    unit: Unit,
    cohort: str,
    split: str,
    slides: tuple[StudySlide, ...],
    scores: Mapping[str, NDArray[np.float64]],
) -> Iterator[tuple[object, ...]]:
    labels = data.labels(cohort)
    for slide in slides:
        for j, target in enumerate(data.targets):
            label, score = labels[slide.patient_id][j], float(scores[slide.slide_id][j])
            yield (
                unit.arm,
                unit.seed,
                unit.fold,
                cohort,
                split,
                slide.patient_id,
                slide.slide_id,
                target,
                label,
                score,
            )
