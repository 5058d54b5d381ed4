"""``weft sample DIR``: a small multimodal data set to try things on."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.command import Command, emit


@click.command("sample", cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Write photographs, clips, sounds, papers, texts and a robot's log into FOLDER.

    What is in each file is known and stands in truth.json. Nothing is fetched: the photographs
    come with installed packages, the rest is made. Some files are broken on purpose.
    """
    from weft.samples import KINDS, write_samples

    truth = write_samples(folder)
    broken = sum(about.get("broken", False) for about in truth.values())
    counts = {kind: sum(path.startswith(f"{kind}/") for path in truth) for kind in KINDS}
    told = [
        f"  {folder}/{kind:<7} {count:>3} file{'s' * (count != 1)}"
        for kind, count in counts.items()
    ]
    lines = [f"{len(truth)} files in {folder}, {broken} of them broken on purpose:", *told]
    lines += [f"  {folder}/truth.json says what is in each"]
    emit({"folder": str(folder), "files": counts, "broken": broken}, "\n".join(lines))
