"""A protocol to the plan of its study: what it will show, and what it will cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.cohort.load import load_cohorts
from tapfm_eval.errors import InputError, Problem
from tapfm_eval.planning.costs import ArmCost, EmbeddingCost, arm_costs, embedding_costs
from tapfm_eval.planning.precision import PrimaryPower, TargetPrecision, expected_precision, primary_power
from tapfm_eval.planning.probe import ArmProbe
from tapfm_eval.planning.published import inference_parts
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.rehearsal.expected import draw_expected


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
    path: Path, *, assumptions: Assumptions | None = None, probes: Mapping[str, ArmProbe] | None = None
) -> StudyPlan:
    """The plan of a protocol, from its manifests and splits, or from what it expects of a cohort yet to be supplied.

    Args:
        path: The protocol.
        assumptions: True AUROC, correlation of two arms, wanted power.
        probes: Measurements by arm, from `read_probe`; an arm without one is planned by the paper's figures.

    Raises:
        InputError: The protocol, its manifests or splits, or an assumption is wrong, or a probe names no arm.
    """
    assumed, measured = assumptions or Assumptions(), probes or {}
    problems = _assumption_problems(assumed)
    if problems:
        raise InputError(problems)
    protocol = read_protocol(path, backbones=CARDS)
    known = [arm.id for arm in protocol.arms]
    if measured and not set(measured) & set(known):
        remedy = "Measure an arm of this protocol, or name it as the protocol does."
        raise InputError(Problem("--probe", f"an arm of {path}: {', '.join(known)}", ", ".join(measured), remedy))
    cohorts = load_cohorts(protocol, path.parent, draw_expected(protocol))
    arms = arm_costs(protocol, cohorts, CARDS, measured)
    notes = [
        "Interval widths are those around the assumed AUROC; AUROCs within folds compare fewer pairs of patients, so a "
        "cross-validated interval may be a little wider."
    ]
    if any(cohort.expected is not None for cohort in protocol.cohorts.values()):
        notes.append("A cohort that is only expected is taken as split 80/10/10 by patient, one slide each.")
    if any(arm.adapt == "frozen" for arm in protocol.arms):
        notes.append("Arms with a frozen backbone train on stored embeddings, in minutes: only the embedding counts.")
    if any(arm.id not in measured for arm in protocol.arms):
        parts = inference_parts()
        notes.append(
            "Hours from the paper are those of its machine. Validation, test and external patients are predicted with "
            f"all their tiles, about {parts.tiles:,.0f} a slide as its minutes of inference imply; the "
            f"{parts.reading_seconds / 60:.1f} minutes of reading a slide in them are left out, as readers work beside "
            "the GPU. Measure your own: the folder of a run with one trained unit is a --probe."
        )
    return StudyPlan(
        f"{protocol.id} {protocol.version}", protocol.analysis.level, assumed,
        expected_precision(protocol, cohorts, auroc=assumed.auroc, power=assumed.power),
        primary_power(
            protocol, cohorts, auroc=assumed.auroc, correlation=assumed.correlation, power=assumed.power
        ),
        arms, embedding_costs(protocol, cohorts, CARDS, measured), tuple(notes),
    )  # fmt: skip


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
