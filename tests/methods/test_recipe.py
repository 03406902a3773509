"""The recipe of an arm: the paper's, then the protocol's departures, then the arm's own; nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapfm_eval.methods.recipe import (
    Recipe,
    paper_recipe,
    recipe_sha256,
    recipe_words,
    resolve_recipe,
    states_micro_batch,
)
from tapfm_eval.protocol.schema import Arm, Protocol

BASE: dict[str, Any] = {
    "format": "tapfm-eval/protocol/1", "id": "p", "version": "1.0.0", "title": "t", "intended_use": "u", "seeds": [1],
    "cohorts": {"dev": {"role": "development", "manifest": "m.csv", "split": "s.csv"}}, "targets": {"A": {}},
}  # fmt: skip


def recipe(arm: dict[str, Any], training: dict[str, Any] | None = None) -> Recipe:
    given = {"id": "a", "backbone": "uni", "aggregator": "tapfm", "adapt": "full", **arm}
    protocol = Protocol.model_validate({**BASE, "arms": [given], "training": training or {}})
    return resolve_recipe(protocol, protocol.arms[0])


def test_the_preset_is_the_papers() -> None:
    """arXiv 2506.05184: AdamW, 1e-6 and 1e-5, decay 1e-4, cosine restarts T0 = 10, 20 epochs, T = 0.1, lambda 1."""
    tapfm = recipe({})
    assert (tapfm.lr_backbone, tapfm.lr_aggregator, tapfm.weight_decay) == (1e-6, 1e-5, 1e-4)
    assert (tapfm.epochs, tapfm.restart_epochs, tapfm.temperature, tapfm.lambda_attention) == (20, 10, 0.1, 1.0)
    assert tapfm.restart_growth == 2
    assert (tapfm.label_smoothing, tapfm.layer_norm, tapfm.augment) == (0.1, True, True)
    assert recipe({"aggregator": "abmil"}).epochs == 50
    assert recipe({"aggregator": "abmil"}).lambda_attention == 0


def test_the_docs_print_the_preset() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    arms = [recipe({}), recipe({"aggregator": "abmil"}), recipe({"aggregator": "abmil", "adapt": "frozen"})]
    for name in Recipe.__dataclass_fields__:
        assert f"| `{name}` | " + " | ".join(json.dumps(getattr(arm, name)) for arm in arms) + " |" in text
    assert recipe({"adapt": "frozen"}).epochs == 20


def test_a_recipe_of_other_numbers_has_another_hash_and_its_line_is_yaml() -> None:
    one, other = recipe({}), recipe({"training": {"epochs": 21}})
    assert recipe_sha256(one) != recipe_sha256(other)
    assert recipe_sha256(one) == recipe_sha256(recipe({}))
    assert yaml.safe_load(f"{{{recipe_words(other)}}}")["epochs"] == 21


def test_an_arms_own_setting_wins_over_the_protocols_and_that_over_the_preset() -> None:
    training = {"epochs": 7, "temperature": 0.5}
    assert recipe({}, training).epochs == 7
    own = recipe({"training": {"epochs": 3}}, training)
    assert (own.epochs, own.temperature, own.lr_backbone) == (3, 0.5, 1e-6)
    assert recipe({"training": {"layer_norm": False}}).layer_norm is False


def test_a_micro_batch_that_nobody_states_is_the_machines() -> None:
    given = {"id": "a", "backbone": "uni", "aggregator": "tapfm", "adapt": "full"}
    for arm, training, stated in (({}, {}, False), ({"micro_batch": 4}, {}, True), ({}, {"micro_batch": 4}, True)):
        protocol = Protocol.model_validate({**BASE, "arms": [{**given, "training": arm}], "training": training})
        assert states_micro_batch(protocol, protocol.arms[0]) is stated
    assert recipe({}).micro_batch == 16  # of a CPU


def test_settings_that_cannot_apply_are_off() -> None:
    frozen = recipe({"adapt": "frozen"}, {"augment": True, "drop_path": 0.2, "lambda_attention": 0.5})
    assert (frozen.augment, frozen.drop_path, frozen.lambda_attention) == (False, 0.0, 0.0)
    assert recipe({"aggregator": "abmil"}, {"lambda_attention": 0.5}).lambda_attention == 0
    assert recipe({}, {"lambda_attention": 0.5}).lambda_attention == 0.5


@pytest.mark.parametrize("name", Recipe.__dataclass_fields__)
def test_every_setting_of_the_schema_reaches_the_recipe(name: str) -> None:
    """A parameter that is accepted and ignored would be a lie."""
    whole = {"epochs": 3, "restart_epochs": 4, "restart_growth": 1, "micro_batch": 5}
    switches = {"layer_norm": False, "augment": False, "fused_attention": False, "compile_blocks": True}
    changed = (whole | switches).get(name, 0.03)
    before, after = recipe({}), recipe({"training": {name: changed}})
    assert getattr(after, name) == changed != getattr(before, name)
    others = [field for field in Recipe.__dataclass_fields__ if field != name]
    assert all(getattr(before, field) == getattr(after, field) for field in others)
    assert before == paper_recipe(Arm(id="a", backbone="uni", aggregator="tapfm", adapt="full"))
