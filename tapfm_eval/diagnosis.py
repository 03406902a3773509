"""How many last blocks of an arm's backbone are worth training: a brief full adaptation and the drift of each block.

Looks at training patients of the development cohort alone; nothing is selected and no other patient is read.
"""

import csv
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import load_backbone
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.locate import SlideFile, find_slides
from tapfm_eval.errors import InputError, Problem
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.drift import BlockDrift, block_drift, block_tokens
from tapfm_eval.methods.losses import TargetWeights, target_weights
from tapfm_eval.methods.model import SlideModel, build_aggregator
from tapfm_eval.methods.probe import training_micro_batch
from tapfm_eval.methods.recipe import resolve_recipe, states_micro_batch
from tapfm_eval.methods.sources import Draw, StudySlide, TileSource
from tapfm_eval.methods.train import train_briefly
from tapfm_eval.methods.unit import TrainingData, Unit
from tapfm_eval.preparation import RunOptions, check_options, load_study, prepare_rehearsal, with_local_paths
from tapfm_eval.progress import Reporter
from tapfm_eval.protocol.load import protocol_sha256, read_protocol
from tapfm_eval.protocol.schema import Arm, Protocol
from tapfm_eval.randomness import generator
from tapfm_eval.report.drawings import Curve, CurveGrid, Mark, Panel
from tapfm_eval.report.figures import draw
from tapfm_eval.rundir import RunFolder, run_id, write_json, write_text
from tapfm_eval.slides.tiles import tile_spec
from tapfm_eval.stages.micro_batch import has_own_memory
from tapfm_eval.stages.tiling import tile_slides

FORMAT = "tapfm-eval/block-diagnosis/1"
TILES_COMPARED = 8  # of each slide, the same before and after
DEFAULT_TILES = 75  # a slide and epoch, for an arm that states none


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How brief the probe is; none of it is part of a protocol, since it fixes no result."""

    patients: int = 64
    epochs: int = 1
    share: float = 0.85  # of the drift that the last blocks have to hold


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a probe found."""

    arm: str
    backbone: str
    plan: ProbePlan
    patients: int  # trained on, of the fold's training patients
    tiles_compared: int
    losses: tuple[float, ...]  # mean training loss of each epoch
    drift: BlockDrift
    folder: Path

    @property
    def last_blocks(self) -> int | None:
        """N*: the fewest last blocks that hold the share of the drift; None where nothing moved."""
        return self.drift.fewest(self.plan.share)


