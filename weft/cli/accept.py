"""``weft accept TARGET OPERATOR@VERSION``: a change of code that changes no value."""

from __future__ import annotations

import click

from weft.cli.command import Command, emit
from weft.cli.options import parse_settings, target_argument


@click.command("accept", cls=Command)
@target_argument
@click.argument("change", metavar="OPERATOR@VERSION")
def command(target: str, settings: tuple[str, ...], change: str) -> None:
    """Take the new version of an operator for one that answers as the old one did.

    Rows that were computed with the old version stay as they are, and the next run says that
    they are of the new one. OPERATOR@VERSION is as `weft plan` shows it; the version may be left
    out if the operator has one change.
    """
    from weft.cli.target import load
    from weft.pipelines.compile import plain_plan
    from weft.pipelines.runs.accepting import accept_change

    pipeline, _ = load(target, parse_settings(settings))
    operator, _, version = change.partition("@")
    done = accept_change(plain_plan(pipeline.graph.afresh()), operator, version or None)
    documents = [
        {"dataset": uri, "operator": name, "before": before, "after": after}
        for uri, (name, before, after) in done
    ]
    lines = [
        f"{d['dataset']}: {d['operator']} of version {d['after']} is taken for {d['before']}."
        for d in documents
    ]
    emit(documents, "\n".join([*lines, "The next run notes it; nothing is computed again for it."]))
