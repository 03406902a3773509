"""What a rehearsal must show before its report is believed: planted effects found, and nothing where nothing is."""

from collections.abc import Iterator, Mapping

import numpy as np

from tapfm_eval import statistics
from tapfm_eval.analysis import Panel
from tapfm_eval.protocol.schema import NEGATIVE_CONTROL, Protocol
from tapfm_eval.results import RehearsalCheck

NULL_LEVEL = 0.999  # a rehearsal has many arms; at 95 % an honest one would fail every few runs


def check_rehearsal(
    protocol: Protocol, panels: Mapping[tuple[str, str], Panel], planted: Mapping[str, float]
) -> tuple[RehearsalCheck, ...]:
    """All checks, on the external patients.

    Every planted target's interval lies above 0.5 for the TAPFM arms; the negative control fails only if its 99.9%
    interval excludes 0.5, for any arm. A study without TAPFM arms or external cohort is checked on what it has.
    """
    external = [panel for panel in panels.values() if panel.split == "external"]
    shown = external or [panel for panel in panels.values() if panel.split == "test"]
    return tuple(check for panel in shown for check in _of_panel(protocol, panel, planted))


def _of_panel(protocol: Protocol, panel: Panel, planted: Mapping[str, float]) -> Iterator[RehearsalCheck]:
    adapted = [arm.id for arm in protocol.arms if arm.aggregator == "tapfm"] or [arm.id for arm in protocol.arms]
    for arm in adapted:
        for target, strength in planted.items():
            j = panel.column(target)
            if np.isnan(panel.labels[:, j]).all():
                continue  # the cohort does not assess this target
            found = statistics.auroc(
                panel.labels[:, j], panel.scores[arm][:, j], level=protocol.analysis.level, strata=panel.folds
            )
            detail = (
                f"planted {strength:.2f}, found {found.value:.2f} ({found.lower:.2f} to {found.upper:.2f}), "
                f"{found.positives} of {found.n} patients positive"
            )
            name = f"{arm} finds {target} in {panel.cohort}: interval above 0.5"
            yield RehearsalCheck(name, found.lower > 0.5, detail)
    for arm in (arm.id for arm in protocol.arms):
        j = panel.column(NEGATIVE_CONTROL)
        found = statistics.auroc(panel.labels[:, j], panel.scores[arm][:, j], level=NULL_LEVEL, strata=panel.folds)
        detail = f"nothing planted, found {found.value:.2f} ({found.lower:.2f} to {found.upper:.2f} at 99.9%)"
        name = f"{arm} finds nothing in {NEGATIVE_CONTROL} in {panel.cohort}: 99.9% interval holds 0.5"
        yield RehearsalCheck(name, not (found.lower > 0.5 or found.upper < 0.5), detail)
