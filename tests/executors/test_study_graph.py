"""The graph of a study: nothing of test or external patients is predicted before all of it is selected."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.errors import RunError
from tapfm_eval.protocol.load import read_protocol
from tapfm_eval.rundir import LOOKED, RunFolder
from tapfm_eval.stages.bodies import check_looked
from tapfm_eval.stages.graph import Graph, Queue, WorkUnit
from tapfm_eval.stages.study_graph import EMBEDDED_TOGETHER, Means, study_graph

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = read_protocol(ROOT / "protocols" / "luad.yaml", backbones=CARDS)
SLIDES = {
    name: [f"{name}-{i}" for i in range(EMBEDDED_TOGETHER + 3)] for name in (PROTOCOL.development, *PROTOCOL.external)
}


def graph_of(*, look: bool = True) -> Graph:
    return study_graph(
        PROTOCOL, (0, 1), SLIDES, RunFolder(Path("run")), Means(True, 1, 1), arms=PROTOCOL.arms, look=look, hashes={},
        training_steps=lambda arm, seed, fold: 1, prediction_steps=lambda arm, seed, fold: 1,
    )  # fmt: skip


def stage(graph: Graph, name: str) -> list[WorkUnit]:
    return [unit for unit in graph if unit.stage == name]


def started_before(graph: Graph, name: str) -> set[str]:
    """All that must be done before a unit may start."""
    found: set[str] = set()
    around = [name]
    while around:
        around = [before for one in around for before in graph.units[one].after if before not in found]
        found |= set(around)
    return found


def ran_until_stuck(graph: Graph, refused: str) -> set[str]:
    """What an executor could do where one unit never ends, in any order that the graph allows."""
    queue, done = Queue(graph), set[str]()
    ready = list(queue.ready)
    while ready:
        name = ready.pop()
        if name != refused:
            done.add(name)
            ready += queue.done(name)
    return done


def test_every_prediction_comes_after_every_training() -> None:
    graph = graph_of()
    trained = {unit.name for unit in stage(graph, "train")}
    assert len(trained) == len(PROTOCOL.arms) * len(PROTOCOL.seeds) * 2
    assert len(stage(graph, "predict")) == len(trained)
    (select,) = stage(graph, "select")
    assert trained <= set(select.after)
    for unit in stage(graph, "predict"):
        assert select.name in unit.after
        assert trained | {select.name} <= started_before(graph, unit.name)


@pytest.mark.parametrize("last", [unit.name for unit in graph_of() if unit.stage == "train"])
def test_one_training_that_hangs_holds_back_all_predictions(last: str) -> None:
    done = ran_until_stuck(graph_of(), last)
    assert not [name for name in done if name.startswith(("predict/", "select"))]


def kept(*missing: str) -> Callable[[WorkUnit], bool]:
    """Whether a unit is done where all files are there but those of these units."""
    gone = {output for unit in graph_of() if unit.name in missing for output in unit.outputs}
    return lambda unit: not gone & set(unit.outputs)


def test_what_is_left_of_a_run_keeps_the_barrier() -> None:
    graph = graph_of()
    train, other = stage(graph, "train")[0], stage(graph, "train")[-1]
    predict = next(unit for unit in stage(graph, "predict") if unit.arguments["arm"] == other.arguments["arm"])
    # one training and one prediction are missing: the look is closed anew, behind the training, before the prediction
    left = graph.left(kept(train.name, predict.name))
    assert [unit.stage for unit in left] == ["train", "select", "predict"]
    assert started_before(left, predict.name) == {train.name, "select"}
    # a prediction alone: the look is written down once more before it
    again = graph.left(kept(predict.name))
    assert {unit.name: unit.after for unit in again} == {"select": (), predict.name: ("select",)}


def test_a_frozen_arm_waits_for_the_embeddings_of_what_it_reads() -> None:
    graph = graph_of()
    embedded = {
        cohort: {unit.name for unit in stage(graph, "features") if unit.arguments["cohorts"] == (cohort,)}
        for cohort in SLIDES
    }
    frozen = {arm.id for arm in PROTOCOL.arms if arm.adapt == "frozen"}
    assert all(len(names) == 2 * len({arm.backbone for arm in PROTOCOL.arms if arm.id in frozen})
               for names in embedded.values())  # fmt: skip
    for unit in (*stage(graph, "train"), *stage(graph, "predict")):
        wanted = set(SLIDES) if unit.stage == "predict" else {PROTOCOL.development}
        needed = set[str]().union(*(embedded[cohort] for cohort in wanted))
        if unit.arguments["arm"] in frozen:
            assert needed <= set(unit.after)
        else:
            assert not needed & set(unit.after)


def test_arms_of_their_own_are_trained_without_a_look() -> None:
    assert {unit.stage for unit in graph_of(look=False)} == {"features", "train"}


def test_no_prediction_is_made_without_a_look_in_the_journal(tmp_path: Path) -> None:
    """Were the graph wrong, the unit itself would still refuse."""
    folder = RunFolder(tmp_path)
    folder.journal("started")
    with pytest.raises(RunError, match="before all is selected"):
        check_looked(folder)
    folder.journal(LOOKED, run="r", units=1, what="all units", others=[])
    check_looked(folder)
