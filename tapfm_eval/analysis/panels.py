"""Who is averaged with whom: from a predictions table to one score a patient, arm and target."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapfm_eval.cohort.patients import expit
from tapfm_eval.predictions.table import patient_scores
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, Protocol
from tapfm_eval.results import EvaluatedSplit
from tapfm_eval.statistics.records import Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Panel:
    """The patients of one cohort and split with the scores of every arm; all arms share the rows."""

    cohort: str
    split: EvaluatedSplit
    patients: tuple[str, ...]  # one a row
    folds: NDArray[np.int64] | None  # (n,) whose fold's models scored the row; None where one score stands for all
    labels: Floats  # (n, targets), NaN unknown
    scores: Mapping[str, Floats]  # arm -> (n, targets), NaN where the arm was not given for the patient
    targets: tuple[str, ...]

    def column(self, target: str) -> int:
        """Where a target stands."""
        return self.targets.index(target)

    def known(self, target: str, *arms: str) -> Floats:
        """Labels (n,) of a target; NaN where unknown, and where one of the arms has no score."""
        j = self.column(target)
        unscored = [np.isnan(self.scores[arm][:, j]) for arm in arms]
        return np.where(np.logical_or.reduce([np.zeros(len(self.labels), dtype=bool), *unscored]), np.nan,
                        self.labels[:, j])  # fmt: skip

    def matrix(self, targets: Sequence[str], *arms: str) -> Floats:
        """`known` of several targets, as columns (n, targets)."""
        return np.column_stack([self.known(target, *arms) for target in targets])

    def score(self, arm: str, *targets: str) -> Floats:
        """Scores of an arm: (n,) for one target, else (n, targets)."""
        columns = self.scores[arm][:, [self.column(target) for target in targets]]
        return columns[:, 0] if len(targets) == 1 else columns


def panels_of(predictions: pd.DataFrame, protocol: Protocol) -> dict[tuple[str, str], Panel]:
    """One panel per cohort and split, from a predictions table.

    Slides are averaged to patients, then seeds within a fold, and on external patients folds as well, always as
    logits. Test and validation patients keep their fold: scores of different fold models are never compared.
    """
    by_patient = patient_scores(predictions)
    targets, arms = tuple(protocol.targets), [arm.id for arm in protocol.arms]
    by_patient = by_patient[by_patient["arm"].isin(arms) & by_patient["target"].isin(targets)]
    panels = {}
    for (cohort, split), part in by_patient.groupby(["cohort", "split"], sort=True):
        if split == "train":
            continue
        rows = ["patient_id"] if split == "external" else ["fold", "patient_id"]
        mean = part.groupby(["arm", *rows, "target"], as_index=False).agg(
            label=("label", "first"), logit=("logit", "mean")
        )
        one_label = mean.groupby([*rows, "target"], as_index=False)["label"].first()
        labels = one_label.pivot(index=rows, columns="target", values="label").reindex(columns=list(targets))
        scores = {}
        for arm in arms:
            wide = mean[mean["arm"] == arm].pivot(index=rows, columns="target", values="logit")
            scores[arm] = expit(wide.reindex(index=labels.index, columns=list(targets)).to_numpy(dtype=np.float64))
        index = labels.index.to_frame(index=False)
        folds = None if split == "external" else index["fold"].to_numpy(dtype=np.int64)
        key = (str(cohort), str(split))
        panels[key] = Panel(
            key[0], _evaluated(key[1]), tuple(map(str, index["patient_id"])),
            None if folds is None or len(np.unique(folds)) == 1 else folds,
            labels.to_numpy(dtype=np.float64), scores, targets,
        )  # fmt: skip
    return panels


def _evaluated(split: str) -> EvaluatedSplit:
    return "external" if split == "external" else "test" if split == "test" else "validation"


def ordered(panels: Mapping[tuple[str, str], Panel], protocol: Protocol) -> tuple[Panel, ...]:
    """The panels of patients used in neither training nor selection of what scored them, cohorts in protocol order."""
    order = list(protocol.cohorts)
    found = [panel for panel in panels.values() if panel.split != "validation" and panel.cohort in order]
    return tuple(sorted(found, key=lambda panel: (order.index(panel.cohort), panel.split)))


def studied(protocol: Protocol) -> tuple[str, ...]:
    """The targets of the study; the rehearsal's negative control is none."""
    return tuple(target for target in protocol.targets if target != NEGATIVE_CONTROL)


def lead_arm(protocol: Protocol) -> str:
    """The arm that subgroups and confounding are about: the primary comparison's, else the first."""
    primary = protocol.analysis.primary
    return primary.arm if primary is not None else protocol.arms[0].id


def generator(seed: int, *names: str) -> np.random.Generator:
    """Randomness that depends on the seed and on what it is for, never on what ran before."""
    return np.random.default_rng([seed, *"\x1f".join(names).encode()])


def missing_estimate(level: float, method: str, reason: str, n: int = 0, positives: int = 0) -> Estimate:
    """An estimate that cannot be had."""
    return Estimate(math.nan, math.nan, math.nan, level, method, n, positives, n, reason)
