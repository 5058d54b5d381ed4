"""``weft schedule add | ls | next | pause | resume``: the jobs."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import parse_settings, set_option
from weft.cli.schedule.shown import local, now, store
from weft.errors import DefinitionError, nearest

if TYPE_CHECKING:
    from weft.pipelines.schedules.jobs import Job


@click.command("add", cls=Command)
@click.argument("name")
@click.argument("target")
@click.option("--cron", metavar="'M H D M W'", help="When: minute, hour, day, month, weekday.")
@click.option("--timezone", metavar="ZONE", help="Of the cron times, such as Europe/Berlin.")
@click.option("--on-files", metavar="GLOB", help="Run when the files that match have changed.")
@click.option("--on-dataset", metavar="PATH", help="Run when a Lance dataset has a new version.")
@click.option("--tag", help="Of the dataset.  [default: latest]")
@click.option("--engine", type=click.Choice(["ray", "local"]), help="Where to run.")
@set_option
@click.pass_obj
def add(file: Path, /, name: str, target: str, settings: tuple[str, ...], **given: Any) -> None:
    """Add a job to the file and show when it will run.

    TARGET and paths mean places below the folder of the file. Policies are written into the
    file by hand: docs/schedules.md.
    """
    from weft.pipelines.schedules.jobs import NAME, find, parse

    if not NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} cannot name a job. Expected letters, digits, '-' and '_', such as photos."
        )
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if any(job.name == name for job in parse(before, file)):
        raise DefinitionError(f"{file} has a job {name!r} already. Edit it there.")
    table = _table(name, target, given, parse_settings(settings))
    gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
    job = find(parse(before + gap + table, file), name)
    _check_target(job)
    with file.open("a", encoding="utf-8") as out:
        out.write(gap + table)
    store(file).meet(name, str(job.trigger), now())  # from now on its times count
    times = _next(job, 5)
    document = {"file": str(file), "job": name, "trigger": str(job.trigger), "next": times}
    shown = [f"  {time}" for time in times] or ["  when it changes"]
    emit(document, "\n".join([f"{name} is in {file}. It runs {job.trigger}:", *shown]))


@click.command("ls", cls=Command)
@click.pass_obj
def ls(file: Path) -> None:
    """List the jobs: what starts each, when next, how its newest run ended."""
    from weft.pipelines.schedules.jobs import load

    loaded = load(file)
    known_jobs = store(file)
    jobs = []
    for job in loaded:
        known = known_jobs.meet(job.name, str(job.trigger), now())
        last = next(iter(known_jobs.runs(job.name, limit=1)), None)
        jobs.append(
            {
                "job": job.name,
                "target": str(job),
                "trigger": str(job.trigger),
                "next": None if known.paused else next(iter(_next(job, 1)), None),
                "last": None if last is None else local(last.nominal, job),
                "state": None if last is None else last.state,
                "paused": known.paused,
            }
        )
    rows = [["job", "trigger", "next", "last", "state"]]
    for j in jobs:
        when = "paused" if j["paused"] else j["next"] or "on change"
        rows.append([str(v or "") for v in (j["job"], j["trigger"], when, j["last"], j["state"])])
    emit({"file": str(file), "jobs": jobs}, aligned(rows) if jobs else f"{file}: no jobs.")


@click.command("next", cls=Command)
@click.option("-n", "count", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.pass_obj
def upcoming(file: Path, count: int) -> None:
    """List the next times of all jobs."""
    from weft.pipelines.schedules.cron import Cron
    from weft.pipelines.schedules.jobs import load

    times = [
        (time, job)
        for job in load(file)
        if isinstance(job.trigger, Cron)
        for time in islice(job.trigger.after(now()), count)
    ]
    times = sorted(times, key=lambda pair: pair[0])[:count]
    document = [{"time": local(t, j), "utc": t.isoformat(), "job": j.name} for t, j in times]
    text = aligned([[d["time"], d["job"]] for d in document]) if times else "No job has times."
    emit({"file": str(file), "next": document}, text)


@click.command("pause", cls=Command)
@click.argument("job")
@click.pass_obj
def pause(file: Path, job: str) -> None:
    """Let a job rest: its times are noted and left out, its changes wait."""
    _pause(file, job, "by hand")
    emit({"job": job, "paused": "by hand"}, f"{job} is paused. Go on: weft schedule resume {job}")


@click.command("resume", cls=Command)
@click.argument("job")
@click.pass_obj
def resume(file: Path, job: str) -> None:
    """Let a paused job go on."""
    _pause(file, job, None)
    emit({"job": job, "paused": None}, f"{job} goes on.")


def _pause(file: Path, name: str, reason: str | None) -> None:
    from weft.pipelines.schedules.jobs import find, load

    job, found = find(load(file), name), store(file)
    found.meet(name, str(job.trigger), now())
    found.pause(name, reason)


def _table(name: str, target: str, given: dict[str, Any], settings: dict[str, str]) -> str:
    """A job as TOML; JSON's strings are TOML's, too."""
    on = {"files": given["on_files"], "dataset": given["on_dataset"], "tag": given["tag"]}
    values = {
        "target": target,
        **{key: given[key] for key in ("cron", "timezone", "engine")},
        **{f"on.{key}": value for key, value in on.items()},
        **{f"set.{k if k.isidentifier() else json.dumps(k)}": v for k, v in settings.items()},
    }
    lines = [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in values.items() if v]
    return "\n".join([f"[{name}]", *lines, ""])


def _check_target(job: Job) -> None:
    """Refuse a pipeline that is not there, and parameters it does not have."""
    from weft.cli.target import find

    assert job.target is not None  # of `add`
    where = job.target.rpartition(":")[0] or job.target
    if not where.endswith(".py"):
        return  # a module is looked for when it runs, from the folder of the file
    function, _ = find(str(job.folder / job.target))
    known = [p.name for p in function.parameters]
    for name, _ in job.settings:
        if name not in known:
            raise DefinitionError(
                f"Pipeline {function.name!r} has no parameter {name!r}. It has: "
                f"{', '.join(known) or 'none'}. {nearest(name, known)}".rstrip()
            )


def _next(job: Job, count: int) -> list[str]:
    from weft.pipelines.schedules.cron import Cron

    if not isinstance(job.trigger, Cron):
        return []
    return [local(time, job) for time in islice(job.trigger.after(now()), count)]
