"""``weft promote DATASET RUN``: show a version that gates refused."""

from __future__ import annotations

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument


@click.command("promote", cls=Command)
@dataset_argument
@click.argument("run", metavar="RUN")
@click.option("--yes", is_flag=True, help="Also if another run was accepted since.")
def command(dataset: str, run: str, *, yes: bool) -> None:
    """Show a version that gates refused, and go on from it.

    All datasets of the run are shown. RUN is a run's id or how it begins.
    """
    from weft.cli.datasets import find_dataset, find_run
    from weft.pipelines.gates.accepting import promote

    journal = find_run(find_dataset(dataset), run)
    versions = promote(journal, over_newer=yes)
    lines = [f"Run {journal.run} is what readers see now:"]
    lines += [f"  {uri} version {version}" for uri, version in versions.items()]
    emit({"run": journal.run, "state": "published", "versions": versions}, "\n".join(lines))
