"""A study's work by name: features, trainings, the barrier before the one look, predictions, and what each occupies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tapfm_eval.cohort.locate import SlideFile
from tapfm_eval.protocol.schema import Arm, Protocol
from tapfm_eval.rundir import RunFolder
from tapfm_eval.stages.graph import Graph, Resources, WorkUnit

EMBEDDED_TOGETHER = 32  # slides of a frozen backbone in one unit, so that several processes share a cohort
FROZEN_GPU_SHARE = 0.25  # of a GPU for an arm that reads embeddings: its aggregator is small
Steps = Callable[[Arm, int, int], int]
"""How many slides the work of an arm, seed and fold passes through, for progress."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a unit may use of a machine."""

    gpu: bool
    threads: int  # of arithmetic on a CPU
    readers: int  # processes that read slides
    cpus_per_gpu: float = 1e9  # of the machines that have GPUs, so that reading leaves no GPU idle
    memory_mb: Mapping[str, float] = field(default_factory=dict)  # of the host, by arm or `features/BACKBONE`
    machines: tuple[Resources, ...] = ()  # what each machine has in all; none: not known, and memory is no question

    def of(self, what: str, *, frozen: bool) -> Resources:
        """For training or predicting an arm, or for embedding, where `frozen` is not to be said."""
        if not self.gpu:
            wanted = Resources(self.threads, 0)
        elif frozen:
            wanted = Resources(1, FROZEN_GPU_SHARE)
        else:
            wanted = Resources(max(1, min(1 + self.readers, int(self.cpus_per_gpu))), 1)
        # whose memory is estimated as more than any machine has that would do otherwise is alone on the largest of
        # them: an estimate is no reason to refuse
        fitting = [one.memory_mb for one in self.machines if one.cpus >= wanted.cpus and one.gpus >= wanted.gpus]
        memory = self.memory_mb.get(what, 0.0)
        return replace(wanted, memory_mb=min(memory, max(fitting, default=memory)))


def tile_graph(files: Sequence[SlideFile], folder: RunFolder, hashes: Mapping[str, str]) -> Graph:
    """The search for tissue, a unit a slide."""
    return Graph(
        WorkUnit(
            f"tiles/{file.cohort}/{file.slide_id}", "tiles", "Finding tissue",
            outputs=(folder.tiles(file.cohort, file.slide_id).relative_to(folder.root).as_posix(),),
            hashes=hashes, arguments={"file": file}, small=True,
        )
        for file in files
    )  # fmt: skip


def study_graph(
    protocol: Protocol,
    folds: Sequence[int],
    slides: Mapping[str, Sequence[str]],
    folder: RunFolder,
    means: Means,
    *,
    arms: Sequence[Arm],
    look: bool,
    hashes: Mapping[str, str],
    training_steps: Steps,
    prediction_steps: Steps,
) -> Graph:
    """Everything after the search for tissue.

    Args:
        protocol: The study.
        folds: Of the development cohort.
        slides: Names of the usable slides of each cohort.
        folder: Where the outputs lie.
        means: What a unit may use.
        arms: Those to be trained.
        look: Whether test and external patients are predicted in the end; all arms must be trained then.
        hashes: Of everything that defines the run.
        training_steps: Slides that a training passes through.
        prediction_steps: Slides that a prediction passes through.
    """
    units = [(arm, seed, fold) for arm in arms for seed in protocol.seeds for fold in folds]
    embedded: dict[tuple[str, str], list[str]] = {}
    made: list[WorkUnit] = []
    for unit in _features(arms, slides, folder, means, hashes):
        made.append(unit)
        embedded.setdefault((unit.arguments["backbone"], unit.arguments["cohorts"][0]), []).append(unit.name)

    def features_of(arm: Arm, cohorts: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for cohort in cohorts for name in embedded.get((arm.backbone, cohort), ()))

    def unit_of(
        arm: Arm, seed: int, fold: int, stage: str, title: str, steps: int, cohorts: tuple[str, ...],
        after: tuple[str, ...], outputs: tuple[str, ...],
    ) -> WorkUnit:  # fmt: skip
        place = folder.unit(arm.id, seed, fold).relative_to(folder.root).as_posix()
        frozen = arm.adapt == "frozen"
        return WorkUnit(
            f"{stage}/{arm.id}/seed-{seed}/fold-{fold}", stage, f"{title} {arm.id}, seed {seed}, fold {fold}", steps,
            (*after, *(features_of(arm, cohorts) if frozen else ())), means.of(arm.id, frozen=frozen),
            tuple(f"{place}/{name}" for name in outputs), hashes,
            {"arm": arm.id, "seed": seed, "fold": fold, "cohorts": cohorts},
            lock=f"units/{arm.id}/seed-{seed}/fold-{fold}",
        )  # fmt: skip

    everywhere = (protocol.development, *protocol.external)
    trained = [
        unit_of(
            arm, seed, fold, "train", "Training", training_steps(arm, seed, fold), (protocol.development,), (),
            ("history.csv", "selected.safetensors", "validation.csv", "selection.json"),
        )
        for arm, seed, fold in units
    ]  # fmt: skip
    made += trained
    if look:
        predicted = [
            unit_of(
                arm, seed, fold, "predict", "Predicting", prediction_steps(arm, seed, fold), everywhere, ("select",),
                ("predictions.csv",),
            )
            for arm, seed, fold in units
        ]  # fmt: skip
        every = tuple(output for unit in predicted for output in unit.outputs)
        made.append(
            WorkUnit(
                "select", "select", "Closing the selection", after=tuple(unit.name for unit in trained), outputs=every,
                hashes=hashes, arguments={"units": [[arm.id, seed, fold] for arm, seed, fold in units]},
                lock="look", waits=True,
            )
        )  # fmt: skip
        made += predicted
    return Graph(made)


def _features(
    arms: Sequence[Arm], slides: Mapping[str, Sequence[str]], folder: RunFolder, means: Means, hashes: Mapping[str, str]
) -> Iterator[WorkUnit]:
    for backbone in dict.fromkeys(arm.backbone for arm in arms if arm.adapt == "frozen"):
        for cohort, names in slides.items():
            place = folder.features(backbone, cohort).relative_to(folder.root).as_posix()
            for start in range(0, len(names), EMBEDDED_TOGETHER):
                some = tuple(names[start : start + EMBEDDED_TOGETHER])
                outputs = tuple(f"{place}/{name}.h5" for name in some)
                yield WorkUnit(
                    f"features/{backbone}/{cohort}/{start}", "features", f"Embedding {cohort} with {backbone}",
                    len(some), (), means.of(f"features/{backbone}", frozen=False), outputs, hashes,
                    {"backbone": backbone, "cohorts": (cohort,), "slides": some},
                    lock=f"features/{backbone}/{cohort}/{start}", waits=True,
                )  # fmt: skip
