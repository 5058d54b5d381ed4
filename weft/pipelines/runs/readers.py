"""Who reads a dataset: each run notes its datasets in the state folders of the datasets it reads.

``photos.lance.weft/readers/<digest>.json`` names one dataset that was made of photos.lance. It is
there before the first row is read, so that whoever must find all rows that were made of one, as
``weft forget`` must, finds also those of a run that is not finished. A file for each needs no
lock, and writing it again changes nothing.

A dataset that weft did not write has no state folder, and some are on read-only storage. Their
readers are known to nobody but the run, whose ``run.json`` lists them as ``unregistered``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from weft.pipelines.fragments import digest
from weft.pipelines.graph import Read, Write
from weft.pipelines.plan import Plan, Step
from weft.pipelines.runs.journal import write_whole


def register(plan: Plan) -> list[str]:
    """Note the datasets that `plan` writes as readers of those that it reads.

    Returns the datasets that it reads and that take no note.
    """
    unregistered = set[str]()
    for write in plan.writes():
        assert isinstance(write.action, Write)
        for source in sources(plan, write):
            if not _note(source, write.action.sink.uri):
                unregistered.add(source)
    return sorted(unregistered)


def readers(dataset: str) -> list[str]:
    """The datasets that were noted as made of this one."""
    found = Path(f"{dataset}.weft", "readers").glob("*.json")
    return sorted(json.loads(path.read_bytes())["dataset"] for path in found)


def sources(plan: Plan, write: Step) -> Iterator[str]:
    """The Lance datasets that a write is made of, by their paths."""
    above = plan.upstream(write.id)
    for read in plan.reads():
        assert isinstance(read.action, Read)
        given = read.action.source.identity()
        if read.id in above and given.get("type") == "Lance":
            yield given["path"]


def _note(source: str, reader: str) -> bool:
    state = Path(f"{source}.weft")
    if not state.is_dir():
        return False
    path = state / "readers" / f"{digest(reader)[:16]}.json"
    try:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, json.dumps({"dataset": reader}, ensure_ascii=False).encode())
    except OSError:  # read-only, or not ours: that stops no run
        return False
    return True
