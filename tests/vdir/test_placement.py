"""Choosing a replica: the order is total and the same for everybody, and the reason names what decided."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.speed import Speed
from cloudmesh.vdir.nodes import STATES, Node, Replica
from cloudmesh.vdir.placement import RANKERS, Knowledge, candidates, reason, usable

SERVICES = ["aws", "box", "disk", "lab", "old"]

SPEEDS = st.builds(Speed, st.floats(0, 10), st.floats(1, 1e9))
KNOWLEDGE = st.builds(
    Knowledge,
    st.dictionaries(st.sampled_from(SERVICES), st.sampled_from(["local", "awss3", "sftp"])),
    st.dictionaries(st.sampled_from(SERVICES), SPEEDS),
)
NODES = st.builds(
    Node,
    st.just(7),
    st.just("d/file"),
    st.just(False),
    size=st.one_of(st.none(), st.integers(0, 10**12)),
    version=st.integers(1, 3),
    preferred=st.lists(st.sampled_from(SERVICES), unique=True).map(tuple),
)
REPLICAS = st.lists(
    st.builds(
        Replica,
        st.sampled_from(SERVICES),
        st.just("d/file"),
        st.one_of(st.just("available"), st.sampled_from(STATES)),
        version=st.integers(0, 3),
    ),
    unique_by=lambda one: one.service,
)


@given(NODES, REPLICAS, KNOWLEDGE, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_question(
    node: Node, replicas: list[Replica], knowledge: Knowledge, random: Random
) -> None:
    ranked = candidates(node, replicas, knowledge)
    assert sorted(one.replica.service for one in ranked) == sorted(one.service for one in replicas)
    random.shuffle(replicas)
    assert candidates(node, replicas, knowledge) == ranked
    assert len({one.order for one in ranked}) == len(ranked), "no two stand on the same place"


@given(NODES, REPLICAS, KNOWLEDGE)
def test_what_cannot_be_read_stands_behind_with_its_reason(
    node: Node, replicas: list[Replica], knowledge: Knowledge
) -> None:
    ranked = candidates(node, replicas, knowledge)
    good = [
        one
        for one in replicas
        if one.state == "available" and one.version == node.version and one.service in knowledge.kinds
    ]
    assert {one.service for one in usable(node, replicas, knowledge)} == {one.service for one in good}
    assert [bool(one.excluded) for one in ranked] == sorted(bool(one.excluded) for one in ranked)
    for index, one in enumerate(ranked):
        if one.excluded:
            assert reason(ranked, index) == one.excluded


@given(NODES, REPLICAS, KNOWLEDGE)
def test_the_reason_names_the_first_ranker_that_differs(
    node: Node, replicas: list[Replica], knowledge: Knowledge
) -> None:
    ranked = [one for one in candidates(node, replicas, knowledge) if not one.excluded]
    if len(ranked) == 1:
        assert reason(ranked, 0) == "the only one that can be used"
        return
    for index, mine in enumerate(ranked):
        rival = ranked[0] if index else ranked[1]
        deciding = next((name for name in RANKERS if mine.figures[name] != rival.figures[name]), None)
        why = reason(ranked, index)
        assert rival.replica.service in why
        if deciding is None:
            assert "the names decide" in why
            assert (mine.replica.service < rival.replica.service) == (index == 0)
        else:
            assert why.startswith(f"{deciding} ")
            assert (mine.figures[deciding] < rival.figures[deciding]) == (index == 0)


@given(NODES, REPLICAS, KNOWLEDGE)
def test_the_users_own_order_comes_before_every_measurement(
    node: Node, replicas: list[Replica], knowledge: Knowledge
) -> None:
    chosen = [one.service for one in usable(node, replicas, knowledge)]
    named = [service for service in node.preferred if service in chosen]
    assert chosen[: len(named)] == named


def test_of_two_equal_ones_the_faster_and_then_the_local_disk_is_read() -> None:
    node = Node(1, "f", False, size=10**6)
    replicas = [Replica(name, "f") for name in ("slow", "fast", "disk")]
    knowledge = Knowledge(
        {"slow": "awss3", "fast": "awss3", "disk": "local"}, {"slow": Speed(1.0, 1e6), "fast": Speed(0.01, 1e8)}
    )
    ranked = candidates(node, replicas, knowledge)
    assert [one.replica.service for one in ranked] == ["disk", "fast", "slow"]
    assert reason(ranked, 0) == "seconds 0 against 0.02 of fast"
    assert reason(ranked, 2) == "seconds 2 against 0 of disk"
