"""Broken files give a record or a clear error: never a traceback, never a row that is silently gone."""

import csv
import io
import json
import random
import time

import pandas as pd
import pytest

from tapfm_eval.cohort.labels import patient_labels
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.cohort.splits import read_split
from tapfm_eval.errors import InputError, ManifestError, SplitError

HEADER = "patient_id,slide_id,path,exclude,site,mpp,age,size,md5,EGFR,note"
ROWS = [
    ",".join([f"P{n:02d}", f"P{n:02d}-{slide}", f"p/P{n:02d}-{slide}.svs", "withdrawn" if n == 7 else "", f"s{n % 3}"])
    + f',0.25,{50 + n},1{n:03d},{"ab" * 16},{n % 2},"a, b"'
    for n in range(12)
    for slide in range(1 + n % 2)
]
NASTY = [
    "",
    "NaN",
    "mut",
    "0,25",
    "01.02.2024",
    "2-Jan",
    "1.2E+11",
    "#REF!",
    "../../etc/passwd",
    "=cmd|' /C calc'!A0",
    '"',
    "\x1b[31m",
    "\u202e",
    "\ufeff",
    "\ud7ff\U0001f9ec",
    "x" * 1_000_000,
    "x" * 5_000,
    "1e999",
    "-1",
    "0x10",
    "inf",
    "٣",
    ";",
    "\t",
    "\r",
    "\n",
]


def mutate(text: str, random: random.Random) -> bytes:
    """One to three faults: in cells, lines, the header, the encoding or the bytes."""
    lines = text.splitlines()
    for _ in range(random.randint(1, 3)):
        kind = random.randrange(8)
        line = random.randrange(len(lines))
        cells = lines[line].split(",")
        if kind == 0:
            cells[random.randrange(len(cells))] = random.choice(NASTY)
            lines[line] = ",".join(cells)
        elif kind == 1:
            lines.insert(line, random.choice(lines))
        elif kind == 2 and len(lines) > 1:
            del lines[line]
        elif kind == 3:
            lines[line] = random.choice(
                [lines[line] + ",", lines[line].rpartition(",")[0], lines[line][: len(lines[line]) // 2]]
            )
        elif kind == 4:
            header = lines[0].split(",")
            header[random.randrange(len(header))] = random.choice([*header, "", "Patient ID", "x" * 300])
            lines[0] = ",".join(header)
        elif kind == 5:
            lines = [one.replace(",", random.choice([";", "\t", "|", ","])) for one in lines]
        elif kind == 6:
            lines[line] = '"' + lines[line]
        else:
            random.shuffle(lines)
    data = random.choice(["\n", "\r\n", "\r"]).join(lines).encode("utf-8", "surrogatepass")
    kind = random.randrange(8)
    if kind == 0:
        return data.decode("utf-8", "replace").encode(
            random.choice(["utf-16", "latin-1", "utf-32", "cp1252"]), "replace"
        )
    if kind == 1:
        return b"\xef\xbb\xbf" + data
    if kind == 2:
        broken = bytearray(data)
        for _ in range(random.randint(1, 5)):
            broken[random.randrange(len(broken))] = random.randrange(256)
        return bytes(broken)
    if kind == 3:
        return data[: random.randrange(len(data) + 1)]
    return data


def rows_in(data: bytes, first: int) -> int:
    """How many rows a plain CSV reader sees below the header."""
    text = data.decode("utf-8-sig")
    lines = io.StringIO(text, newline="").readlines()[first:]
    return sum(1 for cells in csv.reader(io.StringIO("".join(lines), newline="")) if cells) - 1


def check_error(error: InputError, path) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.where.startswith(str(path))
        assert problem.expected
        assert problem.got
        assert len(str(problem)) < 2_000
        assert "\x1b" not in str(problem)


@pytest.mark.parametrize("block", range(4))
def test_a_mutated_manifest_is_read_whole_or_refused(tmp_path, block):
    text = "\n".join([HEADER, *ROWS]) + "\n"
    path = tmp_path / "m.csv"
    outcomes = set()
    started = time.monotonic()
    for number in range(80):
        data = mutate(text, random.Random(block * 1000 + number))
        path.write_bytes(data)
        try:
            manifest = read_manifest(path, "m")
            assert len(manifest.table) == rows_in(data, 0)
            patient_labels(manifest, {"EGFR": "EGFR"}) if "EGFR" in manifest.table else None
            outcomes.add("read")
        except ManifestError as error:
            check_error(error, path)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    assert time.monotonic() - started < 20


def test_an_unharmed_manifest_is_read(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    assert len(read_manifest(path, "m").table) == len(ROWS)


@pytest.mark.parametrize("block", range(6))
def test_a_mutated_split_is_read_whole_or_refused(tmp_path, block):
    source = tmp_path / "m.csv"
    source.write_text("patient_id,slide_id,EGFR\n" + "".join(f"P{n:02d},S{n},1\n" for n in range(12)))
    manifest = read_manifest(source, "m")
    head = json.dumps({"scheme": "kfold", "seed": 1, "manifest_sha256": manifest.sha256})
    rows = [
        f"P{n:02d},{fold},{('test', 'validation', 'train')[min((n - fold) % 3, 2)]}"
        for fold in range(3)
        for n in range(12)
    ]
    text = "\n".join([f"# tapfm-eval/split/1 {head}", "patient_id,fold,split", *rows]) + "\n"
    path = tmp_path / "s.csv"
    path.write_text(text)
    assert len(read_split(path, manifest).table) == 36
    outcomes = set()
    for number in range(30):
        data = mutate(text, random.Random(block * 1000 + number))
        path.write_bytes(data)
        try:
            split = read_split(path, manifest)
            assert len(split.table) == rows_in(data, 1)
            outcomes.add("read")
        except SplitError as error:
            check_error(error, path)
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("size", [1, 17, 4096])
@pytest.mark.parametrize("seed", range(10))
def test_random_bytes_are_refused(tmp_path, size, seed):
    path = tmp_path / "m.csv"
    path.write_bytes(random.Random(seed).randbytes(size))
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, "m")
    check_error(caught.value, path)


@pytest.mark.parametrize("cell", NASTY)
@pytest.mark.parametrize("column", ["patient_id", "slide_id", "path", "mpp", "age", "size", "md5", "EGFR"])
def test_a_nasty_cell_in_any_column_is_kept_as_text_or_named(tmp_path, cell, column):
    buffer = io.StringIO()
    row = {
        "patient_id": "P",
        "slide_id": "S",
        "path": "p.svs",
        "mpp": "",
        "age": "",
        "size": "",
        "md5": "",
        "EGFR": "1",
    }
    writer = csv.DictWriter(buffer, fieldnames=list(row))
    writer.writeheader()
    writer.writerow({**row, column: cell})
    path = tmp_path / "m.csv"
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    try:
        manifest = read_manifest(path, "m")
        assert len(manifest.table) == 1
        patient_labels(manifest, {"EGFR": "EGFR"})
    except ManifestError as error:
        check_error(error, path)
    else:
        value = manifest.table.iloc[0][column]
        if not cell.strip():
            assert value == "" if isinstance(value, str) else pd.isna(value)
        else:
            assert value == cell.strip()
