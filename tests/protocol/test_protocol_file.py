"""A protocol file is read safely, and every fault of it is reported with where, expected, got and remedy."""

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.errors import ProtocolError
from tapfm_eval.protocol.load import protocol_schema, protocol_sha256, protocol_yaml, read_protocol
from tapfm_eval.protocol.schema import Protocol

SHIPPED = Path(__file__).resolve().parents[2] / "protocols"
LUAD = (SHIPPED / "luad.yaml").read_text(encoding="utf-8")
PLAIN: dict[str, Any] = yaml.safe_load(LUAD)


def read(path: Path) -> Protocol:
    return read_protocol(path, backbones=CARDS)


@pytest.fixture
def faults(tmp_path: Path) -> Callable[..., str]:
    """What is said about a protocol that must be refused; checks the form of every problem."""

    def refuse(content: str | bytes | dict[str, Any]) -> str:
        path = tmp_path / "p.yaml"
        if isinstance(content, dict):
            content = yaml.safe_dump(content, sort_keys=False)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(ProtocolError) as error:
            read(path)
        for problem in error.value.problems:
            assert problem.where.startswith(str(path))
            assert problem.expected
            assert problem.got
            assert problem.remedy.endswith((".", "?"))
            assert len(str(problem)) < 1500
        assert error.value.exit_code == 2
        return str(error.value).replace(str(tmp_path) + os.sep, "")

    return refuse


def changed(*keys: str | int, to: Any) -> dict[str, Any]:
    """The shipped protocol with the value at `keys` replaced."""
    content = copy.deepcopy(PLAIN)
    place = content
    for key in keys[:-1]:
        place = place[key]  # type: ignore[index]
    place[keys[-1]] = to  # type: ignore[index]
    return content


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_protocol_is_read(path: Path) -> None:
    protocol = read(path)
    assert protocol.id == path.stem
    assert protocol.development in protocol.cohorts
    assert set(protocol.rehearsal.planted) <= set(protocol.targets)


