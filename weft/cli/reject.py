"""``weft reject DATASET RUN``: give up a version that gates refused."""

from __future__ import annotations

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument


@click.command("reject", cls=Command)
@dataset_argument
@click.argument("run", metavar="RUN")
def command(dataset: str, run: str) -> None:
    """Give up a version that gates refused, so that `weft gc` can collect it.

    Of all datasets of the run. RUN is a run's id or how it begins.
    """
    from weft.cli.datasets import find_dataset, find_run
    from weft.pipelines.gates.accepting import reject

    journal = find_run(find_dataset(dataset), run)
    datasets = reject(journal)
    lines = [f"Run {journal.run} is given up; readers never saw it. Its tags are gone from:"]
    lines += [f"  {uri}" for uri in datasets]
    emit({"run": journal.run, "state": "rejected", "datasets": datasets}, "\n".join(lines))
