"""Whether a score of 0.3 means that three patients in ten carry the mutation."""

from tapfm_eval.report.blocks import Cell, Column, Paragraph, Section, Table
from tapfm_eval.report.numbers import estimate_cell, events_cell, text_cell
from tapfm_eval.report.scope import Scope
from tapfm_eval.results import CalibrationResult


def calibration_section(scope: Scope) -> Section:
    """Calibration of the scores as they are, per target, arm and cohort."""
    results = scope.inputs.results.calibrations
    if not results:
        return Section("calibration", "Calibration", (Paragraph("Calibration was not estimated."),))

    def row(result: CalibrationResult) -> tuple[Cell, ...]:
        return (
            text_cell(result.target),
            text_cell(result.arm),
            events_cell(result.brier.positives, result.brier.n),
            estimate_cell(result.intercept, 2),
            estimate_cell(result.slope, 2),
            estimate_cell(result.observed_expected, 2),
            estimate_cell(result.brier, 3),
        )

    table = Table(
        "calibration",
        "Calibration of the scores as they are",
        (
            Column("Target", ("target",), width=0.9),
            Column("Arm", ("arm",), width=1.8),
            Column("Events / n", ("positives", "n"), "number", 1.25),
            Column("Intercept (ideal 0)", ("intercept", "intercept_lower", "intercept_upper"), "number", 1.8),
            Column("Slope (ideal 1)", ("slope", "slope_lower", "slope_upper"), "number", 1.7),
            Column(
                "Observed / expected (ideal 1)",
                ("observed_expected", "observed_expected_lower", "observed_expected_upper"),
                "number",
                1.7,
            ),
            Column("Brier score", ("brier", "brier_lower", "brier_upper"), "number", 1.7),
        ),
        scope.by_part(results, row),
        group_name="part",
        note=f"{scope.interval} in brackets. Intercept in the large: above 0, the scores are too low on average. Slope "
        "below 1: the scores are too extreme. Scores are at the prevalence of the training patients, so a cohort with "
        "another prevalence shifts the intercept.",
    )
    return Section("calibration", "Calibration", (table,))
