"""``weft schedule tick | serve | run-now | history``: the runs."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.schedule.shown import local, say, store
from weft.errors import Interrupted

if TYPE_CHECKING:
    from weft.pipelines.schedules.jobs import Job
    from weft.pipelines.schedules.store import Run


@click.command("tick", cls=Command)
@click.pass_context
def tick(ctx: click.Context) -> None:
    """Run what is due now and wait for it; exit 1 if a run failed.

    For cron, systemd timers and Kubernetes: call it every minute, or at the times of the jobs.
    """
    from weft.pipelines.schedules.daemon import Daemon

    try:
        with Daemon(ctx.obj, say=say) as daemon:
            done = daemon.tick()
    except KeyboardInterrupt:
        raise Interrupted("Stopped. The next `weft schedule tick` goes on.") from None
    _answer(ctx, done, "Nothing is due.")


@click.command("serve", cls=Command)
@click.pass_obj
def serve(file: Path) -> None:
    """Run what is due, until it is stopped.

    SIGTERM and Ctrl-C stop its runs in order; the next daemon goes on with them.
    """
    from weft.pipelines.schedules.daemon import Daemon

    try:
        with Daemon(file, say=say) as daemon:
            say(f"serving {len(daemon.jobs)} jobs of {file}")
            daemon.serve()
    except KeyboardInterrupt:
        emit({"file": str(file), "state": "stopped"}, "Stopped; runs are kept to be gone on with.")


@click.command("run-now", cls=Command)
@click.argument("job")
@click.pass_context
def run_now(ctx: click.Context, job: str) -> None:
    """Run a job now, whatever the time, and wait for it."""
    from weft.pipelines.schedules.daemon import Daemon

    try:
        with Daemon(ctx.obj, say=say) as daemon:
            done = daemon.run_now(job)
    except KeyboardInterrupt:
        raise Interrupted("Stopped. The next `weft schedule tick` goes on.") from None
    _answer(ctx, [done], "")


@click.command("history", cls=Command)
@click.argument("job", required=False)
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True)
@click.pass_obj
def history(file: Path, job: str | None, count: int) -> None:
    """List runs and the times left out, newest first, and why."""
    from weft.pipelines.schedules.jobs import find, load

    jobs = load(file)
    if job is not None:
        find(jobs, job)
    runs = [_run(run, file, jobs) for run in store(file).runs(job, limit=count)]
    head = ["job", "for", "state", "attempt", "seconds", "version", "reason"]
    rows = [
        [
            r["job"],
            r["nominal"],
            r["state"],
            str(r["attempt"] or ""),
            "" if r["seconds"] is None else f"{r['seconds']:,.1f}",
            ", ".join(map(str, r["versions"].values())),
            textwrap.shorten(r["reason"] or "", 80, placeholder=" …"),
        ]
        for r in runs
    ]
    text = aligned([head, *rows], right=frozenset({3, 4})) if runs else "Nothing was due yet."
    emit({"file": str(file), "runs": runs}, text)


def _answer(ctx: click.Context, done: list[Run], nothing: str) -> None:
    """What was run, as one document; exit 1 if not all of it succeeded."""
    from weft.pipelines.schedules.jobs import load

    runs = [_run(run, ctx.obj, load(ctx.obj)) for run in done]
    lines = [f"{r['job']} {r['nominal']}: {r['state']}" for r in runs]
    for i, r in enumerate(runs):
        if r["state"] != "succeeded":
            lines[i] += f": {r['reason']} ({r['log']})"
    emit({"file": str(ctx.obj), "runs": runs}, "\n".join(lines) or nothing)
    ctx.exit(1 if any(run.state in ("failed", "interrupted") for run in done) else 0)


def _run(run: Run, file: Path, jobs: tuple[Job, ...]) -> dict[str, Any]:
    from weft.pipelines.schedules.daemon import output_of

    job = next((j for j in jobs if j.name == run.job), None)
    seconds = (run.ended - run.started).total_seconds() if run.ended and run.started else None
    return {
        "job": run.job,
        "nominal": local(run.nominal, job),
        "interval_start": local(run.start, job),
        "state": run.state,
        "reason": run.reason,
        "attempt": run.attempt,
        "started": run.started and run.started.isoformat(),
        "seconds": seconds,
        "exit_code": run.exit_code,
        "run": run.run,
        "versions": dict(run.versions),
        "log": str(output_of(file, run).with_suffix(".log")) if run.attempt else None,
    }
