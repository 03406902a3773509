"""`tapfm-eval cohort`: get a cohort's slides, see whether they are whole, and fill in their paths."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapfm_eval.cli.audit import Values
from tapfm_eval.cli.messages import AsJson, Quiet, print_json
from tapfm_eval.errors import InputError, Problem

if TYPE_CHECKING:
    from tapfm_eval.cohort.download import SlideCheck
    from tapfm_eval.cohort.import_folder import ImportRecord

cohort_app = typer.Typer(help="Get, check and link the slides of a cohort.", no_args_is_help=True)

ManifestPath = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest CSV of the cohort.")]
SlidesDir = Annotated[Path, typer.Option("--slides", metavar="DIR", help="Folder of the cohort's slides.")]
SHOWN = 40


@cohort_app.command(
    "download-list", epilog="Example: `tapfm-eval cohort download-list cohorts/tcga-luad/manifest.csv --out luad.txt`"
)
def download_list(
    manifest: ManifestPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="List for gdc-client, with OUT.lookups.csv; stdout by default."),
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The list alone.")] = False,
) -> None:
    """Write the list for `gdc-client download -m`, and name the slides that have to be looked up."""
    from tapfm_eval.audit.findings import counted
    from tapfm_eval.cohort import download
    from tapfm_eval.cohort.manifest import read_manifest

    beside = None if out is None else out.with_suffix(".lookups.csv")
    if there := [path for path in (out, beside) if path is not None and path.exists()]:
        remedy = "Give another name, or delete it."
        raise InputError(
            Problem(f"--out {path}", "a file that is not there yet", "an existing one", remedy) for path in there
        )
    found = download.download_list(read_manifest(manifest, manifest.stem))
    if out is not None and beside is not None:
        from tapfm_eval.rundir import write_text

        write_text(out, found.gdc_manifest)
        if found.lookups:
            write_text(beside, found.lookups_csv)
    if as_json:
        print_json(_named("download-list", found))
        return
    if out is None:
        typer.echo(found.gdc_manifest, nl=False)
    if quiet:
        return
    unknown = f", and {found.unknown_sizes} of unknown size" if found.unknown_sizes else ""
    typer.echo(f"{found.slides} slides, {found.total_bytes / 1e9:,.1f} GB{unknown}", err=True)
    if found.lookups:
        typer.echo(
            f"{len(found.lookups)} slides without a GDC file id; each address answers with id, md5, size:", err=True
        )
        for lookup in found.lookups[:SHOWN]:
            typer.echo(f"  {lookup.file_name}  {lookup.url}", err=True)
        if len(found.lookups) > SHOWN:
            typer.echo(f"  and {len(found.lookups) - SHOWN} more (--json lists all)", err=True)
        if beside is not None:
            typer.echo(f"All of them: {beside}", err=True)
    if found.patients_only:
        said = f"{counted(len(found.patients_only), 'patient')} without a named slide: see `tapfm-eval cohort link`."
        typer.echo(said, err=True)


@cohort_app.command("check", epilog="Example: `tapfm-eval cohort check cohorts/tcga-luad/manifest.csv --slides slides`")
def check(
    manifest: ManifestPath,
    slides: SlidesDir,
    md5: Annotated[bool, typer.Option("--md5/--no-md5", help="Read every file for its md5.")] = True,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Open every slide: readable, of known mpp?")] = True,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; the faults and the count.")] = False,
) -> None:
    """Say which slides are missing, wrong in size or md5, unreadable, or of no or two scales. Exit code 1 if any is."""
    from tapfm_eval.cohort.download import check_slides, with_faults
    from tapfm_eval.cohort.manifest import read_manifest
    from tapfm_eval.progress import Reporter

    read, reporter = read_manifest(manifest, manifest.stem), Reporter(quiet=as_json or quiet)
    with reporter.stage("Checking files", len(read.included)) as advance:
        found = check_slides(read, slides, verify_md5=md5, advance=advance)
    if opened:
        from tapfm_eval.audit.slides import faults_on_opening, slide_files

        faulty = {fault.row for fault in found.faults if fault.fault != "regions"}
        files = [file for file in slide_files(read, read.included, slides) if file.row not in faulty]
        with reporter.stage("Opening slides", len(files)) as advance:
            found = with_faults(found, read, faults_on_opening(files, advance), verify_md5=md5)
    if as_json:
        print_json(_named("slide-check", found))
    else:
        _show_check(found)
    if found.faults or found.patients_only:
        raise typer.Exit(1)


@cohort_app.command(
    "link", epilog="Example: `tapfm-eval cohort link cohorts/cptac-luad/manifest.csv --slides slides --out linked.csv`"
)
def link(
    manifest: ManifestPath,
    slides: SlidesDir,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Manifest to write, with its slides filled in.")],
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="How each file was matched; OUT.links.csv by default."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="CSV `slide_id,specimen[,patient_id]`.")
    ] = None,
    specimen: Annotated[
        list[str] | None, typer.Option("--specimen", help="Specimen to keep, where a patient has several.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fill in the slides of a manifest that names patients; write down each match. Exit code 1 if patients lack one."""
    from tapfm_eval.cohort.link import ALIKE, link_slides, read_slide_table, write_links
    from tapfm_eval.cohort.manifest import read_manifest

    beside = out.with_suffix(".links.csv") if record is None else record
    there = [path for path in (out, beside) if path.exists()]
    if there:
        raise InputError(
            Problem(str(path), "a file that is not there yet", "an existing one", "Give another name, or delete it.")
            for path in there
        )
    absent = dict.fromkeys(path.parent for path in (out, beside) if not path.parent.is_dir())
    if absent:
        raise InputError(
            Problem(str(folder), "a folder", "none", "Make it, or give another name.") for folder in absent
        )
    facts = None if table is None else read_slide_table(table)
    links = link_slides(read_manifest(manifest, manifest.stem), slides, facts, frozenset(specimen or ()))
    write_links(links, out, beside)
    decisions: dict[str, int] = {}
    for match in links.matches:
        decision = match.decision
        if decision == "linked" and not match.specimen:
            decision = "linked, specimen unknown"
        elif ALIKE in match.how:
            decision += ", though a patient's id is written almost so (see the record)"
        decisions[decision] = decisions.get(decision, 0) + 1
    if as_json:
        print_json({"format": "tapfm-eval/linked/1", "manifest": str(out), "matches": str(beside),
                    "decisions": dict(sorted(decisions.items())), "unmatched": list(links.unmatched)})  # fmt: skip
    else:
        for decision, number in () if quiet else sorted(decisions.items()):
            typer.echo(f"{number:>6}  {decision}")
        if links.unmatched or not quiet:
            noun = "patient" if len(links.unmatched) == 1 else "patients"
            typer.echo(f"{len(links.unmatched):>6}  {noun} without a slide file")
        typer.echo(f"Manifest: {out}  Matches: {beside}")
    if links.unmatched:
        raise typer.Exit(1)


