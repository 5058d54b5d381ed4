"""Cron expressions in a time zone: nominal times as instants in UTC, in strictly rising order.

The rule where the clock is changed is that of Debian's cron, as cronsim has it:

- An expression that names its hours and minutes (``30 2 * * *``) means the wall clock, once a
  day. A time that the spring gap leaves out is the first one after the gap; a time that the
  autumn repeats is the first of the two.
- An expression whose minutes or hours begin with ``*`` (``*/15 * * * *``) means time as it
  passes: what the gap leaves out does not happen, what is repeated happens again.

cronsim itself serves the first kind. Of the second it loses times on the days when the clock is
changed by half an hour (Australia/Lord_Howe), because it walks hour by hour from whatever minute
it is at; so here it walks only stretches in which the offset from UTC is one and the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from weft.errors import DefinitionError, nearest

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)

_SPREAD = timedelta(hours=27)
"""How far the wall clocks of the world are apart, and one more."""

_BACK = tuple(timedelta(days=d) for d in (0.1, 2, 40, 400, 3300, 18_300))
"""How far to look back for the newest time. The last is 50 years, where cronsim gives up."""


@dataclass(frozen=True)
class Cron:
    """A cron expression of five fields and the IANA time zone that it is meant in.

    >>> daily = Cron("30 2 * * *", "Europe/Berlin")
    >>> [str(t) for t in daily.between(datetime(2026, 3, 27, 12, tzinfo=UTC),
    ...                                datetime(2026, 3, 30, 12, tzinfo=UTC))]
    ['2026-03-28 01:30:00+00:00', '2026-03-29 01:00:00+00:00', '2026-03-30 00:30:00+00:00']

    Raises:
        DefinitionError: not five fields, a field that is none, a time that never comes, or no
            such zone.
    """

    expression: str
    timezone: str

    def __post_init__(self) -> None:
        _ = self.zone
        fields = len(self.expression.split())
        if fields != 5:
            raise DefinitionError(
                f"{self.expression!r} has {fields} fields. Expected five (minute, hour, day of "
                "month, month, day of week), such as '0 2 * * *' for 02:00 every day."
            )
        try:
            next(CronSim(self.expression, datetime(2000, 1, 1)))
        except CronSimError as error:
            raise DefinitionError(f"{self.expression!r} is no cron expression: {error}.") from error
        except StopIteration:
            raise DefinitionError(f"{self.expression!r} names a time that never comes.") from None

    def __str__(self) -> str:
        return f"{self.expression} {self.timezone}"

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return zone(self.timezone)

    def after(self, instant: datetime) -> Iterator[datetime]:
        """The nominal times after `instant`, in UTC, without end."""
        minutes, hours, *_ = self.expression.split()
        by_clock = not (minutes.startswith("*") or hours.startswith("*"))
        times = self._by_clock(instant) if by_clock else self._as_it_passes(instant)
        # On the wall clock 02:30 is still to come when it is 02:15 for the second time.
        return itertools.dropwhile(lambda time: time <= instant, times)

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """The nominal times after `after`, up to and including `until`."""
        return list(itertools.takewhile(lambda time: time <= until, self.after(after)))

    def latest(self, until: datetime) -> datetime:
        """The newest nominal time up to and including `until`; `until` itself if none ever was."""
        for far in _BACK:
            found = self.between(until - far, until)
            if found:
                return found[-1]
        return until

    def previous(self, nominal: datetime) -> datetime:
        """The nominal time before `nominal`."""
        return self.latest(nominal - timedelta(microseconds=1))

    def _by_clock(self, instant: datetime) -> Iterator[datetime]:
        for time in CronSim(self.expression, instant.astimezone(self.zone)):
            yield time.astimezone(UTC)

    def _as_it_passes(self, instant: datetime) -> Iterator[datetime]:
        while True:
            offset = self._offset(instant + _SECOND)
            end, changes = self._same_offset_until(instant + _SECOND, offset)
            time = instant
            for wall in CronSim(self.expression, instant.astimezone(UTC) + offset):
                time = wall - offset
                if time >= end:
                    break
                yield time
            # No wall clock until then fits, whatever the offset; only a change can repeat one.
            far = end if changes else max(end, time - _SPREAD)
            instant = far - _SECOND

    def _same_offset_until(self, instant: datetime, offset: timedelta) -> tuple[datetime, bool]:
        """Until when the offset is this one, a day at most; and whether it changes then."""
        last, first = instant, instant + _DAY
        if self._offset(first) == offset:
            return first, False
        while first - last > _SECOND:
            middle = last + (first - last) / 2
            if self._offset(middle) == offset:
                last = middle
            else:
                first = middle
        return first.replace(microsecond=0), True

    def _offset(self, instant: datetime) -> timedelta:
        offset = instant.astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset


def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name.

    Raises:
        DefinitionError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        hint = nearest(name, known) if known else "This machine knows none: pip install tzdata"
        raise DefinitionError(
            f"There is no time zone {name!r}. Expected an IANA name, such as 'Europe/Berlin' or "
            f"'UTC'. {hint}".rstrip()
        ) from None
