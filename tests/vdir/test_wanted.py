"""Where the rules want replicas: properties of the choice, and of what is inherited."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.speed import Speed
from cloudmesh.storage.transfer.prices import Price
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.offers import Offer
from cloudmesh.vdir.rules import DEFAULT, Rules
from cloudmesh.vdir.wanted import missing_services, surplus_services, targets, unmet

SERVICES = ["aws", "box", "disk", "lab", "old"]
SOME = st.lists(st.sampled_from(SERVICES), unique=True)

OFFERS = st.dictionaries(
    st.sampled_from(SERVICES),
    st.tuples(
        st.sampled_from(["here", "there", "far"]),
        st.one_of(st.none(), st.decimals(0, 1, places=3)),
        st.builds(Speed, st.floats(0, 10), st.floats(1, 1e9)),
    ),
).map(
    lambda found: {name: Offer(name, place, Price(store=store), speed) for name, (place, store, speed) in found.items()}
)
RULES = st.builds(
    Rules,
    copies=st.integers(0, 4),
    on=SOME.map(tuple),
    not_on=SOME.map(tuple),
    locations=st.integers(1, 3),
)
OWN = st.fixed_dictionaries(
    {},
    optional={
        "copies": st.integers(1, 4),
        "on": SOME,
        "not_on": SOME,
        "locations": st.integers(1, 3),
        "max_monthly_cost": st.decimals(0, 1000, places=2).map(str),
        "deletes": st.sampled_from(["heal", "propagate"]),
        "versions": st.integers(0, 9),
    },
)


@given(RULES, SOME, OFFERS)
def test_what_is_added_is_allowed_and_enough_where_that_can_be(
    rules: Rules, holders: list[str], offers: dict[str, Offer]
) -> None:
    add, remove = targets(rules, 10**9, holders, offers)
    allowed = [one for one in offers if one not in rules.not_on]
    have = {one for one in holders if one in allowed} | set(add)
    assert len(add) == len(set(add))
    assert set(add) <= set(allowed) - set(holders)
    assert {one for one in rules.on if one in allowed} <= have
    assert len(have) >= min(rules.copies, len(allowed))
    if rules.locations > 1:
        assert len({offers[one].place for one in have}) >= min(
            rules.locations, len({offers[one].place for one in allowed})
        )
    assert set(remove) <= set(holders) & set(rules.not_on)
    assert not remove or have, "something is left"


@given(RULES, SOME, OFFERS)
def test_done_once_nothing_is_left_to_do(rules: Rules, holders: list[str], offers: dict[str, Offer]) -> None:
    add, remove = targets(rules, 1, holders, offers)
    settled = [one for one in (*holders, *add) if one not in remove]
    assert targets(rules, 1, settled, offers)[0] == []


@given(RULES, SOME, OFFERS, st.randoms())
def test_no_order_of_what_is_known_matters(
    rules: Rules, holders: list[str], offers: dict[str, Offer], random: st.DrawFn
) -> None:
    names = list(offers)
    random.shuffle(names)  # type: ignore[attr-defined]
    again = targets(rules, 1, holders, {name: offers[name] for name in names})
    assert again == targets(rules, 1, holders, offers)


@given(RULES, SOME, OFFERS)
def test_what_is_settled_violates_nothing_that_can_be_mended(
    rules: Rules, holders: list[str], offers: dict[str, Offer]
) -> None:
    node = Node(7, "d/f", False, size=1, rules=rules)

    def replicas(services: list[str]) -> list[Replica]:
        return [Replica(one, "d/f") for one in services]

    have = [one for one in holders if one in offers]
    have += missing_services(node, replicas(have), offers)
    have = [one for one in have if one not in surplus_services(node, replicas(have), offers)]
    allowed = [one for one in offers if one not in rules.not_on]
    for _, rule, _ in unmet(node, replicas(have), offers):
        assert (
            (rule == "on" and not set(rules.on) <= set(allowed))
            or (rule == "copies" and len(allowed) < rules.copies)
            or (rule == "locations" and len({offers[one].place for one in allowed}) < rules.locations)
            or (
                rule == "not-on"
                and not (allowed and (rules.copies or set(rules.on) - {*rules.not_on} or rules.locations > 1))
            )
        )


def test_a_replica_on_a_service_that_is_not_configured_any_more_is_none() -> None:
    node = Node(7, "d/f", False, size=1, rules=Rules(copies=1))
    offers = {"lab": Offer("lab", "here", Price(), Speed(0, 1))}
    assert missing_services(node, [Replica("old", "d/f")], offers) == ["lab"]
    assert [rule for _, rule, _ in unmet(node, [Replica("old", "d/f")], offers)] == ["copies"]


@given(RULES, SOME, OFFERS)
def test_a_replica_is_surplus_only_while_enough_good_ones_are_elsewhere(
    rules: Rules, holders: list[str], offers: dict[str, Offer]
) -> None:
    node = Node(7, "d/f", False, size=1, rules=rules)
    bad = [Replica(one, "d/f", "missing" if one not in rules.not_on else "available") for one in holders]
    assert surplus_services(node, bad, offers) == []


def test_the_cheapest_is_chosen_then_the_fastest() -> None:
    slow, fast = Speed(1, 1e6), Speed(0.1, 1e8)
    offers = {
        "dear": Offer("dear", "a", Price(store=Decimal("0.1")), fast),
        "slow": Offer("slow", "b", Price(store=Decimal("0.01")), slow),
        "quick": Offer("quick", "b", Price(store=Decimal("0.01")), fast),
        "unknown": Offer("unknown", "c", Price(), fast),
    }
    assert targets(Rules(copies=4), 10**9, [], offers)[0] == ["quick", "slow", "dear", "unknown"]
    assert targets(Rules(copies=2, locations=2), 10**9, [], offers)[0] == ["quick", "dear"]


@given(st.lists(OWN, max_size=4))
def test_rules_are_inherited_one_by_one_from_the_nearest(levels: list[dict[str, object]]) -> None:
    merged = DEFAULT
    for own in levels:
        merged = merged.changed(own)
    for name in Rules.__slots__:
        nearest = next((own[name] for own in reversed(levels) if name in own), None)
        value = getattr(merged, name)
        if nearest is None:
            assert value == getattr(DEFAULT, name)
        elif isinstance(nearest, list):
            assert list(value) == nearest
        else:
            assert value == (Decimal(str(nearest)) if name == "max_monthly_cost" else nearest)
