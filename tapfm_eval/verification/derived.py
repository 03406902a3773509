"""Results, tables, figures and report against what the analysis gives now."""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tapfm_eval.fingerprints import AnalysisRecord, paper_of
from tapfm_eval.report.inputs import ReportInputs
from tapfm_eval.report.write import write_report
from tapfm_eval.serialise import results_json
from tapfm_eval.verification.mismatch import ABSENT, Mismatch, few

RELATIVE, ABSOLUTE = 1e-9, 1e-12  # what other versions of numpy or another processor may change
_NAMES = ("rule", "variable", "level", "family", "target", "arm", "arm_a", "arm_b", "cohort", "split", "step")
_AROUND = 40  # characters shown on either side of a difference


def compare_results(root: Path, inputs: ReportInputs, *, exact: bool) -> tuple[list[Mismatch], int]:
    """Every value of `results.json` that the analysis does not give, and how many values were compared."""
    wanted = json.loads(results_json(inputs.results))
    try:
        stored = json.loads((root / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return [Mismatch("results.json", "no JSON", "the results of the analysis")], 0
    found = few(_differences(stored, wanted, "", exact), "results.json")
    return found, _count(wanted)


def _differences(stored: object, wanted: object, path: str, exact: bool) -> Iterator[Mismatch]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in (*wanted, *(key for key in stored if key not in wanted)):
            place = f"{path}.{key}" if path else str(key)
            if key not in stored or key not in wanted:
                yield Mismatch(f"results.json, {place}", _text(stored, key), _text(wanted, key))
            else:
                yield from _differences(stored[key], wanted[key], place, exact)
    elif isinstance(stored, list) and isinstance(wanted, list):
        if len(stored) != len(wanted):
            yield Mismatch(f"results.json, {path}", f"{len(stored)} entries", f"{len(wanted)} entries")
        for i, (ours, theirs) in enumerate(zip(stored, wanted, strict=False)):
            yield from _differences(ours, theirs, f"{path}[{i}]{_named(theirs)}", exact)
    elif not _same(stored, wanted, exact):
        yield Mismatch(f"results.json, {path}", json.dumps(stored)[:120], json.dumps(wanted)[:120])


def _text(record: dict[str, object], key: str) -> str:
    return json.dumps(record[key])[:120] if key in record else ABSENT


def _named(record: object) -> str:
    """What an entry of a list is about: ` (EGFR, arm-a, tcga, test)`."""
    if not isinstance(record, dict):
        return ""
    names = [record[key] for key in _NAMES if isinstance(record.get(key), str)]
    return f" ({', '.join(names)})" if names else ""


def _same(stored: object, wanted: object, exact: bool) -> bool:
    if type(stored) is not type(wanted):
        return False
    if isinstance(stored, float) and isinstance(wanted, float) and not exact:
        return math.isclose(stored, wanted, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return stored == wanted


def _count(value: object) -> int:
    if isinstance(value, dict):
        return sum(_count(item) for item in value.values())
    return sum(_count(item) for item in value) if isinstance(value, list) else 1


def compare_report(
    root: Path, inputs: ReportInputs, records: tuple[AnalysisRecord, ...], *, exact: bool
) -> tuple[list[Mismatch], int]:
    """Tables, figures and report that are not what is rendered from the same facts, and how many were compared.

    Rendered with other versions of the libraries, only the tables can be held against each other, number by number.
    """
    formats = tuple(name for name in ("html", "pdf") if (root / f"report.{name}").is_file())
    shown = {name: next((r.show_ids for r in records[::-1] if name in r.formats), False) for name in formats}
    latest = records[-1].show_ids if records else False
    found: list[Mismatch] = []
    with TemporaryDirectory() as folder:
        fresh = Path(folder)
        written: tuple[Path, ...] = ()
        # one format may be older than the tables and the other, and show ids where they do not
        for show_ids in sorted({latest, *shown.values()}, key=lambda ids: ids == latest):
            named = tuple(name for name in formats if shown[name] == show_ids)
            written += write_report(inputs, fresh, formats=named, paper=paper_of(records), show_ids=show_ids)
        names = sorted({path.relative_to(fresh).as_posix() for path in written})
        for name in names:
            if exact or name.endswith(".csv"):
                found += few(_file(root / name, fresh / name, name, exact), name, limit=10)
    present = {
        path.relative_to(root).as_posix() for part in ("tables/*.csv", "figures/*.svg") for path in root.glob(part)
    }
    found += [Mismatch(name, "a file", "none: the report has no such part") for name in sorted(present - set(names))]
    return found, len(names)


def _file(stored: Path, fresh: Path, name: str, exact: bool) -> Iterator[Mismatch]:
    if not stored.is_file():
        yield Mismatch(name, ABSENT, "a file of the report")
        return
    ours, theirs = stored.read_bytes(), fresh.read_bytes()
    if ours == theirs:
        return
    if name.endswith(".pdf"):
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        yield Mismatch(f"{name}, byte {at}", f"{len(ours)} bytes", f"{len(theirs)} other bytes")
        return
    text, wanted = ours.decode("utf-8", errors="replace"), theirs.decode("utf-8", errors="replace")
    yield from _cells(text, wanted, name, exact) if name.endswith(".csv") else _lines(text, wanted, name)


def _cells(stored: str, wanted: str, name: str, exact: bool) -> Iterator[Mismatch]:
    ours, theirs = (list(csv.reader(io.StringIO(text))) for text in (stored, wanted))
    if len(ours) != len(theirs):
        yield Mismatch(name, f"{len(ours)} rows", f"{len(theirs)} rows")
    header = theirs[0] if theirs else []
    differed = len(ours) != len(theirs)
    for row, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if len(mine) != len(other):
            differed = True
            yield Mismatch(f"{name}, row {row}", f"{len(mine)} cells", f"{len(other)} cells")
            continue
        for column, (a, b) in enumerate(zip(mine, other, strict=True)):
            if a != b and (exact or not _close(a, b)):
                differed = True
                named = header[column] if column < len(header) else str(column + 1)
                yield Mismatch(f"{name}, row {row}, column {named}", repr(a)[:120], repr(b)[:120])
    if exact and not differed:
        yield Mismatch(name, "other quotes or line ends", "the bytes of the report")


def _close(a: str, b: str) -> bool:
    try:
        return math.isclose(float(a), float(b), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    except ValueError:
        return False


def _lines(stored: str, wanted: str, name: str) -> Iterator[Mismatch]:
    ours, theirs = stored.split("\n"), wanted.split("\n")
    if len(ours) != len(theirs):
        yield Mismatch(name, f"{len(ours)} lines", f"{len(theirs)} lines")
    for line, (a, b) in enumerate(zip(ours, theirs, strict=False), start=1):
        if a != b:
            at = _first_difference(a, b)
            part = slice(max(0, at - _AROUND), at + _AROUND)
            yield Mismatch(f"{name}, line {line}, character {at + 1}", repr(a[part]), repr(b[part]))


def _first_difference(a: bytes | str, b: bytes | str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
