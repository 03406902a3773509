"""A protocol to its rehearsal: a sample of the real patients, synthetic slides for them, small networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tapfm_eval.cohort.load import Cohort
from tapfm_eval.cohort.splits import write_split
from tapfm_eval.parallel import each
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, Arm, Lora, Protocol, Target
from tapfm_eval.randomness import wide_generator
from tapfm_eval.rehearsal.expected import SCHEME as EXPECTED
from tapfm_eval.rehearsal.planting import effect_of_target, plant
from tapfm_eval.rehearsal.sample import MIN_PER_CLASS, MIN_TESTED, draw_patients, permuted
from tapfm_eval.rehearsal.synthetic import write_slide
from tapfm_eval.rundir import sha256_file, write_text

TILES_PER_SLIDE = 12
MICRO_BATCH = 8  # below the number of tiles, so that the two-pass step is rehearsed too
TISSUE_TILES = 12
SHARE_40X = 0.25
MAX_SLIDES_PER_PATIENT = 2
EPOCHS = 8
EPOCHS_FROZEN = 20
# Small random networks on forty patients learn with other rates than published ones on thousands. A random network's
# attention ranks tiles at random: at the paper's temperature one arbitrary tile would stand for the slide.
TEMPERATURE = 1.0
LR_FULL, LR_LORA = 3e-5, 2e-4
LR_AGGREGATOR = {"tapfm": 1e-2}
LR_AGGREGATOR_OTHERS = 1e-3

CHANGES = (
    "Slides are synthetic: procedural H&E with a planted effect of known strength for each planted target.",
    "Patients are a sample of the real manifests, enriched so that each planted target has both classes in each part.",
    "Only the first fold of the split is run.",
    "Each backbone is a small network with random weights that keeps its patch size, registers and normalisation.",
    f"Training is shortened: {EPOCHS} epochs ({EPOCHS_FROZEN} for frozen arms), larger learning rates, "
    f"at most {TILES_PER_SLIDE} tiles per slide and epoch; TAPFM's temperature is {TEMPERATURE:g}.",
    f"The target {NEGATIVE_CONTROL} is added as a negative control: real labels permuted within cohort and split.",
)


def changes_of(cohorts: Mapping[str, Cohort]) -> tuple[str, ...]:
    """What sets this rehearsal apart from the real study; `cohorts` as loaded from the rehearsal's folder."""
    drawn = [
        f"{name} is not there yet: its patients, labels and split were drawn, with the prevalences that the protocol "
        "expects and nothing else known of them."
        for name, cohort in cohorts.items()
        if cohort.split is not None and cohort.split.meta.get("of") == EXPECTED
    ]
    return (*drawn, *CHANGES)


@dataclass(frozen=True, slots=True)
class _SlideJob:
    path: Path
    seed: int
    slide_id: str
    mpp: float
    effects: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RehearsalPlan:
    """What a rehearsal runs: its own protocol, inputs and slides, all inside the run folder."""

    protocol: Protocol
    inputs: Path  # folder to which the protocol's paths are relative
    slides: Mapping[str, Path]  # cohort -> folder of its slides
    jobs: tuple[_SlideJob, ...]


Sample = Mapping[str, Mapping[str, tuple[str, ...]]]
"""The patients of a rehearsal: cohort -> train, validation, test or external -> patients, sorted."""


def draw_sample(protocol: Protocol, cohorts: Mapping[str, Cohort]) -> Sample:
    """The patients of each part of each cohort; writes nothing.

    Raises:
        ProtocolError: The cohorts cannot give the sizes that the protocol states, or too many targets are planted.
    """
    planted = dict(protocol.rehearsal.planted)
    effect_of_target(planted)
    seed = protocol.seeds[0]
    return {name: _parts(protocol, cohort, tuple(planted), seed) for name, cohort in cohorts.items()}


def plan_rehearsal(
    protocol: Protocol, cohorts: Mapping[str, Cohort], root: Path, sample: Sample | None = None
) -> RehearsalPlan:
    """Writes manifests and split of a rehearsal under `root`; slides come after.

    Args:
        protocol: The real study's protocol.
        cohorts: Its cohorts.
        root: Where the rehearsal's inputs lie.
        sample: What `draw_sample` drew for them; drawn here unless given.

    Raises:
        ProtocolError: See `draw_sample`; nothing has been written then.
    """
    seed = protocol.seeds[0]
    planted = dict(protocol.rehearsal.planted)
    null_of = "EGFR" if "EGFR" in protocol.targets else next(iter(planted), next(iter(protocol.targets)))
    drawn = draw_sample(protocol, cohorts) if sample is None else sample
    plans, slides, jobs = {}, {}, []
    for name, cohort in cohorts.items():
        parts = drawn[name]
        nulls: dict[str, float] = {}
        for part, patients in parts.items():
            column = cohort.labels.loc[list(patients), null_of]
            nulls |= permuted({str(p): float(v) for p, v in column.items()}, seed=seed, group=f"{name}/{part}")
        folder, slide_folder = root / name, root / name / "slides"
        manifest = _manifest(protocol, cohort, nulls, seed)
        write_text(folder / "manifest.csv", manifest.to_csv(index=False, lineterminator="\n"))
        split = None
        if cohort.split is not None:
            table = pd.DataFrame(
                [(patient, 0, part) for part, patients in parts.items() for patient in patients],
                columns=["patient_id", "fold", "split"],
            )
            meta = {
                "scheme": "rehearsal", "of": cohort.split.scheme, "seed": seed,
                "manifest_sha256": sha256_file(folder / "manifest.csv"),
            }  # fmt: skip
            write_split(folder / "split.csv", table, meta)
            split = f"{name}/split.csv"
        plans[name] = protocol.cohorts[name].model_copy(
            update={"manifest": f"{name}/manifest.csv", "split": split, "folds": "all", "expected": None}
        )
        slides[name] = slide_folder
        effects: dict[str, dict[str, float]] = {}
        for patients in parts.values():
            labels = {p: {t: _as_label(cohort.labels.at[p, t]) for t in planted} for p in patients}
            effects |= plant(labels, planted, seed=seed)
        for row in manifest.itertuples(index=False):
            path, carried = slide_folder / str(row.path), effects[str(row.patient_id)]
            jobs.append(_SlideJob(path, seed, str(row.slide_id), float(str(row.mpp)), carried))
    rehearsed = protocol.model_copy(
        update={
            "cohorts": plans,
            "targets": {**{t: Target() for t in protocol.targets}, NEGATIVE_CONTROL: Target()},
            "arms": tuple(_short(arm) for arm in protocol.arms),
        }
    )
    return RehearsalPlan(rehearsed, root, slides, tuple(jobs))


