"""Downloading, checking and linking slides: everything is listed, nothing is guessed."""

import hashlib
import json
from urllib.parse import parse_qs, urlparse

import pytest

from tapfm_eval.cohort.download import check_slides, download_list
from tapfm_eval.cohort.link import SlideFacts, link_slides, read_slide_table, write_links
from tapfm_eval.errors import ManifestError, SlideError

ID = "0b3cff7b-bbe2-40ab-aee6-cb0554940eaa"
HEAD = "patient_id,slide_id,path,gdc_file_id,md5,size,exclude\n"


@pytest.fixture
def folder(tmp_path):
    def make(files):
        root = tmp_path / "slides"
        root.mkdir()
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    return make


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_the_download_list_is_a_gdc_manifest_and_names_what_it_lacks(manifest_of):
    manifest = manifest_of(
        HEAD
        + f"A,A-1,A-1.svs,{ID},{'0' * 32},1000,\nB,B-1,sub/B-1.svs,,,,\nC,C-1,C-1.svs,{ID[:-1]}b,,,\n"
        + f"D,D-1,D-1.svs,{ID[:-1]}c,,5,withdrawn\nE,,,,,,\n"
    )
    wanted = download_list(manifest)
    assert wanted.gdc_manifest == (
        "id\tfilename\tmd5\tsize\tstate\n"
        f"{ID}\tA-1.svs\t{'0' * 32}\t1000\treleased\n"
        f"{ID[:-1]}b\tC-1.svs\t\t\treleased\n"
    )
    assert (wanted.slides, wanted.total_bytes, wanted.unknown_sizes) == (2, 1000, 1)
    assert wanted.patients_only == ("E",)
    (lookup,) = wanted.lookups
    assert (lookup.slide_id, lookup.file_name) == ("B-1", "B-1.svs")
    query = parse_qs(urlparse(lookup.url).query)
    assert json.loads(query["filters"][0])["content"] == {"field": "file_name", "value": "B-1.svs"}


def test_the_check_finds_every_fault_and_counts_what_is_whole(manifest_of, folder):
    good, other = b"a slide", b"another"
    rows = {
        "whole": f"whole.svs,,{md5(good)},{len(good)}",
        "bygdc": f"bygdc.svs,{ID},{md5(good)},{len(good)}",
        "unverified": "unverified.svs,,,",
        "missing": "missing.svs,,,",
        "short": f"short.svs,,,{len(good)}",
        "altered": f"altered.svs,,{md5(good)},{len(good)}",
        "moved": "right/moved.svs,,,",
        "empty": "empty.svs,,,",
        "double": f"double.svs,{ID},,",
        "nopath": ",,,",
    }
    manifest = manifest_of(HEAD + "".join(f"p-{name},{name},{cells},\n" for name, cells in rows.items()) + "Q,,,,,,\n")
    root = folder(
        {
            "whole.svs": good,
            f"{ID}/bygdc.svs": good,
            "unverified.svs": other,
            "short.svs": b"x",
            "altered.svs": other,
            "wrong/moved.svs": good,
            "empty.svs": b"",
            "double.svs": good,
            f"{ID}/double.svs": good,
            "stranger.ndpi": good,
            "notes.txt": b"x",
        }
    )
    check = check_slides(manifest, root)
    assert {fault.slide_id: fault.fault for fault in check.faults} == {
        "missing": "missing",
        "short": "size",
        "altered": "md5",
        "moved": "elsewhere",
        "empty": "empty",
        "double": "twice",
        "nopath": "missing",
    }
    assert (check.whole, check.unverified) == (3, 1)
    assert check.strangers == ("stranger.ndpi", "wrong/moved.svs")
    assert check.patients_only == ("Q",)
    unread = check_slides(manifest, root, verify_md5=False)
    assert "altered" not in {fault.slide_id for fault in unread.faults}


def test_a_folder_that_is_not_there_is_said_so(manifest_of, tmp_path):
    manifest = manifest_of(HEAD + "A,,,,,,\n")
    for use in (check_slides, link_slides):
        with pytest.raises(SlideError, match="no such folder"):
            use(manifest, tmp_path / "none")


PATIENTS = "patient_id,slide_id,EGFR,age\nC3L-1,,1,61.0\nC3L-10,,0,\nC3N-2,,1,50\n"


