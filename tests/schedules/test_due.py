"""The laws of `due`: whoever looks whenever, nothing is lost and nothing comes twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import DefinitionError
from weft.pipelines.schedules.cron import Cron
from weft.pipelines.schedules.due import Nominal, due
from weft.pipelines.schedules.policy import Policy, duration, in_words

START = datetime(2026, 10, 20, tzinfo=UTC)

ALL = Policy(overlap="queue", catchup="all")

crons = st.builds(
    Cron,
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 0 * * MON", "15 1-3 * * *"]),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
)
looks = st.lists(
    st.integers(0, 10 * 86_400).map(lambda s: START + timedelta(seconds=s)), max_size=8
)


def follow(times: list[datetime], cron: Cron, policy: Policy) -> list[Nominal]:
    """What is decided by looks at these times, one after another, whatever their order."""
    last, decided = START, []
    for now in times:
        found = due(now, last, cron, policy)
        decided += found
        last = max([last, *(n.time for n in found)])
    return decided


@settings(deadline=None, max_examples=50)
@given(looks, crons)
def test_all_is_every_time_once_and_in_order(times: list[datetime], cron: Cron) -> None:
    decided = follow(times, cron, ALL)
    assert [n.time for n in decided] == cron.between(START, max([START, *times]))
    assert all(n.missed is None for n in decided)


@settings(deadline=None, max_examples=50)
@given(looks, crons, st.sampled_from(["none", "latest"]))
def test_others_decide_on_every_time_once_too(times, cron: Cron, catchup) -> None:
    decided = [n.time for n in follow(times, cron, Policy(catchup=catchup))]
    assert decided == cron.between(START, max([START, *times]))


@settings(deadline=None, max_examples=50)
@given(looks, crons)
def test_latest_runs_the_newest_of_each_look(times: list[datetime], cron: Cron) -> None:
    last = START
    for now in times:
        found = due(now, last, cron, Policy())
        assert [n.missed is None for n in found] == [False] * (len(found) - 1) + [True] * bool(
            found
        )
        last = max([last, *(n.time for n in found)])


@settings(deadline=None, max_examples=50)
@given(looks, crons)
def test_intervals_follow_one_another(times: list[datetime], cron: Cron) -> None:
    decided = follow(times, cron, ALL)
    assert [n.start for n in decided[1:]] == [n.time for n in decided[:-1]]
    assert all(n.start == cron.previous(n.time) for n in decided)


def test_a_clock_that_went_back_makes_nothing_due() -> None:
    daily = Cron("0 2 * * *", "Europe/Berlin")
    assert due(START - timedelta(days=9), START, daily, ALL) == []
    assert due(START, START, daily, ALL) == []


def days(
    policy: Policy, now: datetime = START + timedelta(days=4, hours=3)
) -> dict[int, str | None]:
    daily = Cron("0 0 * * *", "UTC")
    return {n.time.day: n.missed for n in due(now, START, daily, policy)}


def test_four_missed_days() -> None:
    assert days(ALL) == {21: None, 22: None, 23: None, 24: None}
    latest = 'missed, and catchup = "latest"'
    assert days(Policy()) == {21: latest, 22: latest, 23: latest, 24: None}
    most = 'missed, and catchup = "all", catchup_max = 2'
    two = Policy(overlap="queue", catchup="all", catchup_max=2)
    assert days(two) == {21: most, 22: most, 23: None, 24: None}
    assert days(Policy(catchup="none"))[24] == "missed by more than the deadline of 5m"
    on_time = START + timedelta(days=4, minutes=4)
    assert days(Policy(catchup="none"), on_time)[24] is None


def test_a_deadline() -> None:
    late = Policy(overlap="queue", catchup="all", deadline=timedelta(hours=30))
    why = "missed by more than the deadline of 30h"
    assert days(late) == {21: why, 22: why, 23: None, 24: None}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"catchup": "all"}, 'overlap = "skip" leaves some out. Use overlap = "queue"'),
        ({"catchup": "all", "overlap": "cancel"}, 'overlap = "cancel" leaves some out'),
        ({"catchup_max": 3}, 'catchup_max = 3 needs catchup = "all"; catchup is "latest"'),
    ],
)
def test_policies_that_contradict_themselves(policy: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Policy(**policy)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10_000).map(lambda s: timedelta(seconds=s)))
def test_durations_are_read_as_they_are_written(length: timedelta) -> None:
    assert duration(in_words(length)) == length


def test_delays_double() -> None:
    policy = Policy(retry_delay=timedelta(minutes=10))
    assert [policy.delay(n) for n in (1, 2, 3)] == [timedelta(minutes=m) for m in (10, 20, 40)]
    assert policy.delay(99) == timedelta(days=1)
