"""`tapfm-eval compare`: two finished runs on the patients that both predicted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The last line alone.")] = False,
) -> None:
    """Compare two runs, paired, on the test and external patients that both predicted; count those they do not share.

    Refused are runs without a target or patient in common, and runs that disagree on a label.
    """
    import json

    from tapfm_eval.comparison import compare_runs
    from tapfm_eval.serialise import plain

    compared = compare_runs(first, second, arms=_pairs(arms or []), level=level)
    if as_json:
        rows = [{**dict(plain(row)), "only_a": row.only_a, "only_b": row.only_b}  # type: ignore[call-overload]
                for row in compared.rows]  # fmt: skip
        content = {"format": FORMAT, "a": str(first), "b": str(second), "level": compared.level, "rows": rows,
                   "notes": list(compared.notes)}  # fmt: skip
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
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
    """One row a part, target and pair of arms."""
    from rich.console import Console
    from rich.table import Table

    from tapfm_eval.report.numbers import fixed, p_text

    table = Table("part", "target", "A", "B", "positives", "shared", "A only", "B only", "AUROC A", "AUROC B", "A - B",
                  "interval", "p", "p (Holm)", box=None, pad_edge=False)  # fmt: skip
    for row in compared.rows:
        d = row.difference
        table.add_row(
            f"{row.cohort} {row.split}", row.target, row.arm_a, row.arm_b, str(d.positives), str(row.shared),
            str(row.only_a), str(row.only_b), fixed(row.auroc_a.value, 3), fixed(row.auroc_b.value, 3),
            fixed(d.value, 3), f"{fixed(d.lower, 3)} to {fixed(d.upper, 3)}", p_text(d.p_value),
            p_text(row.p_adjusted),
        )  # fmt: skip
    console = Console(highlight=False, emoji=False)
    console.print(table)
    reasons = [f"{row.cohort} {row.split}, {row.target}: {row.difference.reason}" for row in compared.rows
               if row.difference.reason]  # fmt: skip
    for note in (*compared.notes, *dict.fromkeys(reasons)):
        console.print(note, markup=False, style="dim")
