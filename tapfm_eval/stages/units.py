"""What is done for one arm, seed and fold: embeddings, training, predictions.

Each is a function from the study's data to files, which may run in any process: whoever calls it holds the unit's lock,
and whether it is done is told by its files alone.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tapfm_eval.backbones.cards import BackboneCard, card_sha256
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.features import SlideFeatures, features_path, write_features
from tapfm_eval.backbones.load import hub_weights, load_backbone
from tapfm_eval.cohort.flow import Exclusion
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.patients import expit
from tapfm_eval.errors import Problem, RunError, StudyError, TapfmEvalError
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.attention_store import TileAttention, attention_path, write_attention
from tapfm_eval.methods.checkpoint import Checkpoints, Pace, Saved, check_hash, write_tensors
from tapfm_eval.methods.losses import target_weights
from tapfm_eval.methods.model import (
    SlideModel,
    build_aggregator,
    encode_slides,
    inference_draws,
    slide_logits,
    told_of_memory,
)
from tapfm_eval.methods.ranks import LostRankError, Ranks
from tapfm_eval.methods.recipe import Recipe, resolve_recipe
from tapfm_eval.methods.sharded import SharedBags, SharedCheckpoints
from tapfm_eval.methods.sources import Bag, BagSource, FeatureSource, StudySlide, TileSource, held_bytes_for
from tapfm_eval.methods.steady import SteadyBags
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.methods.train import Trained, selection_json, train_unit
from tapfm_eval.methods.unit import TrainingData, Unit, selection_targets, training_key
from tapfm_eval.predictions.table import predictions_csv, predictions_frame
from tapfm_eval.progress import skip
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, Arm, Protocol
from tapfm_eval.rundir import RunFolder, sha256_file, sweep, write_text
from tapfm_eval.stages.micro_batch import settled_for_embedding, settled_for_training

WEIGHTS_FORMAT = "tapfm-eval/weights/1"
Scores = dict[str, NDArray[np.float64]]  # slide_id -> (L,)


def _ignore(_: str) -> None:
    pass


def _unguarded() -> None:
    pass


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
    pace: Pace = field(default_factory=Pace)
    session: Mapping[str, str] = field(default_factory=dict)  # what is remembered of where a unit was trained
    weights_sha256: Mapping[str, str] = field(default_factory=dict)  # by backbone; none of stand-ins
    ranks: Ranks | None = None  # processes that share the tiles of every bag while a backbone is adapted
    lost: frozenset[tuple[str, str]] = frozenset()  # slides that were taken out, by cohort and id

    def without(self, lost: Collection[Exclusion]) -> "StudyData":
        """The same study without these slides."""
        return self.without_named((exclusion.cohort, exclusion.slide_id) for exclusion in lost)

    def without_named(self, lost: Iterable[tuple[str, str]]) -> "StudyData":
        """The same study without these slides, each by cohort and id."""
        gone = frozenset(lost)
        kept = tuple(s for s in self.slides if (s.cohort, s.slide_id) not in gone)
        return replace(self, slides=kept, lost=self.lost | gone)

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


def is_predicted(data: StudyData, unit: Unit) -> bool:
    """Whether a unit has predicted test and external patients."""
    return (unit_folder(data, unit) / "predictions.csv").is_file()


def weights_hashes(cards: Mapping[str, BackboneCard], weights: Mapping[str, Path]) -> dict[str, str]:
    """The hash of each backbone's weights, whether they are a local file or came from the hub; none of stand-ins."""
    return {
        name: sha256_file(weights[name] if name in weights else hub_weights(card))
        for name, card in cards.items()
        if not card.stand_in
    }


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


def is_embedded(data: StudyData, backbone: str, slides: Iterable[StudySlide]) -> bool:
    """Whether all these slides are in the store of a frozen backbone."""
    return all(features_path(data.folder.features(backbone, s.cohort), s.slide_id).is_file() for s in slides)


