"""The clean study, for every test of this folder to plant its fault in."""

from pathlib import Path

import pytest
from audit_studies import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study with nothing wrong."""
    return Study(tmp_path)
