"""The table of arms holds every number of every recipe, once."""

from dataclasses import fields

from example import example_inputs

from tapfm_eval.methods.recipe import Recipe, resolve_recipe
from tapfm_eval.protocol.schema import Protocol
from tapfm_eval.report.blocks import Table
from tapfm_eval.report.sections.arms import arms_table


def changed(**changes: object) -> Protocol:
    content = example_inputs().protocol.model_dump(mode="json", exclude_none=True)
    content["arms"][0]["training"] = changes
    return Protocol.model_validate(content)


def shown(table: Table) -> list[str]:
    return [column.header for column in table.columns if column.shown]


def test_every_field_of_a_recipe_is_a_column_of_the_csv() -> None:
    names = [name for column in arms_table(example_inputs().protocol).columns for name in column.names]
    assert {field.name for field in fields(Recipe)} <= set(names)
    assert len(names) == len(set(names))


def test_a_setting_that_all_arms_share_stands_in_the_note_and_one_that_differs_in_a_column() -> None:
    same, other = arms_table(example_inputs().protocol), arms_table(changed(temperature=0.2))
    assert "temperature 0.1" in same.note
    assert "Temperature" not in shown(same)
    assert "temperature" not in other.note
    assert "Temperature" in shown(other)
    column = [c.header for c in other.columns].index("Temperature")
    assert [row[column].text for row in other.groups[0].rows] == ["0.2", "0.1", "–", "–"]


def test_what_means_nothing_for_an_arm_is_a_dash() -> None:
    protocol = example_inputs().protocol
    table = arms_table(protocol)
    rate = [column.header for column in table.columns].index("Rate, backbone")
    expected = ["–" if arm.adapt == "frozen" else f"{resolve_recipe(protocol, arm).lr_backbone:g}".replace("e-0", "e−")
                for arm in protocol.arms]  # fmt: skip
    assert [row[rate].text for row in table.groups[0].rows] == expected
    assert "–" in expected