def test_the_shipped_protocol_says_what_it_says() -> None:
    protocol = read(SHIPPED / "luad.yaml")
    assert (protocol.development, protocol.external) == ("tcga-luad", ("cptac-luad",))
    assert list(protocol.targets) == ["EGFR", "KRAS", "STK11", "TP53"]
    assert [arm.backbone for arm in protocol.arms] == ["h-optimus-0", "uni", "h-optimus-0", "h-optimus-0"]
    assert protocol.column("EGFR", "cptac-luad") == "EGFR"
    with pytest.raises(ValueError, match="frozen"):
        protocol.id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "where", "said"),
    [
        (changed("traning", to={}), "p.yaml, traning: ", "Did you mean `training`?"),
        (changed("arms", 0, "tile_per_slide", to=3), "arms[0].tile_per_slide", "Did you mean `tiles_per_slide`?"),
        (changed("cohorts", "tcga-luad", "manifst", to="x"), "cohorts.tcga-luad.manifst", "Did you mean `manifest`?"),
        (changed("arms", 1, "adapt", to={"lora": {"rnk": 8}}), "arms[1].adapt.lora.rnk", "Did you mean `rank`?"),
        (changed("analysis", "primary", "agianst", to="x"), "analysis.primary.agianst", "an unknown key"),
        (changed("arms", 0, "adapt", to={"last_blocks": 0}), "arms[0].adapt.last_blocks", "greater than or equal to 1"),
        (changed("arms", 0, "adapt", to="half"), "arms[0].adapt", "'frozen' or 'full'"),
        (changed("arms", 0, "adapt", to={"lora": {}, "last_blocks": 2}), "arms[0].adapt.last_blocks", "unknown key"),
        (changed("arms", 0, "backbone", to="h-optimus0"), "arms[0].backbone", "Did you mean `h-optimus-0`?"),
        (
            changed("arms", 0, "backbone", to="h-optimus-O"),
            "arms[0].backbone",
            "Did you mean `h-optimus-0` or `h-optimus-1`?",
        ),
        (changed("arms", 0, "backbone", to="resnet"), "arms[0].backbone", "tapfm-eval backbones list"),
        (changed("arms", 0, "aggregator", to="abmli"), "arms[0].aggregator", "one of tapfm, abmil"),
        (changed("seeds", to=[]), "seeds", "at least 1 item"),
        (changed("seeds", to=[True]), "seeds", "not true or false"),
        (changed("seeds", to=[1, 1]), "seeds", "different seeds"),
        (changed("seeds", to=[-1]), "seeds[0]", "greater than or equal to 0"),
        (changed("seeds", to=["one"]), "seeds[0]", "'one'"),
        (changed("tiles", "min_tissue", to=True), "tiles.min_tissue", "not true or false"),
        (changed("tiles", "mpp", to="fine"), "tiles.mpp", "valid number"),
        (changed("tiles", "mpp", to=float("nan")), "tiles.mpp", "got nan"),
        (changed("analysis", "level", to=1.5), "analysis.level", "less than 1"),
        (changed("version", to=1.0), "version", "Put the value in quotes."),
        (changed("version", to="1.0"), "version", "Write three numbers: 1.0.0."),
        (changed("id", to="../escape"), "p.yaml, id", "Use letters, digits"),
        (changed("format", to="tapfm-eval/protocol/2"), "p.yaml, format", "Write `format: tapfm-eval/protocol/1`."),
        (changed("format", to={1: 2}), "p.yaml, format", "tapfm-eval/protocol/1"),
        (changed("targets", "NULL", to={}), "targets.NULL", "not reserved"),
        (changed("targets", "macro", to={}), "targets.macro", "not reserved"),
        (changed("targets", "egfr", to={}), "p.yaml, targets: ", "differ by more than case"),
        (changed("targets", "EGFR", to={"columns": {"tcga": "E"}}), "targets.EGFR.columns", "mean `tcga-luad`?"),
        (changed("targets", "EGFR", to={"values": {"mut": 2}}), "targets.EGFR.values.mut", "0 or 1"),
        (changed("targets", to={}), "targets", "at least 1 item"),
        (changed("cohorts", "cptac-luad", "role", to="development"), "cohorts.cptac-luad", "needs `split`"),
        (changed("cohorts", "cptac-luad", "split", to="s.csv"), "cohorts.cptac-luad", "no `split` and no `folds`"),
        (changed("cohorts", "tcga-luad", "folds", to=[0, 0]), "cohorts.tcga-luad", "different fold numbers"),
        (changed("cohorts", "tcga-luad", "folds", to=[-1]), "cohorts.tcga-luad.folds[0]", "greater than or equal"),
        (changed("analysis", "primary", "arm", to="tapfm-hoptimus"), "analysis.primary.arm", "`tapfm-hoptimus0`?"),
        (changed("analysis", "primary", "versus", to="tapfm-hoptimus0"), "analysis.primary.versus", "another arm"),
        (changed("analysis", "primary", "hypothesis", to={"non_inferiority": {"margin": 2}}),
         "analysis.primary.hypothesis.non_inferiority.margin", "less than 0.5"),
        (changed("analysis", "families", 0, "comparisons", to={"all_against": "x"}),
         "analysis.families[0].comparisons.all_against", "Declare it under arms."),
        (changed("analysis", "operating_points", 0, to={"at_npv": 0.9, "at_ppv": 0.9}),
         "analysis.operating_points[0]", "exactly one of"),
        (changed("analysis", "operating_points", 2, to="yuoden"), "analysis.operating_points[2]", "'youden'"),
        (changed("rehearsal", "planted", "ALK", to=0.9), "rehearsal.planted", "Declare it under targets."),
        (changed("rehearsal", "planted", "EGFR", to=0.4), "rehearsal.planted.EGFR", "greater than 0.5"),
        (changed("arms", 2, "training", to={"lambda_attention": 1.0}) | {"arms": [
            {"id": "a", "backbone": "uni", "aggregator": "tapfm", "adapt": "frozen",
             "training": {"lambda_attention": 1.0}}], "analysis": {}}, "arms[0].training.lambda_attention", "frozen"),
        (changed(1, to=2), "p.yaml, [1]", "keys should be strings"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_key_and_a_remedy(
    faults: Callable[..., str], content: dict[str, Any], where: str, said: str
) -> None:
    text = faults(content)
    assert where in text
    assert said in text


def test_all_problems_of_a_file_are_reported_at_once(faults: Callable[..., str]) -> None:
    content = changed("arms", 0, "backbone", to="resnet")
    content["titel"] = content.pop("title")
    content["seeds"] = ["x"]
    content["tiles"]["mpp"] = -1
    content["analysis"]["multiplicity"] = "bonferoni"
    text = faults(content)
    for key in (
        "title: expected this key",
        "titel: ",
        "seeds[0]",
        "tiles.mpp",
        "analysis.multiplicity",
        "arms[0].back",
    ):
        assert f"p.yaml, {key}" in text
    assert len(text.splitlines()) == 6


def test_all_contradictions_are_reported_at_once(faults: Callable[..., str]) -> None:
    content = changed("analysis", "primary", to={"target": "X", "cohort": "Y", "arm": "Z", "versus": "Z"})
    content["seeds"] = [1, 1]
    assert len(faults(content).splitlines()) == 6


class Marker:
    """Unpickling or constructing this from YAML would show."""

    made = 0

    def __init__(self, *_: object) -> None:
        Marker.made += 1


@pytest.mark.parametrize(
    "tag",
    [
        f"!!python/object:{__name__}.Marker {{}}",
        f"!!python/object/apply:{__name__}.Marker []",
        f"!!python/object/new:{__name__}.Marker []",
        "!!python/object/apply:os.system ['exit 1']",
        "!!python/name:os.system",
        "!Marker {}",
    ],
)
def test_a_yaml_tag_is_refused_with_its_place_and_runs_nothing(faults: Callable[..., str], tag: str) -> None:
    text = faults(LUAD.replace("overrides: []", f"overrides: {tag}"))
    line = LUAD.splitlines().index("overrides: []") + 1
    assert f"p.yaml, line {line}, column 12: expected plain YAML" in text
    assert "Remove the tag" in text
    assert Marker.made == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: [1]", "seeds: [1]\nseeds: [2]", "duplicate key 'seeds'"),
        ("{policy: exclude,", "{policy: exclude, policy: stop,", "duplicate key 'policy'"),
        ("overrides: []", "overrides: &a []\nx: *a", "aliases are not allowed"),
        ("overrides: []", "<<: {overrides: []}", "a merge key `<<`"),
        ("seeds: [1]", "seeds: [1", "line 9"),
        ("seeds: [1]", "seeds: [1]\n\tx: 1", "line 9"),
        ("overrides: []", "? [1, 2]\n: 3", "unhashable key"),
        ("seeds: [1]", "seeds: 2020-99-99", "p.yaml"),
        ("version: 1.0.0", "version: 0x" + "F" * 6000, "version"),
        ("seeds: [1]", "seeds: [" + "9" * 5000 + "]", "p.yaml"),
        ("format: tapfm-eval/protocol/1", "format: {2020-01-01: 1}", "p.yaml, format"),
        ("overrides: []", "overrides: {2020-01-01: 1}", "overrides"),
        ("overrides: []", "overrides: !!binary aGk=", "tag"),
        ("overrides: []", "overrides: !!set {a, b}", "tag"),
        ("overrides: []", "overrides: " + "[" * 150 + "]" * 150, "overrides"),
        ("id: luad", 'id: "a\\0b"', "p.yaml, id"),
        ("overrides: []", '"\\e[31m": 1', "'\\x1b[31m'"),
        ("overrides: []", '"\\ud800": 1', "\\ud800"),
    ],
)  # fmt: skip
def test_yaml_that_means_more_than_plain_data_is_refused(
    faults: Callable[..., str], old: str, new: str, said: str
) -> None:
    assert LUAD.count(old) == 1
    text = faults(LUAD.replace(old, new))
    assert said in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a mapping of keys"),
        (b"# nothing but a comment\n", "a mapping of keys"),
        (b"- a\n- b\n", "a list"),
        (b"just text", "a str"),
        (b"\xff\xfe\x00bad", "UTF-8 text"),
        (LUAD.encode("utf-16"), "UTF-8 text"),
        (b"format: \xe9", "byte 8"),
        (b"\x00\x01\x02", "plain YAML"),
        (b"\x89PNG\r\n\x1a\n", "UTF-8 text"),
        (b"[" * 5000, "nesting too deep"),
        (b"a: " * 400, "plain YAML"),
        (b"# x\n" * 300_000, "at most 1,000,000 bytes"),
    ],
)
def test_bytes_that_are_no_protocol_are_refused(faults: Callable[..., str], content: bytes, said: str) -> None:
    assert said in faults(content)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.binary(max_size=120))