def diagnose_blocks(path: Path, arm_id: str, plan: ProbePlan, options: RunOptions, reporter: Reporter) -> Diagnosis:
    """Trains the whole backbone of an arm briefly, and says which of its blocks moved.

    Args:
        path: The protocol.
        arm_id: One of its arms; how far the protocol adapts it does not matter here.
        plan: How many patients and epochs.
        options: Slides, weights, device, and whether to rehearse.
        reporter: Shows progress.

    Raises:
        InputError: Something given is wrong, or slides of the development cohort are missing.
    """
    protocol = read_protocol(path, backbones=CARDS)
    options = replace(options, arms=(arm_id,))
    check_options(protocol, options, path)
    options = with_local_paths(protocol, options)
    arm = next(arm for arm in protocol.arms if arm.id == arm_id).model_copy(update={"adapt": "full"})
    cohorts = load_study(protocol, path, options)
    card = CARDS[arm.backbone]
    if options.rehearse:
        prepared = prepare_rehearsal(protocol, cohorts, options, reporter)
        protocol, card = prepared.protocol, stand_in(card)
        arm = next(a for a in protocol.arms if a.id == arm_id).model_copy(update={"adapt": "full"})
        cohort = prepared.cohorts[protocol.development]
        found = next(search for search in prepared.searches if search.cohort == cohort.name)
    else:
        cohort = cohorts[protocol.development]
        found = find_slides(cohort, options.slides.get(cohort.name))
    files = _first_patients(protocol, cohort, found.files, plan.patients)
    identity = {"protocol": protocol_sha256(protocol), "arm": arm_id, "plan": repr(plan), "slides": repr(len(files))}
    root = options.out / f"{protocol.id}-{protocol.version}" / f"blocks-{arm_id}-{run_id(identity)}"

    with reporter.stage("Finding tissue", len(files)) as advance:
        tiling = tile_slides(files, tile_spec(protocol.tiles), RunFolder(root), options.workers, advance)
    if tiling.failed:  # fewer patients than asked for would be another diagnosis
        raise InputError(
            Problem(f"slide {failure.slide_id}", "tiles of tissue", failure.reason,
                    "Mend the file, or state a reason in its row's `exclude`.")
            for failure in tiling.failed
        )  # fmt: skip
    slides = tuple(
        StudySlide(s.file.slide_id, s.file.patient_id, s.file.cohort, s.file.path, s.file.manifest_mpp, s.grid)
        for s in tiling.slides
    )
    data, weights = _probe_data(protocol, arm, cohort, slides)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    unit, recipe = Unit(arm.id, protocol.seeds[0], cohort.folds[0]), resolve_recipe(protocol, arm)
    recipe = replace(recipe, epochs=plan.epochs)
    network = load_backbone(card, weights=options.weights.get(arm.backbone), seed=protocol.seeds[0])
    encoder = TileEncoder(network, card)
    adapt_encoder(encoder, arm.adapt, f"arm {arm.id}")
    encoder.use_kernels(fused=recipe.fused_attention, compiled=recipe.compile_blocks)
    parts = (unit.seed, unit.fold, arm.id)
    aggregator = build_aggregator(arm.aggregator, card.dim, len(data.targets), recipe, *parts).to(device)
    model = SlideModel(encoder.to(device), aggregator, device)
    if has_own_memory(device) and not states_micro_batch(protocol, arm):
        most = max(min(data.tiles_per_slide or len(slide.grid), len(slide.grid)) for slide in data.train)
        found_by_probe = training_micro_batch(model, recipe, most, protocol.tiles.tile_px, f"arm {arm.id}")
        recipe = replace(recipe, micro_batch=found_by_probe.tiles)

    by_id = {slide.slide_id: slide for slide in slides}
    plain = TileSource(by_id, options.workers, None)
    draws = [_compared(slide, unit.seed) for slide in slides]
    tiles = torch.cat([bag.tiles[0 : len(bag.draw.indices)] for bag in plain.bags(draws)])
    before = block_tokens(encoder, tiles, recipe.micro_batch)
    training = TileSource(by_id, options.workers, unit.seed if recipe.augment else None)
    with reporter.stage(f"Training {arm.id} briefly", plan.epochs * data.steps) as advance:
        losses = train_briefly(unit, model, recipe, data, weights, training, advance)
    encoder.eval()
    drift = block_drift(before, block_tokens(encoder, tiles, recipe.micro_batch))
    diagnosis = Diagnosis(arm.id, arm.backbone, plan, data.steps, len(tiles), tuple(losses), drift, root)
    _write(diagnosis)
    return diagnosis


def _first_patients(
    protocol: Protocol, cohort: Cohort, files: tuple[SlideFile, ...], count: int
) -> tuple[SlideFile, ...]:
    """Slides of so many training patients of the first fold, drawn by the protocol's seed from those that lie here."""
    assert cohort.split is not None
    training = set(cohort.split.patients(cohort.folds[0], "train"))
    here = sorted({file.patient_id for file in files} & training)
    if not here:
        raise InputError(
            Problem(f"cohort {cohort.name}", "slides of training patients", "none found",
                    f"Give their folder with --slides {cohort.name}=DIR; a few dozen slides are enough.")
        )  # fmt: skip
    order = generator("diagnosis", protocol.seeds[0]).permutation(len(here))
    chosen = {here[i] for i in order[:count]}
    return tuple(file for file in files if file.patient_id in chosen)


