"""What the replicas of a file mean: examples, and that every run decides the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.vdir.decide import Decision, Present, Sight, decide
from cloudmesh.vdir.rules import Deletes

PRESENT = Present(3, "cc", 1000)
GOOD, MISSING, AWAY = Sight("one", "good"), Sight("two", "missing"), Sight("away", "away")


def changed(service: str, sha256: str, time_ns: int | None = 2000, error_ns: int = 1, base: int = 3) -> Sight:
    return Sight(service, "changed", sha256, time_ns, error_ns, base)


def winner(decision: Decision) -> str:
    assert decision.what == "renew"
    assert decision.winner is not None
    return decision.winner.sha256


@pytest.mark.parametrize(
    ("sights", "deletes", "what"),
    [
        ([GOOD], "heal", "nothing"),
        ([GOOD, AWAY], "heal", "nothing"),
        ([GOOD, Sight("two", "obstacle")], "heal", "nothing"),
        ([GOOD, MISSING], "heal", "heal"),
        ([GOOD, MISSING], "propagate", "delete"),
        ([GOOD, Sight("two", "absent")], "propagate", "heal"),
        ([MISSING, AWAY], "propagate", "heal"),
        ([MISSING], "propagate", "lost"),
        ([], "heal", "lost"),
        ([GOOD, Sight("two", "old")], "propagate", "heal"),
        ([GOOD, Sight("two", "damaged")], "heal", "heal"),
        ([GOOD, MISSING, changed("three", "aa")], "propagate", "renew"),
        ([MISSING, changed("three", "aa")], "propagate", "renew"),
        ([replace(changed("three", "aa"), silent=True)], "heal", "doubt"),
    ],
)
def test_what_is_to_be_done(sights: list[Sight], deletes: Deletes, what: str) -> None:
    assert decide(PRESENT, sights, deletes=deletes).what == what


def test_who_wins() -> None:
    old, new = changed("one", "bb", 2000), changed("two", "aa", 3000)
    decision = decide(PRESENT, [old, new])
    assert (winner(decision), [one.sha256 for one in decision.losers]) == ("aa", ["bb"])
    close = changed("two", "aa", 2002)
    assert winner(decide(PRESENT, [old, close])) == "bb", "2 ns apart, each right within 1: the greater hash"
    assert winner(decide(PRESENT, [old, changed("two", "aa", None)])) == "bb", "a time that nobody knows is no time"
    assert winner(decide(PRESENT, [old, new], conflict="one")) == "bb"
    assert decide(PRESENT, [old, new], conflict="three").what == "ask", "who has no content does not decide"
    present = decide(PRESENT, [old, new, replace(GOOD, service="three")], conflict="three").winner
    assert present is not None
    assert present.present
    asked = decide(PRESENT, [old, new], conflict="ask")
    assert (asked.what, [one.services for one in asked.contenders]) == ("ask", [("two",), ("one",)])
    assert decide(PRESENT, [old, GOOD], conflict="ask").what == "renew", "one change is no conflict"


def test_a_change_of_an_older_version_stands_against_the_present_content() -> None:
    late, early = changed("two", "aa", 3000, base=2), changed("two", "aa", 500, base=2)
    assert winner(decide(PRESENT, [GOOD, late])) == "aa"
    decision = decide(PRESENT, [GOOD, early])
    assert decision.winner is not None
    assert decision.winner.present
    assert [one.sha256 for one in decision.losers] == ["aa"]


def test_bytes_that_changed_in_silence_never_win_against_others() -> None:
    silent = replace(changed("two", "aa", 9000), silent=True)
    decision = decide(PRESENT, [GOOD, silent])
    assert decision.winner is not None
    assert decision.winner.present
    assert winner(decide(PRESENT, [silent, changed("three", "bb", 10)])) == "bb"
    assert winner(decide(PRESENT, [GOOD, silent], conflict="two")) == "aa"


SIGHTS = st.builds(
    Sight,
    service=st.sampled_from(["one", "two", "three", "four", "five"]),
    kind=st.sampled_from(["good", "old", "damaged", "absent", "missing", "changed", "away", "obstacle"]),
    sha256=st.sampled_from(["aa", "bb", "dd"]),
    time_ns=st.none() | st.integers(0, 30),
    error_ns=st.integers(0, 10),
    base=st.integers(0, 3),
    silent=st.booleans(),
)


@given(
    sights=st.lists(SIGHTS, max_size=5, unique_by=lambda one: one.service),
    deletes=st.sampled_from(["heal", "propagate"]),
    conflict=st.sampled_from(["newest", "keep-both", "ask", "one"]),
    data=st.data(),
)
def test_every_run_decides_the_same_and_loses_nothing(
    sights: list[Sight], deletes: Deletes, conflict: str, data: st.DataObject
) -> None:
    decision = decide(PRESENT, sights, deletes=deletes, conflict=conflict)
    assert decide(PRESENT, data.draw(st.permutations(sights)), deletes=deletes, conflict=conflict) == decision
    contents = {one.sha256 for one in sights if one.kind == "changed"}
    if decision.what == "renew":
        assert decision.winner is not None
        told = [one.sha256 for one in (decision.winner, *decision.losers) if not one.present]
        assert sorted(told) == sorted(contents), "each content wins, or is told to be kept"
    else:
        assert not contents or decision.what in ("ask", "doubt")
    if decision.what == "delete":
        assert deletes == "propagate"
        assert any(one.kind == "good" for one in sights)
