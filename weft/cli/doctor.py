"""``weft doctor``: what of this machine is right for weft, and what to fix."""

from __future__ import annotations

import click

from weft.cli.command import Command, aligned, emit


@click.command("doctor", cls=Command)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check this machine; say what to fix. Exit 1 if something will not work."""
    from weft.cli.machine import CHECKS

    found = [finding for check in CHECKS for finding in check()]
    rows = [[f.level, f.what, f.found] for f in found]
    lines = []
    for line, finding in zip(aligned(rows).split("\n"), found, strict=True):
        lines += [line] + ([f"      fix: {finding.fix}"] if finding.fix else [])
    failed = any(f.level == "FAIL" for f in found)
    emit({"ok": not failed, "checks": [vars(f) for f in found]}, "\n".join(lines))
    ctx.exit(1 if failed else 0)
