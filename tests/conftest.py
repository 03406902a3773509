"""What tests of several folders share."""

from pathlib import Path

import pytest
from finished_run import finished_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; to be read, or copied and then edited."""
    return finished_run(tmp_path_factory.mktemp("finished") / "run")
