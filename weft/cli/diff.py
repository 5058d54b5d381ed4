"""``weft diff DATASET [V1] [V2]``: what changed between two versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import dataset_argument
from weft.errors import DefinitionError

if TYPE_CHECKING:
    from weft.cli.datasets import Dataset
    from weft.pipelines.observe.diff import Diff, Example

_HIDDEN = ("gated", "rejected")
"""States of runs whose version readers have never seen."""


@click.command("diff", cls=Command)
@dataset_argument
@click.argument("before", metavar="[V1]", required=False)
@click.argument("after", metavar="[V2]", required=False)
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Rows of each kind to show.",
)
def command(dataset: str, before: str | None, after: str | None, *, examples: int) -> None:
    """Say what changed between two versions of a dataset: columns, rows and fields.

    V1 and V2 are versions, tags or runs, or how a run's id begins. V2 is what readers see if it
    is left out, and V1 the run before that.
    """
    from weft.cli.datasets import find_dataset
    from weft.cli.versions import find_version
    from weft.pipelines import tables
    from weft.pipelines.observe import diff

    there = find_dataset(dataset)
    path = there.path
    last = find_version(path, after or tables.LATEST)
    first = _before(there, last) if before is None else find_version(path, before)
    found = diff.diff(path, first, last, examples=examples)
    document = {**asdict(found), "same": found.same}
    emit(document, "\n".join(_lines(found)))


def _before(dataset: Dataset, version: int) -> int:
    """The newest version that readers saw before `version`, of another run."""
    from weft.pipelines import tables

    tags = tables.open_table(dataset.path).tags.list()
    hidden = {f"run-{j.run}" for j in dataset.runs() if j.state()["state"] in _HIDDEN}
    run = next(
        (t["metadata"].get(tables.RUN_PROPERTY) for t in tags.values() if t["version"] == version),
        None,
    )
    earlier = [
        found["version"]
        for name, found in tags.items()
        if name.startswith("run-") and found["version"] < version
        if name not in hidden and name != f"run-{run}"
    ]
    if not earlier:
        raise DefinitionError(
            f"{dataset.path} has no run before version {version} to compare with. Name two "
            "versions: `weft history` lists them."
        )
    return int(max(earlier))


def _lines(found: Diff) -> Iterator[str]:
    yield f"{found.dataset}: version {found.before} → {found.after}"
    if found.same:
        yield f"The same {found.rows['before']:,} rows and columns."
        return
    yield from (f"  + column {name}  {kind}" for name, kind in found.added.items())
    yield from (f"  - column {name}  {kind}" for name, kind in found.removed.items())
    yield from (f"  ~ column {name}  {a} → {b}" for name, (a, b) in found.retyped.items())
    rows = found.rows
    told = [f"{rows[what]:,} {what}" for what in ("added", "removed", "changed") if rows[what]]
    kept = f"{rows['same']:,} as they were"
    yield f"{rows['before']:,} → {rows['after']:,} rows: {', '.join([*told, kept])}"
    if any(found.duplicates):
        one, other = found.duplicates
        yield f"{one:,} and {other:,} rows share a key with another row; compared in their order"
    if found.fields:
        table = [
            [f"  {name}", f"{count:,} rows", _apart(found, name)]
            for name, count in found.fields.items()
        ]
        yield aligned(table, right=frozenset({1}))
    for example in found.examples:
        yield from _example(example)


def _apart(found: Diff, name: str) -> str:
    return f"at most {found.apart[name]:.3g} apart" if name in found.apart else ""


def _example(example: Example) -> Iterator[str]:
    sign = {"added": "+", "removed": "-", "changed": "~"}[example.what]
    yield f"{sign} {example.key if example.key.isprintable() else repr(example.key)}"
    yield from (f"    {name}: {was} → {now}" for name, (was, now) in example.fields.items())
