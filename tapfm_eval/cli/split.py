"""`tapfm-eval split`: a patient-level split of a manifest, its imbalance, and its audit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.audit import Values
from tapfm_eval.cli.messages import print_json
from tapfm_eval.errors import InputError, Problem

if TYPE_CHECKING:
    from tapfm_eval.cohort.split_maker import SplitPlan

EXAMPLE = "Example: `tapfm-eval split cohorts/tcga-luad/manifest.csv --targets EGFR,KRAS --out split.csv`"


def split(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest CSV of the cohort.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Split file to write.")],
    targets: Annotated[str, typer.Option("--targets", metavar="A,B", help="Label columns to balance together.")],
    values: Values = None,
    scheme: Annotated[str, typer.Option("--scheme", help="holdout, kfold or site-preserved.")] = "site-preserved",
    folds: Annotated[
        int | None, typer.Option("--folds", min=3, max=1000, help="Folds, 5 by default (not for holdout).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")] = 1,
    shares: Annotated[
        str | None,
        typer.Option("--shares", metavar="T,V,T", help="Train, validation, test of a holdout; 0.6,0.2,0.2 by default."),
    ] = None,
    min_per_class: Annotated[
        int, typer.Option("--min-per-class", min=1, help="Patients of each class that every block should hold.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="JSON: each block, what fell short, the findings.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The last line alone.")] = False,
) -> None:
    """Split a cohort by patient, balanced on labels, site size and scan resolution; print the imbalance; audit it."""
    import json

    from tapfm_eval import api
    from tapfm_eval.audit.findings import audit_content, standing_errors
    from tapfm_eval.cli.audit import show_findings
    from tapfm_eval.cohort.labels import read_spellings

    names = [name.strip() for name in targets.split(",") if name.strip()]
    made = api.split(
        manifest, out, targets=names, scheme=scheme, folds=folds, seed=seed,
        shares=None if shares is None else _shares(shares),
        min_per_class=min_per_class, values=read_spellings(values or ()),
    )  # fmt: skip
    plan, findings = made.plan, made.findings
    if as_json:
        blocks = json.loads(plan.imbalance.to_json(orient="records"))
        content = {"format": "tapfm-eval/split-made/1", "split": str(out), "blocks": blocks,
                   "shortfalls": list(plan.shortfalls), "audit": audit_content(findings, {})}  # fmt: skip
        print_json(content)
    else:
        if not quiet:
            _show_plan(plan, list(dict.fromkeys(names)))
        show_findings(findings, {}, quiet=quiet)
        typer.echo(f"Split: {out}")
    if standing_errors(findings, ()):
        raise typer.Exit(1)


def _shares(text: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        remedy = "Write 0.6,0.2,0.2."
        raise InputError(Problem("--shares", "three numbers that sum to 1", repr(text), remedy)) from None
    return train, validation, test


def _show_plan(plan: "SplitPlan", targets: list[str]) -> None:
    """Patients and positives of each block, and the largest deviation from the cohort's shares."""
    from rich.console import Console
    from rich.table import Table

    held = plan.imbalance.pivot_table(index="block", columns="category", values="patients", aggfunc="sum", sort=False)
    by_size = plan.imbalance.assign(size=plan.imbalance["deviation"].abs()).sort_values("size")
    worst = dict(zip(by_size["block"], zip(by_size["deviation"], by_size["category"], strict=True), strict=True))
    table = Table("block", "patients", *targets, "largest deviation", box=None, pad_edge=False)
    for block, row in held.iterrows():
        positives = [str(int(row.get(f"{target}=1", 0))) for target in targets]
        deviation, category = worst[block]
        table.add_row(str(block), str(int(row["patients"])), *positives, f"{deviation:+.1%} {category}")
    console = Console(highlight=False)
    console.print(table)
    if "shares" in plan.meta:
        asked, reached = (", ".join(f"{share:.1%}" for share in plan.meta[key]) for key in ("shares", "shares_reached"))
        console.print(f"shares: {reached} (asked for: {asked})")
    for shortfall in plan.shortfalls:
        console.print(f"short: {shortfall}")
