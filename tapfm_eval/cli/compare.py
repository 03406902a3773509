"""`tapfm-eval compare`: two finished runs on the patients that both predicted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.messages import AsJson, Quiet, print_json
from tapfm_eval.errors import InputError, Problem

if TYPE_CHECKING:
    from tapfm_eval.comparison import RunsCompared

EXAMPLE = (
    "Example: `tapfm-eval compare reports/luad-1.0.0/0123456789ab reports/luad-1.1.0/ba9876543210`  \n"
    "`tapfm-eval compare reports/luad-1.0.0/0123456789ab reports/scored/theirs-0123456789ab --arms tapfm-uni=theirs`"
)
FORMAT = "tapfm-eval/comparison/1"


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="Folder A of a finished run, or of `score`.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Folder B.")],
    arms: Annotated[
        list[str] | None,
        typer.Option("--arms", metavar="A=B", help="An arm of A and one of B; else those of the same name."),
    ] = None,
    level: Annotated[
        float | None, typer.Option("--level", show_default="that of the runs", help="Level of the intervals.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare two runs, paired, on the test and external patients that both predicted; count those they do not share.

    Refused are runs without a target or patient in common, and runs that disagree on a label.
    """
    from tapfm_eval.comparison import compare_runs
    from tapfm_eval.serialise import plain

    compared = compare_runs(first, second, arms=_pairs(arms or []), level=level)
    if as_json:
        rows = [{**dict(plain(row)), "only_a": row.only_a, "only_b": row.only_b}  # type: ignore[call-overload]
                for row in compared.rows]  # fmt: skip
        content = {"format": FORMAT, "a": str(first), "b": str(second), "level": compared.level, "rows": rows,
                   "notes": list(compared.notes)}  # fmt: skip
        print_json(content)
        return
    if not quiet:
        _show(compared)
    shared = max(row.shared for row in compared.rows)
    typer.echo(f"Compared on up to {shared} shared patients: A = {first}, B = {second}")


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    found, problems = [], []
    for text in texts:
        a, equals, b = (part.strip() for part in text.partition("="))
        if a and equals and b:
            found.append((a, b))
        else:
            problems.append(Problem("--arms", "A=B", repr(text), "Write for example --arms tapfm-uni=abmil-uni."))
    if problems:
        raise InputError(problems)
    return found


def _show(compared: "RunsCompared") -> None:
    """Four short lines a part, target and pair of arms: every number is whole on any screen and in any file."""
    from rich.console import Console

    from tapfm_eval.report.numbers import fixed, p_text

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    for row in compared.rows:
        d = row.difference
        interval = f"{compared.level * 100:g} % interval {fixed(d.lower, 3)} to {fixed(d.upper, 3)}"
        console.print(f"{row.cohort} {row.split}, {row.target}: A {row.arm_a}, B {row.arm_b}", style="bold")
        console.print(
            f"  shared {row.shared} patients ({d.positives} positive), A only {row.only_a}, B only {row.only_b}"
        )
        console.print(f"  AUROC  A {fixed(row.auroc_a.value, 3)}, B {fixed(row.auroc_b.value, 3)}")
        console.print(f"  A - B  {fixed(d.value, 3)}, {interval}, p {p_text(d.p_value)}, Holm {p_text(row.p_adjusted)}")
    reasons = [f"{row.cohort} {row.split}, {row.target}: {row.difference.reason}" for row in compared.rows
               if row.difference.reason]  # fmt: skip
    for note in (*compared.notes, *dict.fromkeys(reasons)):
        console.print(note, style="dim")