def embed_slides(data: StudyData, backbone: str, slides: Sequence[StudySlide], advance: Callable[[int], None]) -> None:
    """Embeds all tiles of slides with a frozen backbone, once for all arms; slides already stored are kept.

    Raises:
        UnreadableSlideError: A slide cannot be read, in several attempts.
    """
    card = data.cards[backbone]
    todo = [slide for slide in slides if not is_embedded(data, backbone, (slide,))]
    skip(advance, len(slides) - len(todo))
    if not todo:
        return
    arm = next(arm for arm in data.protocol.arms if arm.backbone == backbone and arm.adapt == "frozen")
    recipe = resolve_recipe(data.protocol, arm)
    network = load_backbone(card, weights=data.weights.get(backbone), seed=data.protocol.seeds[0])
    encoder = TileEncoder(network, card).requires_grad_(False).to(data.device)
    encoder.use_kernels(fused=recipe.fused_attention, compiled=recipe.compile_blocks)
    model = SlideModel(encoder, Tapfm(card.dim, 1, temperature=1.0, layer_norm=False), data.device)
    recipe = settled_for_embedding(data, arm, model, recipe)
    held = held_bytes_for(data.device)
    source = TileSource({slide.slide_id: slide for slide in todo}, data.workers, None, held)
    with SteadyBags(source, lambda start: islice(inference_draws(todo, recipe), start, None), advance) as bags:
        for slide in todo:
            with told_of_memory(model, f"embedding with {backbone}", f"at slide {slide.slide_id}", recipe):
                stored = bags.steadily(partial(_embedded, model, bags, slide, recipe))
            path = features_path(data.folder.features(backbone, slide.cohort), slide.slide_id)
            write_features(path, slide.slide_id, card, stored, slide.grid)
            advance(1)


def _embedded(model: SlideModel, bags: Iterator[Bag], slide: StudySlide, recipe: Recipe) -> SlideFeatures:
    _, z, a = next(encode_slides(model, bags, (slide,), recipe))
    return SlideFeatures(z.cpu().numpy(), a.cpu().numpy(), slide.grid.xy0)


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
    encoder.use_kernels(fused=recipe.fused_attention, compiled=recipe.compile_blocks)
    return SlideModel(encoder.to(data.device), aggregator, data.device)


def bag_source(data: StudyData, arm: Arm, slides: tuple[StudySlide, ...], augment_seed: int | None) -> BagSource:
    """Bags of these slides for an arm: stored embeddings where its backbone is frozen, tiles otherwise."""
    if arm.adapt == "frozen":
        roots = {s.slide_id: data.folder.features(arm.backbone, s.cohort) for s in slides}
        return FeatureSource(roots, data.cards[arm.backbone])
    held = held_bytes_for(data.device)
    return TileSource({slide.slide_id: slide for slide in slides}, data.workers, augment_seed, held)


def unit_steps(data: StudyData, arm: Arm, unit: Unit) -> int:
    """How many slides a unit's training passes through, for progress."""
    patients = len({slide.patient_id for slide in data.part(unit.fold, "train")})
    return resolve_recipe(data.protocol, arm).epochs * (patients + len(data.part(unit.fold, "validation")))


def predict_steps(data: StudyData, unit: Unit) -> int:
    """How many slides a unit predicts, for progress."""
    return len(data.part(unit.fold, "test")) + sum(len(data.of(name)) for name in data.protocol.external)


