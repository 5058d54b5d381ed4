"""What the commands of `weft schedule` share: the store, the time, and how times are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from datetime import datetime

    from weft.pipelines.schedules.jobs import Job
    from weft.pipelines.schedules.store import Store


def store(file: Path) -> Store:
    """The store of a ``jobs.toml``."""
    from weft.pipelines.schedules.daemon import open_store

    return open_store(file)


def now() -> datetime:
    """The time."""
    from weft.pipelines.schedules.daemon import now_utc

    return now_utc()


def local(time: datetime, job: Job | None) -> str:
    """A time in the job's zone, with its offset: ``2026-11-21 02:00 +01:00``."""
    local = time.astimezone(job.zone) if job is not None else time
    seconds = f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    offset = f"{local:%z}"
    return f"{local:%Y-%m-%d} {seconds} {offset[:3]}:{offset[3:5]}"


def say(line: str) -> None:
    """A line of log on stderr."""
    click.echo(f"{now():%Y-%m-%d %H:%M:%S} {line}", err=True)
