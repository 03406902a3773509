"""`cohort import`: tables of every tool become a manifest and a split that load, or nothing is written."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tapfm_eval.cli import main
from tapfm_eval.cli.cohort import cohort_app
from tapfm_eval.cohort.import_folder import TOOLS, Tables, import_cohort
from tapfm_eval.cohort.manifest import read_manifest
from tapfm_eval.cohort.splits import read_split
from tapfm_eval.errors import InputError, ManifestError, SplitError

File = Callable[[str, str], Path]

# Patient A has two slides, rows of which lie apart; all tools tell the same story: A trains, B validates, C is tested.
PARTS = {"A": "train", "B": "validation", "C": "test"}
T = {p: f"TCGA-05-424{i}" for i, p in enumerate("ABC")}  # tools that name no patients take them from barcodes
SPLITS = {"splits": [{"train_patients": ["A", "B"], "test_patients": ["C"]}]}
TABLES: dict[str, dict[str, list[str]]] = {
    "clam": {
        "labels.csv": ["case_id,slide_id,label", "B,b1,0", "A,a2,1", "C,c1,1", "A,a1,1"],
        "splits_0.csv": [",train,val,test", "0,a2,b1,c1", "1,a1,,"],
    },
    "stamp": {
        "clinical.csv": ["PATIENT,EGFR", "C,1", "A,1", "B,0"],
        "splits.json": [json.dumps(SPLITS)],
        "slides.csv": ["PATIENT,FILENAME", "A,a2.svs", "B,b1.svs", "C,c1.svs", "A,a1.svs"],
    },
    "patho-bench": {
        "k=all.tsv": ["case_id\tslide_id\tEGFR\tfold_0", "A\ta2\t1\ttrain", "C\tc1\t1\ttest", "A\ta1\t1\ttrain",
                      "B\tb1\t0\tval"],
    },
    "tapfm": {
        "cohort.csv": ["slide_id,slide,set,EGFR", "1,a2,train,1", "2,c1,test,1", "3,a1,train,1", "4,b1,val,0"],
        "slides.csv": ["slide_id,patient_id", "a1,A", "b1,B", "c1,C", "a2,A"],
    },
    "eagle": {
        "cohort.csv": ["slide,path,split,EGFR", "a2,/x/a2.svs,train,1", "b1,/x/b1.svs,val,0", "c1,/x/c1.svs,test,1",
                       "a1,/x/a1.svs,train,1"],
        "slides.csv": ["slide_id,patient_id", "a1.svs,A", "b1.svs,B", "c1.svs,C", "a2.svs,A"],
    },
    "nnmil": {
        "n.csv": ["slide_id,patient_id,split,label", "b1,B,val,0", "a2,A,train,1", "c1,C,test,1", "a1,A,train,1"],
    },
    "slideflow": {"a.csv": ["slide,patient,EGFR", "a2,A,1", "b1,B,0", "c1,C,1", "a1,A,1"]},
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> File:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cohort_app, ["import", *map(str, arguments)], catch_exceptions=True)


def flags(tool: str, paths: dict[str, Path]) -> list[object]:
    """The arguments after `cohort import`, without --out."""
    slides = paths.get("slides.csv")
    given: list[object] = [path for path in paths.values() if path != slides]
    given += ["--from", tool, *(["--slides-table", slides] if slides else [])]
    given += ["--target", "EGFR"] if TOOLS[tool].named_label else []
    return given + (["--validation", 0.5] if tool == "stamp" else [])


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_tells_the_same_story_in_any_row_order(tool: str, file: File, tmp_path: Path) -> None:
    written = set()
    for number, order in enumerate(itertools.permutations(range(4))):
        paths = {}
        for name, (head, *rows) in TABLES[tool].items():
            mixed = [rows[i] for i in order if i < len(rows)]
            paths[name] = file(name, "\n".join([head, *mixed]) + "\n")
        out = tmp_path / f"out{number}"
        done = run(*flags(tool, paths), "--out", out)
        assert done.exit_code == 0, done.output
        manifest = read_manifest(out / "manifest.csv", tool)
        table = manifest.table
        assert list(zip(table["patient_id"], table["slide_id"], table["EGFR"], strict=True)) == [
            ("A", "a1", "1"), ("A", "a2", "1"), ("B", "b1", "0"), ("C", "c1", "1"),
        ]  # fmt: skip
        if tool == "slideflow":
            assert not (out / "split.csv").exists()
        else:
            split = read_split(out / "split.csv", manifest)
            parts = dict(zip(split.table["patient_id"], split.table["split"], strict=True))
            if tool != "stamp":  # which of A and B validates is drawn there
                assert parts == PARTS
            assert sorted(parts.values()) == ["test", "train", "validation"]
            written.add((out / "split.csv").read_bytes())
        written.add((out / "manifest.csv").read_bytes())
    assert len(written) == (1 if tool == "slideflow" else 2)


def test_what_was_derived_is_said_and_kept(file: File, tmp_path: Path) -> None:
    rows = [f"{T[p]}-01Z-00-DX1.X,{part},{int(p != 'B')}" for p, part in PARTS.items()]
    table = file("e.csv", "slide,split,EGFR\n" + "\n".join(rows) + "\n")
    done = run(table, "--from", "eagle", "--out", tmp_path / "mine")
    assert done.exit_code == 0, done.output
    assert "3 patients, 3 slides, columns EGFR" in done.output
    assert "1 fold; fold 0: 1 train, 1 validation, 1 test" in done.output
    assert "first 12 characters" in done.output
    assert "3 slides without a path" in done.output
    kept = json.loads((tmp_path / "mine" / "import.json").read_text(encoding="utf-8"))
    assert kept["format"] == "tapfm-eval/import/1"
    assert [entry["file"] for entry in kept["files"]] == ["e.csv"]
    assert any("first 12 characters" in note for note in kept["notes"])


def test_paths_are_filled_in_from_a_slide_folder_and_the_split_still_fits(file: File, tmp_path: Path) -> None:
    paths = {name: file(name, "\n".join(lines) + "\n") for name, lines in TABLES["clam"].items()}
    for name in ("a1", "a2", "b1", "c1"):
        (tmp_path / "slides" / name).mkdir(parents=True)
        (tmp_path / "slides" / name / f"{name}.svs").write_bytes(b"slide")
    done = run(*flags("clam", paths), "--slides", tmp_path / "slides", "--out", tmp_path / "mine", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert (said["patients"], said["slides"], said["without_path"], said["folds"]) == (3, 4, 0, 1)
    manifest = read_manifest(tmp_path / "mine" / "manifest.csv", "m")
    assert manifest.table["path"].tolist() == ["a1/a1.svs", "a2/a2.svs", "b1/b1.svs", "c1/c1.svs"]
    assert read_split(tmp_path / "mine" / "split.csv", manifest).folds == (0,)
    assert "a1/a1.svs,a1,A,,slide_id in the manifest,linked" in (tmp_path / "mine" / "links.csv").read_text(
        encoding="utf-8"
    )


def refused(tool: str, tables: Tables, out: Path, expected: str, raises: type[InputError] = InputError) -> None:
    before = sorted(out.parent.iterdir())
    with pytest.raises(raises, match=expected) as caught:
        import_cohort(tool, tables, out)
    assert ".out" not in str(caught.value)  # no temporary name
    assert sorted(out.parent.iterdir()) == before


def test_a_table_that_makes_no_cohort_leaves_nothing_behind(file: File, tmp_path: Path) -> None:
    out = tmp_path / "out"
    two_sides = file("1.csv", "slide_id,patient_id,split,label\na1,A,train,1\na2,A,test,1\nb,B,val,0\n")
    refused("nnmil", Tables((two_sides,), None, None), out, "patient A, fold 0", SplitError)
    bad_cell = file("2.csv", "slide_id,patient_id,split,label,age\na1,A,train,1,old\nb,B,val,0,1\nc,C,test,0,1\n")
    refused("nnmil", Tables((bad_cell,), None, None), out, r"2\.csv, row 2, column age", ManifestError)
    no_validation = file("3.csv", "slide_id,patient_id,split,label\na1,A,train,1\nc,C,test,0\n")
    refused("nnmil", Tables((no_validation,), None, None), out, r"none in 0\. .*--validation 0\.2")
    workbook = tmp_path / "book.xlsx"
    workbook.write_bytes(b"PK\x03\x04" + b"\x00" * 50)
    refused("nnmil", Tables((workbook,), None, None), out, r"an Excel workbook.*Save it as CSV")


def test_what_does_not_fit_the_tool_is_refused_all_at_once(file: File, tmp_path: Path) -> None:
    table = file("t.csv", "slide_id,patient_id\na,A\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError) as caught:
        import_cohort("slideflow", Tables((table, table), table, "EGFR"), tmp_path / "out")
    assert [problem.where.split()[0] for problem in caught.value.problems] == [
        "FILE", "--slides-table", "--target", "--out",
    ]  # fmt: skip
    for tool, expected in (("stamp", "the slide table of stamp"), ("qupath", "one of clam, stamp")):
        with pytest.raises(InputError, match=expected):
            import_cohort(tool, Tables((table,), None, None), tmp_path / "new")
    with pytest.raises(InputError, match="a share between 0 and 1"):
        import_cohort("slideflow", Tables((table,), None, None), tmp_path / "new", validation=float("nan"))
    with pytest.raises(InputError, match="a folder inside an existing one"):
        import_cohort("slideflow", Tables((table,), None, None), tmp_path / "no" / "new")


def test_a_slides_table_that_names_two_patients_of_a_slide_is_refused(file: File, tmp_path: Path) -> None:
    table = file("e.csv", "slide,split,EGFR\na1,train,0\n")
    slides = file("s.csv", "slide_id,patient_id\na1,A\na1.svs,B\n,C\n")
    with pytest.raises(ManifestError) as caught:
        import_cohort("eagle", Tables((table,), slides, None), tmp_path / "out")
    assert [problem.where.rsplit(", ", 1)[1] for problem in caught.value.problems] == ["row 3", "row 4"]


def test_a_fault_of_a_table_is_said_where_the_user_has_it(file: File, tmp_path: Path) -> None:
    labels = file("dup.csv", "case_id,slide_id,label\nB,b1,0\nA,a1,1\nC,c1,0\nA,a1,1\n")
    with pytest.raises(ManifestError) as caught:
        import_cohort("clam", Tables((labels,), None, None), tmp_path / "out")
    (problem,) = caught.value.problems
    assert problem.where == f"{labels}, row 5, column slide_id"
    assert problem.got == "'a1', which is in row 3 too"
    clinical = file("c.csv", "PATIENT,KRAS,age\nB,0,1960-01-01\nA,1,60\n")
    slides = file("s.csv", "PATIENT,FILENAME\nA,a1.h5\nB,b|1.h5\n")
    with pytest.raises(ManifestError) as caught:
        import_cohort("stamp", Tables((clinical,), slides, None), tmp_path / "out")
    assert [problem.where for problem in caught.value.problems] == [
        f"{clinical}, row 2, column age",
        f"{slides}, row 3, column FILENAME",
    ]


def test_clams_other_split_files_under_the_name_of_the_first_are_one_fault(file: File, tmp_path: Path) -> None:
    labels = file("l.csv", "case_id,slide_id,label\nA,a1,0\nB,b1,1\n")
    split = file("splits_0.csv", ",train,val,test\na1,True,False,False\nb1,False,True,False\n")
    with pytest.raises(SplitError) as caught:
        import_cohort("clam", Tables((labels, split), None, None), tmp_path / "out")
    (problem,) = caught.value.problems
    assert "splits_0_bool.csv" in problem.remedy


@pytest.mark.parametrize("patient", ["patient_id", "case_id"])
def test_a_slides_table_names_patients_in_either_word(file: File, tmp_path: Path, patient: str) -> None:
    table = file("e.csv", "slide,split,EGFR\na1,train,0\nb1,val,1\nc1,test,1\n")
    slides = file("s.csv", f"{patient},slide_id\nA,a1\nB,b1\nC,c1.svs\n")
    assert import_cohort("eagle", Tables((table,), slides, None), tmp_path / "out").patients == 3
    with pytest.raises(ManifestError, match=r"'patient_id' \(or 'case_id'\)"):
        import_cohort("eagle", Tables((table,), file("n.csv", "slide_id,who\na1,A\n"), None), tmp_path / "no")


def test_the_command_explains_itself_with_an_example_and_its_errors_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["tapfm-eval", "cohort", "import", "none.csv", "--from", "nnmil", "--out", "x"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "no such file" in capsys.readouterr().err
    assert "Example:" in run("--help").output


def test_labels_in_words_are_read_as_the_user_says_and_otherwise_noted(file: File, tmp_path: Path) -> None:
    table = file("sf.csv", "slide,patient,EGFR\na,A,mut\nb,B,wt\nc,C,\n")
    asked = run(table, "--from", "slideflow", "--out", tmp_path / "asked")
    assert asked.exit_code == 0
    assert "EGFR holds 'mut', 'wt'" in asked.output
    assert "--values 'EGFR:mut=1,wt=0'" in asked.output
    told = run(table, "--from", "slideflow", "--out", tmp_path / "told", "--values", "EGFR:mut=1,wt=0")
    assert told.exit_code == 0
    assert "EGFR reads 'mut' as 1 (1 row), 'wt' as 0 (1 row)" in told.output
    assert read_manifest(tmp_path / "told" / "manifest.csv", "x").table["EGFR"].tolist() == ["1", "0", ""]
    wrong = run(table, "--from", "slideflow", "--out", tmp_path / "wrong", "--values", "MET:mut=1")
    assert "a column of the tables: EGFR" in str(wrong.exception)


def test_a_note_to_paste_never_inverts_labels_and_a_word_of_no_row_is_refused(file: File, tmp_path: Path) -> None:
    table = file("sf.csv", "slide,patient,EGFR,group\na,A,negative,red\nb,B,positive,blue\nc,C,NA,red\n")
    asked = run(table, "--from", "slideflow", "--out", tmp_path / "asked")
    assert "EGFR holds 'negative', 'positive', 'NA'" in asked.output
    assert "--values 'EGFR:positive=1,negative=0,NA='" in asked.output
    assert "group holds 'blue', 'red'" in asked.output
    assert "--values 'group:WORD=1,WORD=0'" in asked.output
    typo = run(table, "--from", "slideflow", "--out", tmp_path / "o", "--values", "EGFR:positve=1,negative=0,NA=")
    assert "got 'positve', which is in no row" in str(typo.exception)
    assert not (tmp_path / "o").exists()


def test_a_table_without_patients_is_one_fault_with_examples(file: File, tmp_path: Path) -> None:
    rows = "".join(f"s{i},/x/s{i}.svs,{('train', 'val', 'test')[i % 3]},{i % 2}\n" for i in range(40))
    said = run(file("e.csv", "slide,path,split,EGFR\n" + rows), "--from", "eagle", "--out", tmp_path / "o")
    assert isinstance(said.exception, ManifestError)
    (problem,) = said.exception.problems
    assert problem.got == "'s0', 's1', 's2', 's3', 's4', and 35 more"