def _unit_key(data: StudyData, arm: Arm, unit: Unit, recipe: Recipe, training: TrainingData) -> str:
    """Stands for everything that a training depends on, the weights it starts from included."""
    parts = [training_key(unit, recipe, training), card_sha256(data.cards[arm.backbone])]
    parts.append(data.weights_sha256.get(arm.backbone, f"stand-in {data.protocol.seeds[0]}"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def train_and_save(
    data: StudyData,
    arm: Arm,
    unit: Unit,
    advance: Callable[[int], None],
    guard: Callable[[], None] = _unguarded,
    say: Callable[[str], None] = _ignore,
) -> None:
    """Trains one unit and writes its history, selected weights, validation predictions and, last, its selection.

    Args:
        data: The study.
        arm: The unit's arm.
        unit: What to train; goes on from its newest checkpoint.
        advance: Told 1 for every slide trained on or validated; may raise to stop.
        guard: Asked before anything is written; raises where somebody else took the unit over.
        say: Told a line about damaged checkpoints.

    Raises:
        UnreadableSlideError: A slide cannot be read, in several attempts.
    """
    training = _training_data(data, arm, unit)
    key = _unit_key(data, arm, unit, resolve_recipe(data.protocol, arm), training)
    folder = unit_folder(data, unit)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    checkpoints = Checkpoints(folder / "checkpoints", key, pace=data.pace, guard=guard, say=say)
    if data.ranks is not None and arm.adapt != "frozen":
        # without the slides that this process knows to be lost: another may not see them yet, or see more of them
        data.ranks.say({"train": [unit.arm, unit.seed, unit.fold], "lost": sorted(data.lost), "key": key})
    trained = _trained(data, arm, unit, training, advance, checkpoints)
    guard()
    development, validation = data.protocol.development, training.validation
    rows = list(_rows(data, unit, development, "validation", validation, trained.validation_scores))
    write_text(folder / "validation.csv", predictions_csv(predictions_frame(rows)))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(trained.history[0].__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for epoch in trained.history:
        writer.writerow({name: getattr(epoch, name) for name in epoch.__dataclass_fields__})
    write_text(folder / "history.csv", table.getvalue())
    digest = write_tensors(folder / "selected.safetensors", trained.state, WEIGHTS_FORMAT)
    write_text(folder / "selection.json", selection_json(trained, key, digest) + "\n")
    checkpoints.clear()


def _trained(
    data: StudyData,
    arm: Arm,
    unit: Unit,
    training: TrainingData,
    advance: Callable[[int], None],
    checkpoints: Checkpoints,
) -> Trained:
    """A unit trained by this process, or by this one and those that share its bags."""
    ranks = data.ranks if arm.adapt != "frozen" else None
    with nullcontext() if ranks is None else ranks.together():
        recipe = resolve_recipe(data.protocol, arm)
        model = build_model(data, arm, unit, recipe)
        recipe = settled_for_training(data, arm, model, recipe)
        source = bag_source(data, arm, training.train, unit.seed if recipe.augment else None)
        if ranks is not None:
            ranks.agree()
            model = replace(model, ranks=ranks)
            for _, module in model.modules():
                for parameter in module.parameters():
                    ranks.from_leader(parameter.data)
            # chunks of validation slides are shared out by number, so all must cut them alike
            recipe = replace(recipe, micro_batch=ranks.smallest(recipe.micro_batch))
            source, checkpoints = SharedBags(source, ranks), SharedCheckpoints(ranks, checkpoints)
        checking = bag_source(data, arm, training.validation, None)
        return train_unit(unit, model, recipe, training, source, checking, advance, checkpoints, data.session)


def follow_training(data: StudyData, arm: Arm, unit: Unit, key: str) -> None:
    """This process's part of a training that another one leads and writes.

    Ends early where any of them fails: the leader then knows why, and says it.

    Args:
        data: The study, without the slides that the leader leaves out.
        arm: The unit's arm.
        unit: What to train.
        key: What the leader trains by; a process that would train by anything else refuses.

    Raises:
        LostRankError: Another process is gone.
    """
    assert data.ranks is not None
    checkpoints = Checkpoints(unit_folder(data, unit) / "checkpoints", "")
    try:
        with data.ranks.together():
            training = _training_data(data, arm, unit)
            own = _unit_key(data, arm, unit, resolve_recipe(data.protocol, arm), training)
            if own != key:
                raise RunError(
                    Problem(str(unit), f"the slides, weights and settings of the leading process ({key[:12]})",
                            f"others ({own[:12]})",
                            "Give all machines the same slides and weights, under the same paths, and one version.")
                )  # fmt: skip
            _trained(data, arm, unit, training, _ignore_steps, checkpoints)
    except LostRankError:
        raise
    except TapfmEvalError:
        pass  # told to all


def _ignore_steps(_: int) -> None:
    pass


def _selection(path: Path) -> dict[str, Any]:
    """What was selected.

    Raises:
        RunError: The file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"prevalence": np.asarray(content["prevalence"], np.float64), **{
            name: str(content[name]) for name in ("training_sha256", "weights_sha256")}}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        got = f"{type(error).__name__}: {error}"[:120]
        raise RunError(
            Problem(str(path), "the selection as it was written", got, "Delete its folder: the unit is trained anew.")
        ) from None


def predict_and_save(
    data: StudyData,
    arm: Arm,
    unit: Unit,
    advance: Callable[[int], None],
    guard: Callable[[], None] = _unguarded,
    say: Callable[[str], None] = _ignore,
) -> None:
    """Predicts test and external patients with a unit's selected weights and writes its predictions.

    Arguments as of `train_and_save`; goes on from the slides that were predicted before.

    Raises:
        UnreadableSlideError: A slide cannot be read, in several attempts.
        RunError: The selected weights are not those that were written.
    """
    recipe = resolve_recipe(data.protocol, arm)
    folder = unit_folder(data, unit)
    sweep(folder)
    Checkpoints(folder / "checkpoints", "").clear()  # of a training that was killed when it had ended
    selection = _selection(folder / "selection.json")
    check_hash(folder / "selected.safetensors", selection["weights_sha256"])
    prevalence = selection["prevalence"]
    offsets = np.log1p(-prevalence) - np.log(prevalence)
    model = build_model(data, arm, unit, recipe)
    recipe = settled_for_training(data, arm, model, recipe)
    model.load(folder / "selected.safetensors")
    key = f"{selection['training_sha256']} {selection['weights_sha256']}"
    kept = Checkpoints(folder / "predicting", key, pace=data.pace, guard=guard, say=say)
    parts = [(data.protocol.development, "test", data.part(unit.fold, "test"))]
    parts += [(name, "external", data.of(name)) for name in data.protocol.external]
    raw = _predicted(data, arm, unit, model, recipe, [s for *_, slides in parts for s in slides], kept, advance)
    scores = {slide_id: expit(logits - offsets) for slide_id, logits in raw.items()}
    rows = [row for cohort, split, slides in parts for row in _rows(data, unit, cohort, split, slides, scores)]
    guard()
    write_text(folder / "predictions.csv", predictions_csv(predictions_frame(rows)))
    kept.clear()


def _predicted(
    data: StudyData,
    arm: Arm,
    unit: Unit,
    model: SlideModel,
    recipe: Recipe,
    slides: Sequence[StudySlide],
    kept: Checkpoints,
    advance: Callable[[int], None],
) -> Scores:
    """Raw logits of slides; those of an earlier session are read and not made again."""
    raw = kept.newest(_restored) or {}
    left = tuple(slide for slide in slides if slide.slide_id not in raw)
    skip(advance, len(slides) - len(left))
    on_tiles = partial(_keep_attention, unit_folder(data, unit))
    source = bag_source(data, arm, left, None)
    with SteadyBags(source, lambda start: islice(inference_draws(left, recipe), start, None), advance) as bags:
        try:
            for slide in left:
                predict = partial(slide_logits, model, bags, (slide,), recipe, lambda _: None, on_tiles)
                with told_of_memory(model, str(unit), f"at slide {slide.slide_id}", recipe):
                    found = bags.steadily(predict)
                if not np.isfinite(found[slide.slide_id]).all():
                    raise StudyError(f"{unit}: the logits of slide {slide.slide_id} are not numbers.")
                raw |= found
                advance(1)
                if kept.due():
                    kept.write(_kept(raw))
        except TapfmEvalError as error:
            if raw and not isinstance(error, RunError):
                kept.write(_kept(raw))
            raise
    return raw


def _kept(raw: Scores) -> Saved:
    logits = {slide_id: [float(value) for value in row] for slide_id, row in raw.items()}
    return Saved({}, None, {"logits": logits})


def _restored(saved: Saved) -> Scores:
    return {str(slide_id): np.array(row, np.float64) for slide_id, row in saved.facts["logits"].items()}


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
