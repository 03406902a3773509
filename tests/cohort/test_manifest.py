"""A manifest is read whole and typed, or refused with every fault named where it stands."""

import codecs
import hashlib
import math
from pathlib import Path

import pytest

from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.errors import ManifestError


def faults(path: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, "cohort")
    return [str(problem) for problem in caught.value.problems]


def test_columns_are_typed_and_rows_numbered_as_in_the_file(manifest_of):
    manifest = manifest_of(
        "patient_id,slide_id,path,mpp,magnification,age,size,md5,colour,EGFR\n"
        f"A,A-1,a/1.svs,0.25,40,61.0,1200,{'AB' * 16},red,1\n"
        "B,B-1,b/1.svs,,,,,,,\n"
    )
    assert list(manifest.table.index) == [2, 3]
    first, second = manifest.table.loc[2], manifest.table.loc[3]
    assert (first["mpp"], first["magnification"], first["age"], first["size"]) == (0.25, 40.0, 61.0, 1200)
    assert first["md5"] == "ab" * 16
    assert (first["colour"], first["EGFR"], first["exclude"]) == ("red", "1", "")
    assert math.isnan(second["mpp"])
    assert second["size"] is not first["size"]
    assert manifest.table["size"].isna().tolist() == [False, True]
    assert second["EGFR"] == ""


def test_the_hash_is_that_of_the_bytes(write_manifest):
    path = write_manifest("patient_id,slide_id\nA,1\n")
    assert read_manifest(path, "x").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_byte_order_mark_crlf_and_blanks_around_cells_change_nothing(manifest_of):
    plain = manifest_of("patient_id,slide_id,EGFR\nA,A-1,1\n")
    marked = manifest_of("\ufeffpatient_id , slide_id,EGFR\r\n A,A-1 ,1 \r\n\r\n")
    assert plain.table.equals(marked.table)


def test_all_faults_are_listed_at_once_with_row_column_and_remedy(write_manifest):
    path = write_manifest(
        "patient_id,slide_id,path,mpp,age,md5,size,gdc_file_id\n"
        'A,A-1,../a.svs,"0,25",61,xyz,1 MB,1\n'
        ",A-2,a.svs,0,old,,,\n"
        "C,A-1,a.svs,,,,,\n"
        "D,sub/D-1,/abs.svs,0.5,,,,\n"
    )
    said = faults(path)
    for row, column, got in (
        (2, "path", "'../a.svs'"),
        (2, "mpp", "'0,25'"),
        (2, "md5", "'xyz'"),
        (2, "size", "'1 MB'"),
        (2, "gdc_file_id", "'1'"),
        (3, "patient_id", "an empty cell"),
        (3, "mpp", "'0'"),
        (3, "age", "'old'"),
        (4, "slide_id", "'A-1', which is in row 2 too"),
        (5, "slide_id", "'sub/D-1'"),
        (5, "path", "'/abs.svs'"),
    ):
        wanted = [text for text in said if text.startswith(f"{path}, row {row}, column {column}: ") and got in text]
        assert len(wanted) == 1, (row, column, said)
        assert wanted[0].endswith("."), wanted  # the remedy
    assert len(said) == 11
    assert said == sorted(said, key=lambda text: int(text.split("row ")[1].split(",")[0]))


@pytest.mark.parametrize(
    "path",
    ["../x.svs", "a/../../x.svs", "/x.svs", "~/x.svs", "C:/x.svs", "c:x.svs", "a\\x.svs", "a/", ".", ".."],
)
def test_a_path_cannot_leave_the_slide_folder(write_manifest, path):
    said = faults(write_manifest(f"patient_id,slide_id,path\nA,A-1,{path}\n"))
    assert len(said) == 1
    assert "column path" in said[0]


@pytest.mark.parametrize("path", ["x.svs", "a/b/x.svs", "a b/x (1).svs", "..x/y.svs", "ä/ö.ndpi"])
def test_a_path_inside_the_slide_folder_is_kept_as_written(manifest_of, path):
    assert manifest_of(f"patient_id,slide_id,path\nA,A-1,{path}\n").table.loc[2, "path"] == path


@pytest.mark.parametrize("slide", ["a/b", "a\\b", "..", ".hidden", "a:b", "a*", "x" * 201, "é" * 101, "1.23E+05"])
def test_a_slide_id_must_do_as_a_file_name(write_manifest, slide):
    assert "column slide_id" in faults(write_manifest(f"patient_id,slide_id\nA,{slide}\n"))[0]


def test_an_id_that_a_spreadsheet_turned_into_a_number_is_refused(write_manifest):
    said = faults(write_manifest("patient_id,slide_id\n1.2E+11,A\n"))
    assert "spreadsheet" in said[0]


