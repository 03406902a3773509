"""`results.json` back to records, by the types that the records declare: what does not fit is no results file."""

import json
import math
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any

from tapfm_eval.results import Results


def read_results(text: str) -> Results:
    """The records of a `results.json`; raises ValueError for a name too many or too few, or a value of another type."""
    content = json.loads(text)
    content.pop("format")
    found: Results = _read(Results, content, "results")
    return found


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _read(inner, value, where)
    if origin is typing.Literal:
        return _checked(value in arguments, value, where)
    if origin is tuple:
        _checked(isinstance(value, list), value, where)
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        _checked(isinstance(value, dict), value, where)
        if odd := set(value) ^ set(names):
            raise ValueError(f"{where}: too many or too few names: {sorted(odd)}")
        hints = typing.get_type_hints(kind)
        return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in names})
    if kind is float:
        return {None: math.nan, "inf": math.inf, "-inf": -math.inf}[value] if value in (None, "inf", "-inf") else (
            float(_checked(isinstance(value, float | int), value, where))
        )  # fmt: skip
    return _checked(type(value) is kind, value, where)


def _checked(right: bool, value: Any, where: str) -> Any:
    if not right:
        raise ValueError(f"{where}: {str(value)[:200]}")
    return value
