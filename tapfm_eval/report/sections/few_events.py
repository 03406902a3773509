"""That what was fitted on validation patients rests on few of them, said wherever it is used."""

from collections.abc import Mapping

from tapfm_eval.report.numbers import visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.report.sections.methods_statistics import named

FEW_FITTED = 10  # patients of the rarer class below which a threshold or a recalibration is little better than a guess


def recalibrated_on_few(scope: Scope) -> str:
    """A sentence on recalibrations that rest on few events; empty where none does, or none was used."""
    fits = [fit for fit in scope.inputs.results.recalibrations if fit.reason is None]
    few = _few({fit.target: min(fit.positives, fit.n - fit.positives) for fit in fits})
    return f"The recalibration {few}; it may mend nothing, or make scores of other patients worse." if few else ""


def fixed_on_few(scope: Scope) -> str:
    """A sentence on thresholds that were fixed on few events; empty where none was."""
    fixed = [point for point in scope.inputs.results.operating_points if point.split == "validation"]
    few = _few(
        {
            point.target: min(
                point.true_positives + point.false_negatives, point.true_negatives + point.false_positives
            )
            for point in fixed
        }
    )
    return f"The threshold {few}; with other patients it would lie elsewhere." if few else ""


def _few(rarer: Mapping[str, int]) -> str:
    """`of EGFR (3) and KRAS (7) rests on fewer than 10 validation patients of the rarer class`, or nothing."""
    names = [f"{visible(target)} ({number})" for target, number in rarer.items() if 0 < number < FEW_FITTED]
    if not names:
        return ""
    return f"of {named(names)} rests on fewer than {FEW_FITTED} validation patients of the rarer class"
