"""Whether anybody answers where a cluster is said to be; Ray itself ends the process where nobody does."""

import socket
from pathlib import Path

import pytest

from tapfm_eval.executors.ray import _check_reachable


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ray notes the address of a cluster that was started here."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def test_auto_asks_at_the_address_that_ray_has_noted(note: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        note.write_text(f"127.0.0.1:{server.getsockname()[1]}\n")
        _check_reachable("auto")
    with pytest.raises(OSError, match="refused"):
        _check_reachable("auto")


@pytest.mark.parametrize("said", ["auto", ""])
def test_without_a_note_ray_looks_for_itself(said: str, note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, RAY_ADDRESS=auto was no address, and a cluster that left no note was none."""
    monkeypatch.setenv("RAY_ADDRESS", said)
    _check_reachable("auto")


def test_what_is_no_address_is_said(note: Path) -> None:
    with pytest.raises(OSError, match="neither `auto` nor HOST:PORT"):
        _check_reachable("nowhere")
