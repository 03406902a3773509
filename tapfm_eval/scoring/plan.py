"""What is analysed when predictions come without a protocol, and the stand-in by which the analysis knows it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapfm_eval.errors import Problem, RunError
from tapfm_eval.predictions.imports import ScoredFile
from tapfm_eval.protocol.schema import AnalysisPlan, Arm, AtRule, CohortPlan, Family, Protocol, Target
from tapfm_eval.rundir import run_id

FORMAT = "tapfm-eval/score/1"
FAMILY = "all arms"
RULES = (AtRule(at_sensitivity=0.95), AtRule(at_specificity=0.95), "youden")
"""Operating points where validation patients can fix the thresholds."""


@dataclass(frozen=True, slots=True)
class DeclaredThreshold:
    """A threshold that the user states; nothing in the data chose it."""

    arm: str  # empty: every arm
    value: float


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """`score.json`: everything beside the predictions that decides a number of the report."""

    title: str
    level: float
    targets: tuple[str, ...]
    arms: tuple[str, ...]
    cohorts: tuple[str, ...]
    thresholds: tuple[DeclaredThreshold, ...]
    subgroups: tuple[str, ...]
    files: tuple[ScoredFile, ...]
    notes: tuple[str, ...]  # what was derived rather than read
    rehearsal: bool = False  # some are predictions of synthetic slides

    @property
    def sha256(self) -> str:
        """Identity of the plan and the files that it names."""
        return run_id(plan_content(self))


class ScoredProtocol(Protocol):
    """The part of a protocol that an analysis asks for, made from a `ScorePlan`.

    There is no protocol: nothing was fixed in advance and nothing was trained here. What the analysis does not read
    (backbones, manifests, recipes) holds `external`, and the report of a scored study prints none of it.
    """

    thresholds_from: str = ""

    @property
    def development(self) -> str:
        """The cohort whose validation patients fix thresholds."""
        return self.thresholds_from


def scored_protocol(plan: ScorePlan, splits: dict[str, set[str]]) -> ScoredProtocol:
    """The stand-in for the protocol.

    Args:
        plan: What is analysed.
        splits: The splits that occur in each cohort.
    """
    validated = [name for name in plan.cohorts if "validation" in splits.get(name, ())]
    several = len(plan.arms) > 1
    analysis = AnalysisPlan(
        level=plan.level,
        families=(Family(name=FAMILY, comparisons="all_pairs"),) if several else (),
        operating_points=RULES if validated else (),  # type: ignore[arg-type]
        subgroups=plan.subgroups,
    )
    cohorts = {
        name: CohortPlan.model_construct(
            role="external" if splits.get(name) == {"external"} else "development", manifest="external"
        )
        for name in plan.cohorts
    }
    arms = tuple(
        Arm.model_construct(id=arm, backbone="external", aggregator="external", adapt="frozen") for arm in plan.arms
    )
    return ScoredProtocol.model_construct(
        format="tapfm-eval/protocol/1", id="score", version="0.0.0", title=plan.title, intended_use="Not stated.",
        seeds=(1,), cohorts=cohorts, targets={target: Target() for target in plan.targets}, arms=arms,
        analysis=analysis, thresholds_from=(validated or list(plan.cohorts))[0],
    )  # fmt: skip


def plan_content(plan: ScorePlan) -> dict[str, Any]:
    """`score.json` as plain data."""
    return {
        "format": FORMAT,
        "title": plan.title,
        "level": plan.level,
        "targets": list(plan.targets),
        "arms": list(plan.arms),
        "cohorts": list(plan.cohorts),
        "thresholds": [[declared.arm, declared.value] for declared in plan.thresholds],
        "subgroups": list(plan.subgroups),
        "files": [[file.arm, file.name, file.source, file.sha256, file.rows] for file in plan.files],
        "notes": list(plan.notes),
        "rehearsal": plan.rehearsal,
    }


def read_plan(path: Path) -> ScorePlan:
    """The plan of a scored study.

    Raises:
        RunError: The file is not as `tapfm-eval score` writes it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return ScorePlan(
            title=str(content["title"]),
            level=float(content["level"]),
            targets=tuple(map(str, content["targets"])),
            arms=tuple(map(str, content["arms"])),
            cohorts=tuple(map(str, content["cohorts"])),
            thresholds=tuple(DeclaredThreshold(str(arm), float(value)) for arm, value in content["thresholds"]),
            subgroups=tuple(map(str, content["subgroups"])),
            files=tuple(ScoredFile(str(a), str(n), str(s), str(h), int(r)) for a, n, s, h, r in content["files"]),
            notes=tuple(map(str, content["notes"])),
            rehearsal=content.get("rehearsal") is True,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        remedy = "Run `tapfm-eval score` again."
        raise RunError(Problem(str(path), f"JSON of the format {FORMAT}", str(error)[:120], remedy)) from None
