"""docs/statistics.md lists every public function with its whole signature; the examples in docstrings hold."""

import doctest
import importlib
import inspect
import math
import pkgutil
import re
from pathlib import Path

import pytest

import tapfm_eval.statistics as package

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
FUNCTIONS = sorted(name for name, value in vars(package).items() if inspect.isfunction(value))
MODULES = [importlib.import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)]
WITH_EXAMPLES = [module for module in MODULES if ">>>" in inspect.getsource(module)]


def written(function):
    """The signature as the page writes it: names, defaults, the star before keywords."""
    parts = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            parts.append(f"**{parameter.name}")
        elif default is parameter.empty:
            parts.append(parameter.name)
        else:
            parts.append((parameter.name, default))
    return parts


def read(text):
    """The same from the page."""
    pairs = (part.partition("=") for part in text.split(", "))
    return [(name, eval(value, {"inf": math.inf})) if equals else name for name, equals, value in pairs]  # noqa: S307


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_is_listed_with_its_signature(name):
    (found,) = re.findall(
        rf"`{name}\(([^`]*)\)`", PAGE[PAGE.index("## Functions") : PAGE.index("## Where the default")]
    )
    assert read(found) == written(getattr(package, name))


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_examples_in_docstrings_hold(module):
    tried = doctest.testmod(module)
    assert tried.attempted > 0
    assert tried.failed == 0