def _probe_data(
    protocol: Protocol, arm: Arm, cohort: Cohort, slides: tuple[StudySlide, ...]
) -> tuple[TrainingData, TargetWeights]:
    """The probe's patients, and class weights of all training patients of the fold."""
    assert cohort.split is not None
    table = cohort.labels
    known = table.loc[[p for p in cohort.split.patients(cohort.folds[0], "train") if p in table.index]]
    targets = tuple(protocol.targets)
    weights = target_weights(known.to_numpy(np.float64), targets, f"fold {cohort.folds[0]}")
    labels = {str(p): row for p, row in zip(table.index, table.to_numpy(np.float64, copy=True), strict=True)}
    tiles = arm.tiles_per_slide or DEFAULT_TILES
    data = TrainingData(targets, targets, slides, (), labels, tiles, protocol.selection.min_per_class, ())
    return data, weights


def _compared(slide: StudySlide, seed: int) -> Draw:
    count = len(slide.grid)
    drawn = generator("compared", seed, slide.slide_id).permutation(count)[:TILES_COMPARED]
    return Draw(slide.slide_id, np.sort(drawn), 0)


def _write(diagnosis: Diagnosis) -> None:
    drift = diagnosis.drift
    write_text(diagnosis.folder / "drift.svg", draw(drift_figure(diagnosis)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("block", "cka", "share_of_drift", "share_from_here_on"))
    for i, (cka, share) in enumerate(zip(drift.cka, drift.shares, strict=True)):
        writer.writerow((i + 1, cka, share, drift.last(drift.depth - i)))
    write_text(diagnosis.folder / "blocks.csv", text.getvalue())
    write_json(diagnosis.folder / "diagnosis.json", json.loads(diagnosis_json(diagnosis)))


def diagnosis_json(diagnosis: Diagnosis) -> str:
    """The diagnosis as JSON text."""
    drift, plan = diagnosis.drift, diagnosis.plan
    return json.dumps({
        "format": FORMAT, "arm": diagnosis.arm, "backbone": diagnosis.backbone, "epochs": plan.epochs,
        "patients": diagnosis.patients, "tiles_compared": diagnosis.tiles_compared, "losses": diagnosis.losses,
        "share": plan.share, "last_blocks": diagnosis.last_blocks, "depth": drift.depth,
        "cka": [None if np.isnan(value) else value for value in drift.cka], "shares": drift.shares,
    }, indent=2)  # fmt: skip


def drift_figure(diagnosis: Diagnosis) -> CurveGrid:
    """Drift by block, and what the last n blocks hold of it."""
    drift, best, share = diagnosis.drift, diagnosis.last_blocks, diagnosis.plan.share
    blocks = tuple(float(i + 1) for i in range(drift.depth))
    each = tuple(100 * part for part in drift.shares)
    held = tuple(100 * drift.last(n) for n in range(1, drift.depth + 1))
    wanted = Curve((1.0, float(drift.depth)), (100 * share, 100 * share), style=-1, dashed=True)
    mark = () if best is None else (Mark(float(best), 100 * drift.last(best), 0),)
    said = "nothing moved" if best is None else f"N* = {best} of {drift.depth}"
    spread = f"CKA from {min(drift.cka):.4f} to {max(drift.cka):.4f}"
    across = (0.5, drift.depth + 0.5)
    return CurveGrid(
        panels=(
            Panel("Each block", spread, (Curve(blocks, each, 0),), limits=(across, (0.0, 1.1 * max(5.0, *each)))),
            Panel("The last n blocks together", said, (Curve(blocks, held, 0), wanted), mark,
                  limits=(across, (0.0, 105.0))),
        ),
        x_label="block; number of last blocks",
        y_label="% of the drift 1 - CKA",
        legend=((diagnosis.arm, 0, False), (f"{share:.0%} of the drift", -1, True)),
        unit_square=False,
        whole_x=True,
    )  # fmt: skip
