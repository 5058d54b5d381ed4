"""``jobs.toml``: one table for each job, read into frozen values or refused with the reason."""

from __future__ import annotations

import re
import shlex
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar

from weft.errors import DefinitionError, nearest
from weft.pipelines.schedules.cron import Cron, zone
from weft.pipelines.schedules.logical import LogicalTime, check_placeholders
from weft.pipelines.schedules.policy import Catchup, Overlap, Policy, duration
from weft.pipelines.schedules.triggers import OnDataset, OnFiles

T = TypeVar("T")

Trigger = Cron | OnFiles | OnDataset

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What can name a job: it is a table in TOML and a folder of logs."""

_ENGINES = ("ray", "local")
_DURATION = 'a duration such as "90s", "15m", "6h" or "2d"'
_EXAMPLE = 'cron = "0 2 * * *" with timezone = "Europe/Berlin"'


@dataclass(frozen=True)
class Job:
    """A pipeline or another program, what starts it, and the policies of its runs.

    `folder` is where ``jobs.toml`` is: the run's working directory, which relative paths in
    `target` and in parameters begin at. With `command` there is no target, and the other way
    round.
    """

    name: str
    target: str | None
    trigger: Trigger
    folder: Path
    settings: tuple[tuple[str, str], ...] = ()
    engine: str = "ray"
    address: str | None = None
    policy: Policy = field(default_factory=Policy)
    timezone: str = "UTC"
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What is run."""
        return self.target or shlex.join(self.command)

    @property
    def zone(self) -> tzinfo:
        """The time zone in which times are shown and put into parameters."""
        return UTC if self.timezone == "UTC" else zone(self.timezone)

    def arguments(self, nominal: datetime, start: datetime) -> list[str]:
        """The words of `command`, else what follows ``weft`` on the command line, for a run for
        the interval to `nominal`.
        """
        time = LogicalTime(nominal, start, self.zone)
        if self.target is None:
            return [time.fill(word) for word in self.command]
        settings = [f"--set={name}={time.fill(text)}" for name, text in self.settings]
        address = [f"--address={self.address}"] if self.address else []
        return ["run", "--json", f"--engine={self.engine}", *address, *settings, "--", self.target]


def load(path: str | Path) -> tuple[Job, ...]:
    """The jobs of a ``jobs.toml``, in its order.

    Raises:
        DefinitionError: there is no such file, it is no TOML, or a job in it is wrong.
    """
    file = Path(path).expanduser().absolute()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DefinitionError(
            f"There is no file {file}. `weft schedule add` writes one; -f names another."
        ) from None
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{file} is not UTF-8: {error}.") from error
    return parse(text, file)


