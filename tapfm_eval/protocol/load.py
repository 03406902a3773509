"""YAML to Protocol: reads hostile files safely and reports every fault with file, key, expected, got and remedy."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tapfm_eval.errors import Problem, ProtocolError, did_you_mean
from tapfm_eval.protocol.schema import BINDING, FORMAT, RESERVED_TARGETS, AllAgainst, Protocol

MAX_BYTES = 1_000_000
_UNIONS = frozenset(
    {"adapt", "comparisons", "folds", "hypothesis", "operating_points", "regions"}
)  # keys of several forms
_UNION_TAGS = frozenset({"word", "record", "list", "last_blocks", "lora"})  # which form an error is about


class _Loader(yaml.SafeLoader):
    """SafeLoader that also refuses duplicate keys, merge keys and aliases: none has a meaning in a protocol."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias; aliases are not allowed", mark)
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, f"the tag {event.tag}", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            name = str(getattr(key_node, "value", key_node))
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {name!r}", key_node.start_mark)
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "a merge key `<<`", key_node.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def shorten(value: object, limit: int = 80) -> str:
    """`value` as one short line for a message."""
    try:
        text = json.dumps(value, default=str) if isinstance(value, dict | list) else repr(value)
    except (TypeError, ValueError):  # keys that JSON lacks, such as dates, and whole numbers of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def read_protocol(
    path: Path, *, backbones: Collection[str], findings: Collection[str] | None = None, as_run: bool = False
) -> Protocol:
    """The protocol that a YAML file states.

    Args:
        path: The file; messages name it as given.
        backbones: Names of the backbone cards that exist.
        findings: Codes of the audit findings that exist; None leaves `overrides` unchecked.
        as_run: The file is the resolved protocol of a run, whose rehearsal may have added the negative control.

    Raises:
        ProtocolError: With every problem of the file.
    """
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise ProtocolError(
            Problem(str(path), "a mapping of keys such as format, id, cohorts", f"a {type(content).__name__}",
                    "Start from protocols/luad.yaml.")
        )  # fmt: skip
    if content.get("format") != FORMAT:
        raise ProtocolError(
            Problem(f"{path}, format", FORMAT, shorten(content.get("format")), f"Write `format: {FORMAT}`.")
        )
    try:
        protocol = Protocol.model_validate(content)
    except ValidationError as error:
        details = [detail for detail in error.errors() if not (detail["type"] == "too_short" and detail.get("input"))]
        problems = [_problem(path, content, detail) for detail in details]
        raise ProtocolError(problems + list(_unknown_backbones(path, content, backbones))) from None
    problems = [*_unknown_backbones(path, content, backbones), *_contradictions(path, protocol, as_run),
                *_overrides(path, protocol, findings)]  # fmt: skip
    if problems:
        raise ProtocolError(problems)
    return protocol


def protocol_sha256(protocol: Protocol) -> str:
    """Hash of what the protocol says; comments and layout of the file do not count.

    The order of cohorts, targets and planted effects does: it is the order of the classifier's outputs and decides
    which effect stands for which target. Values at their default are left out, so that a key which a later release
    adds changes no protocol that does not use it.
    """
    content = protocol.model_dump(mode="json", exclude_defaults=True)
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def protocol_yaml(protocol: Protocol) -> str:
    """The resolved protocol as YAML: every default written out, keys that say nothing left out."""
    content = _without_nulls(protocol.model_dump(mode="json"))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _without_nulls(value: Any, key: str = "") -> Any:
    """The same data without absent keys; in `values` of a target null is a value: unknown."""
    if isinstance(value, dict):
        return {k: _without_nulls(v, k) for k, v in value.items() if v is not None or key == "values"}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def protocol_schema() -> dict[str, Any]:
    """JSON schema of a protocol, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Protocol.model_json_schema()}


def _read_yaml(path: Path) -> object:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ProtocolError(
                Problem(str(path), f"at most {MAX_BYTES:,} bytes", f"{size:,} bytes", "Is it a protocol?")
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ProtocolError(
            Problem(str(path), "a protocol file", error.strerror or str(error), "Check the path.")
        ) from None
    except UnicodeDecodeError as error:
        raise ProtocolError(
            Problem(f"{path}, byte {error.start}", "UTF-8 text", "other bytes", "Save the file as UTF-8 text.")
        ) from None
    try:
        # _Loader is a SafeLoader: it builds plain data only and runs no code.
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        tag = "tag" in (error.problem or "")
        remedy = "Remove the tag: a protocol holds plain data only." if tag else "Mend the YAML at this place."
        raise ProtocolError(Problem(where, "plain YAML", error.problem or "a syntax error", remedy)) from None
    except yaml.YAMLError as error:
        raise ProtocolError(
            Problem(str(path), "plain YAML", shorten(str(error).splitlines()[0]), "Save the file as plain text.")
        ) from None
    except (RecursionError, ValueError) as error:
        got = "nesting too deep" if isinstance(error, RecursionError) else shorten(str(error))
        raise ProtocolError(Problem(str(path), "plain YAML", got, "Mend the YAML.")) from None


def _without_tags(location: Sequence[int | str]) -> list[int | str]:
    """`location` as the file spells it: pydantic names the form of a union after the union's own key."""
    kept: list[int | str] = []
    before = ""  # the last name, a form's included: the key `lora` within the form `lora` is a key
    for part in location:
        if not (part in _UNION_TAGS and before in _UNIONS):
            kept.append(part)
        before = before if isinstance(part, int) else part
    return kept


