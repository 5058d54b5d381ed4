"""An age, as an option takes it."""

from __future__ import annotations

import re
from datetime import timedelta

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Age(click.ParamType[timedelta]):
    """``30d``: minutes, hours, days or weeks."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        found = re.fullmatch(r"(\d+)([mhdw])", str(value).strip())
        if found is None:
            self.fail(f"{value!r}; expected a number and m, h, d or w, such as 30d.", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
