"""A protocol to the plan of its study: what it will show, and what it will cost."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.load import Cohort, load_cohorts
from tapfm_eval.errors import InputError, Problem
from tapfm_eval.planning.costs import ArmCost, EmbeddingCost, arm_costs, embedding_costs
from tapfm_eval.planning.makespan import MEASURED, Gpus, Makespan, Need, makespan, read_gpus
from tapfm_eval.planning.precision import PrimaryPower, TargetPrecision, expected_precision, primary_power
from tapfm_eval.planning.probe import ArmProbe
from tapfm_eval.planning.published import inference_parts
from tapfm_eval.planning.storage import (
    CORE_TILES_PER_SECOND,
    SLIDE_GB,
    Reading,
    Stored,
    readings,
    stored,
    tiles_of_a_slide,
)
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.rehearsal.expected import draw_expected
from tapfm_eval.rundir import RunFolder
from tapfm_eval.stages.graph import Graph
from tapfm_eval.stages.study_graph import Means, study_graph

MOST_GPUS = 4096  # that are tried where none are named
GIGABYTE_HOUR_TB = 3.6  # what is read at 1 GB/s in an hour
WORTH = 1.05  # twice the GPUs must be quicker by this factor to be shown


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a plan has to assume, because nobody knows it yet; none of it enters the study."""

    auroc: float = 0.8  # true AUROC of a target, and of the arm that the primary comparison is against
    correlation: float = 0.5  # of the scores of two arms, among positives and among negatives
    power: float = 0.8  # wanted


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What a protocol's study will show and cost."""

    protocol: str  # its id and version
    level: float
    assumptions: Assumptions
    targets: tuple[TargetPrecision, ...]
    primary: PrimaryPower | None
    arms: tuple[ArmCost, ...]
    embeddings: tuple[EmbeddingCost, ...]
    units: int  # pieces of work that GPUs do, each with a lock
    makespans: tuple[Makespan, ...]
    """On the GPUs that were named, last, after those without the slower kinds; else on ever more, while more help."""
    storage: tuple[Stored, ...]
    readings: tuple[Reading, ...]
    notes: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Everything, one after the other on one GPU."""
        return sum(arm.hours for arm in self.arms) + sum(embedding.hours for embedding in self.embeddings)

    @property
    def memory_gb(self) -> float:
        """What the largest step needs."""
        return max([arm.memory_gb for arm in self.arms] + [embedding.memory_gb for embedding in self.embeddings])


def plan_study(
    path: Path,
    *,
    assumptions: Assumptions | None = None,
    probes: Mapping[str, ArmProbe] | None = None,
    gpus: Sequence[str] = (),
) -> StudyPlan:
    """The plan of a protocol, from its manifests and splits, or from what it expects of a cohort yet to be supplied.

    Args:
        path: The protocol.
        assumptions: True AUROC, correlation of two arms, wanted power.
        probes: Measurements by arm, from `read_probe`; an arm without one is planned by the paper's figures.
        gpus: What the study is to run on: `8`, `4xa100`, `4xmine=0.5`, each some more; none: 1, 2, 4 and so on.

    Raises:
        InputError: The protocol, its manifests or splits, or an assumption is wrong, a probe names no arm, or a unit
            fits none of the GPUs.
    """
    assumed, measured = assumptions or Assumptions(), probes or {}
    problems = _assumption_problems(assumed)
    if problems:
        raise InputError(problems)
    fleet = read_gpus(gpus, probed=bool(measured))
    protocol = read_protocol(path, backbones=CARDS)
    known = [arm.id for arm in protocol.arms]
    if measured and not set(measured) & set(known):
        remedy = "Measure an arm of this protocol, or name it as the protocol does."
        raise InputError(Problem("--probe", f"an arm of {path}: {', '.join(known)}", ", ".join(measured), remedy))
    cohorts = load_cohorts(protocol, path.parent, draw_expected(protocol))
    arms = arm_costs(protocol, cohorts, CARDS, measured)
    embeddings = embedding_costs(protocol, cohorts, CARDS, measured)
    graph = _graph(protocol, cohorts)
    needs = _needs(graph, arms, embeddings)
    notes = [
        "Interval widths are those around the assumed AUROC; AUROCs within folds compare fewer pairs of patients, so a "
        "cross-validated interval may be a little wider."
    ]
    if any(cohort.expected is not None for cohort in protocol.cohorts.values()):
        notes.append("A cohort that is only expected is taken as split 80/10/10 by patient, one slide each.")
    read = readings(cohorts, CARDS, arms, embeddings)
    frozen = [arm.id for arm in protocol.arms if arm.adapt == "frozen" and arm.id not in measured]
    if frozen:
        terabytes = {row.what: row.terabytes for row in read}
        said = "; ".join(f"{arm} {terabytes[arm] / GIGABYTE_HOUR_TB:,.1f} hours" for arm in frozen)
        notes.append(
            "Arms with a frozen backbone train on stored embeddings, and of GPU hours only the embedding counts. Their "
            "steps are so short that no storage keeps a GPU busy; how long they take is how fast embeddings are read, "
            f"at 1 GB/s: {said}."
        )
    if any(arm.id not in measured for arm in protocol.arms):
        parts = inference_parts()
        notes.append(
            "Hours from the paper are those of its machine. Validation, test and external patients are predicted with "
            f"all their tiles, about {parts.tiles:,.0f} a slide as its minutes of inference imply; the "
            f"{parts.reading_seconds / 60:.1f} minutes of reading a slide in them are left out, as readers work beside "
            "the GPU. Measure your own: the folder of a run with one trained unit is a --probe."
        )
    notes.append(
        "Units start in the protocol's order, each on the fastest GPU that is free; finding tissue, on CPUs, is left "
        f"out. Storage and reading take {tiles_of_a_slide():,.0f} tiles a slide and, where a manifest states no sizes, "
        f"{SLIDE_GB} GB a slide, the mean of TCGA-LUAD; a tile drawn for training brings its neighbours' blocks of the "
        f"file with it, more than twice the bytes. A core reads and decodes {CORE_TILES_PER_SECOND} tiles a second."
    )
    makespans = tuple(_with_slower(graph, needs, fleet) if fleet else _ever_more(graph, needs))
    best = min(makespans, key=lambda found: found.hours)
    if fleet and best.hours < makespans[-1].hours:
        notes.append(
            f"With {best.gpus} alone the study ends earlier than with all of them: what starts a long unit is whatever "
            "is free, and a slow GPU holds up the end. Give slow ones the arms that are short (run --arm)."
        )
    if any(some.kind for some in fleet) and not measured:
        notes.append(
            "Kinds without a speed of their own count by their makers' rates of dense 16-bit matrix products beside "
            f"those of an {MEASURED.upper()}, which no network reaches: measure one unit on each."
        )
    return StudyPlan(
        f"{protocol.id} {protocol.version}", protocol.analysis.level, assumed,
        expected_precision(protocol, cohorts, auroc=assumed.auroc, power=assumed.power),
        primary_power(
            protocol, cohorts, auroc=assumed.auroc, correlation=assumed.correlation, power=assumed.power
        ),
        arms, embeddings, len(graph),
        makespans,
        stored(graph, cohorts, CARDS, arms, embeddings), read, tuple(notes),
    )  # fmt: skip


def _graph(protocol: Protocol, cohorts: Mapping[str, Cohort]) -> Graph:
    """The units that a run of the protocol will have; a patient without a named slide stands for one."""
    slides = {
        name: [*map(str, cohort.slides["slide_id"]), *(f"slide of {patient}" for patient in cohort.unlinked)]
        for name, cohort in cohorts.items()
    }
    return study_graph(
        protocol, cohorts[protocol.development].folds, slides, RunFolder(Path()), Means(True, 1, 1),
        arms=protocol.arms, look=True, hashes={},
        training_steps=lambda arm, seed, fold: 1, prediction_steps=lambda arm, seed, fold: 1,
    )  # fmt: skip


def _needs(graph: Graph, arms: Sequence[ArmCost], embeddings: Sequence[EmbeddingCost]) -> dict[str, Need]:
    """Hours and memory of every unit of the graph; closing the selection takes neither."""
    costs = {(unit.arm, unit.seed, unit.fold): (unit, arm.memory_gb) for arm in arms for unit in arm.units}
    embedded = {(embedding.backbone, embedding.cohort): embedding for embedding in embeddings}
    needs = {}
    for unit in graph:
        said = unit.arguments
        if unit.stage == "features":
            embedding = embedded[said["backbone"], said["cohorts"][0]]
            hours = embedding.hours * len(said["slides"]) / embedding.slides
            needs[unit.name] = Need(hours, embedding.memory_gb)
        elif unit.stage in ("train", "predict"):
            cost, memory = costs[said["arm"], said["seed"], said["fold"]]
            hours = cost.predict_hours if unit.stage == "predict" else cost.train_hours + cost.select_hours
            needs[unit.name] = Need(hours, memory)
    return needs


def _with_slower(graph: Graph, needs: Mapping[str, Need], fleet: Sequence[Gpus]) -> Iterator[Makespan]:
    """The fastest kind alone where it can do everything, then with the next, and all in the end."""
    kinds = sorted(fleet, key=lambda some: -some.speed)
    for count in range(1, len(kinds)):
        with suppress(InputError):  # these are too small for some unit
            yield makespan(graph, needs, kinds[:count])
    yield makespan(graph, needs, fleet)


def _ever_more(graph: Graph, needs: Mapping[str, Need]) -> Iterator[Makespan]:
    """1, 2, 4 and so on of the GPUs that the hours are of, as long as more of them help."""
    count, before = 1, None
    while count <= MOST_GPUS:
        found = makespan(graph, needs, (Gpus(count, "", 1.0, None),))
        if before is not None and found.hours * WORTH > before:
            return
        yield found
        count, before = 2 * count, found.hours


def _assumption_problems(assumed: Assumptions) -> list[Problem]:
    problems = []
    for flag, value, low, high in (
        ("--auroc", assumed.auroc, 0.5, 1.0),
        ("--correlation", assumed.correlation, -1.0, 1.0),
        ("--power", assumed.power, 0.5, 1.0),
    ):
        if not low < value < high:
            expected = f"between {low:g} and {high:g}"
            problems.append(Problem(flag, expected, f"{value:g}", "0.8 and 0.5 are fair first guesses."))
    return problems
