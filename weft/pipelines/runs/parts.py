"""Runs in parts: readers see the first rows while the rest is still to come.

A run that publishes early is several runs, one after the other. Each processes a part of what is
new or changed and publishes it as any run does, whole, judged and once; for the next one the rest
is what is new. So resume, exclusion, gates and books are those of runs, and nothing is half there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from weft.errors import DefinitionError, PlanError
from weft.pipelines.batch import KEY
from weft.pipelines.connector import Source
from weft.pipelines.graph import Read
from weft.pipelines.plan import Plan
from weft.pipelines.runs.places import sink_of
from weft.pipelines.runs.result import RunResult

_FIRST_ROWS = 256
"""Rows of the first part, whose speed is not known yet: some seconds of images, a minute of
clips."""

_GROWTH = 8
"""How many times as large as the last a part may be: the first rows are no measure."""


@dataclass(frozen=True)
class Part:
    """What a run processes of its sources, by read, and how many rows are put off."""

    sources: Mapping[str, Source]
    put_off: int


class Pace:
    """How many rows a part has, so that it takes about as many seconds as are asked for.

    Raises:
        DefinitionError: `seconds` is no time.
    """

    def __init__(self, seconds: float) -> None:
        if not (seconds > 0 and math.isfinite(seconds)):
            raise DefinitionError(f"publish_every={seconds!r}; expected seconds, more than 0.")
        self.seconds = seconds
        self.rows = _FIRST_ROWS

    def learn(self, part: RunResult) -> None:
        """Set the next part by how fast the last one was."""
        worked = part.rows - part.rows_resumed
        if worked and part.seconds:
            fits = int(self.seconds * worked / part.seconds)
            self.rows = max(1, min(fits, self.rows * _GROWTH))


def first_part(plan: Plan, rows: int | None) -> Part | None:
    """The first rows of every source; ``None``: all of them are, or `rows` is."""
    if rows is None:
        return None
    sources, put_off = {}, 0
    for read in plan.reads():
        assert isinstance(read.action, Read)
        source = read.action.source
        listed = source.listing()
        assert listed is not None  # `check_parts` has looked
        chosen = listed[KEY].slice(0, rows).combine_chunks()
        sources[read.id] = part = source.only(chosen)
        there = part.listing()
        count = len(chosen) if there is None else there.num_rows  # a key may be there twice
        put_off += listed.num_rows - count
        rows = max(0, rows - count)
    return Part(sources, put_off) if put_off else None


def check_parts(plan: Plan) -> None:
    """Refuse a plan that cannot be published in parts.

    Raises:
        PlanError: it works on rows that are together, or keeps no ledger, or reads a source that
            does not list its rows.
    """
    why = _indivisible(plan)
    if why is not None:
        raise PlanError(
            f"{why}, so nothing can be published before all of it is done. Run without "
            "publish_every (--publish-every)."
        )


def _indivisible(plan: Plan) -> str | None:
    together = next((s for s in plan.steps if plan.enters(s)), None)
    if together is not None:
        return f"{together.id} works on rows that are together, not one by one"
    for write in plan.writes():
        sink = sink_of(write)
        if sink.state is None or not sink.incremental:
            return f"{sink.name} keeps no ledger of its rows"
    for read in plan.reads():
        assert isinstance(read.action, Read)
        if read.action.source.listing() is None:
            return f"{read.action.source.name} does not list its rows one by one"
    return None