def test_one_slide_a_patient_is_linked_and_the_match_written_down(manifest_of, folder, tmp_path):
    manifest = manifest_of(PATIENTS)
    links = link_slides(manifest, folder({"x/C3L-1-21.svs": b"1", "C3L-10.svs": b"2", "other.svs": b"3"}))
    assert [(match.path, match.patient_id, match.decision) for match in links.matches] == [
        ("C3L-10.svs", "C3L-10", "linked"),
        ("other.svs", "", "no patient of the manifest"),
        ("x/C3L-1-21.svs", "C3L-1", "linked"),
    ]
    assert links.unmatched == ("C3N-2",)
    written = write_links(links, tmp_path / "new.csv", tmp_path / "links.csv")
    assert written.table["slide_id"].tolist() == ["C3L-1-21", "C3L-10", ""]
    assert written.table["path"].tolist() == ["x/C3L-1-21.svs", "C3L-10.svs", ""]
    assert "61.0" in (tmp_path / "new.csv").read_text()  # other cells are kept as they were written
    assert (tmp_path / "links.csv").read_text().startswith("# tapfm-eval/links/1\npath,slide_id,patient_id,")
    assert "name begins with the patient_id" in (tmp_path / "links.csv").read_text()


def test_several_slides_of_a_patient_need_the_specimen(manifest_of, folder, tmp_path):
    manifest = manifest_of(PATIENTS)
    root = folder({"C3L-1-21.svs": b"1", "C3L-1-22.svs": b"2", "C3L-1-26.svs": b"3", "C3L-10-21.svs": b"4"})
    with pytest.raises(ManifestError) as caught:
        link_slides(manifest, root)
    (problem,) = caught.value.problems
    assert "patient C3L-1" in problem.where
    assert "specimen not known" in problem.got
    table = tmp_path / "t.csv"
    table.write_text("slide_id,specimen\nC3L-1-21,tumor\nC3L-1-22,tumor\nC3L-1-26,normal\nC3L-10-21.svs,tumor\n")
    facts = read_slide_table(table)
    with pytest.raises(ManifestError, match="slides of one known tissue"):
        link_slides(manifest, root, facts)
    links = link_slides(manifest, root, facts, frozenset({"tumor"}))
    assert links.table[["patient_id", "slide_id", "specimen", "EGFR"]].to_numpy().tolist() == [
        ["C3L-1", "C3L-1-21", "tumor", "1"],
        ["C3L-1", "C3L-1-22", "tumor", "1"],
        ["C3L-10", "C3L-10-21", "tumor", "0"],
        ["C3N-2", "", "", "1"],
    ]
    assert [match.decision for match in links.matches][2] == "left out: normal is not among tumor"
    with pytest.raises(ManifestError, match="tumour"):
        link_slides(manifest, root, facts, frozenset({"tumour"}))
    with pytest.raises(ManifestError, match="a slide whose specimen is known"):
        link_slides(manifest, root, {"C3L-1-21": facts["C3L-1-21"]}, frozenset({"tumor"}))


def test_frozen_and_normal_tcga_slides_are_told_by_their_barcode(manifest_of, folder):
    manifest = manifest_of("patient_id,slide_id,EGFR\nTCGA-05-4244,,1\n")
    stem = "TCGA-05-4244"
    root = folder(
        {f"{stem}-01Z-00-DX1.A.svs": b"1", f"{stem}-01A-01-TS1.B.svs": b"2", f"{stem}-11A-01-TS1.C.svs": b"3"}
    )
    with pytest.raises(ManifestError, match="FFPE"):
        link_slides(manifest, root)
    links = link_slides(manifest, root, specimens=frozenset({"FFPE"}))
    assert links.table["slide_id"].tolist() == [f"{stem}-01Z-00-DX1.A"]
    assert [match.specimen for match in links.matches] == ["frozen", "FFPE", "normal"]


def test_a_name_that_fits_two_patients_needs_a_table(manifest_of, folder):
    manifest = manifest_of("patient_id,slide_id\nP,\nP-1,\n")
    root = folder({"P-1-a.svs": b"1"})
    with pytest.raises(ManifestError, match="P, P-1"):
        link_slides(manifest, root)


LIKE = "patient_id,slide_id,path,exclude,EGFR\nP1,,,,1\n{other}\nP7,,,,0\n"


