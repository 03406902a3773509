"""Data flows one way, and heavy libraries stay in the rooms that need them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tapfm_eval"

# A module may import modules of the same row or of rows above it.
ORDER = (
    {"errors"},
    {"rundir", "locks", "stopping", "parallel", "serialise", "progress", "provenance", "randomness"},
    {"fingerprints"},
    {"protocol"},
    {"cohort"},
    {"slides"},
    {"backbones"},
    {"methods"},
    {"predictions"},
    {"statistics"},
    {"results"},
    {"audit", "analysis"},
    {"rehearsal"},
    {"report"},
    {"stages", "preparation", "scoring", "reporting"},
    {"executors"},
    {"study", "verification", "comparison", "planning", "diagnosis"},
    {"doctor"},
    {"api", "cli"},
    {"__main__"},
)
ROOMS = {
    "torch": {
        "slides/bags",
        "backbones/load",
        "backbones/encoder",
        "backbones/foreign",
        "methods/",
        "stages/bodies",
        "stages/units",
        "stages/micro_batch",
        "diagnosis",
        "study",
    },
    "timm": {"backbones/load", "backbones/encoder", "methods/adaptation"},
    "openslide": {"slides/reader"},
    "matplotlib": {"report/figures"},
    "typer": {"cli/"},
    "rich": {"cli/", "progress"},
    "yaml": {"protocol/load"},
    "typst": {"report/pdf"},
    "ray": {"executors/ray"},
}


def modules() -> list[tuple[str, Path]]:
    return [(path.relative_to(PACKAGE).with_suffix("").as_posix(), path) for path in sorted(PACKAGE.rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def row_of(stage: str) -> int:
    return next(i for i, row in enumerate(ORDER) if stage in row)


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_only_from_its_own_stage_or_earlier_ones(name: str, path: Path) -> None:
    stage = name.split("/")[0]
    if stage == "__init__":
        return
    for target in imported(path):
        if target.startswith("tapfm_eval."):
            other = target.split(".")[1]
            if other != stage and any(other in row for row in ORDER):
                assert row_of(other) <= row_of(stage), f"{name} imports {target}"


@pytest.mark.parametrize("library", ROOMS)
def test_a_heavy_library_is_imported_in_its_rooms_only(library: str) -> None:
    users = {name for name, path in modules() if any(n.split(".")[0] == library for n in imported(path))}
    strangers = {name for name in users if not any(name.startswith(room) for room in ROOMS[library])}
    assert users, f"nobody imports {library}: the rule is stale"
    assert not strangers


def test_statistics_knows_nobody() -> None:
    allowed = {"numpy", "scipy", "sklearn", "statsmodels", "tapfm_eval", *sys.stdlib_module_names}
    for name, path in modules():
        if name.startswith("statistics/"):
            for target in imported(path):
                assert target.split(".")[0] in allowed, f"{name} imports {target}"
                if target.startswith("tapfm_eval."):
                    assert target.split(".")[1] in ("statistics", "errors")


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_neither_tables_nor_networks() -> None:
    code = """
import sys
from tapfm_eval.cli import main
sys.argv = ['tapfm-eval', '--help']
try:
    main()
except SystemExit:
    pass
"""
    heavy = {"torch", "timm", "pandas", "numpy", "pydantic", "pandera", "matplotlib", "openslide", "scipy", "yaml"}
    assert not loaded_after(code) & heavy


@pytest.mark.parametrize(
    "module",
    [
        "reporting",
        "report.write",
        "analysis",
        "statistics",
        "preparation",
        "cohort.load",
        "scoring.score",
        "verification",
        "comparison",
        "planning",
        "doctor",
        "api",
    ],
)
def test_audit_score_and_report_never_import_torch(module: str) -> None:
    loaded = loaded_after(f"import tapfm_eval.{module}")
    assert "tapfm_eval" in loaded
    assert not loaded & {"torch", "timm"}


def test_no_module_is_longer_than_can_be_read_in_one_sitting() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules()}
    assert {name: n for name, n in lengths.items() if n > 600} == {}
