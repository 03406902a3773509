"""A plan says what the audit says of precision, what the statistics say of power, and what the paper's hours imply."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished_run import finished_run
from hypothesis import given
from hypothesis import strategies as st

from tapfm_eval import statistics
from tapfm_eval.audit.precision import expected_width
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.backbones.features import SlideFeatures, write_features
from tapfm_eval.errors import InputError
from tapfm_eval.methods.attention_store import TileAttention, write_attention
from tapfm_eval.planning import ArmProbe, Assumptions, StudyPlan, plan_study, read_probe, storage
from tapfm_eval.planning.makespan import Gpus, Makespan, Need, makespan, read_gpus
from tapfm_eval.planning.published import PUBLISHED, backbone_cost, inference_parts
from tapfm_eval.slides.reader import TilePlan
from tapfm_eval.slides.tiles import TileGrid, TileSpec, write_tiles
from tapfm_eval.stages.graph import Graph, Resources, WorkUnit
from tapfm_eval.stages.study_graph import EMBEDDED_TOGETHER

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


def chained(*units: tuple[str, float, tuple[str, ...]]) -> Graph:
    return Graph(WorkUnit(name, "train", name, after=after, resources=Resources(1, share))
                 for name, share, after in units)  # fmt: skip


def played(graph: Graph, hours: dict[str, float], *gpus: Gpus, memory_gb: float = 1.0) -> Makespan:
    return makespan(graph, {name: Need(number, memory_gb) for name, number in hours.items()}, gpus)


def test_a_study_of_two_arms_ends_when_it_would_by_hand() -> None:
    """Trainings of 5, 3 and 3 hours, a barrier, two predictions of 1 hour: 5 + 3 | 3 in the order given, then 1."""
    graph = chained(
        ("a", 1, ()), ("b", 1, ()), ("c", 1, ()), ("select", 0, ("a", "b", "c")), ("p", 1, ("select",)),
        ("q", 1, ("select",)),
    )  # fmt: skip
    hours = {"a": 5.0, "b": 3.0, "c": 3.0, "p": 1.0, "q": 1.0}
    assert played(graph, hours, Gpus(1, "", 1.0, None)).hours == 13.0
    two = played(graph, hours, Gpus(2, "", 1.0, None))
    assert two.hours == 7.0  # b and c behind each other beside a
    assert two.busy == pytest.approx(13 / 14)
    assert two.chain_hours == 6.0
    assert played(graph, hours, Gpus(100, "", 1.0, None)).hours == 6.0
    # one GPU of double speed beside a single one: a 2.5 h, then c 1.5 h; b 3 h; p 0.5 h beside q 1 h
    mixed = played(graph, hours, Gpus(1, "slow", 1.0, None), Gpus(1, "quick", 2.0, None))
    assert mixed.hours == 5.0
    assert mixed.gpus == "1 x slow + 1 x quick"


def test_four_small_units_share_a_gpu_and_a_whole_one_waits_for_all_of_it() -> None:
    graph = chained(*((f"small{i}", 0.25, ()) for i in range(5)), ("large", 1, ()))
    hours = {**{f"small{i}": 2.0 for i in range(5)}, "large": 1.0}
    one = played(graph, hours, Gpus(1, "", 1.0, None))
    assert one.hours == 5.0  # four, then the fifth, then the large one
    assert one.busy == pytest.approx((5 * 2 * 0.25 + 1) / 5)
    assert played(graph, hours, Gpus(2, "", 1.0, None)).hours == 3.0


def test_a_unit_goes_where_its_memory_fits_or_nowhere() -> None:
    graph = chained(("a", 1, ()), ("b", 1, ()))
    small, large = Gpus(1, "small", 10.0, 16), Gpus(1, "large", 1.0, 80)
    assert played(graph, {"a": 1.0, "b": 1.0}, small, large, memory_gb=40).hours == 2.0
    with pytest.raises(InputError, match=r"a GPU of at least 40\.0 GB, for a, got 1 x small of 16 GB"):
        played(graph, {"a": 1.0, "b": 1.0}, small, memory_gb=40)


@given(st.lists(st.tuples(st.floats(0.1, 9), st.booleans()), min_size=1, max_size=12), st.integers(1, 4))
def test_a_makespan_lies_within_grahams_bounds(units: list[tuple[float, bool]], count: int) -> None:
    names = [f"u{i}" for i in range(len(units))]
    graph = chained(*((name, 1.0, (names[i // 2],) if i and follows else ())
                      for i, (name, (_, follows)) in enumerate(zip(names, units, strict=True))))  # fmt: skip
    hours = {name: number for name, (number, _) in zip(names, units, strict=True)}
    found = played(graph, hours, Gpus(count, "", 1.0, None))
    least = max(sum(hours.values()) / count, found.chain_hours)
    assert least - 1e-9 <= found.hours <= 2 * least + 1e-9
    assert found.busy * count * found.hours == pytest.approx(sum(hours.values()))


def test_gpus_are_read_with_their_kinds_and_speeds() -> None:
    assert read_gpus(["8"], probed=False) == (Gpus(8, "", 1.0, 80),)
    assert read_gpus(["4xA100", "2xmine=0.5"], probed=False) == (
        Gpus(4, "a100", 312 / 989, 80),
        Gpus(2, "mine", 0.5, None),
    )
    assert read_gpus(["4xA100=0.4", "3"], probed=True) == (Gpus(4, "a100", 0.4, 80), Gpus(3, "", 1.0, None))
    for wrong in (
        "",
        "0",
        "eight",
        "4x",
        "4xmine",
        "4xmine=0",
        "4xmine=nan",
        "4xmine=1.2.3",
        "-3",
        "9999999999",
        "1x" + "y" * 99,
    ):
        with pytest.raises(InputError, match="--gpus"):
            read_gpus([wrong], probed=False)
    with pytest.raises(InputError, match="the hours are your own"):
        read_gpus(["4xa100"], probed=True)


def test_the_graph_of_the_plan_is_that_of_the_run_and_takes_all_hours(luad: StudyPlan) -> None:
    trainings = sum(len(arm.units) for arm in luad.arms)
    embedded = sum(math.ceil(embedding.slides / EMBEDDED_TOGETHER) for embedding in luad.embeddings)
    assert luad.units == 2 * trainings + 1 + embedded
    assert [found.count for found in luad.makespans] == [2**i for i in range(len(luad.makespans))]
    assert luad.makespans[0].hours == pytest.approx(luad.hours)  # on one GPU, one after the other
    assert luad.makespans[0].busy == pytest.approx(1)
    last = luad.makespans[-1]
    assert last.chain_hours <= last.hours < 1.05 * last.chain_hours
    longest = max(luad.arms, key=lambda arm: arm.units[0].hours).units
    assert last.chain_hours == pytest.approx(
        max(u.train_hours + u.select_hours for u in longest) + max(u.predict_hours for u in longest), rel=0.01
    )
    (eight,) = plan_study(LUAD, gpus=["8"]).makespans
    assert eight.hours == next(found.hours for found in luad.makespans if found.count == 8)


def test_slow_gpus_beside_fast_ones_may_delay_the_end_and_the_plan_says_so() -> None:
    planned = plan_study(LUAD, gpus=["8xa100=0.4", "4"])
    four, all_of_them = planned.makespans
    assert (four.gpus, all_of_them.gpus) == ("4", "8 x a100 + 4")
    assert four == plan_study(LUAD, gpus=["4"]).makespans[0]
    assert four.hours < all_of_them.hours
    assert any(note.startswith("With 4 alone the study ends earlier") for note in planned.notes)
    # the fastest kind alone is left out where a unit does not fit it
    (only,) = plan_study(LUAD, gpus=["1xt4=9", "4"]).makespans
    assert only.count == 5


def test_storage_is_what_the_files_weigh(tmp_path: Path, luad: StudyPlan) -> None:
    """A file of 10,000 tiles by each writer, against the bytes a tile that the plan counts."""
    count, card = 10_000, CARDS["uni"]
    xy0 = np.zeros((count, 2), np.int64)
    zeros = np.zeros(count, np.float32)
    grid = TileGrid(
        "S", "f", 9, 9, 0.5, "slide", None, TileSpec(0.5, 224, 0.5), TilePlan(0, 224, 224, 224), xy0, zeros, count, 1.0
    )
    write_tiles(grid, tmp_path / "tiles.h5")
    write_features(tmp_path / "features.h5", "S", card,
                   SlideFeatures(np.zeros((count, card.dim), np.float32), zeros, xy0), grid)  # fmt: skip
    write_attention(tmp_path / "attention.h5", TileAttention("S", xy0, 224, zeros, zeros))
    for name, each in (("tiles", storage.BYTES_GRID), ("features", storage.embedding_bytes(card)),
                       ("attention", storage.BYTES_ATTENTION)):  # fmt: skip
        assert (tmp_path / f"{name}.h5").stat().st_size == pytest.approx(count * each, rel=0.05)
    rows = {row.what: row for row in luad.storage}
    slides = sum(embedding.slides for embedding in luad.embeddings)
    kept = rows["embeddings of h-optimus-0"]
    assert kept.files == rows["tile grids"].files == slides
    assert kept.gigabytes == pytest.approx(slides * storage.tiles_of_a_slide() * (4 * 1536 + 20) / 1e9)
    assert rows["weights, histories, predictions"].files == 20 * 5
    # two whole networks of H-optimus-0 in five folds each; LoRA's and frozen arms' are small
    assert rows["weights, histories, predictions"].gigabytes == pytest.approx(
        10 * 4 * CARDS["h-optimus-0"].parameters / 1e9, rel=0.01
    )


def test_a_gpu_is_fed_as_fast_as_its_forward_passes_go(luad: StudyPlan) -> None:
    rows = {row.what: row for row in luad.readings}
    row = rows["h-optimus-0 on tcga-luad"]
    each = backbone_cost(CARDS["h-optimus-0"])
    assert row.tiles_per_second == pytest.approx(storage.tiles_of_a_slide() / each.seconds_per_slide)
    assert row.tiles_per_second == pytest.approx(3 / each.seconds_per_tile)  # a forward pass is a third of a step
    mean = 531 * 0.7815 / 531  # GB a slide, as the manifest states
    assert row.megabytes_per_second == pytest.approx(1000 * mean / each.seconds_per_slide, rel=0.01)
    arm = next(arm for arm in luad.arms if arm.arm == "tapfm-hoptimus0")
    tiles = sum(unit.drawn_tiles + unit.whole_slides * storage.tiles_of_a_slide() for unit in arm.units)
    assert rows[arm.arm].tiles == pytest.approx(tiles)
    assert rows[arm.arm].tiles_per_second == pytest.approx(tiles / (3600 * arm.hours))
    frozen = rows["abmil-hoptimus0"]
    assert frozen.tiles == 0
    assert frozen.megabytes_per_second != frozen.megabytes_per_second  # NaN: its minutes are not planned
    assert frozen.terabytes > 1
    (note,) = [note for note in luad.notes if note.startswith("Arms with a frozen backbone")]
    assert f"at 1 GB/s: abmil-hoptimus0 {frozen.terabytes * 1e12 / 1e9 / 3600:,.1f} hours" in note
    assert "in minutes" not in note  # of 100,000 slides they are days
