"""Every key of a protocol as Markdown tables, from the schema itself; docs/protocols.md holds them."""

import json
from typing import Any

from tapfm_eval.protocol.schema import Protocol

_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_BOUNDS = (
    ("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"), ("exclusiveMaximum", "below"),
)  # fmt: skip


def protocol_reference() -> str:
    """A section for each record of a protocol, in the order in which a reader meets them."""
    schema = Protocol.model_json_schema()
    records: dict[str, dict[str, Any]] = {"Protocol": schema}
    queue = [schema]
    while queue:
        record = queue.pop(0)
        for name in _referred(record.get("properties", {})):
            if name not in records:
                records[name] = schema["$defs"][name]
                queue.append(records[name])
    return "\n".join(_section(name, record) for name, record in records.items())


def _section(name: str, record: dict[str, Any]) -> str:
    required = record.get("required", [])
    rows = [
        f"| `{key}` | {_said(node)} | {'required' if key in required else _default(node)} | {_text(node)} |"
        for key, node in record["properties"].items()
    ]
    head = f"### {name}\n\n{' '.join(record['description'].split())}\n"
    return "\n".join([head, "| key | value | default | meaning |", "|---|---|---|---|", *rows, ""])


def _referred(node: Any) -> list[str]:
    """Names of the records that a part of the schema refers to, in order."""
    if isinstance(node, list):
        return [name for item in node for name in _referred(item)]
    if not isinstance(node, dict):
        return []
    if "$ref" in node:
        return [node["$ref"].rsplit("/", 1)[-1]]
    return [name for key, item in node.items() if key != "discriminator" for name in _referred(item)]


def _text(node: dict[str, Any]) -> str:
    return " ".join(str(node["description"]).split()).replace("|", "\\|")


def _default(node: dict[str, Any]) -> str:
    value = node.get("default")
    if value is None or value in ({}, []) or (isinstance(value, dict) and not _plain(value)):
        return "–"
    if isinstance(value, dict):
        return "its own defaults"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def _said(node: dict[str, Any]) -> str:
    """What may stand at a key, in words."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in node:
        return f"`{node['const']}`" if isinstance(node["const"], str) else str(node["const"])
    if "enum" in node:
        return ", ".join(f"`{item}`" if isinstance(item, str) else str(item) for item in node["enum"])
    for form in ("oneOf", "anyOf", "allOf"):
        if form in node:
            return " or ".join(_said(part) for part in node[form] if part.get("type") != "null")
    if node.get("type") == "array":
        return f"list of {_said(node['items'])}"
    if node.get("type") == "object":
        inner = node.get("additionalProperties")
        if not isinstance(inner, dict):
            named = node.get("patternProperties", {})
            inner = next(iter(named.values()), {})
        return f"mapping of name to {_said(inner)}"
    bounds = [f"{words} {node[key]:,}" for key, words in _BOUNDS if key in node]
    return " ".join([_TYPES.get(str(node.get("type")), "anything"), ", ".join(bounds)]).strip()
