"""What is trained: one arm with one seed on one fold, its patients, and the order in which an epoch meets them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tapfm_eval.errors import Problem, SplitError
from tapfm_eval.methods.randomness import draw_tiles
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.methods.sources import Draw, StudySlide
from tapfm_eval.randomness import generator

Labels = Mapping[str, NDArray[np.float64]]  # patient_id -> (L,), 0, 1 or NaN


@dataclass(frozen=True, slots=True)
class Unit:
    """What is trained: one arm with one seed on one fold."""

    arm: str
    seed: int
    fold: int

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}, fold {self.fold}"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The patients of one fold, slides and labels."""

    targets: tuple[str, ...]
    selecting: tuple[str, ...]  # the targets that may take part in the selection
    train: tuple[StudySlide, ...]
    validation: tuple[StudySlide, ...]
    labels: Labels
    tiles_per_slide: int | None
    min_per_class: int
    ties: tuple[str, ...]  # what decides between epochs of equal metric, in order

    @property
    def steps(self) -> int:
        """Slides trained on in one epoch: one a patient."""
        return len({slide.patient_id for slide in self.train})


def training_key(unit: Unit, recipe: Recipe, data: TrainingData) -> str:
    """A hash of everything that a training depends on beside the weights it starts from.

    Two trainings of equal keys give the same weights, so one may go on from the other's checkpoint. The micro-batch is
    left out: it changes nothing beyond rounding, and may follow the machine.
    """
    numbers = asdict(recipe)
    del numbers["micro_batch"]
    slides = {
        part: sorted((s.slide_id, s.patient_id, s.grid.fingerprint, len(s.grid)) for s in members)
        for part, members in (("train", data.train), ("validation", data.validation))
    }
    patients = sorted({slide.patient_id for slide in (*data.train, *data.validation)})
    labels = {patient: [None if np.isnan(y) else int(y) for y in data.labels[patient]] for patient in patients}
    rules = (data.targets, data.selecting, data.tiles_per_slide, data.min_per_class, data.ties)
    content = json.dumps([asdict(unit), numbers, slides, labels, rules], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def epoch_draws(data: TrainingData, unit: Unit, epoch: int) -> list[tuple[StudySlide, Draw]]:
    """The bags of one epoch (from 1): patients shuffled, one slide each, its tiles drawn anew.

    A slide is drawn per (seed, epoch, patient), tiles per (seed, epoch, slide), so that neither depends on order.
    """
    by_patient: dict[str, list[StudySlide]] = {}
    for slide in sorted(data.train, key=lambda s: (s.patient_id, s.slide_id)):
        by_patient.setdefault(slide.patient_id, []).append(slide)
    patients = list(by_patient)
    order = generator("patients", unit.seed, unit.fold, epoch).permutation(len(patients))
    draws = []
    for i in order:
        slides = by_patient[patients[i]]
        slide = slides[int(generator("slide", unit.seed, epoch, patients[i]).integers(len(slides)))]
        indices = draw_tiles(len(slide.grid.xy0), data.tiles_per_slide, unit.seed, epoch, slide.slide_id)
        draws.append((slide, Draw(slide.slide_id, indices, epoch)))
    return draws


def draws_from(data: TrainingData, unit: Unit, epochs: int, start: int) -> Iterator[Draw]:
    """The draws of all epochs in order from number `start` (from 0) on, without making those before its epoch."""
    first, skipped = divmod(start, data.steps)
    for epoch in range(first + 1, epochs + 1):
        for _, draw in epoch_draws(data, unit, epoch)[skipped:]:
            yield draw
        skipped = 0


def selection_targets(data: TrainingData, unit: Unit) -> tuple[str, ...]:
    """The targets with enough validation patients of each class to take part in the selection.

    Raises:
        SplitError: There is none.
    """
    labels = np.array([data.labels[p] for p in sorted({s.patient_id for s in data.validation})])
    labels = labels.reshape(-1, len(data.targets))
    enough = [
        target
        for j, target in enumerate(data.targets)
        if target in data.selecting and min((labels[:, j] == 1).sum(), (labels[:, j] == 0).sum()) >= data.min_per_class
    ]
    if not enough:
        raise SplitError(
            Problem(f"fold {unit.fold}, validation", f"a target with {data.min_per_class} patients of each class",
                    "none", "Use another split, or lower selection.min_per_class.")
        )  # fmt: skip
    return tuple(enough)
