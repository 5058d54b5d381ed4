"""jobs.toml: what is read, and every refusal with file, table, key, what was given and expected."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weft.errors import DefinitionError
from weft.pipelines.schedules.cron import Cron
from weft.pipelines.schedules.jobs import find, load, parse
from weft.pipelines.schedules.policy import Policy
from weft.pipelines.schedules.triggers import OnDataset, OnFiles

FILE = Path("/data/jobs.toml")

FULL = """
[photos]
target = "photos.py:photos"
cron = "0 2 * * *"
timezone = "Europe/Berlin"
set = { out = "days/{nominal:%Y-%m-%d}.lance", since = "{interval_start}", least = 3, deep = true }
engine = "ray"
address = "auto"
overlap = "queue"
catchup = "all"
catchup_max = 7
deadline = "2d"
timeout = "6h"
retries = 2
retry_delay = "90s"
pause_after = 3

[inbox]
target = "inbox.py"
on.files = "inbox/**/*.jpg"
engine = "local"

[derived]
target = "package.module:derived"
[derived.on]
dataset = "raw.lance"
tag = "checked"
"""


def test_all_of_it() -> None:
    photos, inbox, derived = parse(FULL, FILE)
    assert photos.trigger == Cron("0 2 * * *", "Europe/Berlin")
    assert photos.policy == Policy(
        overlap="queue",
        catchup="all",
        catchup_max=7,
        deadline=timedelta(days=2),
        timeout=timedelta(hours=6),
        retries=2,
        retry_delay=timedelta(seconds=90),
        pause_after=3,
    )
    assert inbox.trigger == OnFiles("/data/inbox/**/*.jpg")
    assert (inbox.engine, inbox.policy, inbox.folder) == ("local", Policy(), Path("/data"))
    assert derived.trigger == OnDataset("/data/raw.lance", "checked")


def test_the_command_line_of_a_run_has_its_logical_time() -> None:
    photos = find(parse(FULL, FILE), "photos")
    nominal = datetime(2026, 10, 25, 1, tzinfo=UTC)  # 02:00 when it is winter time again
    assert photos.arguments(nominal, nominal - timedelta(hours=25)) == [
        "run", "--json", "--engine=ray", "--address=auto",
        "--set=out=days/2026-10-25.lance", "--set=since=2026-10-24T02:00:00+02:00",
        "--set=least=3", "--set=deep=true", "--", "photos.py:photos",
    ]  # fmt: skip


def test_every_time_queues_when_all_are_caught_up_with() -> None:
    [job] = parse(table('catchup = "all"'), FILE)
    assert job.policy.overlap == "queue"


def table(more: str = "", start: str = 'cron = "0 2 * * *"\ntimezone = "UTC"') -> str:
    return f'[photos]\ntarget = "photos.py"\n{start}\n{more}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[photos", "/data/jobs.toml is not TOML: "),
        ("photos = 3", "[photos] is 3. Expected a table: a job is [name]"),
        ("['a b']", "'a b' cannot name a job. Expected up to 64 ASCII letters"),
        ("[photos]\ncron = '0 2 * * *'\ntimezone = 'UTC'", "[photos] has no target. Say which"),
        (
            "[train]\ncommand = ['a']\nengine = 'local'\non.files = '*.jpg'",
            "[train] has command and engine, which is of a pipeline. Leave one out.",
        ),
        (
            "[train]\ncommand = 'python train.py'\non.files = '*.jpg'",
            'command = \'python train.py\'. Expected words such as ["python", "train.py"].',
        ),
        (
            "[train]\ncommand = ['a', '{day}']\non.files = '*.jpg'",
            "command: '{day}' has the placeholder {day}; there are {nominal}",
        ),
        (table(start=""), "[photos] has nothing that starts it. Give one: cron = "),
        (table("on.files = '*'"), "[photos] has cron and on. Give one: "),
        (
            table(start='cron = "0 2 * * *"'),
            "has cron = '0 2 * * *' and no timezone. The same hour",
        ),
        (table(start='cron = "0 2 * * *"'), 'Say which is meant: timezone = "Europe/Berlin"'),
        (table(start='cron = "0 2"\ntimezone = "UTC"'), "[photos] cron: '0 2' has 2 fields."),
        (
            table(start='cron = "0 2 * * *"\ntimezone = "CEST"'),
            "timezone: There is no time zone 'CEST'",
        ),
        (
            table(start='crn = "0 2 * * *"\non.files = "*"'),
            "has no key 'crn'. It can have: target, cron, ",
        ),
        (table("tmeout = '1h'"), "Did you mean 'timeout'?"),
        (
            table('overlap = "skp"'),
            """Expected one of "skip", "queue", "cancel", "allow". Did you mean 'skip'?""",
        ),
        (
            table("timeout = 60"),
            'timeout = 60. Expected a duration such as "90s", "15m", "6h" or "2d".',
        ),
        (table('deadline = "0h"'), "deadline = '0h'. Expected a duration"),
        (table("retries = -1"), "retries = -1. Expected a whole number, 0 or more."),
        (table("retries = true"), "retries = True. Expected a whole number"),
        (
            table('catchup = "all"\noverlap = "skip"'),
            '[photos] catchup = "all" runs every time, and',
        ),
        (
            table('engine = "local"\naddress = "auto"'),
            'address is of a Ray cluster; engine = "local"',
        ),
        (table("set = 3"), "set = 3. Expected a table such as"),
        (table("set.a = [1]"), "[photos] set: a = [1]. Expected text, a number, true or false"),
        (
            table("set.a = '{nominel}'"),
            "placeholder {nominel}; there are {nominal}, {interval_start}",
        ),
        (table("set.a = '{nominel}'"), "Did you mean 'nominal'?"),
        (table("set.a = '{nominal.year}'"), "has the placeholder {nominal.year}"),
        (table("set.a = '{'"), "write {{ for a brace"),
        (table(start="on = 'inbox'"), "[photos] on is 'inbox'. Expected a table"),
        (table(start="on = {}"), "[photos] on: neither files nor dataset are given. Give one"),
        (
            table(start="on = {files = '*', tag = 'a'}"),
            "on: tag = 'a' is of a dataset; files have none.",
        ),
        (table(start="on.files = 's3://a/*'"), "on: 's3://a/*' is not on a local file system."),
        (
            table(start="on = {file = '*'}"),
            "on has no key 'file'. It can have: files, dataset, tag. Did you mean 'files'?",
        ),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(message)) as error:
        parse(text, FILE)
    assert str(error.value).startswith("/data/jobs.toml")
    assert str(error.value).count("[photos]") <= 1


def test_no_file_and_no_job(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"There is no file .*jobs\.toml\. `weft"):
        load(tmp_path / "jobs.toml")
    (tmp_path / "jobs.toml").write_bytes(b"\xff")
    with pytest.raises(DefinitionError, match="is not UTF-8"):
        load(tmp_path / "jobs.toml")
    with pytest.raises(DefinitionError, match=r"no job 'photo'\. Jobs: photos\. Did you mean"):
        find(parse(table(), FILE), "photo")
