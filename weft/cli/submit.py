"""``weft submit TARGET``: run a pipeline on a cluster from afar, and follow it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, emit
from weft.cli.options import parse_settings, target_argument
from weft.errors import DefinitionError, Interrupted

if TYPE_CHECKING:
    from weft.pipelines.engines.jobs import Job, Jobs

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

_NOT_FOUND = 127
"""The exit code of a shell that does not find the command."""


@click.command("submit", cls=Command)
@target_argument
@click.option("--address", required=True, metavar="URL", help="The dashboard: http://HOST:8265.")
@click.option("--follow/--no-follow", default=True, help="Print what it prints until it ends.")
@click.option("--id", "name", metavar="ID", help="Name it; done once, it is not done again.")
@click.option("--max-failed", metavar="5%|100", help="As of `weft run`.")
@click.option("--fresh", is_flag=True, help="As of `weft run`.")
@click.option("--retry-failed", is_flag=True, help="As of `weft run`.")
@click.pass_context
def command(
    ctx: click.Context,
    target: str,
    *,
    settings: tuple[str, ...],
    address: str,
    follow: bool,
    name: str | None,
    max_failed: str | None,
    fresh: bool,
    retry_failed: bool,
) -> None:
    """Run a pipeline on a Ray cluster, follow it, and exit as it does.

    The same submission again, while it runs, follows the job that is there. When it has ended,
    it is run again as `weft run` would: nothing if in sync, else what is left to do. Ctrl-C
    leaves the job running. The folder of the file is sent along; weft must be installed on the
    cluster, and paths must mean the same on all of its machines.
    """
    from weft.cli.elsewhere import load_for_cluster
    from weft.pipelines.engines.jobs import Jobs
    from weft.pipelines.operator import digest

    values = parse_settings(settings)
    pipeline, full = load_for_cluster(target, values)
    folder, there = _shipped(full)
    options = _options(max_failed, fresh, retry_failed)
    recipe = pipeline.graph.recipe()
    if name is None:
        key = digest([there, recipe, sorted(values.items()), options])
        name = f"weft-{pipeline.graph.name}-{key[:12]}"
        again = True
    else:
        name, again = _checked(name), False
    jobs = Jobs(address)
    line = ["weft", "run", "--address", "auto", *options]
    line += [*(f"--set={n}={v}" for n, v in values.items()), "--", there]
    metadata = {"pipeline": pipeline.graph.name, "recipe": recipe}
    job, said = _start(jobs, name, shlex.join(line), folder, metadata, again=again)
    click.echo(said, err=True)
    if follow and not job.ended:
        job = _follow(jobs, job.name)
    _tell(jobs, job)
    ctx.exit(job.exit_code if job.ended else 0)


def _start(
    jobs: Jobs,
    name: str,
    line: str,
    folder: Path | None,
    metadata: Mapping[str, str],
    *,
    again: bool,
) -> tuple[Job, str]:
    """The job that does this, started if there is none; and what was done, in words."""
    from weft.pipelines.engines.jobs import Job

    attempts = jobs.attempts(name)
    newest = attempts[-1] if attempts else None
    if newest is not None and not newest.ended:
        return newest, f"Job {newest.name} is doing this already ({newest.state.lower()})."
    if newest is not None and newest.state == "SUCCEEDED" and not again:
        return newest, f"Job {newest.name} has done this."
    number = len(attempts) + 1
    attempt = name if number == 1 else f"{name}-{number}"
    if jobs.submit(attempt, line, folder, metadata):
        before = f" {newest.name} {newest.state.lower()}." if newest else ""
        return Job(attempt, "PENDING"), f"Job {attempt} submitted to {jobs.address}.{before}"
    return Job(attempt, "PENDING"), f"Job {attempt} was submitted by another just now."


def _follow(jobs: Jobs, name: str) -> Job:
    def show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        return jobs.follow(name, show)
    except KeyboardInterrupt:
        raise Interrupted(
            f"Job {name} goes on without us. Submit the same again to follow it; stop it with "
            f"`ray job stop --address {jobs.address} {name}`."
        ) from None


def _tell(jobs: Jobs, job: Job) -> None:
    document: dict[str, Any] = {"job": job.name, "address": jobs.address, "state": job.state}
    document["exit_code"] = job.exit_code if job.ended else None
    if not job.ended:
        emit(document, f"Submit the same again to follow it, or see {jobs.address}.")
        return
    text = f"Job {job.name} {job.state.lower()}."
    if job.code == _NOT_FOUND:
        text += " There is no `weft` on the PATH of the cluster: install it on its machines."
    elif job.state == "FAILED" and job.code is None:
        text += f" {job.message}"
    emit(document, text)


def _shipped(full: str) -> tuple[Path | None, str]:
    """The folder to send to the cluster, and the target as it is named from there."""
    where, _, name = full.rpartition(":")
    if not where.endswith(".py"):
        file = Path(getattr(sys.modules[where], "__file__", None) or "/")
        return (Path.cwd() if file.is_relative_to(Path.cwd()) else None), full
    file = Path(where)
    if file.parent in (Path.home(), Path("/")):
        raise DefinitionError(
            f"The folder of {file} would be sent to the cluster, and it is {file.parent}. Put the "
            "pipeline into a folder of its own."
        )
    return file.parent, f"{file.name}:{name}"


def _options(max_failed: str | None, fresh: bool, retry_failed: bool) -> list[str]:
    from weft.pipelines.runs.budget import Budget

    if max_failed is not None:
        Budget.parse(max_failed)
    return [
        *([f"--max-failed={max_failed}"] if max_failed is not None else []),
        *(["--fresh"] if fresh else []),
        *(["--retry-failed"] if retry_failed else []),
    ]


def _checked(name: str) -> str:
    if not _ID.fullmatch(name):
        raise DefinitionError(
            f"--id {name!r} cannot name a job. Expected up to 100 letters, digits, '-', '_' and "
            "'.', and a letter or digit first."
        )
    return name