def test_random_bytes_are_refused_in_words(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("p") / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(ProtocolError):
        read(path)


JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=4)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(), st.dates()), inner, max_size=3),
    ),
    max_leaves=6,
)
PLACES = [(key,) for key in PLAIN] + [
    ("arms", 0), ("arms", 1, "adapt"), ("arms", 0, "aggregator"), ("cohorts", "tcga-luad"), ("targets", "EGFR"),
    ("cohorts", "tcga-luad", "folds"), ("analysis", "primary"), ("analysis", "primary", "hypothesis"),
    ("analysis", "families", 0, "comparisons"), ("analysis", "operating_points", 0), ("rehearsal", "planted"),
]  # fmt: skip


@settings(max_examples=150, derandomize=True, deadline=None)
@given(place=st.sampled_from(PLACES), junk=JUNK)
def test_junk_anywhere_is_accepted_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str | int, ...], junk: object
) -> None:
    path = tmp_path_factory.mktemp("p") / "p.yaml"
    path.write_text(yaml.safe_dump(changed(*place, to=junk), sort_keys=False), encoding="utf-8")
    try:
        protocol = read(path)
    except ProtocolError as error:
        said = str(error)
    else:
        said = f"{path}: {protocol.id}"
    assert str(path) in said
    assert said.isascii() or said.encode()


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ProtocolError, match="Check the path"):
            read(path)