@pytest.mark.parametrize("other", ["P1-2,,,withdrew consent,0", "P1-2,P1-2-b,P1-2-b.svs,,0"])
def test_a_slide_of_a_patient_who_is_closed_is_never_given_to_one_whose_id_begins_alike(manifest_of, folder, other):
    """Who withdrew, or has slides already, still owns the files that begin with that id."""
    manifest = manifest_of(LIKE.format(other=other))
    root = folder(dict.fromkeys(("P1-a.svs", "P1-2-a.svs", "P1-2-b.svs", "P7.svs"), b""))
    with pytest.raises(ManifestError) as caught:
        link_slides(manifest, root, {"P7": SlideFacts("", "FFPE")})
    assert "P1-2-a.svs: expected a name that begins with one patient_id, got P1, P1-2 (left out:" in str(caught.value)
    named = {
        name: SlideFacts(patient, "FFPE")
        for name, patient in (("P1-a", "P1"), ("P1-2-a", "P1-2"), ("P1-2-b", "P1-2"), ("P7", ""))
    }
    links = link_slides(manifest, root, named)
    assert {match.slide_id: match.patient_id for match in links.matches if match.decision == "linked"} == {
        "P1-a": "P1",
        "P7": "P7",
    }
    assert [match.decision.split(":")[0] for match in links.matches if match.slide_id == "P1-2-a"] == ["left out"]
    assert [match.patient_id for match in links.matches if match.slide_id == "P1-2-a"] == ["P1-2"]


def test_files_of_excluded_patients_are_recorded_with_the_reason(manifest_of, folder):
    manifest = manifest_of("patient_id,slide_id,exclude\nA,,\nB,,withdrew consent\n")
    links = link_slides(manifest, folder({"A-1.svs": b"", "B-1.svs": b""}))
    assert [match.decision for match in links.matches] == ["linked", "left out: excluded, withdrew consent"]
    assert links.table["slide_id"].tolist() == ["A-1", ""]


def test_a_patient_counts_as_found_by_a_file_and_not_by_a_filled_cell(manifest_of, folder):
    manifest = manifest_of(HEAD + f"A,A-1,A-1.svs,{ID.upper()},,,\nB,B-1,B-1.svs,,,,\n")
    links = link_slides(manifest, folder({f"{ID}/A-1.svs": b""}))
    assert [match.decision for match in links.matches] == ["already there"]
    assert links.unmatched == ("B",)


def test_an_id_that_is_written_otherwise_is_named_and_not_linked(manifest_of, folder):
    links = link_slides(manifest_of(PATIENTS), folder({"c3l_10-21.svs": b""}))
    assert (links.matches[0].patient_id, links.matches[0].decision) == ("", "no patient of the manifest")
    assert links.matches[0].how == "name; written like C3L-10"


def test_a_table_of_slides_may_name_the_patient(manifest_of, folder, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("slide_id,specimen,patient_id\nscan7,tumor,P\nscan8,tumor,Q\n")
    links = link_slides(
        manifest_of("patient_id,slide_id\nP,\n"), folder({"scan7.svs": b"", "scan8.svs": b""}), read_slide_table(table)
    )
    assert links.table["slide_id"].tolist() == ["scan7"]
    assert links.matches[0].how.startswith("patient by table of slides")
    assert links.matches[1].decision.startswith("no patient")


def test_rows_with_a_path_stay_and_a_named_slide_gets_its_file(manifest_of, folder):
    manifest = manifest_of("patient_id,slide_id,path,specimen\nA,a1,here/a1.svs,\nB,b1,,biopsy\nC,c1,,\n")
    links = link_slides(manifest, folder({"here/a1.svs": b"", "sub/b1.svs": b""}))
    assert links.table["path"].tolist() == ["here/a1.svs", "sub/b1.svs", ""]
    assert links.unmatched == ("C",)


def test_two_files_of_one_name_and_contradicting_specimens_are_refused(manifest_of, folder, tmp_path):
    manifest = manifest_of("patient_id,slide_id,specimen\nA,,biopsy\nB,,\n")
    root = folder({"x/B-1.svs": b"", "y/B-1.svs": b"", "A-1.svs": b""})
    table = tmp_path / "t.csv"
    table.write_text("slide_id,specimen\nA-1,resection\nB-1,resection\n")
    with pytest.raises(ManifestError) as caught:
        link_slides(manifest, root, read_slide_table(table))
    text = str(caught.value)
    assert "slide B-1: expected one file" in text
    assert "A-1.svs: expected the manifest's specimen 'biopsy', got 'resection'" in text


def test_a_table_of_slides_is_checked(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("slide_id,specimen\na,tumor\na.svs,normal\nb,\n,tumor\n")
    with pytest.raises(ManifestError) as caught:
        read_slide_table(table)
    assert len(caught.value.problems) == 3
