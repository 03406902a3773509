"""Small cohorts on disk for the tests of this folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tapfm_eval.cohort.manifest import Manifest, read_manifest
from tapfm_eval.protocol.schema import Protocol

PROTOCOL: dict[str, Any] = {
    "format": "tapfm-eval/protocol/1",
    "id": "small",
    "version": "1.0.0",
    "title": "Small",
    "intended_use": "Research use.",
    "seeds": [1],
    "cohorts": {
        "dev": {"role": "development", "manifest": "dev.csv", "split": "split.csv"},
        "ext": {"role": "external", "manifest": "ext.csv"},
    },
    "targets": {"EGFR": {}},
    "arms": [{"id": "a", "backbone": "uni", "aggregator": "abmil", "adapt": "frozen"}],
}


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Path]:
    """Writes text, or rows of cells, as a manifest and returns its path."""

    def write(content: str | bytes | list[list[str]], name: str = "m.csv") -> Path:
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(",".join(row) + "\n" for row in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def manifest_of(write_manifest: Callable[..., Path]) -> Callable[..., Manifest]:
    """The manifest with this content."""

    def read(content: str | list[list[str]], name: str = "m.csv") -> Manifest:
        return read_manifest(write_manifest(content, name), "cohort")

    return read


@pytest.fixture(scope="session")
def protocol_of() -> Callable[..., Protocol]:
    """A small protocol with some of its keys replaced."""

    def make(**changes: Any) -> Protocol:
        return Protocol.model_validate({**PROTOCOL, **changes})

    return make
