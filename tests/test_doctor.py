"""The doctor says what is there, never waits, and names a remedy for whatever is not."""

import json
import time
from pathlib import Path

import pytest

from tapfm_eval import doctor
from tapfm_eval.doctor import Check, examine

ROOT = Path(__file__).resolve().parents[1]


def by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def answers(monkeypatch: pytest.MonkeyPatch, **changed: object) -> None:
    """Gives each library's answer without asking it."""
    said: dict[str, object] = {
        doctor._TORCH: {"torch": "2.9", "timm": "1.0.31", "gpus": [["H100", 79e9, 80e9, True]]},
        doctor._OPENSLIDE: {"openslide": "4.0"}, doctor._TYPST: {"fonts": 3},
        doctor._FORK_SERVER: {"method": "forkserver", "code": 0}, doctor._HUB: {},
    }  # fmt: skip
    said |= {getattr(doctor, name): value for name, value in changed.items()}

    def ask(code: str, seconds: float) -> doctor._Answer:
        value = said.get(code)
        return doctor._Answer(value) if isinstance(value, dict) else doctor._Answer(None, str(value or "not asked"))

    monkeypatch.setattr(doctor, "_ask", ask)


def test_everything_is_examined_and_a_fault_has_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers(monkeypatch)
    checks = by_name(examine(tmp_path, offline=True))
    for name in ("Python", "packages", "torch, timm", "GPU", "OpenSlide", "PDF and fonts", "worker processes",
                 "processors", "Hugging Face hub", "Hugging Face token", "git"):  # fmt: skip
        assert name in checks
    assert checks["GPU"].state == "ok"
    assert all(check.remedy for check in checks.values() if check.state != "ok")
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = {"method": "forkserver", "code": 1}
    answers(monkeypatch, _TORCH="no answer", _OPENSLIDE="ImportError", _FORK_SERVER=worker, _HUB="timed out")
    checks = by_name(examine(tmp_path))
    assert {name for name, check in checks.items() if check.state == "missing"} == {
        "torch, timm", "OpenSlide", "worker processes"
    }  # fmt: skip
    assert "GPU" not in checks
    assert "backbones fetch" in checks["Hugging Face hub"].remedy


def test_a_study_is_held_against_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "w.bin").write_bytes(b"x")
    (tmp_path / "paths.toml").write_text('[weights]\nuni = "w.bin"\n[slides]\ntcga-luad = "nowhere"\n')
    answers(monkeypatch, _TORCH={"torch": "2", "timm": "1", "gpus": [["small", 7e9, 8e9, False]]})
    checks = by_name(examine(tmp_path, ROOT / "protocols" / "luad.yaml", offline=True))
    assert checks["GPU"].state == "warning"
    assert "the largest arm needs about 31 GB" in checks["GPU"].found
    assert checks["weights of uni"].state == "ok"
    assert checks["weights of h-optimus-0"].state == "missing"
    assert "nowhere" in checks["slides of tcga-luad"].found
    assert checks["slides of tcga-luad"].state == "missing"
    assert {name for name, check in checks.items() if check.of_study} == {
        "weights of uni", "weights of h-optimus-0", "slides of tcga-luad", "slides of cptac-luad"
    }  # fmt: skip


def test_a_folder_that_cannot_be_written_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers(monkeypatch)
    (tmp_path / "file").write_text("x")
    (disk,) = [check for check in examine(tmp_path / "file", offline=True) if check.name.startswith("disk")]
    assert disk.state == "missing"


def test_a_library_that_hangs_or_crashes_is_an_answer() -> None:
    started = time.monotonic()
    assert "no answer" in doctor._ask("import time; time.sleep(60)", 1.0).reason
    assert time.monotonic() - started < 20
    assert doctor._ask("raise RuntimeError('driver')", 20.0).reason == "RuntimeError: driver"
    assert doctor._ask("print('{}')", 20.0).said == json.loads("{}")
