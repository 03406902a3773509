"""How training went: which epoch was chosen, on what evidence, at what cost."""

import math

from tapfm_eval.report.blocks import Block, Cell, Column, Figure, Paragraph, RowGroup, Section, Table
from tapfm_eval.report.drawings import Curve, Mark, Panel
from tapfm_eval.report.numbers import count_cell, fixed, number_cell, text_cell, visible
from tapfm_eval.report.scope import Scope
from tapfm_eval.report.sections.grids import grid_figures
from tapfm_eval.results import UnitResult


def training_section(scope: Scope) -> Section | None:
    """Chosen epochs, curves, time and memory; left out where nothing was trained (predictions made elsewhere)."""
    units = scope.inputs.units
    if not units:
        return None
    blocks: list[Block] = [
        Paragraph(
            "Each arm is trained anew for every seed and fold. Validation patients choose the epoch; test and external "
            "patients were predicted only after every arm, seed and fold had been selected."
        ),
        _table(scope),
        *_figures(scope, "validation-auroc", "Macro AUROC on validation patients by epoch", "Macro AUROC"),
        *_figures(scope, "loss", "Loss by epoch: training solid, validation dashed", "Loss"),
    ]
    return Section("training", "Training and selection", tuple(blocks))


def _table(scope: Scope) -> Table:
    return Table(
        "training",
        "Selected epochs and cost of training",
        (
            Column("Arm", ("arm",), width=2.0),
            Column("Seed", ("seed",), "number", 0.6),
            Column("Fold", ("fold",), "number", 0.6),
            Column("Epochs", ("epochs",), "number", 0.8),
            Column("Selected", ("selected_epoch",), "number", 0.8),
            Column("Validation macro AUROC", ("validation_metric",), "number", 1.1),
            Column("Targets in it", ("metric_targets",), width=2.0),
            Column("Time", ("seconds",), "number", 0.9),
            Column("Peak memory", ("peak_memory_mb",), "number", 1.0),
        ),
        (RowGroup("", tuple(_row(unit) for unit in scope.inputs.units)),),
        note="The metric at the selected epoch is optimistic: it is the best of all epochs. Time is wall clock of "
        f"training and selection. {_memory_note(scope.inputs.units)}",
    )


def _memory_note(units: tuple[UnitResult, ...]) -> str:
    """What the column of memory measures; frozen arms read embeddings that were made before."""
    of = {unit.memory_of for unit in units if not math.isnan(unit.peak_memory_mb)}
    measured = {
        "GPU": "what tensors took of the GPU",
        "process": "what the training process held in main memory, its code and what earlier units left there "
        "included and the readers of tiles not",
    }
    if not of:
        return "Memory could not be measured for each unit."
    names = " or, without one, ".join(measured[name] for name in measured if name in of)
    return f"Memory is {names}, at its peak while that unit trained."


def _row(unit: UnitResult) -> tuple[Cell, ...]:
    return (
        text_cell(unit.arm),
        count_cell(unit.seed),
        count_cell(unit.fold),
        count_cell(unit.epochs),
        count_cell(unit.selected_epoch),
        number_cell(unit.validation_metric, 2),
        text_cell(", ".join(unit.metric_targets) or "none"),
        Cell(duration(unit.seconds), (unit.seconds,), unit.seconds),
        Cell(memory(unit.peak_memory_mb), (unit.peak_memory_mb,), unit.peak_memory_mb),
    )


def duration(seconds: float) -> str:
    """A time in the unit that suits it: `41 s`, `12 min`, `3.4 h`.

    >>> duration(41.2), duration(731), duration(12345)
    ('41 s', '12 min', '3.4 h')
    """
    if math.isnan(seconds):
        return "–"
    if seconds < 99.5:
        return f"{fixed(seconds, 0 if seconds >= 9.95 else 1)} s"
    return f"{fixed(seconds / 60, 0)} min" if seconds < 99.5 * 60 else f"{fixed(seconds / 3600, 1)} h"


def memory(megabytes: float) -> str:
    """Memory in the unit that suits it: `840 MB`, `71.5 GB`."""
    if math.isnan(megabytes):
        return "–"
    return f"{fixed(megabytes, 0)} MB" if megabytes < 999.5 else f"{fixed(megabytes / 1000, 1)} GB"


def _figures(scope: Scope, name: str, caption: str, y_label: str) -> list[Figure]:
    arms = tuple(dict.fromkeys(unit.arm for unit in scope.inputs.units))
    panels = [_panel(scope, arm, losses=name == "loss") for arm in arms]
    return grid_figures(
        panels,
        name=f"training-{name}",
        caption=caption,
        remark="A line per seed and fold; the ring marks the selected epoch.",
        alt=lambda titles: (
            f"{caption}, a panel per arm: {', '.join(titles)}. Selected epochs: {_selected(scope, titles)}."
        ),
        x_label="Epoch",
        y_label=y_label,
        legend=(),
        whole_x=True,
    )


def _selected(scope: Scope, titles: list[str]) -> str:
    told: dict[str, list[str]] = {}
    for unit in scope.inputs.units:
        if visible(unit.arm) in titles:
            told.setdefault(visible(unit.arm), []).append(f"{unit.selected_epoch} of {unit.epochs}")
    return "; ".join(f"{arm}: {', '.join(epochs)}" for arm, epochs in told.items())


def _panel(scope: Scope, arm: str, *, losses: bool) -> Panel:
    units = [unit for unit in scope.inputs.units if unit.arm == arm]
    style = scope.style(arm)
    curves: list[Curve] = []
    marks: list[Mark] = []
    for unit in units:
        lines = [(unit.train_loss, False), (unit.validation_loss, True)] if losses else [(unit.validation_auroc, False)]
        curves += [Curve(*_finite(line), style, dashed) for line, dashed in lines]
        chosen = unit.validation_loss if losses else unit.validation_auroc
        position = unit.selected_epoch - 1
        if 0 <= position < len(chosen) and math.isfinite(chosen[position]):
            marks.append(Mark(float(unit.selected_epoch), chosen[position], style))
    drawn = tuple(curve for curve in curves if curve.x)
    return Panel(visible(arm), "" if drawn else "no epoch was recorded", drawn, tuple(marks))


def _finite(line: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    points = [(float(epoch), value) for epoch, value in enumerate(line, 1) if math.isfinite(value)]
    return tuple(x for x, _ in points), tuple(y for _, y in points)