def _key(location: Sequence[int | str]) -> str:
    parts = ""
    for part in _without_tags(location):
        if isinstance(part, int):
            parts += f"[{part}]"
        else:
            name = part if part.isprintable() else repr(part)  # no control characters on a terminal
            parts += f".{name}" if parts else name
    return parts


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [a for a in _flatten(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]


def _known_keys(location: Sequence[int | str]) -> list[str]:
    """The keys that the records at `location` (without its last part) may have."""
    current: Any = Protocol
    for part in _without_tags(location)[:-1]:
        having = [model for model in _models(current) if part in model.model_fields]
        if having:  # else `part` is an index, or the name of a cohort or target
            current = having[0].model_fields[str(part)].annotation
    return [name for model in _models(current) for name in model.model_fields]


def _flatten(annotation: Any) -> Iterable[Any]:
    arguments = get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from _flatten(argument)


def _problem(path: Path, content: dict[Any, Any], detail: Any) -> Problem:
    location, kind = detail["loc"], detail["type"]
    where = f"{path}, {_key(location)}" if location else str(path)
    context = detail.get("ctx", {})
    if kind == "missing":
        return Problem(where, "this key", "nothing", f"Add `{location[-1]}:`.")
    if kind == "extra_forbidden":
        known = _known_keys(location)
        remedy = did_you_mean(str(location[-1]), known) or "Remove it, or correct its spelling."
        return Problem(where, f"one of the keys {', '.join(known)}" if known else "a known key", "an unknown key",
                       remedy)  # fmt: skip
    got = shorten(detail.get("input"))
    if kind == "value_error":
        message = str(context.get("error", detail["msg"]))
        return Problem(where, message.removeprefix("expected "), got, "Correct the value.")
    if kind in ("literal_error", "enum"):
        return Problem(where, str(context.get("expected", "another value")), got, "Use one of these.")
    if kind == "string_pattern_mismatch":
        expected = f"text that matches {context.get('pattern')}"
        numbered = location[-1] == "version"
        remedy = "Write three numbers: 1.0.0." if numbered else "Use letters, digits, dots, hyphens and underscores."
        return Problem(where, expected, got, remedy)
    remedy = "Put the value in quotes." if kind == "string_type" and not isinstance(detail.get("input"), dict) else ""
    message = (detail["msg"][0].lower() + detail["msg"][1:]).split(", unable to parse")[0]
    for prefix in ("input should be ", "value should have ", "input should have "):
        message = message.removeprefix(prefix)
    return Problem(where, message, got, remedy or "Correct the value.")


def _unknown_backbones(path: Path, content: dict[Any, Any], backbones: Collection[str]) -> Iterable[Problem]:
    arms = content.get("arms")
    for i, arm in enumerate(arms if isinstance(arms, list) else []):
        name = arm.get("backbone") if isinstance(arm, dict) else None
        if isinstance(name, str) and name not in backbones:
            remedy = did_you_mean(name, backbones) or "`tapfm-eval backbones list` prints the known ones."
            yield Problem(
                f"{path}, arms[{i}].backbone", f"one of {', '.join(sorted(backbones))}", shorten(name), remedy
            )


def _contradictions(path: Path, protocol: Protocol, as_run: bool) -> Iterable[Problem]:
    """Faults that only show when parts of the protocol are held against each other."""
    arms = [arm.id for arm in protocol.arms]

    def known(key: str, value: str, names: Collection[str], what: str) -> Iterable[Problem]:
        if value not in names:
            remedy = did_you_mean(value, names) or f"Declare it under {what}."
            yield Problem(f"{path}, {key}", f"a name under {what}: {', '.join(names)}", shorten(value), remedy)

    development = [name for name, cohort in protocol.cohorts.items() if cohort.role == "development"]
    if len(development) != 1:
        yield Problem(f"{path}, cohorts", "exactly one cohort with role development",
                      f"{len(development)}", "Give the others `role: external`.")  # fmt: skip
    for what, names in (("arms", arms), ("cohorts", list(protocol.cohorts)), ("targets", list(protocol.targets))):
        folded = [name.casefold() for name in names]
        for name in sorted({name for name in names if folded.count(name.casefold()) > 1}):
            yield Problem(f"{path}, {what}", "names that differ by more than case", name, "Rename one of them.")
    if len(set(protocol.seeds)) != len(protocol.seeds):
        yield Problem(f"{path}, seeds", "different seeds", shorten(list(protocol.seeds)), "Remove the repeated one.")
    for name, declared in protocol.cohorts.items():
        if declared.expected is not None:
            key = f"cohorts.{name}.expected.prevalence"
            for target in declared.expected.prevalence:
                yield from known(key, target, protocol.targets, "targets")
            for target in protocol.targets:
                if target not in declared.expected.prevalence:
                    yield Problem(f"{path}, {key}.{target}", "the share of positive patients of every target",
                                  "nothing", f"Add `{target}: 0.1`, or what you expect.")  # fmt: skip
    for target, plan in protocol.targets.items():
        if target in RESERVED_TARGETS and not as_run:
            yield Problem(f"{path}, targets.{target}", "a name that is not reserved", target, "Rename the target.")
        for cohort in plan.columns:
            yield from known(f"targets.{target}.columns", cohort, protocol.cohorts, "cohorts")
    if not as_run:  # a rehearsal's own protocol states the same rates for all arms
        yield from _without_effect(path, protocol)
    primary = protocol.analysis.primary
    if primary is not None:
        yield from known("analysis.primary.target", primary.target, protocol.targets, "targets")
        yield from known("analysis.primary.cohort", primary.cohort, protocol.cohorts, "cohorts")
        yield from known("analysis.primary.arm", primary.arm, arms, "arms")
        yield from known("analysis.primary.versus", primary.versus, arms, "arms")
        if primary.arm == primary.versus:
            yield Problem(f"{path}, analysis.primary.versus", "another arm than `arm`", shorten(primary.versus),
                          "Name the arm to compare with.")  # fmt: skip
    for i, family in enumerate(protocol.analysis.families):
        if isinstance(family.comparisons, AllAgainst):
            key = f"analysis.families[{i}].comparisons.all_against"
            yield from known(key, family.comparisons.all_against, arms, "arms")
    for target in protocol.rehearsal.planted:
        yield from known("rehearsal.planted", target, protocol.targets, "targets")


def _overrides(path: Path, protocol: Protocol, findings: Collection[str] | None) -> Iterable[Problem]:
    """Overrides of findings that do not exist, that nobody can accept, or that are accepted twice."""
    codes = [override.finding for override in protocol.overrides]
    for i, code in enumerate(codes):
        if findings is not None and code not in findings:
            remedy = did_you_mean(code, findings) or "`tapfm-eval audit` prints the code of each finding."
            yield Problem(f"{path}, overrides[{i}].finding", "the code of an audit finding", shorten(code), remedy)
        elif code in BINDING:
            expected = "a finding that can be accepted: faults of the files cannot, no run could load them"
            remedy = "Take the override out, and mend what the audit finds."
            yield Problem(f"{path}, overrides[{i}].finding", expected, shorten(code), remedy)
        elif code in codes[:i]:
            yield Problem(f"{path}, overrides[{i}].finding", "each finding once", shorten(code), "Unite the reasons.")


def _without_effect(path: Path, protocol: Protocol) -> Iterable[Problem]:
    """Settings of an arm that its own aggregator or adaptation never reads; a protocol may not state them."""
    for i, arm in enumerate(protocol.arms):
        idle: dict[str, str] = {}
        if arm.adapt == "frozen":
            kernels = ("fused_attention", "compile_blocks")  # all frozen arms read one store of embeddings
            idle |= dict.fromkeys(kernels, "adapt: frozen")
            idle |= dict.fromkeys(("lr_backbone", "drop_path", "augment", "lambda_attention"), "adapt: frozen")
        if arm.aggregator != "tapfm":
            names = ("lambda_attention", "temperature", "layer_norm")
            idle |= dict.fromkeys(names, f"aggregator: {arm.aggregator}")
        for name, why in idle.items():
            if getattr(arm.training, name) is not None:
                yield Problem(f"{path}, arms[{i}].training.{name}", f"a setting that {arm.id} uses", why, "Remove it.")
