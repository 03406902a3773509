"""A plan says what the audit says of precision, what the statistics say of power, and what the paper's hours imply."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from finished_run import finished_run

from tapfm_eval import statistics
from tapfm_eval.audit.precision import expected_width
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.errors import InputError
from tapfm_eval.planning import ArmProbe, Assumptions, StudyPlan, plan_study, read_probe
from tapfm_eval.planning.published import PUBLISHED, backbone_cost, inference_parts

ROOT = Path(__file__).resolve().parents[1]
LUAD, PAPER = ROOT / "protocols" / "luad.yaml", ROOT / "protocols" / "luad-paper.yaml"


@pytest.fixture(scope="module")
def luad() -> StudyPlan:
    return plan_study(LUAD)


@pytest.fixture(scope="module")
def paper() -> StudyPlan:
    return plan_study(PAPER)


def test_widths_are_those_of_the_audit(luad: StudyPlan) -> None:
    assert len(luad.targets) == 8
    for row in luad.targets:
        assert row.width == pytest.approx(expected_width(row.positives, row.negatives, 0.95), abs=1e-12)
        assert row.patients == row.positives + row.negatives


def test_power_is_that_of_the_statistics(luad: StudyPlan) -> None:
    row = next(row for row in luad.targets if (row.cohort, row.target) == ("cptac-luad", "EGFR"))
    assert (row.positives, row.negatives) == (38, 72)
    assert row.power == statistics.power_auroc(0.8, 38, 72).power
    assert row.detectable == statistics.detectable_auroc(38, 72).auroc
    primary = luad.primary
    assert primary is not None
    moments = statistics.binormal_moments(0.85, 0.8)
    expected = statistics.power_paired_auroc(moments, 38, 72, alpha=0.025, alternative="one-sided").power
    assert dict(primary.powers)[0.05] == pytest.approx(expected, abs=1e-12)
    needed = statistics.sample_size_paired_auroc(moments, ratio=72 / 38, alpha=0.025, alternative="one-sided").positives
    assert primary.needed == pytest.approx(needed, rel=1e-9)


def test_an_expected_cohort_is_counted_by_its_prevalences(paper: StudyPlan) -> None:
    row = paper.targets[0]
    assert (row.cohort, row.part, row.target, row.expected) == ("own-luad", "test", "EGFR", True)
    assert row.patients == 882
    assert row.positives == pytest.approx(0.26 * 882, rel=0.1)
    alone = next(row for row in paper.targets if row.reason is not None)
    assert alone.width != alone.width  # NaN with its reason


def test_few_positives_are_simulated_and_the_same_each_time(paper: StudyPlan) -> None:
    met = next(row for row in paper.targets if (row.cohort, row.target) == ("tcga-luad", "MET"))
    assert met.positives < 20
    assert 0 < met.power < 1
    assert met in plan_study(PAPER).targets


def test_the_papers_hours_come_back_where_its_study_is_planned(paper: StudyPlan) -> None:
    """Its own matrix costs its hours times 4/3, for the second pass that bounds memory; within the spread of BLCA."""
    for arm, hours in (("tapfm-uni", 52), ("tapfm-gigapath", 98), ("tapfm-hoptimus0", 102)):
        (unit,) = next(cost for cost in paper.arms if cost.arm == arm).units
        assert unit.train_hours == pytest.approx(hours * 4 / 3, rel=0.02)
    parts = inference_parts()
    for name, stated in PUBLISHED.items():
        forward = backbone_cost(CARDS[name]).seconds_per_slide
        assert forward + parts.reading_seconds == pytest.approx(60 * stated.inference_minutes, rel=0.02)


def test_memory_grows_with_what_is_trained(luad: StudyPlan) -> None:
    memory = {arm.arm: arm.memory_gb for arm in luad.arms}
    assert memory["abmil-hoptimus0"] < memory["tapfm-hoptimus0"] < 80
    assert all(cost.memory_gb < 80 for cost in (*luad.arms, *luad.embeddings))
    assert {cost.backbone for cost in luad.embeddings} == {"h-optimus-0"}
    assert [len(arm.units) for arm in luad.arms] == [5, 5, 5, 5]


def test_a_larger_backbone_of_unknown_cost_costs_more() -> None:
    card = CARDS["h-optimus-0"]
    twice = replace(card, name="twice", parameters=2 * card.parameters)
    assert backbone_cost(twice).seconds_per_tile == pytest.approx(2 * backbone_cost(card).seconds_per_tile)
    assert "scaled from h-optimus-0" in backbone_cost(twice).source


def test_a_probe_of_a_run_replaces_the_papers_figures(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    probes = read_probe(run)
    assert set(probes) == {"tapfm", "abmil"}
    slides = 40  # of 60 patients, a third is tested
    assert probes["tapfm"].seconds_per_slide == pytest.approx(1.0 / slides)
    assert probes["tapfm"].memory_gb == pytest.approx(10 / 1024)
    planned = plan_study(LUAD, probes={"tapfm-hoptimus0": replace(probes["tapfm"], arm="tapfm-hoptimus0")})
    arm = planned.arms[0]
    assert "measured in" in arm.source
    for unit in arm.units:
        assert unit.train_hours < 1
    with pytest.raises(InputError, match="--probe"):
        plan_study(LUAD, probes=probes)
    content = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(content | {"planted": {"EGFR": 0.9}}))
    with pytest.raises(InputError, match="a rehearsal"):
        read_probe(run)


def test_a_probe_may_be_a_file_of_measurements(tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    arm = {"seconds_per_slide": 2.0, "memory_gb": 30.0, "inference_seconds_per_slide": 60.0}
    path.write_text(json.dumps({"format": "tapfm-eval/probe/1", "device": "one GPU", "arms": {"tapfm-hoptimus0": arm}}))
    probe = read_probe(path)["tapfm-hoptimus0"]
    assert probe == ArmProbe("tapfm-hoptimus0", 2.0, 30.0, 60.0, "measured on one GPU")
    first = plan_study(LUAD, probes={probe.arm: probe}).arms[0]
    assert first.memory_gb == 30.0
    assert first.units[0].predict_hours > 0
    for wrong in ({}, {"format": "x"}, {"format": "tapfm-eval/probe/1", "device": "d", "arms": {"a": {"hours": 1}}},
                  {"format": "tapfm-eval/probe/1", "device": "d", "arms": {"a": {**arm, "memory_gb": 0}}}):  # fmt: skip
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match="--probe"):
            read_probe(path)


def test_non_inferiority_has_a_power_too(tmp_path: Path) -> None:
    text = LUAD.read_text(encoding="utf-8")
    old = "hypothesis: superiority"
    assert old in text
    (tmp_path / "protocols").mkdir()
    (tmp_path / "cohorts").symlink_to(ROOT / "cohorts")
    path = tmp_path / "protocols" / "p.yaml"
    path.write_text(text.replace(old, "hypothesis: {non_inferiority: {margin: 0.1}}"), encoding="utf-8")
    primary = plan_study(path, assumptions=Assumptions(power=0.9)).primary
    assert primary is not None
    powers = dict(primary.powers)
    assert powers[-0.02] < powers[0.0] < powers[0.02]
    assert primary.needed > 0
    # the positives that are said to be needed do give the wanted power, by simulated normal differences
    moments = statistics.binormal_moments(0.8, 0.8)
    ratio = primary.negatives / primary.positives
    a, b, c = (p + n / ratio for p, n in zip(moments.positive_part, moments.negative_part, strict=True))
    error = ((a + b - 2 * c) / primary.needed) ** 0.5
    assert 0.1 / error == pytest.approx(1.959964 + 1.281552, rel=1e-5)
