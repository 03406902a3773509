"""`tapfm-eval plan`: what a study will show and cost, before any GPU is booked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.protocol import ProtocolPath

if TYPE_CHECKING:
    from rich.console import Console

    from tapfm_eval.planning import StudyPlan

EXAMPLE = (
    "Example: `tapfm-eval plan protocols/luad.yaml`  \n"
    "`tapfm-eval plan protocols/luad.yaml --gpus 4xh100 --gpus 8xa100=0.4`  \n"
    "`tapfm-eval plan protocols/luad.yaml --auroc 0.75 --probe reports/luad-1.0.0/0123456789ab`"
)
FORMAT = "tapfm-eval/plan/1"


def plan(
    protocol: ProtocolPath,
    auroc: Annotated[float, typer.Option("--auroc", help="True AUROC to plan for.")] = 0.8,
    correlation: Annotated[float, typer.Option("--correlation", help="Of the scores of two arms.")] = 0.5,
    power: Annotated[float, typer.Option("--power", help="Wanted power.")] = 0.8,
    probe: Annotated[
        Path | None,
        typer.Option("--probe", metavar="RUN", help="A run with a trained unit, or a JSON file, to take hours from."),
    ] = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            "--gpus",
            metavar="N|NxKIND[=SPEED]",
            show_default="1, 2, 4 and so on",
            help="What the study is to run on; may be repeated.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The last line alone.")] = False,
) -> None:
    """Print widths and power to expect for each target and cohort, memory and hours of each arm, and when all is done.

    Storage, and what must be read in a second so that no GPU waits, come last.
    `--gpus 8` means eight of the GPUs that the hours are of; KIND and SPEED (beside those) name others.
    """
    import json

    from tapfm_eval.planning import Assumptions, plan_study, read_probe
    from tapfm_eval.serialise import plain

    measured = {} if probe is None else read_probe(probe)
    assumptions = Assumptions(auroc, correlation, power)
    planned = plan_study(protocol, assumptions=assumptions, probes=measured, gpus=gpus or ())
    if as_json:
        content = {"format": FORMAT, **dict(plain(planned)), "hours": planned.hours,  # type: ignore[call-overload]
                   "memory_gb": planned.memory_gb}  # fmt: skip
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
        return
    if not quiet:
        _show(planned)
    ends = planned.makespans[-1]
    typer.echo(
        f"Plan of {planned.protocol}: {planned.hours:,.0f} GPU hours in all, one after the other, "
        f"with at most {planned.memory_gb:.0f} GB of GPU memory; {ends.hours:,.0f} hours on {ends.gpus} GPUs."
    )


def _show(planned: "StudyPlan") -> None:
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    _show_targets(console, planned)
    _show_primary(console, planned)
    _show_costs(console, planned)
    _show_makespans(console, planned)
    _show_storage(console, planned)
    _show_readings(console, planned)
    for note in planned.notes:
        console.print(note, markup=False, style="dim")


def _show_targets(console: "Console", planned: "StudyPlan") -> None:
    from rich.table import Table

    from tapfm_eval.report.numbers import fixed, interval_name, percent

    assumed = planned.assumptions
    interval = f"{interval_name(planned.level)} at {assumed.auroc:g}"
    titles = ("patients", "positives", interval, "width", "power", f"{percent(assumed.power)} power from")
    for cohort, part, expected in dict.fromkeys((row.cohort, row.part, row.expected) for row in planned.targets):
        console.print(f"{cohort}, {part} patients{' (expected)' if expected else ''}", style="bold", markup=False)
        table = Table(box=None, pad_edge=False)
        table.add_column("target", overflow="fold")
        for title in titles:
            table.add_column(title, justify="right", no_wrap=True)
        for row in planned.targets:
            if row.cohort == cohort:
                said = "–" if row.lower != row.lower else f"{fixed(row.lower, 2)} to {fixed(row.upper, 2)}"
                numbers = ("–" if number != number else fixed(number, 2)
                           for number in (row.width, row.power, row.detectable))  # fmt: skip
                table.add_row(row.target, str(row.patients), str(row.positives), said, *numbers)
        console.print(table)
        console.print()
    for row in planned.targets:
        if row.reason is not None:
            console.print(f"{row.target} in {row.cohort}: {row.reason}", markup=False)


def _show_primary(console: "Console", planned: "StudyPlan") -> None:
    from tapfm_eval.report.numbers import percent, signed

    primary = planned.primary
    if primary is None:
        console.print("No primary comparison: the study is exploratory.\n")
        return
    margin = "" if primary.margin is None else f", margin {primary.margin:g}"
    who = f"{primary.arm} against {primary.versus}, {primary.target} in {primary.cohort}"
    console.print(f"Primary: {primary.hypothesis}{margin} of {who}", markup=False, soft_wrap=True)
    if primary.reason is not None:
        console.print(f"  {primary.reason}\n", markup=False)
        return
    powers = ", ".join(f"{percent(power)} at {signed(difference, 2)}" for difference, power in primary.powers)
    console.print(
        f"  power by true difference (AUROC {primary.auroc:g}, correlation {primary.correlation:g}): {powers}"
    )
    if primary.needed == primary.needed:
        console.print(
            f"  {percent(planned.assumptions.power)} power at {signed(primary.needed_at, 2)} takes "
            f"{primary.needed:,.0f} positives; there are {primary.positives}."
        )
    console.print()


def _show_costs(console: "Console", planned: "StudyPlan") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("arm", overflow="fold")
    for title in ("units", "GB", "train h", "select h", "predict h", "in all h"):
        table.add_column(title, justify="right", no_wrap=True)
    for arm in planned.arms:
        parts = [sum(getattr(unit, name) for unit in arm.units)
                 for name in ("train_hours", "select_hours", "predict_hours")]  # fmt: skip
        table.add_row(arm.arm, str(len(arm.units)), f"{arm.memory_gb:.1f}",
                      *(f"{hours:,.1f}" for hours in (*parts, arm.hours)))  # fmt: skip
    for embedding in planned.embeddings:
        table.add_row(f"{embedding.backbone} on {embedding.cohort}", "1", f"{embedding.memory_gb:.1f}",
                      "–", "–", f"{embedding.hours:,.1f}", f"{embedding.hours:,.1f}")  # fmt: skip
    console.print(table)
    sources = [arm.source for arm in planned.arms] + [embedding.source for embedding in planned.embeddings]
    for source in dict.fromkeys(sources):
        console.print(f"Hours and memory: {source}", markup=False)


def _show_makespans(console: "Console", planned: "StudyPlan") -> None:
    from rich.table import Table

    from tapfm_eval.report.numbers import percent

    console.print()
    table = Table(box=None, pad_edge=False)
    table.add_column("GPUs", overflow="fold")
    for title in ("hours to the end", "days", "busy"):
        table.add_column(title, justify="right", no_wrap=True)
    for found in planned.makespans:
        table.add_row(found.gpus, f"{found.hours:,.1f}", f"{found.hours / 24:,.1f}", percent(found.busy))
    console.print(table)
    console.print(
        f"{planned.units:,} units; the longest row of those that wait for each other takes "
        f"{planned.makespans[-1].chain_hours:,.1f} hours, whatever the number of GPUs. Several GPUs at one bag "
        "(torchrun) shorten it.", markup=False
    )  # fmt: skip
    console.print()


def _show_storage(console: "Console", planned: "StudyPlan") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("storage", overflow="fold")
    for title in ("files", "GB", "until"):
        table.add_column(title, justify="left" if title == "until" else "right", no_wrap=True)
    for row in planned.storage:
        table.add_row(row.what, f"{row.files:,}", f"{row.gigabytes:,.2f}", row.until)
    console.print(table)
    console.print()


def _show_readings(console: "Console", planned: "StudyPlan") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("reading, for each GPU at it", overflow="fold")
    for title in ("tiles/s", "MB/s", "cores", "TB in all"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in planned.readings:
        rates = ((row.tiles_per_second, 0), (row.megabytes_per_second, 1), (row.cores, 1))
        said = ("–" if rate != rate else f"{rate:,.{digits}f}" for rate, digits in rates)
        table.add_row(row.what, *said, f"{row.terabytes:,.2f}")
    console.print(table)
    console.print()
