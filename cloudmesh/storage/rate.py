"""How fast content may be moved, at each time of the week."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

_SPEED = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGTP](?:i?B?)?|)", re.IGNORECASE)
_TIME = re.compile(r"(?:([A-Za-z]+)-)?([01]\d|2[0-3]):([0-5]\d)")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = 24 * 60
_ALLOWED = (
    'allowed is a speed such as 10M or off, or a timetable such as "08:00,1M 19:00,off" or '
    '"Mon-08:00,512K Sat-00:00,off"'
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Speeds by time of the week, read and written as rclone's ``--bwlimit``.

    Attributes:
        minutes: since Monday 00:00, local time, ascending; when each of ``rates`` begins to hold, until the next one
            does. Before the first of a week the last holds.
        rates: bytes a second; None = no limit.
    """

    minutes: tuple[int, ...]
    rates: tuple[float | None, ...]

    @classmethod
    def constant(cls, rate: float | None) -> Schedule:
        """The same speed at all times, in bytes a second."""
        return cls((0,), (rate,))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Return the schedule that ``10M``, ``08:00,1M 19:00,off`` or ``Mon-08:00,512K Sat-00:00,off`` means.

        Speeds are bytes a second, not bits; K, M, G, T, P are powers of 1024, a number without a unit is in KiB, and
        with ``B`` in bytes; ``off`` and 0 mean no limit. A time without a weekday holds on every day. Where a time
        stands twice, the later one in the text holds. Times are separated by spaces or semicolons.

        Raises:
            ValueError: it is none; a sentence says why.
        """
        words = text.replace(";", " ").split()
        if not words:
            raise ValueError(f"no speed is given; {_ALLOWED}")
        if len(words) == 1 and "," not in text:
            return cls.constant(_speed(words[0]))
        begins: dict[int, float | None] = {}
        for word in words:
            time, comma, speed = word.partition(",")
            if not comma:
                raise ValueError(f"{word!r} is not a time, a comma and a speed; {_ALLOWED}")
            rate = _speed(speed)
            begins.update(dict.fromkeys(_minutes(time), rate))
        ordered = sorted(begins)
        return cls(tuple(ordered), tuple(begins[minute] for minute in ordered))

    def at(self, now: datetime) -> float | None:
        """Return the bytes a second that are allowed at ``now``, local time; None = no limit."""
        minute = now.weekday() * _DAY + now.hour * 60 + now.minute
        return self.rates[bisect_right(self.minutes, minute) - 1]

    @property
    def unlimited(self) -> bool:
        """Whether there is no limit at any time."""
        return all(rate is None for rate in self.rates)


def _minutes(time: str) -> list[int]:
    found = _TIME.fullmatch(time)
    if found is None:
        raise ValueError(f"{time!r} is no time of day such as 08:00 or Mon-08:00; {_ALLOWED}")
    day, hour, minute = found.groups()
    of_day = int(hour) * 60 + int(minute)
    if day is None:
        return [number * _DAY + of_day for number in range(7)]
    numbers = [number for number, name in enumerate(_WEEKDAYS) if day.lower() in (name, name[:3])]
    if not numbers:
        raise ValueError(f"{day!r} is no weekday; {_ALLOWED}")
    return [numbers[0] * _DAY + of_day]


def _speed(text: str) -> float | None:
    if text.lower() == "off":
        return None
    found = _SPEED.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no speed; {_ALLOWED}")
    number, unit = found.groups()
    power = "BKMGTP".index((unit or "K")[0].upper())
    return float(Decimal(number) * 1024**power) or None
