"""The difference of two protocols, key by key, every default written out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapfm_eval.protocol.schema import Protocol

_BY_ID = {"arms": "id", "families": "name", "overrides": "finding"}  # lists whose items have names of their own
_ORDERED = ("cohorts", "targets", "planted")  # mappings whose order decides results


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that two protocols state differently."""

    key: str  # `arms[tapfm-uni].tiles_per_slide`
    first: Any  # plain data; None where the key is absent or says nothing
    second: Any


def protocol_difference(first: Protocol, second: Protocol) -> tuple[Difference, ...]:
    """Every key that differs, in the order of the protocol; arms are matched by id, not by position.

    An arm, cohort or target that only one of them has is one difference, with all that it says. Where only the order of
    cohorts, targets, planted effects or arms differs, that is one too: it decides results.
    """
    a, b = (protocol.model_dump(mode="json") for protocol in (first, second))
    return tuple(_compare("", "", a, b))


def _compare(key: str, name: str, first: Any, second: Any) -> list[Difference]:
    if name in _BY_ID and isinstance(first, list) and isinstance(second, list):
        named = [{item[_BY_ID[name]]: item for item in side} for side in (first, second)]
        if all(len(by_name) == len(side) for by_name, side in zip(named, (first, second), strict=True)):
            return _mappings(key, named[0], named[1], ordered=True, form="{key}[{name}]")
    if isinstance(first, dict) and isinstance(second, dict):
        return _mappings(key, first, second, ordered=name in _ORDERED, form="{key}.{name}" if key else "{name}")
    return [] if first == second else [Difference(key, first, second)]


def _mappings(
    key: str, first: Mapping[str, Any], second: Mapping[str, Any], *, ordered: bool, form: str
) -> list[Difference]:
    found = []
    for name in dict.fromkeys([*first, *second]):
        at = form.format(key=key, name=name)
        if name in first and name in second:
            found += _compare(at, name, first[name], second[name])
        else:
            found.append(Difference(at, first.get(name), second.get(name)))
    orders = [[name for name in side if name in other] for side, other in ((first, second), (second, first))]
    if ordered and orders[0] != orders[1]:
        found.append(Difference(f"{key} (order)", orders[0], orders[1]))
    return found