def parse(text: str, file: Path) -> tuple[Job, ...]:
    """The jobs in the text of a ``jobs.toml``; `file` is where it is, or will be.

    >>> [job] = parse('''
    ...     [photos]
    ...     target = "photos.py"
    ...     cron = "0 2 * * *"
    ...     timezone = "Europe/Berlin"
    ... ''', Path("/data/jobs.toml"))
    >>> job.name, str(job.trigger), job.policy.overlap
    ('photos', '0 2 * * * Europe/Berlin', 'skip')

    Raises:
        DefinitionError: it is no TOML, or a job in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{file} is not TOML: {error}.") from error
    return tuple(_job(name, values, file) for name, values in document.items())


def find(jobs: Iterable[Job], name: str) -> Job:
    """The job of that name.

    Raises:
        DefinitionError: there is none.
    """
    named = {job.name: job for job in jobs}
    if name not in named:
        raise DefinitionError(
            f"There is no job {name!r}. Jobs: {', '.join(named) or 'none'}. "
            f"{nearest(name, named)}".rstrip()
        )
    return named[name]


class _Table:
    """A TOML table that is read key by key; what is left over at the end is unknown."""

    def __init__(self, where: str, values: object) -> None:
        self.where = where
        if not isinstance(values, dict):
            raise DefinitionError(
                f"{where} is {values!r}. Expected a table: a job is [name], with target and "
                f"{_EXAMPLE}."
            )
        self._values = dict(values)
        self._known: list[str] = []

    def take(self, key: str, expected: str, read: Callable[[Any], T]) -> T | None:
        """The value of `key` as `read` gives it, if it is there."""
        self._known.append(key)
        if key not in self._values:
            return None
        given = self._values.pop(key)
        try:
            return read(given)
        except (ValueError, TypeError):
            hint = nearest(given, re.findall(r'"(\w+)"', expected)) if _is_text(given) else ""
            raise DefinitionError(
                f"{self.where} {key} = {given!r}. Expected {expected}. {hint}".rstrip()
            ) from None
        except DefinitionError as error:
            told = str(error)
            inner = told.startswith(self.where)  # a table inside this one says where itself
            raise DefinitionError(told if inner else f"{self.where} {key}: {told}") from error

    def text(self, key: str, expected: str) -> str | None:
        """A text that is not empty."""
        return self.take(key, expected, _text)

    def choice(self, key: str, options: tuple[str, ...]) -> str | None:
        """One of several words."""
        expected = "one of " + ", ".join(f'"{o}"' for o in options)
        return self.take(key, expected, lambda v: v if v in options else _wrong())

    def number(self, key: str, least: int) -> int | None:
        """A whole number, `least` or more."""

        def read(value: object) -> int:
            right = isinstance(value, int) and not isinstance(value, bool) and value >= least
            return typing.cast(int, value) if right else _wrong()

        return self.take(key, f"a whole number, {least} or more", read)

    def end(self) -> None:
        """Refuse the keys that nobody asked for."""
        for key in self._values:
            raise DefinitionError(
                f"{self.where} has no key {key!r}. It can have: {', '.join(self._known)}. "
                f"{nearest(key, self._known)}".rstrip()
            )


def _job(name: str, values: object, file: Path) -> Job:
    where = f"{file}: [{name}]"
    if not NAME.fullmatch(name):
        raise DefinitionError(
            f"{where}: {name!r} cannot name a job. Expected up to 64 ASCII letters, digits, '-' "
            "and '_', and a letter or digit first."
        )
    table = _Table(where, values)
    target = table.text("target", 'a pipeline such as "photos.py:photos"')
    trigger, timezone = _trigger(table, file.parent)
    settings = table.take("set", "a table such as { source = 'photos/*.jpg' }", _settings)
    engine = table.choice("engine", _ENGINES)
    address = table.text("address", "the address of a Ray cluster")
    command = table.take("command", 'words such as ["python", "train.py"]', _words) or ()
    policy = _policy(table)
    table.end()
    if target is None and not command:
        raise DefinitionError(
            f'{where} has no target. Say which pipeline to run: target = "photos.py:photos"; or '
            'which program: command = ["python", "train.py"].'
        )
    of_weft = {"target": target, "set": settings, "engine": engine, "address": address}
    given = [key for key, value in of_weft.items() if value is not None]
    if command and given:
        raise DefinitionError(
            f"{where} has command and {given[0]}, which is of a pipeline. Leave one out."
        )
    if address is not None and engine == "local":
        raise DefinitionError(
            f'{where} address is of a Ray cluster; engine = "{engine}" has none. Leave one out.'
        )
    return Job(
        name=name,
        target=target,
        trigger=trigger,
        folder=file.parent,
        settings=settings or (),
        engine=engine or "ray",
        address=address,
        policy=policy,
        timezone=timezone,
        command=command,
    )


def _trigger(table: _Table, folder: Path) -> tuple[Trigger, str]:
    cron = table.text("cron", 'five fields such as "0 2 * * *"')
    timezone = table.take("timezone", 'an IANA name such as "Europe/Berlin"', _timezone)
    on = table.take("on", "a table with files or dataset", lambda v: _on(table.where, v, folder))
    if (cron is None) == (on is None):
        raise DefinitionError(
            f"{table.where} has {'nothing that starts it' if cron is None else 'cron and on'}. "
            f"Give one: {_EXAMPLE}, or on.files, or on.dataset."
        )
    if on is not None:
        return on, timezone or "UTC"
    if timezone is None:
        raise DefinitionError(
            f"{table.where} has cron = {cron!r} and no timezone. The same hour is another moment "
            "in each zone, and moves where clocks are changed; the machine's own zone is not "
            f'yours in a container. Say which is meant: timezone = "Europe/Berlin", or "UTC".'
        )
    assert cron is not None
    try:
        return Cron(cron, timezone), timezone
    except DefinitionError as error:
        raise DefinitionError(f"{table.where} cron: {error}") from error


def _on(where: str, value: object, folder: Path) -> OnFiles | OnDataset:
    table = _Table(f"{where} on", value)
    files = table.text("files", 'a pattern such as "inbox/**/*.jpg"')
    dataset = table.text("dataset", 'a Lance dataset such as "raw.lance"')
    tag = table.text("tag", 'a tag such as "latest"')
    table.end()
    if (files is None) == (dataset is None):
        given = "neither files nor dataset" if files is None else "files and dataset"
        raise DefinitionError(f"{given} are given. Give one of them.")
    if files is None:
        assert dataset is not None
        return OnDataset(_place(folder, dataset), tag or "latest")
    if tag is not None:
        raise DefinitionError(f"tag = {tag!r} is of a dataset; files have none.")
    return OnFiles(_place(folder, files))


def _place(folder: Path, path: str) -> str:
    """`path` as it is meant in a file in `folder`."""
    if re.match(r"\w+://", path):
        raise DefinitionError(
            f"{path!r} is not on a local file system. Mount it, and give its path; or run the job "
            "at times: an unchanged source costs a run no more than its listing."
        )
    return str(folder / Path(path).expanduser())


def _policy(table: _Table) -> Policy:
    catchup = table.choice("catchup", typing.get_args(Catchup))
    given: dict[str, Any] = {
        "catchup": catchup,
        # every time is to run, so one that comes early waits
        "overlap": table.choice("overlap", typing.get_args(Overlap))
        or ("queue" if catchup == "all" else None),
        "catchup_max": table.number("catchup_max", 1),
        "deadline": table.take("deadline", _DURATION, duration),
        "timeout": table.take("timeout", _DURATION, duration),
        "retries": table.number("retries", 0),
        "retry_delay": table.take("retry_delay", _DURATION, duration),
        "pause_after": table.number("pause_after", 1),
    }
    try:
        return Policy(**{key: value for key, value in given.items() if value is not None})
    except DefinitionError as error:
        raise DefinitionError(f"{table.where} {error}") from error


def _settings(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise TypeError
    return tuple((name, _setting(name, given)) for name, given in value.items())


def _setting(name: str, given: object) -> str:
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int | float):
        return str(given)
    if not isinstance(given, str):
        raise DefinitionError(
            f"{name} = {given!r}. Expected text, a number, true or false; a list is text with "
            "commas."
        )
    check_placeholders(given)
    return given


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise TypeError
    for word in value:
        check_placeholders(_text(word))
    return tuple(value)


def _timezone(value: object) -> str:
    name = _text(value)
    zone(name)
    return name


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.strip() and "\0" not in value else _wrong()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _wrong() -> typing.NoReturn:
    raise ValueError