def write_slides(plan: RehearsalPlan, workers: int, advance: Callable[[int], None]) -> None:
    """Writes the slides that are not there yet."""
    for folder in plan.slides.values():
        folder.mkdir(parents=True, exist_ok=True)
    todo = [job for job in plan.jobs if not job.path.is_file()]
    advance(len(plan.jobs) - len(todo))
    for _ in each(_write, todo, workers):
        advance(1)


def _write(job: _SlideJob) -> None:
    write_slide(
        job.path, seed=job.seed, slide_id=job.slide_id, mpp=job.mpp, effects=job.effects, tissue_tiles=TISSUE_TILES
    )


def _as_label(value: object) -> int | None:
    number = float(str(value))
    return None if np.isnan(number) else int(number)


def _parts(protocol: Protocol, cohort: Cohort, planted: tuple[str, ...], seed: int) -> dict[str, tuple[str, ...]]:
    sizes = protocol.rehearsal
    if cohort.split is None:
        pools = {"external": (cohort.patients, sizes.external)}
    else:
        pools = {
            "train": (cohort.split.patients(cohort.folds[0], "train"), sizes.train),
            "validation": (cohort.split.patients(cohort.folds[0], "validation"), sizes.validation),
            "test": (cohort.split.patients(cohort.folds[0], "test"), sizes.test),
        }
    least = MIN_PER_CLASS if protocol.external else {**MIN_PER_CLASS, "test": MIN_TESTED}
    return {
        part: draw_patients(
            cohort.labels.loc[list(pool)],
            planted,
            size,
            part,
            seed=seed,
            where=f"rehearsal.{part} of {cohort.name}",
            least=least[part],
        )
        for part, (pool, size) in pools.items()
    }


def _manifest(protocol: Protocol, cohort: Cohort, nulls: Mapping[str, float], seed: int) -> pd.DataFrame:
    """The real rows of the drawn patients with their covariates; slides renamed to files that are about to be made."""
    rows = []
    by_patient = cohort.slides.groupby("patient_id")["slide_id"].apply(list).to_dict()
    for patient in sorted(nulls):
        for slide_id in by_patient.get(patient, [f"{patient}-rehearsal"])[:MAX_SLIDES_PER_PATIENT]:
            finer = wide_generator(seed, "rehearsal scan", slide_id).random() < SHARE_40X
            labels = {t: _as_label(cohort.labels.at[patient, t]) for t in protocol.targets}
            labels[NEGATIVE_CONTROL] = _as_label(nulls[patient])
            covariates = {
                column: cohort.covariates.at[patient, column]
                for column in cohort.covariates.columns
                if column not in (*labels, "mpp", "magnification")
            }
            rows.append(
                {
                    "patient_id": patient,
                    "slide_id": slide_id,
                    "path": f"{slide_id}.svs",
                    **{t: "" if label is None else str(label) for t, label in labels.items()},
                    "mpp": "0.25" if finer else "0.5",
                    "magnification": "40" if finer else "20",
                    **{c: "" if str(value) == "nan" else str(value) for c, value in covariates.items()},
                }
            )
    return pd.DataFrame(rows)


def _short(arm: Arm) -> Arm:
    frozen = arm.adapt == "frozen"
    epochs = EPOCHS_FROZEN if frozen else EPOCHS
    training = arm.training.model_copy(
        update={
            "epochs": epochs,
            "restart_epochs": epochs,
            "lr_backbone": LR_LORA if isinstance(arm.adapt, Lora) else LR_FULL,
            "lr_aggregator": LR_AGGREGATOR.get(arm.aggregator, LR_AGGREGATOR_OTHERS),
            "temperature": TEMPERATURE,
            "micro_batch": MICRO_BATCH,
        }
    )
    tiles = None if frozen else min(TILES_PER_SLIDE, arm.tiles_per_slide or TILES_PER_SLIDE)
    return arm.model_copy(update={"training": training, "tiles_per_slide": tiles})
