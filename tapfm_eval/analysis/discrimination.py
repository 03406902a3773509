"""How well each arm tells mutated from unmutated patients: AUROC, average precision, curves, macro and micro."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tapfm_eval import statistics
from tapfm_eval.analysis.panels import Panel, generator, missing_estimate
from tapfm_eval.analysis.roc import mean_roc, roc_band
from tapfm_eval.cohort.load import Cohort
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, Protocol
from tapfm_eval.results import AurocResult, MacroResult, RocCurve


def aurocs(panels: Sequence[Panel], cohorts: Mapping[str, Cohort], protocol: Protocol) -> Iterator[AurocResult]:
    """AUROC and average precision of every arm on every target."""
    level = protocol.analysis.level
    for panel, target, arm in itertools.product(panels, protocol.targets, _arms(protocol)):
        y, s = panel.known(target, arm), panel.score(arm, target)
        if panel.folds is None:
            rng = np.random.default_rng([protocol.seeds[0], *panel.cohort.encode(), *target.encode(), *arm.encode()])
            precision = statistics.average_precision(y, s, level=level, rng=rng)
        else:
            # the mean over folds flatters: a tenth of 100 patients positive, its interval covers 68% of the time
            reason = "scores of different folds are not pooled, and within a fold few patients make it too high"
            known = ~np.isnan(y)
            precision = missing_estimate(level, "bootstrap", reason, int(known.sum()), int((y == 1).sum()))
        yield AurocResult(
            target=target, arm=arm, cohort=panel.cohort, split=panel.split,
            auroc=statistics.auroc(y, s, level=level, strata=panel.folds),
            average_precision=precision,
            negatives=int((y == 0).sum()), missing=int(np.isnan(y).sum()),
            assessed=target in cohorts[panel.cohort].assessed,
        )  # fmt: skip


def curves(panels: Sequence[Panel], protocol: Protocol) -> Iterator[RocCurve]:
    """The ROC curve behind every AUROC, with its band."""
    for panel, target, arm in itertools.product(panels, protocol.targets, _arms(protocol)):
        y, s = panel.known(target, arm), panel.score(arm, target)
        fpr, tpr = mean_roc(y, s, panel.folds)
        rng = generator(protocol.seeds[0], "roc band", panel.cohort, panel.split, target, arm)
        band = roc_band(y, s, panel.folds, level=protocol.analysis.level, rng=rng)
        yield RocCurve(target, arm, panel.cohort, panel.split, tuple(fpr.tolist()), tuple(tpr.tolist()), band)


def macros(panels: Sequence[Panel], protocol: Protocol) -> Iterator[MacroResult]:
    """Mean over the targets that have both classes, and the AUROC of all pairs of patient and target."""
    level = protocol.analysis.level
    for panel, arm in itertools.product(panels, _arms(protocol)):
        usable = macro_targets(panel, arm)
        left_out = tuple(t for t in panel.targets if t not in usable and t != NEGATIVE_CONTROL)
        if usable:
            labels, scores = panel.matrix(usable, arm), panel.score(arm, *usable).reshape(len(panel.patients), -1)
            macro = statistics.macro_auroc(labels, scores, level=level, strata=panel.folds)
            micro = statistics.micro_auroc(labels, scores, level=level, strata=panel.folds)
        else:
            macro = missing_estimate(level, "MOVER", "no target with both classes")
            micro = missing_estimate(level, "clustered", "no target with both classes")
        yield MacroResult(arm, panel.cohort, panel.split, usable, left_out, macro, micro)


def macro_targets(panel: Panel, *arms: str) -> tuple[str, ...]:
    """The targets with both classes in the panel; the rehearsal's negative control is none of the study's."""
    found = []
    for target in panel.targets:
        y = panel.known(target, *arms)
        if target != NEGATIVE_CONTROL and (y == 1).any() and (y == 0).any():
            found.append(target)
    return tuple(found)


def _arms(protocol: Protocol) -> list[str]:
    return [arm.id for arm in protocol.arms]
