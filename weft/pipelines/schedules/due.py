"""What is due: a pure function of the time, of how far was looked before, and of the policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from weft.pipelines.schedules.cron import Cron
from weft.pipelines.schedules.policy import Policy, in_words


@dataclass(frozen=True)
class Nominal:
    """A time a run is for, and why it is left out if it is.

    The run is for the interval from `start`, the nominal time before, to `time`; that depends
    on the expression alone, so a retry, a resumed and a late run have the same one.
    """

    time: datetime
    start: datetime
    missed: str | None = None


def due(now: datetime, last: datetime, cron: Cron, policy: Policy) -> list[Nominal]:
    """Every nominal time after `last` up to `now`, oldest first; the missed ones marked.

    `last` is the newest time that was decided on. A clock that went back makes nothing due.

    >>> from datetime import UTC
    >>> daily = Cron("0 2 * * *", "Europe/Berlin")
    >>> monday, thursday = (datetime(2026, 11, day, 12, tzinfo=UTC) for day in (16, 19))
    >>> for found in due(thursday, monday, daily, Policy()):
    ...     print(found.time, found.missed or "run")
    2026-11-17 01:00:00+00:00 missed, and catchup = "latest"
    2026-11-18 01:00:00+00:00 missed, and catchup = "latest"
    2026-11-19 01:00:00+00:00 run
    """
    times = cron.between(last, now) if now > last else []
    if not times:
        return []
    starts = [cron.previous(times[0]), *times[:-1]]
    found = [Nominal(t, s) for t, s in zip(times, starts, strict=True)]
    keep = len(found) if policy.catchup == "all" else 1
    keep = min(keep, policy.catchup_max or keep)
    return [
        replace(n, missed=_missed(n, now, policy, too_old=i < len(found) - keep))
        for i, n in enumerate(found)
    ]


def _missed(nominal: Nominal, now: datetime, policy: Policy, *, too_old: bool) -> str | None:
    if too_old:
        most = f", catchup_max = {policy.catchup_max}" if policy.catchup_max else ""
        return f'missed, and catchup = "{policy.catchup}"{most}'
    if policy.deadline is not None and now - nominal.time > policy.deadline:
        return f"missed by more than the deadline of {in_words(policy.deadline)}"
    return None
