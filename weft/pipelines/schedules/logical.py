"""Logical time: what a run is for, put into the pipeline's parameters and its environment."""

from __future__ import annotations

import string
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from weft.errors import DefinitionError, nearest

NAMES = ("nominal", "interval_start", "interval_end")
"""The placeholders, such as ``{nominal}`` or ``{interval_start:%Y-%m-%d}``."""


@dataclass(frozen=True)
class LogicalTime:
    """The time a run is for and the interval that ends with it, in the time zone of the job.

    >>> from zoneinfo import ZoneInfo
    >>> day = LogicalTime(datetime(2026, 11, 21, 1, tzinfo=UTC),
    ...                   datetime(2026, 11, 20, 1, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    >>> day.fill("days/{nominal:%Y-%m-%d}.lance")
    'days/2026-11-21.lance'
    >>> day.fill("{interval_start}")
    '2026-11-20T02:00:00+01:00'
    """

    nominal: datetime
    start: datetime
    zone: tzinfo = UTC

    def fill(self, text: str) -> str:
        """`text` with its placeholders replaced: ISO 8601, or as the format after ``:`` says."""
        values = dict(zip(NAMES, (self.nominal, self.start, self.nominal), strict=True))
        return "".join(
            literal + ("" if name is None else self._format(values[name], spec or ""))
            for literal, name, spec, _ in string.Formatter().parse(text)
        )

    def environment(self) -> dict[str, str]:
        """The environment variables of the run's process, in UTC."""
        values = (self.nominal, self.start, self.nominal)
        names = ("WEFT_NOMINAL_TIME", "WEFT_INTERVAL_START", "WEFT_INTERVAL_END")
        return {n: v.astimezone(UTC).isoformat() for n, v in zip(names, values, strict=True)}

    def _format(self, value: datetime, spec: str) -> str:
        local = value.astimezone(self.zone)
        return local.strftime(spec) if spec else local.isoformat()


def check_placeholders(text: str) -> None:
    """Refuse placeholders that `LogicalTime.fill` does not know.

    Raises:
        DefinitionError: there is one.
    """
    known = ", ".join(f"{{{name}}}" for name in NAMES)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise DefinitionError(
            f"{text!r}: {error}. Placeholders are {known}; write {{{{ for a brace."
        ) from error
    for _, name, spec, conversion in parts:
        if name is not None and (name not in NAMES or conversion or "{" in (spec or "")):
            raise DefinitionError(
                f"{text!r} has the placeholder {{{name}}}; there are {known}, with a format "
                f"such as {{nominal:%Y-%m-%d}}. {nearest(name, NAMES)}".rstrip()
            )
