"""A study as a graph: order, what is left, what may start, what a failure keeps from starting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapfm_eval.stages.graph import Graph, Queue, Resources, WorkUnit


def unit(name: str, *after: str) -> WorkUnit:
    return WorkUnit(name, "train", f"Training {name}", after=after)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(0, 12))
    units = []
    for i in range(count):
        after = draw(st.sets(st.integers(0, max(0, i - 1)))) if i else set()
        units.append(unit(str(i), *(str(j) for j in sorted(after))))
    return Graph(units)


def test_a_name_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two units are called a"):
        Graph([unit("a"), unit("a")])


def test_a_unit_before_its_predecessor_is_refused_which_excludes_circles() -> None:
    with pytest.raises(ValueError, match="a comes after b"):
        Graph([unit("a", "b"), unit("b", "a")])


@given(graphs())
def test_every_unit_starts_once_and_after_all_that_it_depends_on(graph: Graph) -> None:
    queue = Queue(graph)
    ready, done = list(queue.ready), list[str]()
    while ready:
        name = ready.pop()  # any order that the queue allows
        assert set(graph.units[name].after) <= set(done)
        done.append(name)
        ready += queue.done(name)
    assert sorted(done) == sorted(graph.units)


@given(graphs(), st.data())
def test_a_failed_unit_keeps_exactly_those_from_starting_that_depend_on_it(graph: Graph, data: st.DataObject) -> None:
    if len(graph) == 0:
        return
    failed = data.draw(st.sampled_from(sorted(graph.units)))
    queue = Queue(graph)
    ready, done = list(queue.ready), set[str]()
    while ready:
        name = ready.pop()
        if name != failed:
            done.add(name)
            ready += queue.done(name)
    assert done | {failed} | set(queue.blocked_by(failed)) == set(graph.units)
    assert not done & set(queue.blocked_by(failed))


def test_what_is_done_is_left_out_and_waited_for_by_nobody() -> None:
    graph = Graph([unit("a"), unit("b", "a"), unit("c", "a", "b")])
    left = graph.left(lambda one: one.name == "a")
    assert {one.name: one.after for one in left} == {"b": (), "c": ("b",)}


def test_resources_are_said_in_words() -> None:
    assert str(Resources(1, 0.25, 2048)) == "1 CPU and 0.25 GPU and 2.0 GB of memory"
    assert str(Resources(8, 2)) == "8 CPUs and 2 GPUs"