def test_a_patient_without_slides_has_one_row(write_manifest, manifest_of):
    assert len(manifest_of("patient_id,slide_id,EGFR\nA,,1\nB,,0\n").table) == 2
    said = faults(write_manifest("patient_id,slide_id,EGFR,path\nA,,1,\nA,,0,\nB,B-1,0,\nB,,0,\nC,,1,c.svs\n"))
    assert [text.split(":")[0].split("row ")[1] for text in said] == [
        "3, column slide_id",
        "5, column slide_id",
        "6, column slide_id",
    ]


def test_a_file_listed_twice_is_refused(write_manifest):
    said = faults(write_manifest("patient_id,slide_id,path\nA,A-1,x.svs\nB,B-1,x.svs\n"))
    assert len(said) == 1
    assert "row 2 too" in said[0]


@pytest.mark.parametrize("header", ["Patient ID,slide_id", "PATIENT_ID,slide_id", "patientid,slide_id"])
def test_a_missing_column_names_its_likely_misspelling(write_manifest, header):
    said = faults(write_manifest(f"{header}\nA,A-1\n"))
    assert "a column 'patient_id'" in said[0]
    assert "Rename column" in said[0]


def test_both_missing_columns_are_named(write_manifest):
    said = faults(write_manifest("case,wsi\nA,A-1\n"))
    assert len(said) == 2
    assert "columns case, wsi" in said[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file"),
        (b" \n\n", "an empty file"),
        (b"\x00\x01\x02\x03", "NUL"),
        (b"patient_id,slide_id\nA,\x00\n", "line 2: "),
        (b"PK\x03\x04rest", "Excel workbook"),
        (codecs.BOM_UTF16_LE + "patient_id,slide_id".encode("utf-16-le"), "UTF-16"),
        ("patient_id,slide_id\nMüller,1\n".encode("latin-1"), "byte 0xfc"),
        (b"patient_id;slide_id;mpp\nA;1;0,25\n", "semicolon"),
        (b"patient_id\tslide_id\nA\t1\n", "tab"),
        (b"patient_id,slide_id\n", "a header alone"),
        (b"patient_id,slide_id,EGFR,EGFR\nA,1,0,1\n", "'EGFR' again"),
        (b"patient_id,slide_id,\nA,1,0\n", "Name the column"),
        (b"patient_id,slide_id,EGFR\nA,1\n", "row 2: expected 3 cells, as in the header, got 2 cells"),
        (b"patient_id,slide_id,EGFR\nA,1,0,\n", "got 4 cells"),
        (b'patient_id,slide_id\n"A,1\nB,2\nC,3\n', "stray quotation mark"),
        (b'patient_id,slide_id\n"A\nB",1\n', "U+000A"),
        (b"patient_id,slide_id\nA\xe2\x80\x8b,1\n", "U+200B"),
        (b"patient_id,slide_id,age\nA,1,#REF!\n", "spreadsheet error #REF!"),
        (b"patient_id,slide_id\nA," + b"x" * 5000 + b"\n", "5000 characters"),
        (b"patient_id,slide_id\nA," + b"x" * 1_000_000 + b"\n", "more than 131072 characters"),
        (b"patient_id,slide_id\nA,1\n,\n", "an empty row"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_reason(write_manifest, content, expected):
    said = faults(write_manifest(content))
    assert expected in "\n".join(said)
    assert max(map(len, said)) < 500


def test_a_ragged_row_does_not_hide_the_faults_of_the_others(write_manifest):
    said = faults(write_manifest("patient_id,slide_id,age\nA,1\nB,2,#N/A\nC,3,4,5\n"))
    assert [text.split("row ")[1][0] for text in said] == ["2", "3", "4"]


def test_the_path_is_said_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert faults(Path("no/such.csv"))[0].startswith(
        "no/such.csv: expected a cohort manifest (a file), got no such file"
    )
    (tmp_path / "folder").mkdir()
    assert "folder or device" in faults(Path("folder"))[0]
    assert faults(Path("nul\x00.csv"))


def test_unprintable_values_do_not_reach_the_message_raw(write_manifest):
    said = faults(write_manifest("patient_id,slide_id\nA\x1b[31m,1\n"))
    assert "\x1b" not in "".join(said)


@pytest.mark.parametrize("patient", ["P 4", "P/4", "S-12:345", "Müller_7", "P" * 200, "=1+1"])
def test_a_patient_id_may_be_what_the_formats_page_says(manifest_of, patient):
    assert manifest_of(f"patient_id,slide_id\n{patient},s\n").table["patient_id"].tolist() == [patient]


@pytest.mark.parametrize("patient", ["P" * 201, "1.2E+05", "P\u200b4", "P\t4"])
def test_no_other_patient_id_is_read(manifest_of, patient):
    with pytest.raises(ManifestError):
        manifest_of(f"patient_id,slide_id\n{patient},s\n")