def test_the_hash_ignores_comments_and_layout_but_not_the_order_of_targets(tmp_path: Path) -> None:
    def sha(text: str) -> str:
        path = tmp_path / "p.yaml"
        path.write_text(text, encoding="utf-8")
        return protocol_sha256(read(path))

    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            names = list(value) if value.keys() & {"EGFR", "tcga-luad"} else list(reversed(value))
            return {key: backwards(value[key]) for key in names}
        return [backwards(item) for item in value] if isinstance(value, list) else value

    plain = sha(LUAD)
    assert re.fullmatch(r"[0-9a-f]{64}", plain)
    assert sha(re.sub(r"#.*", "", LUAD)) == plain
    assert sha("\ufeff" + LUAD.replace("\n", "\r\n")) == plain
    assert sha(yaml.safe_dump(PLAIN, sort_keys=False)) == plain
    assert sha(yaml.safe_dump(backwards(PLAIN), sort_keys=False)) == plain
    assert sha(yaml.safe_dump(changed("arms", 0, "training", to={}), sort_keys=False)) == plain, (
        "a default that is written out"
    )
    for other in (
        changed("seeds", to=[2]), changed("title", to="x"), changed("analysis", "level", to=0.9),
        changed("arms", to=PLAIN["arms"][::-1]), changed("arms", 0, "training", to={"epochs": 3}),
    ):  # fmt: skip
        assert sha(yaml.safe_dump(other, sort_keys=False)) != plain
    # the order of targets is the order of the classifier's outputs, and decides which effect a rehearsal plants
    turned = changed("targets", to=dict(reversed(PLAIN["targets"].items())))
    assert sha(yaml.safe_dump(turned, sort_keys=False)) != plain


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_resolved_protocol_comes_back_the_same(tmp_path: Path, path: Path) -> None:
    protocol = read(path)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(protocol_yaml(protocol), encoding="utf-8")
    again = read(resolved)
    assert again == protocol
    assert list(again.targets) == list(protocol.targets)
    assert protocol_sha256(again) == protocol_sha256(protocol)
    assert protocol_yaml(again) == protocol_yaml(protocol)
    assert "failures:\n  policy: exclude\n  max_share: 0.02\n" in protocol_yaml(protocol)


def test_defaults_are_written_out_and_an_unknown_label_stays_null(tmp_path: Path) -> None:
    content = {
        key: PLAIN[key] for key in ("format", "id", "version", "title", "intended_use", "seeds", "cohorts", "arms")
    }
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({**content, "targets": {"EGFR": {"values": {"mut": 1, "odd": None}}}}), "utf-8")
    protocol = read(path)
    resolved = protocol_yaml(protocol)
    for default in ("min_per_class: 3", "level: 0.95", "tile_px: 224", "policy: exclude", "preset: paper"):
        assert default in resolved
    path.write_text(resolved, encoding="utf-8")
    assert read(path) == protocol
    assert read(path).targets["EGFR"].values == {"mut": 1, "odd": None}


def resolve(schema: dict[str, Any], reference: str) -> Any:
    place: Any = schema
    for part in reference.removeprefix("#/").split("/"):
        place = place[part]
    return place


def test_the_json_schema_is_whole_and_says_what_the_records_say() -> None:
    schema = protocol_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema == json.loads(json.dumps(schema))
    used = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(schema)))
    assert used
    for reference in used:
        assert resolve(schema, reference)["type"] in ("object", "string", "array")
    records = {model.__name__: model for model in _records()}
    for name, definition in {**schema["$defs"], "Protocol": schema}.items():
        assert definition["additionalProperties"] is False
        assert set(definition["properties"]) == set(records[name].model_fields)
        required = {key for key, field in records[name].model_fields.items() if field.is_required()}
        assert set(definition.get("required", [])) == required


def _records() -> list[type[BaseModel]]:
    from tapfm_eval.protocol import schema

    return [value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, BaseModel)]
