"""``weft forget DATASET KEY…``: rows, and all that was made of them, gone for good."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument
from weft.errors import Refused

if TYPE_CHECKING:
    from weft.pipelines.runs.forget import Receipt
    from weft.pipelines.runs.holdings import Holding, Holdings

_OUTSIDE = (
    "Copies, backups and the source itself are beyond weft; the source is not read for it again."
)


@click.command("forget", cls=Command)
@dataset_argument
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option(
    "--also",
    multiple=True,
    metavar="DATASET",
    help="A dataset that was made of it and is not known to be, or that has the same keys.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--abandon", is_flag=True, help="Give up unfinished runs of these datasets.")
@click.option(
    "--even-if-absent", is_flag=True, help="Keep a key that no dataset holds from being read."
)
@click.pass_context
def command(
    ctx: click.Context,
    dataset: str,
    keys: tuple[str, ...],
    *,
    also: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    abandon: bool,
    even_if_absent: bool,
) -> None:
    """Forget rows: erase them, prove it, and keep them out.

    KEY is the `_key` of a row that was read. It goes with all that was made of it: children, rows
    of groups that it went into, rows that a join brought it to; from the dataset, from those that
    the same runs write, and from those that were made of these. Files, indexes, ledgers and what
    runs noted are rewritten without it, and all older versions go, of any row. No later run reads
    it. A receipt says what was done and how it was checked.
    """
    from weft.cli.datasets import find_dataset
    from weft.pipelines.runs.forget import forget, look

    found, others = find_dataset(dataset), [find_dataset(a).path for a in also]
    there = look(found.path, keys, others, even_if_absent=even_if_absent)
    if dry_run:
        emit(_document(there), _words(there))
        return
    _confirm(there, yes=yes)
    receipt = forget(found.path, keys, others, even_if_absent=even_if_absent, abandon=abandon)
    emit({"path": str(receipt.path), **receipt.document}, _told(receipt))
    ctx.exit(0 if receipt.complete else 1)


def _confirm(found: Holdings, *, yes: bool) -> None:
    """Say what will go, before anything does.

    Raises:
        Refused: nobody said yes.
    """
    click.echo(_words(found), err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("Nothing was done. To erase what is listed above for good: --yes")
    if not click.confirm("Erase this for good?", err=True):
        raise Refused("Nothing was done.")


def _words(found: Holdings) -> str:
    lines = [_part(part) for part in found.parts]
    if found.absent:
        lines.append(f"Held by none of these, and kept out from now on: {_many(found.absent)}.")
    lines += [
        f"{uri}: not a dataset of weft's; erase there by its own means." for uri in found.beyond
    ]
    size = sum(part.bytes for part in found.parts)
    return "\n".join([*lines, f"To rewrite: {size:,} bytes. {_OUTSIDE}"])


def _part(part: Holding) -> str:
    if not part.keys:
        return f"{part.dataset} ({part.why}): no row; files that no version names go."
    text = (
        f"{part.dataset} ({part.why}): {_count(part.rows, 'row')} and "
        f"{_count(part.lines, 'line')} of the ledger go, and of {_count(part.versions, 'version')} "
        "one is left."
    )
    if part.mixed:
        text += f" {_count(len(part.mixed), 'key')} of it had other rows in it, too."
    return text + (" The next run makes it anew." if part.together else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _many(keys: tuple[str, ...]) -> str:
    return ", ".join(map(repr, keys[:3])) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _document(found: Holdings) -> dict[str, Any]:
    return {
        "keys": list(found.keys),
        "absent": list(found.absent),
        "not_erasable": list(found.beyond),
        "datasets": [
            {
                "dataset": p.dataset,
                "why": p.why,
                "rows": p.rows,
                "ledger_lines": p.lines,
                "versions": p.versions,
                "bytes": p.bytes,
                "made_anew_by_the_next_run": p.together,
            }
            for p in found.parts
        ],
    }


def _told(receipt: Receipt) -> str:
    said = receipt.document
    scan, proof = said["proof"]["scan"], said["proof"]
    lines = [
        f"Erased from {_count(len(said['datasets']), 'dataset')}. Their tables have one version "
        f"each, with {proof['rows_left'] or 'none'} of the rows.",
        f"Searched {_count(scan['files'], 'file')}, {scan['bytes']:,} bytes, for "
        f"{_count(scan['traces'], 'trace')} of the rows, {scan['seen_before']:,} of which were "
        f"there before: found in {len(scan['found']) or 'none'}.",
    ]
    if scan["in_rows_that_stay"]:
        lines.append(f"In rows that stay as well: {_count(scan['in_rows_that_stay'], 'trace')}.")
    if scan["keys_too_short"]:
        lines.append(
            f"Not searched for, as fewer than 8 bytes are in files by chance: "
            f"{_count(scan['keys_too_short'], 'key')}."
        )
    lines += [f"  {path}" for path in scan["found"]]
    lines += [f"Not erased: {text}" for text in said["not_erased"]]
    lines += [f"Not named by any version: {path}" for path in proof["unnamed_files"]]
    end = "" if receipt.complete else " It is NOT complete: forget the same keys again."
    return "\n".join([*lines, f"Receipt: {receipt.path}.{end}"])
