"""`cohort` lists what to download, says what is wrong with a folder of slides, and fills in paths."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import REPOSITORY, Command

from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.rehearsal.svs import write_svs

LUAD = REPOSITORY / "cohorts" / "tcga-luad" / "manifest.csv"


def write_slide(path: Path, *, mpp: float | None = 0.5) -> None:
    rgb = np.random.default_rng(len(path.name)).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    if mpp is None:
        from tifffile import imwrite

        imwrite(path, rgb, tile=(128, 128), photometric="rgb")
    else:
        write_svs(path, rgb, mpp=mpp, objective=20, name=path.stem)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two patients with a slide each."""
    path = tmp_path / "m.csv"
    path.write_text("patient_id,slide_id,path,mpp\nP1,a,a.svs,\nP2,b,b.svs,\n", encoding="utf-8")
    (tmp_path / "slides").mkdir()
    return path


def test_the_list_for_gdc_client_holds_what_has_an_id_and_names_the_rest(command: Command, tmp_path: Path) -> None:
    said = command("cohort", "download-list", LUAD, "--out", tmp_path / "gdc.txt")
    assert said.code == 0
    lines = (tmp_path / "gdc.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == ["id", "filename", "md5", "size", "state"]
    assert f"{len(lines) - 1} slides" in said.err
    assert "https://api.gdc.cancer.gov/files" in said.err
    assert command("cohort", "download-list", LUAD).out.splitlines() == lines
    lookups = (tmp_path / "gdc.lookups.csv").read_text(encoding="utf-8").splitlines()
    assert lookups[0] == "slide_id,file_name,url"
    assert len(lookups) == 1 + 9
    assert all("https://api.gdc.cancer.gov/files?filters=" in line for line in lookups[1:])
    again = command("cohort", "download-list", LUAD, "--out", tmp_path / "gdc.txt")
    assert (again.code, "an existing one" in again.err) == (2, True)
    listed = json.loads(command("cohort", "download-list", LUAD, "--json").out)
    assert (listed["format"], listed["slides"]) == ("tapfm-eval/download-list/1", len(lines) - 1)


def test_a_whole_folder_passes_the_check(command: Command, manifest: Path) -> None:
    for name in ("a.svs", "b.svs"):
        write_slide(manifest.parent / "slides" / name)
    said = command("cohort", "check", manifest, "--slides", manifest.parent / "slides")
    assert said.code == 0, said.out
    assert "2 whole" in said.out


def test_missing_unreadable_and_scaleless_slides_fail_the_check(command: Command, manifest: Path) -> None:
    slides = manifest.parent / "slides"
    said = command("cohort", "check", manifest, "--slides", slides)
    assert said.code == 1
    assert "2 missing" in said.out
    (slides / "a.svs").write_bytes(b"no slide")
    write_slide(slides / "b.svs", mpp=None)
    said = command("cohort", "check", manifest, "--slides", slides)
    assert "0 whole (0 of them by presence alone), 1 no-mpp, 1 unreadable" in said.out
    found = json.loads(command("cohort", "check", manifest, "--slides", slides, "--json").out)
    assert found["format"] == "tapfm-eval/slide-check/1"
    assert [fault["fault"] for fault in found["faults"]] == ["unreadable", "no-mpp"]
    remedies = [fault["remedy"] for fault in found["faults"]]
    assert "the file is damaged, cut short, or no slide" in remedies[0]
    assert "mpp column of the manifest" in remedies[1]
    assert command("cohort", "check", manifest, "--slides", slides, "--no-open").code == 0
    stated = manifest.read_text(encoding="utf-8").replace("b.svs,", "b.svs,0.5")
    manifest.write_text(stated, encoding="utf-8")
    found = json.loads(command("cohort", "check", manifest, "--slides", slides, "--json").out)
    assert [fault["slide_id"] for fault in found["faults"]] == ["a"]
    write_slide(slides / "a.svs")
    manifest.write_text(stated.replace("a.svs,", "a.svs,0.25"), encoding="utf-8")
    found = json.loads(command("cohort", "check", manifest, "--slides", slides, "--json").out)
    assert [(fault["fault"], fault["got"]) for fault in found["faults"]] == [("mpp", "slide 0.5, manifest 0.25")]
    assert "Find out which is right" in found["faults"][0]["remedy"]
    assert (found["whole"], found["unverified"]) == (1, 1)


def test_patients_without_a_named_slide_fail_the_check(command: Command, manifest: Path) -> None:
    for name in ("a.svs", "b.svs"):
        write_slide(manifest.parent / "slides" / name)
    manifest.write_text(manifest.read_text(encoding="utf-8") + "P3,,,\n", encoding="utf-8")
    said = command("cohort", "check", manifest, "--slides", manifest.parent / "slides")
    assert said.code == 1
    assert "2 whole (2 of them by presence alone), no fault" in said.out
    assert "1 patient without a named slide: see `tapfm-eval cohort link`" in said.out


def test_annotations_that_are_named_and_not_there_fail_the_check(command: Command, manifest: Path) -> None:
    slides = manifest.parent / "slides"
    for name in ("a.svs", "b.svs"):
        write_slide(slides / name)
    text = "patient_id,slide_id,path,regions\nP1,a,a.svs,a.geojson\nP2,b,b.svs,\n"
    manifest.write_text(text, encoding="utf-8")
    said = command("cohort", "check", manifest, "--slides", slides)
    assert said.code == 1
    assert "regions: expected a file a.geojson, got no such file" in said.out
    (slides / "a.geojson").write_text("{}", encoding="utf-8")
    assert command("cohort", "check", manifest, "--slides", slides).code == 0


def test_a_folder_that_is_none_is_explained(command: Command, manifest: Path) -> None:
    said = command("cohort", "check", manifest, "--slides", "nowhere")
    assert said.code == 2
    assert "nowhere" in said.err


def test_slides_are_linked_each_match_written_down_and_patients_without_one_counted(
    command: Command, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("patient_id,slide_id,path,GENE\nP1,,,1\nP2,,,0\n", encoding="utf-8")
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "P1-21.svs").write_bytes(b"x")
    arguments = ("cohort", "link", manifest, "--slides", tmp_path / "slides", "--out", tmp_path / "linked.csv")
    said = command(*arguments)
    assert said.code == 1
    assert "1  linked, specimen unknown" in said.out
    assert "1  patient without a slide file" in said.out
    table = read_manifest(tmp_path / "linked.csv", "linked").table
    assert dict(zip(table["patient_id"], table["path"], strict=True)) == {"P1": "P1-21.svs", "P2": ""}
    assert "name begins with the patient_id" in (tmp_path / "linked.links.csv").read_text(encoding="utf-8")
    assert command(*arguments).code == 2  # nothing is written over


def test_several_tissues_of_a_patient_are_never_guessed(command: Command, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("patient_id,slide_id,path,GENE\nP1,,,1\n", encoding="utf-8")
    (tmp_path / "slides").mkdir()
    for name in ("P1-21.svs", "P1-22.svs"):
        (tmp_path / "slides" / name).write_bytes(b"x")
    table = tmp_path / "table.csv"
    table.write_text("slide_id,specimen\nP1-21,tumour\nP1-22,normal\n", encoding="utf-8")
    arguments = ("cohort", "link", manifest, "--slides", tmp_path / "slides", "--out", tmp_path / "linked.csv")
    said = command(*arguments, "--table", table)
    assert said.code == 2
    assert not (tmp_path / "linked.csv").exists()
    assert command(*arguments, "--table", table, "--specimen", "tumour").code == 0
    assert read_manifest(tmp_path / "linked.csv", "linked").table["path"].tolist() == ["P1-21.svs"]


def test_help_of_every_command_has_an_example(command: Command) -> None:
    for name in ("download-list", "check", "link"):
        assert f"tapfm-eval cohort {name} cohorts/" in command("cohort", name, "--help").out
