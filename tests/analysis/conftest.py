from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from analysis_study import Study, make_protocol

from tapfm_eval.results import Results


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("study"), make_protocol())


@pytest.fixture(scope="session")
def results(study: Study) -> Results:
    return study.results()


@pytest.fixture
def study_with(tmp_path: Path) -> Callable[..., Study]:
    """A study whose protocol or sizes differ."""

    def make(external: int = 60, rare: int = 6, **changes: Any) -> Study:
        return Study(tmp_path, make_protocol(**changes), external=external, rare=rare)

    return make
