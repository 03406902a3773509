"""docs/statistics.md lists every public function with the arguments that it has."""

import inspect
import re
from pathlib import Path

import pytest

import tapfm_eval.statistics as package

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
FUNCTIONS = sorted(name for name, value in vars(package).items() if inspect.isfunction(value))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_is_listed_with_its_arguments(name):
    assert f"`{name}" in PAGE
    written = re.search(rf"`{name}\(([^`]*)\)`", PAGE)
    if written is None or "..." in written.group(1):
        return  # named only; its signature is on the page about AUROCs
    documented = [part.split("=")[0] for part in written.group(1).split(", ") if part != "*"]
    assert documented == list(inspect.signature(getattr(package, name)).parameters)
