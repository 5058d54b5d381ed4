"""Nominal times where clocks are changed, against a minute-by-minute reading of the wall clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import DefinitionError
from weft.pipelines.schedules.cron import Cron

CHANGES = {
    "Europe/Berlin": (datetime(2026, 3, 29), datetime(2026, 10, 25)),
    "America/New_York": (datetime(2026, 3, 8), datetime(2026, 11, 1)),
    "Australia/Lord_Howe": (datetime(2026, 10, 4), datetime(2026, 4, 5)),
    "Africa/Cairo": (datetime(2026, 4, 24), datetime(2026, 10, 30)),  # at midnight
}
"""Days on which the clock goes forward and back."""


def walls(cron: Cron, day: datetime, days: int = 1) -> list[str]:
    """The nominal times of local days, as the wall clock shows them, with the offset."""
    start = day.replace(tzinfo=cron.zone) - timedelta(seconds=1)
    end = (day + timedelta(days=days)).replace(tzinfo=cron.zone) - timedelta(seconds=1)
    found = cron.between(start.astimezone(UTC), end.astimezone(UTC))
    return [f"{t.astimezone(cron.zone):%d %H:%M %z}" for t in found]


def test_a_time_in_the_spring_gap_is_the_first_after_it() -> None:
    daily = Cron("30 2 * * *", "Europe/Berlin")
    assert walls(daily, datetime(2026, 3, 28), 3) == [
        "28 02:30 +0100",
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]
    daily = Cron("30 2 * * *", "America/New_York")
    assert walls(daily, datetime(2026, 3, 7), 3) == [
        "07 02:30 -0500",
        "08 03:00 -0400",
        "09 02:30 -0400",
    ]
    daily = Cron("15 2 * * *", "Australia/Lord_Howe")
    assert walls(daily, datetime(2026, 10, 3), 3) == [
        "03 02:15 +1030",
        "04 02:30 +1100",
        "05 02:15 +1100",
    ]


def test_two_times_that_the_gap_moves_to_one_are_one() -> None:
    assert walls(Cron("0,30 2 * * *", "Europe/Berlin"), datetime(2026, 3, 29)) == ["29 03:00 +0200"]
    assert walls(Cron("0 2,3 * * *", "Europe/Berlin"), datetime(2026, 3, 29)) == ["29 03:00 +0200"]


def test_a_time_that_the_autumn_repeats_is_the_first() -> None:
    daily = Cron("30 2 * * *", "Europe/Berlin")
    assert walls(daily, datetime(2026, 10, 24), 3) == [
        "24 02:30 +0200",
        "25 02:30 +0200",
        "26 02:30 +0100",
    ]
    daily = Cron("30 1 * * *", "America/New_York")
    assert walls(daily, datetime(2026, 11, 1)) == ["01 01:30 -0400"]
    daily = Cron("45 1 * * *", "Australia/Lord_Howe")
    assert walls(daily, datetime(2026, 4, 5)) == ["05 01:45 +1100"]


def test_nothing_comes_again_when_asked_in_the_repeated_hour() -> None:
    daily = Cron("30 2 * * *", "Europe/Berlin")
    second_time = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15 for the second time
    assert next(daily.after(second_time)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert daily.latest(second_time) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_every_quarter_of_an_hour_is_that_in_spring_and_autumn() -> None:
    quarters = Cron("*/15 * * * *", "Europe/Berlin")
    for day, count in ((datetime(2026, 3, 29), 92), (datetime(2026, 10, 25), 100)):
        start = day.replace(tzinfo=quarters.zone).astimezone(UTC)
        times = quarters.between(start, start + timedelta(minutes=15 * count))
        assert [b - a for a, b in pairwise(times)] == [timedelta(minutes=15)] * (count - 1)


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize(
    "expression", ["*/10 * * * *", "*/10 3 * * *", "5 * * * *", "*/20 0-2 * * *"]
)
def test_time_as_it_passes_is_what_the_wall_clock_shows(zone: str, expression: str) -> None:
    """The truth: each minute of three days, looked at one by one."""
    cron, tz = Cron(expression, zone), ZoneInfo(zone)
    minutes, hours, *_ = expression.split()
    step = int(minutes[2:]) if minutes.startswith("*/") else None
    first, last = {"*": (0, 23), "3": (3, 3), "0-2": (0, 2)}[hours]

    def fits(wall: datetime) -> bool:
        minute = wall.minute % step == 0 if step else wall.minute == int(minutes)
        return minute and first <= wall.hour <= last

    for day in CHANGES[zone]:
        start = (day - timedelta(days=1)).replace(tzinfo=tz).astimezone(UTC)
        instants = [start + timedelta(minutes=m) for m in range(1, 3 * 1440)]
        truth = [i for i in instants if fits(i.astimezone(tz))]
        assert cron.between(start, instants[-1]) == truth


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(sorted(CHANGES)),
    st.sampled_from(
        ["*/10 * * * *", "30 2 * * *", "*/10 3 * * *", "0,45 1,2 * * *", "15 */2 * * *"]
    ),
    st.booleans(),
    st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=5),
)
def test_the_times_are_the_same_wherever_one_begins(
    zone: str, expression: str, spring: bool, cuts: list[int]
) -> None:
    cron = Cron(expression, zone)
    start = (CHANGES[zone][0 if spring else 1] - timedelta(days=1)).replace(tzinfo=UTC)
    ends = sorted(start + timedelta(seconds=s) for s in cuts)
    pieces = [t for a, b in pairwise([start, *ends]) for t in cron.between(a, b)]
    assert pieces == cron.between(start, ends[-1])
    assert all(a < b for a, b in pairwise(pieces))
    if pieces:
        assert cron.latest(ends[-1]) == pieces[-1]
        assert next(cron.after(cron.previous(pieces[-1]))) == pieces[-1]


def test_leap_day_and_year_end() -> None:
    leap = Cron("0 0 29 2 *", "UTC")
    assert leap.between(datetime(2024, 1, 1, tzinfo=UTC), datetime(2032, 12, 1, tzinfo=UTC)) == [
        datetime(year, 2, 29, tzinfo=UTC) for year in (2024, 2028, 2032)
    ]
    assert leap.latest(datetime(2027, 1, 1, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)
    midnight = Cron("0 0 * * *", "Asia/Tokyo")
    assert walls(midnight, datetime(2026, 12, 31), 2) == ["31 00:00 +0900", "01 00:00 +0900"]
    assert walls(Cron("59 23 31 12 *", "Europe/Berlin"), datetime(2026, 12, 1), 60) == [
        "31 23:59 +0100"
    ]


@pytest.mark.parametrize(
    ("expression", "zone", "message"),
    [
        ("0 2 * *", "UTC", "'0 2 \\* \\*' has 4 fields. Expected five"),
        ("0 0 2 * * *", "UTC", "has 6 fields"),
        ("0 25 * * *", "UTC", "is no cron expression: Bad hour"),
        ("0 0 30 2 *", "UTC", "is no cron expression: Bad day-of-month"),
        ("0 2 * * *", "Europe/Berlon", "no time zone 'Europe/Berlon'.*Did you mean '"),
        ("0 2 * * *", "../etc/passwd", "There is no time zone"),
    ],
)
def test_what_is_refused(expression: str, zone: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Cron(expression, zone)