@cohort_app.command(
    "import", epilog="Example: `tapfm-eval cohort import labels.csv splits_0.csv splits_1.csv --from clam --out mine`"
)
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tables of the other tool.")],
    tool: Annotated[str, typer.Option("--from", help="clam, stamp, patho-bench, tapfm, eagle, nnmil or slideflow.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to make for manifest and split.")],
    slides_table: Annotated[
        Path | None,
        typer.Option(
            "--slides-table",
            metavar="FILE",
            help="STAMP's, or `slide_id,patient_id` (or `case_id`) of tapfm, eagle.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="What the column `label` of clam and nnmil stands for.")
    ] = None,
    values: Values = None,
    validation: Annotated[
        float | None,
        typer.Option("--validation", help="Share of training patients to draw for validation, where a fold has none."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of that draw.")] = 1,
    slides: Annotated[
        Path | None, typer.Option("--slides", metavar="DIR", help="Folder of the slides, to fill in their paths.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn another tool's label and split tables into a manifest and a split; say what was derived."""
    from tapfm_eval.cohort.import_folder import Tables, import_cohort
    from tapfm_eval.cohort.labels import read_spellings

    tables = Tables(tuple(files), slides_table, target, slides, read_spellings(values or ()))
    record = import_cohort(tool, tables, out, validation, seed)
    if as_json:
        print_json(_named("imported", record))
        return
    if not quiet:
        _show_import(record)
    beside = record.split or "none in these tables, see `tapfm-eval split`"
    typer.echo(f"Manifest: {record.manifest}  Split: {beside}")


def _show_import(record: "ImportRecord") -> None:
    typer.echo(f"{record.patients} patients, {record.slides} slides, columns {', '.join(record.columns) or 'none'}")
    if record.split is not None:
        parts = ", ".join(f"{number} {part}" for part, number in record.parts.items())
        typer.echo(f"{record.folds} fold{'s' if record.folds != 1 else ''}; fold 0: {parts}")
    for note in record.notes:
        typer.echo(f"note: {note}")
    if record.without_path:
        typer.echo(f"note: {record.without_path} slides without a path; --slides DIR fills it in")


def _show_check(found: "SlideCheck") -> None:
    from tapfm_eval.audit.findings import counted

    for fault in found.faults[:SHOWN]:
        said = f"{fault.fault}: expected {fault.expected}, got {fault.got}. {fault.remedy}"
        typer.echo(f"row {fault.row}  {fault.slide_id}  {said}")
    if len(found.faults) > SHOWN:
        typer.echo(f"and {len(found.faults) - SHOWN} more (--json lists all)")
    kinds: dict[str, int] = {}
    for fault in found.faults:
        kinds[fault.fault] = kinds.get(fault.fault, 0) + 1
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "no fault"
    typer.echo(f"{found.whole} whole ({found.unverified} of them by presence alone), {told}")
    if found.patients_only:
        typer.echo(
            f"{counted(len(found.patients_only), 'patient')} without a named slide: see `tapfm-eval cohort link`."
        )
    if found.strangers:
        typer.echo(f"{len(found.strangers)} slide files that no row names, such as {found.strangers[0]}")


def _named(name: str, record: object) -> dict[str, object]:
    """The record as plain data, with the name of its format."""
    from tapfm_eval.serialise import plain

    content = plain(record)
    assert isinstance(content, dict)
    return {"format": f"tapfm-eval/{name}/1", **content}
