"""`tapfm-eval audit`: every finding about a study or a manifest, for people, for machines, or as a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tapfm_eval.audit.findings import Finding
    from tapfm_eval.audit.subject import Subject

Values = Annotated[
    list[str] | None,
    typer.Option("--values", metavar="TARGET:CELL=1,CELL=0", help="What label cells other than 0 and 1 stand for."),
]
STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
SHOWN_LINES = 8


def audit(
    study: Annotated[Path, typer.Argument(metavar="PROTOCOL|MANIFEST", help="Protocol YAML, or a manifest CSV.")],
    split: Annotated[Path | None, typer.Option("--split", metavar="FILE", help="Split of the MANIFEST.")] = None,
    targets: Annotated[
        str,
        typer.Option("--targets", metavar="A,B", help="Label columns of the MANIFEST; those of 0 and 1 by default."),
    ] = "",
    values: Values = None,
    slides: Annotated[
        list[str] | None,
        typer.Option("--slides", metavar="COHORT=DIR", help="Folder of slides to open (minutes); DIR for a MANIFEST."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the findings as a page.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors alone, and the last line.")] = False,
) -> None:
    """Find leakage, drift, confounding, small numbers and faults before a GPU is booked. Exit code 1 on errors."""
    import json

    from tapfm_eval.audit.findings import audit_content, standing_errors

    title, findings, accepted = _audited(study, split, targets, values or [], slides or [], quiet=quiet)
    if html is not None:
        from tapfm_eval.report.html import render_html
        from tapfm_eval.report.sections.audit import audit_page
        from tapfm_eval.rundir import write_text

        write_text(html, render_html(audit_page(findings, accepted, title), {}))
        typer.echo(f"Page: {html}", err=True)
    if as_json:
        typer.echo(json.dumps(audit_content(findings, accepted), indent=2, ensure_ascii=False))
    else:
        show_findings(findings, accepted, quiet=quiet)
    if standing_errors(findings, accepted):
        raise typer.Exit(1)


def _audited(
    study: Path, split: Path | None, targets: str, values: "list[str]", slides: "list[str]", *, quiet: bool
) -> "tuple[str, tuple[Finding, ...], Mapping[str, str]]":
    """Title, findings, and reasons of the overrides by code."""
    from tapfm_eval.audit.audit import audit_manifest, audit_subjects
    from tapfm_eval.audit.findings import KINDS
    from tapfm_eval.audit.gather import gather_manifest, gather_study
    from tapfm_eval.backbones.cards import CARDS
    from tapfm_eval.cohort.labels import read_spellings
    from tapfm_eval.protocol.load import read_protocol

    if study.suffix.lower() not in (".yaml", ".yml"):
        wanted = [name.strip() for name in targets.split(",") if name.strip()]
        alone = gather_manifest(study, split, wanted, read_spellings(values))
        folders = _folders(slides, [subject.name for subject in alone.subjects])
        return str(study), audit_manifest(alone, _opened(alone.subjects, folders, quiet=quiet)), {}
    flags = [flag for flag, given in (("--split", split), ("--targets", targets), ("--values", values)) if given]
    if flags:
        remedy = "The protocol names its own; give a manifest to audit another."
        raise InputError(Problem(flag, "a manifest beside it", f"the protocol {study}", remedy) for flag in flags)
    protocol = read_protocol(study, backbones=CARDS, findings=KINDS)
    folders = _folders(slides, list(protocol.cohorts))
    gathered = gather_study(protocol, study.parent)
    accepted = {override.finding: override.reason for override in protocol.overrides}
    found = audit_subjects(protocol, gathered, CARDS, _opened(gathered.subjects, folders, quiet=quiet))
    return f"{protocol.id} {protocol.version}", found, accepted


def _opened(subjects: "Sequence[Subject]", folders: "Mapping[str, Path]", *, quiet: bool) -> "tuple[Finding, ...]":
    """What the slide files themselves show; nothing where no folder was given."""
    if not folders:
        return ()
    from tapfm_eval.audit.slides import audit_slides
    from tapfm_eval.progress import Reporter

    total = sum(len(subject.rows) for subject in subjects if subject.name in folders)
    with Reporter(quiet=quiet).stage("Opening slides", total) as advance:
        return audit_slides(subjects, folders, advance)


def _folders(slides: list[str], cohorts: list[str]) -> dict[str, Path]:
    """`COHORT=DIR` by cohort; `DIR` alone where there is one cohort."""
    folders, problems = {}, []
    for text in slides:
        name, equals, value = text.partition("=")
        if not equals and len(cohorts) == 1:
            name, value = cohorts[0], text
        if name not in cohorts or not value:
            expected = f"COHORT=DIR with a cohort of {', '.join(cohorts)}"
            problems.append(Problem("--slides", expected, repr(text), "Correct the name before `=`."))
        elif not Path(value).expanduser().is_dir():
            problems.append(Problem(f"--slides {name}", "a folder of slides", value, "Check the path."))
        folders[name] = Path(value).expanduser()
    if problems:
        raise InputError(problems)
    return folders


def show_findings(findings: "Sequence[Finding]", accepted: "Mapping[str, str]", *, quiet: bool = False) -> None:
    """Prints findings to stdout, errors first, and a line that counts them; with `quiet` the errors alone."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from tapfm_eval.audit.findings import SEVERITIES, counted

    console = Console(highlight=False, emoji=False)
    for finding in findings:
        if quiet and (finding.severity != "error" or finding.code in accepted):
            continue
        head = Text(f"{finding.severity:<8}", style=STYLES[finding.severity]).append(finding.code, style="bold")
        console.print(head.append(f"  {finding.where}", style="dim"))
        body = Text(finding.what)
        for line in finding.evidence[:SHOWN_LINES]:
            body.append(f"\n- {line}", style="dim")
        if len(finding.evidence) > SHOWN_LINES:
            body.append(
                f"\n- and {len(finding.evidence) - SHOWN_LINES} more lines (audit --json shows all)", style="dim"
            )
        if finding.code in accepted:
            body.append(f"\nAccepted: {accepted[finding.code]}", style="green")
        elif finding.severity != "note":
            body.append(f"\n{finding.remedy}", style="cyan")
        console.print(Padding(body, (0, 0, 0, 8)))
    numbers = [(sum(f.severity == severity for f in findings), severity) for severity in SEVERITIES]
    console.print(", ".join(counted(number, severity) for number, severity in numbers) + ".")
