"""Results as JSON text: frozen records to plain data, with null where a number does not exist."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

FORMAT = "tapfm-eval/results/1"


def plain(value: object) -> object:
    """Records as dictionaries, tuples as lists, NaN and infinity as null or text: what JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def results_json(results: object) -> str:
    """`results.json`: the format's name, then everything that the analysis found."""
    content = plain(results)
    assert isinstance(content, dict)
    return json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
