"""What to do when runs meet, are missed, fail or take too long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from weft.errors import DefinitionError

Overlap = Literal["skip", "queue", "cancel", "allow"]
Catchup = Literal["none", "latest", "all"]

ON_TIME = timedelta(minutes=5)
"""With ``catchup = "none"`` a time is missed when nobody looked for so long: more than the minute
or the five that a `weft schedule tick` from cron leaves between two looks."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Policy:
    """The policies of a job.

    Args:
        overlap: a time that comes while a run of the job is going on is left out (``skip``),
            waits its turn (``queue``), takes its place (``cancel``) or runs beside it (``allow``).
        catchup: of the times at which nobody looked, none are run, the newest, or all in order.
        catchup_max: of all, the newest so many.
        deadline: a time that is longer ago than this is not started any more.
        timeout: an attempt that takes longer is stopped, and has failed.
        retries: how often a failed run is tried again.
        retry_delay: how long to wait before that; twice as long each time, a day at most.
        pause_after: so many failed runs one after another pause the job.
    """

    overlap: Overlap = "skip"
    catchup: Catchup = "latest"
    catchup_max: int | None = None
    deadline: timedelta | None = None
    timeout: timedelta | None = None
    retries: int = 0
    retry_delay: timedelta = timedelta(minutes=1)
    pause_after: int | None = None

    def __post_init__(self) -> None:
        if self.catchup == "all" and self.overlap in ("skip", "cancel"):
            raise DefinitionError(
                f'catchup = "all" runs every time, and overlap = "{self.overlap}" leaves some '
                'out. Use overlap = "queue" or "allow", or catchup = "latest".'
            )
        if self.catchup_max is not None and self.catchup != "all":
            raise DefinitionError(
                f'catchup_max = {self.catchup_max} needs catchup = "all"; catchup is '
                f'"{self.catchup}".'
            )
        if self.catchup == "none" and self.deadline is None:
            object.__setattr__(self, "deadline", ON_TIME)

    def delay(self, failures: int) -> timedelta:
        """How long to wait after so many failures."""
        longest = timedelta(days=1)
        return min(self.retry_delay * int(2 ** min(failures - 1, 20)), longest)


def duration(text: str) -> timedelta:
    """``90s``, ``15m``, ``6h`` or ``2d``.

    >>> str(duration("90s")), in_words(duration("90s"))
    ('0:01:30', '90s')

    Raises:
        ValueError: it is none of these, or no time at all.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise ValueError(text)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def in_words(length: timedelta) -> str:
    """A duration as `duration` reads it.

    >>> in_words(timedelta(hours=36))
    '36h'
    """
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % size == 0 and seconds:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
