"""Choosing a replica: the order is total and the same for everybody, and the reason names what decided."""

from __future__ import annotations

import math
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.health import Outage
from cloudmesh.storage.speed import Speed
from cloudmesh.storage.transfer.prices import NOTHING, UNKNOWN, Price
from cloudmesh.vdir.nodes import STATES, Node, Replica
from cloudmesh.vdir.placement import RANKERS, Knowledge, candidates, checked_rankers, rankers_of, reason, usable
from cloudmesh.vdir.rules import Rules

SERVICES = ["aws", "box", "disk", "lab", "old"]
OUTAGE = Outage("box", 1_800_000_000 * 10**9, "the service cannot be reached")


def by_service(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(SERVICES), values)


AMOUNTS = st.sampled_from([None, Decimal(0), Decimal("0.01"), Decimal("0.09")])
KNOWLEDGE = st.builds(
    Knowledge,
    by_service(st.sampled_from(["local", "awss3", "sftp"])),
    by_service(st.builds(Speed, st.floats(0, 10), st.floats(1, 1e9))),
    by_service(st.sampled_from([0.0, 17.5, 9000.0])),
    by_service(st.builds(Price, read=AMOUNTS, out=AMOUNTS)),
    by_service(st.just(OUTAGE)),
)
NODES = st.builds(
    Node,
    st.just(7),
    st.just("d/file"),
    st.just(False),
    size=st.one_of(st.none(), st.integers(0, 10**12)),
    version=st.integers(1, 3),
    preferred=st.lists(st.sampled_from(SERVICES), unique=True).map(tuple),
    rankers=st.lists(st.sampled_from([*RANKERS]), unique=True).map(tuple),
    rules=st.builds(Rules, not_on=st.lists(st.sampled_from(SERVICES), unique=True, max_size=2).map(tuple)),
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
def test_taking_one_away_changes_nothing_among_the_others(
    node: Node, replicas: list[Replica], knowledge: Knowledge
) -> None:
    order = [one.replica.service for one in candidates(node, replicas, knowledge)]
    for gone in replicas:
        rest = candidates(node, [one for one in replicas if one is not gone], knowledge)
        assert [one.replica.service for one in rest] == [name for name in order if name != gone.service]


@given(NODES, REPLICAS, KNOWLEDGE)
def test_what_cannot_be_read_stands_behind_with_its_reason_and_what_is_avoided_before_it(
    node: Node, replicas: list[Replica], knowledge: Knowledge
) -> None:
    ranked = candidates(node, replicas, knowledge)
    good = {
        one.service
        for one in replicas
        if one.state == "available" and one.version == node.version and one.service in knowledge.kinds
    }
    chosen = [one.service for one in usable(node, replicas, knowledge)]
    assert set(chosen) == good, "what is avoided is still the last resort"
    doubtful = [name in knowledge.outages or name in node.rules.not_on for name in chosen]
    assert doubtful == sorted(doubtful)
    assert [bool(one.excluded) for one in ranked] == sorted(bool(one.excluded) for one in ranked)
    for index, one in enumerate(ranked):
        if one.excluded:
            assert reason(ranked, index) == one.excluded
        elif one.avoided:
            assert one.avoided in reason(ranked, index)


@given(NODES, REPLICAS, KNOWLEDGE)
def test_the_reason_names_the_first_ranker_that_differs(
    node: Node, replicas: list[Replica], knowledge: Knowledge
) -> None:
    ranked = [one for one in candidates(node, replicas, knowledge) if not one.excluded and not one.avoided]
    if len(ranked) == 1:
        return
    for index, mine in enumerate(ranked):
        rival = ranked[0] if index else ranked[1]
        deciding = next((name for name in rankers_of(node) if mine.figures[name] != rival.figures[name]), None)
        why = reason(ranked, index)
        assert rival.replica.service in why
        if deciding is None:
            assert "the names decide" in why
            assert (mine.replica.service < rival.replica.service) == (index == 0)
        else:
            assert why.startswith(f"{deciding}: ")
            here, there = (
                math.inf if one.figures[deciding] is None else one.figures[deciding] for one in (mine, rival)
            )
            assert here is not None
            assert there is not None
            assert (here < there) == (index == 0)


@given(NODES, REPLICAS, KNOWLEDGE)
def test_the_users_own_order_comes_before_every_measurement(
    node: Node, replicas: list[Replica], knowledge: Knowledge
) -> None:
    if rankers_of(node)[0] == "set":
        chosen = [
            one.replica.service for one in candidates(node, replicas, knowledge) if not one.excluded and not one.avoided
        ]
        named = [service for service in node.preferred if service in chosen]
        assert chosen[: len(named)] == named


def test_of_two_equal_ones_the_faster_and_then_the_local_disk_is_read() -> None:
    node = Node(1, "f", False, size=10**6)
    replicas = [Replica(name, "f") for name in ("slow", "fast", "disk", "new")]
    kinds = {"slow": "awss3", "fast": "awss3", "disk": "local", "new": "sftp"}
    knowledge = Knowledge(kinds, {"slow": Speed(1.0, 1e6), "fast": Speed(0.01, 1e8)})
    ranked = candidates(node, replicas, knowledge)
    assert [one.replica.service for one in ranked] == ["disk", "fast", "new", "slow"]
    assert reason(ranked, 0) == "speed: 0 s against 0.02 s of fast"
    assert reason(ranked, 2) == "speed: 0.2 s (supposed) against 0 s of disk"
    assert reason(ranked, 3) == "speed: 2 s against 0 s of disk"


def test_the_order_of_the_rankers_is_the_users() -> None:
    replicas = [Replica(name, "f") for name in ("cheap", "near", "quick")]
    knowledge = Knowledge(
        dict.fromkeys(("cheap", "near", "quick"), "awss3"),
        {"cheap": Speed(1.0, 1e6), "near": Speed(0.5, 1e6), "quick": Speed(0.1, 1e6)},
        {"cheap": 900.0, "near": 5.0, "quick": 500.0},
        {"cheap": NOTHING, "near": Price(read=Decimal("0.0004"), out=Decimal("0.09")), "quick": UNKNOWN},
    )
    size = 10**9

    def best(*rankers: str) -> str:
        node = Node(1, "f", False, size=size, rankers=rankers, preferred=("near",))
        return usable(node, replicas, knowledge)[0].service

    assert (best(), best("set"), best("speed", "set")) == ("near", "near", "quick")
    assert (best("location"), best("cost", "speed")) == ("near", "cheap")
    ranked = candidates(Node(1, "f", False, size=size, rankers=("cost",)), replicas, knowledge)
    assert [one.replica.service for one in ranked] == ["cheap", "near", "quick"], "an unknown price stands last"
    assert reason(ranked, 1) == "cost: $0.0900004 against $0 of cheap"
    assert reason(ranked, 2) == "cost: - against $0 of cheap"
    unknown = Knowledge(knowledge.kinds, {})
    ranked = candidates(Node(1, "f", False, rankers=("cost", "location")), replicas, unknown)
    assert reason(ranked, 0) == "as good as near; the names decide"


def test_a_service_that_is_out_of_use_is_the_last_resort() -> None:
    node = Node(1, "f", False, preferred=("box",))
    knowledge = Knowledge({"aws": "awss3", "box": "webdav"}, {}, outages={"box": OUTAGE})
    ranked = candidates(node, [Replica("box", "f"), Replica("aws", "f")], knowledge)
    assert [one.replica.service for one in ranked] == ["aws", "box"]
    assert reason(ranked, 0).startswith("box is avoided: the service is out of use until 2027-01-1")
    assert reason(ranked, 1) == f"the service is {OUTAGE}"
    alone = candidates(node, [Replica("box", "f")], knowledge)
    assert reason(alone, 0) == f"the only one left, although the service is {OUTAGE}"


def test_rankers_are_checked() -> None:
    assert checked_rankers(["cost", "set"]) == ["cost", "set"]
    for wrong, why in ((["cost", "colour"], "'colour'"), (["cost", "cost"], "twice")):
        with pytest.raises(UsageError, match=why):
            checked_rankers(wrong)
    assert rankers_of(Node(1, "f", False, rankers=("of-the-future",))) == tuple(RANKERS)
