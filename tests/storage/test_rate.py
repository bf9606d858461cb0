"""Speeds by time of the week, as they are typed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.rate import Schedule

KIB = 1024
MONDAY = datetime(2026, 11, 23)
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MINUTES_OF_WEEK = 7 * 24 * 60

minutes = st.integers(0, MINUTES_OF_WEEK - 1)
speeds = st.one_of(st.none(), st.integers(1, 10**6))


def at(text: str, day: int, hour: int, minute: int = 0, second: int = 0) -> float | None:
    return Schedule.parse(text).at(MONDAY + timedelta(days=day, hours=hour, minutes=minute, seconds=second))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10M", 10 * KIB**2),
        ("1.5m", 1.5 * KIB**2),
        ("512", 512 * KIB),
        ("512K", 512 * KIB),
        ("512KiB", 512 * KIB),
        ("512B", 512),
        ("1G", KIB**3),
        (" 2M ", 2 * KIB**2),
        ("off", None),
        ("OFF", None),
        ("0", None),
    ],
)
def test_one_speed(text: str, rate: float | None) -> None:
    schedule = Schedule.parse(text)
    assert schedule.at(MONDAY) == rate
    assert schedule.at(MONDAY + timedelta(days=6, hours=23)) == rate
    assert schedule.unlimited == (rate is None)


def test_times_hold_on_every_day() -> None:
    text = "08:00,1M 19:00,off"
    for day in range(7):
        assert at(text, day, 7, 59, 59) is None  # since the evening before, on Monday since Sunday
        assert at(text, day, 8) == KIB**2
        assert at(text, day, 18, 59) == KIB**2
        assert at(text, day, 19) is None


def test_weekdays() -> None:
    text = "Mon-08:00,512K;Saturday-00:00,off"
    assert at(text, 0, 7, 59) is None
    assert at(text, 0, 8) == at(text, 4, 23, 59) == 512 * KIB
    assert at(text, 5, 0) is None
    assert at("08:00,1M sun-08:00,2M", 6, 9) == 2 * KIB**2


@pytest.mark.parametrize(
    "text",
    ["", " ", "fast", "-1", "1X", "10M:1M", "8:00,1M", "24:00,1M", "08:60,1M", "08:00", "08:00,", "08:00,1M 19:00",
     "Day-08:00,1M", "08:00,1M,2M", "Mon-,1M", "nan", "inf", "08:00, 1M"],
)  # fmt: skip
def test_wrong_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed is a speed such as 10M"):
        Schedule.parse(text)


@given(table=st.dictionaries(minutes, speeds, min_size=1, max_size=12), now=minutes, seconds=st.integers(0, 59))
def test_what_began_last_holds(table: dict[int, int | None], now: int, seconds: int) -> None:
    words = [
        f"{DAYS[begin // 1440]}-{begin // 60 % 24:02}:{begin % 60:02},{'off' if rate is None else f'{rate}B'}"
        for begin, rate in table.items()
    ]
    began = min(table, key=lambda begin: (now - begin) % MINUTES_OF_WEEK)
    moment = MONDAY + timedelta(weeks=3, minutes=now, seconds=seconds)
    assert Schedule.parse(" ".join(words)).at(moment) == table[began]


@given(st.text(max_size=30))
def test_any_text_is_a_schedule_or_refused_with_a_sentence(text: str) -> None:
    try:
        rate = Schedule.parse(text).at(MONDAY)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert rate is None or rate > 0
    assert not refusal or "; allowed is" in refusal
