"""Several processes on one run, and what a run does that finds its dataset taken.

The units of a run are claimed one by one, and each ends in a receipt that is put if there is
none, so any process with the same recipe can work on them beside the one that holds the lease.
That one publishes. If it dies, whoever shares its work breaks the lease, goes on with the run
and publishes; if a sharer dies, its claims are free again. A driver is known by the file that it
touches: the lease, or one of its own beside the claims.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal, get_args

from weft.errors import Busy, CorruptState, DefinitionError, Held, Interrupted
from weft.pipelines.engines.claims import Claims, was_left
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.sealed import read_json
from weft.pipelines.engines.worker import Context, Target, Unit
from weft.pipelines.graph import Graph, Write
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster
from weft.pipelines.runs import lease
from weft.pipelines.runs.drain import Drain
from weft.pipelines.runs.journal import Journal, journal_of, journals
from weft.pipelines.runs.lease import Lease
from weft.pipelines.runs.places import sink_of
from weft.pipelines.runs.result import Listener
from weft.pipelines.runs.updates import Updates

IfBusy = Literal["refuse", "wait", "share"]

_LOOK_SECONDS = 0.2
"""How often a process that waits for others looks."""

_TELL_SECONDS = 60.0
"""How often it says that it still waits."""


def check_choice(if_busy: str) -> None:
    """Refuse what is no choice.

    Raises:
        DefinitionError: it is none.
    """
    if if_busy not in get_args(IfBusy):
        raise DefinitionError(f"if_busy={if_busy!r}; expected 'refuse', 'wait' or 'share'.")


def claims_of(journal: Journal, held: Sequence[Lease]) -> Claims:
    """The claims of the run that holds the leases."""
    mine = next(one for one in held if one.state == journal.path.parent.parent)
    _folder(journal).mkdir(exist_ok=True)
    return Claims(str(_folder(journal)), mine.path.stem)


def gather(
    execute: Any,
    plan: Plan,
    units: Sequence[Unit],
    context: Context,
    cluster: Cluster,
    *,
    check: Callable[[], None],
) -> Generator[Receipt]:
    """A receipt for each unit, whoever does it: executes what nobody else has claimed, and waits
    for the rest. `check` is called in between, and raises when it is to end."""
    if context.claims is None or context.receipts is None:
        yield from execute(plan, units, context, cluster)
        return
    left = {unit.id: unit for unit in units}
    while left:
        check()
        free = [unit for unit in left.values() if _free(context.claims, unit.id)]
        for receipt in _receipts(context.receipts, left):  # later: a driver may end its last one
            del left[receipt["unit"]]
            yield receipt
        mine = [unit for unit in free if unit.id in left]
        for receipt in execute(plan, mine, context, cluster) if mine else ():
            if not was_left(receipt):
                left.pop(receipt["unit"], None)
                yield receipt
        if left and not mine:
            sleep(_LOOK_SECONDS)


def join(
    plain: Plan,
    plan: Plan,
    held: Held,
    execute: Any,
    cluster: Cluster,
    *,
    listener: Listener,
    fresh: bool,
) -> None:
    """Work on the units of the run that holds the dataset, and on those of its backfills, until
    none is left or it is over. `plan` is `plain`, compiled.

    Raises:
        Busy: its work cannot be shared; the message says why.
        Interrupted: stopped by the user.
        WeftError: a unit failed here. The run that holds the dataset does it, then.
    """
    journal = journal_of(_primary(plan), held.holder["run"])
    while not (journal.path / "state.json").exists():
        if lease.holder(held.state) != held.holder:
            return  # it was no run, or is over before it began with its units
        sleep(_LOOK_SECONDS)
    why = "a fresh start was asked for" if fresh else _unlike(journal, plan)
    if why is not None:
        raise Busy(f"{held} Its work cannot be shared: {why}.")
    listener.notice(f"Sharing the work of run {journal.run}.")
    targets = {name: Target(**tokens) for name, tokens in journal.about()["targets"].items()}
    claims = Claims(str(_folder(journal)), f"sharer-{os.getpid()}-{secrets.token_hex(3)}")
    context = Context(
        journal.run, str(journal.receipts_path), targets, str(journal.kept_path), claims=claims
    )
    drain = Drain(claims.stop_path, listener.notice)
    done = 0

    def check() -> None:
        drain.check()
        if journal.state()["state"] != "running":
            raise _Over

    def parts() -> Iterator[tuple[Plan, list[Unit], Context]]:
        yield plan, journal.units(), context
        updates = Updates.from_json(plain, journal.about()["updates"])
        for name, backfill, units in updates.parts(journal, cluster):
            journal.kept_path.mkdir(exist_ok=True)
            yield backfill, units, replace(context, targets=updates.target(name, journal))

    try:
        with suppress(_Over), _beating_as(claims, journal.run), drain:
            for part, units, where in parts():
                gathered = gather(execute, part, units, where, cluster, check=check)
                with closing(gathered) as receipts:
                    for receipt in receipts:
                        done += claims.taker(receipt["unit"]) == claims.driver
                        check()
    except KeyboardInterrupt:
        raise Interrupted(
            f"Stopped; {done} units of run {journal.run} were done here, and it goes on."
        ) from None
    listener.notice(f"{done} of {journal.known()} units of run {journal.run} were done here.")


def wait_for(held: Held, listener: Listener) -> None:
    """Wait until whoever holds the lease has given it back, or is gone.

    Raises:
        Interrupted: stopped by the user.
    """
    who = f"run {held.holder['run']} (process {held.holder['pid']} on {held.holder['host']})"
    path, told = lease.lease_path(held.state, held.holder["epoch"]), monotonic()
    try:
        listener.notice(f"Waiting for {who}.")
        while (found := lease.holder(held.state)) == held.holder and lease.lives(path, found):
            sleep(_LOOK_SECONDS)
            if monotonic() - told >= _TELL_SECONDS:
                told = monotonic()
                listener.notice(f"Still waiting for {who}.")
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped while waiting for {who}. Nothing was begun.") from None


def later(run: str, states: Sequence[str]) -> str:
    """`run`, or an id after those of all runs that are there, whose hosts' clocks may be ahead:
    the newest run is the one with the last id."""
    newest = max((j.run for state in states for j in journals(state)[:1]), default="")
    if run > newest:
        return run
    stamp, milliseconds = newest[:15], newest[16:19]
    if not milliseconds.isdecimal():  # not an id of ours
        return run
    then = datetime.strptime(f"{stamp}{milliseconds}", "%Y%m%d-%H%M%S%f").replace(tzinfo=UTC)
    then += timedelta(milliseconds=1)
    return f"{then:%Y%m%d-%H%M%S}-{then.microsecond // 1000:03d}{run[19:]}"


def epochs(graph: Graph) -> dict[str, int]:
    """The epochs in which nothing is done any more, of each dataset that a pipeline writes."""
    sinks = [node.action.sink for node in graph.writes() if isinstance(node.action, Write)]
    return {s.state: lease.past_epoch(s.state) for s in sinks if s.state is not None}


def check_none_between(held: Sequence[Lease], before: Mapping[str, int]) -> None:
    """Make sure that nobody has had one of these leases since `before`, or had one then: who did
    may have forgotten rows, or moved tags, that were looked at without the lease.

    Raises:
        Overtaken: somebody has.
    """
    if any(one.epoch != before[str(one.state)] + 1 for one in held):
        raise Overtaken


def check_all(held: Sequence[Lease], drain: Drain | None = None) -> None:
    """Make sure that a run may go on.

    Raises:
        KeyboardInterrupt: it is asked to stop.
        Busy: a lease was lost.
    """
    if drain is not None:
        drain.check()
    for one in held:
        one.check()


def drop_claims(journal: Journal) -> None:
    """Remove the claims of a run: all of its units are done."""
    shutil.rmtree(_folder(journal), ignore_errors=True)


class Overtaken(Exception):  # noqa: N818  no error: the run looks again
    """Somebody had a lease between the look at a dataset and the taking of its lease."""


class _Over(Exception):  # noqa: N818  no error: there is nothing more to share
    """The run whose work is shared has ended."""


@contextmanager
def _beating_as(claims: Claims, run: str) -> Iterator[None]:
    """Show that the driver of these claims lives; they are free when this ends."""
    path = _beat_path(claims, claims.driver)
    try:
        lease.put(path, {"run": run, **lease.identity()})
    except FileNotFoundError:
        raise _Over from None
    try:
        with lease.beating(path):
            yield
    finally:
        path.unlink(missing_ok=True)


def _folder(journal: Journal) -> Path:
    """Where the claims of a run are, until all of its units are done."""
    return journal.path / "claims"


def _primary(plan: Plan) -> str:
    """The state folder that has the journals of a plan's runs."""
    return next(s for step in plan.writes() if (s := sink_of(step).state) is not None)


def _unlike(journal: Journal, plan: Plan) -> str | None:
    """Why the work of a run cannot be shared by a process with this plan."""
    about = journal.about()
    uris = [sink_of(step).uri for step in plan.writes()]
    if about["recipe"] != plan.recipe or list(about["datasets"]) != uris:
        return "it is of another pipeline, or of other parameters"
    if about.get("exchanges") or plan.phases > 1:
        return "its units have several phases, as it joins, groups or orders rows"
    return None


def _free(claims: Claims, unit: str) -> bool:
    """Whether a unit is nobody's; a claim of a driver that is gone is taken away."""
    taker = claims.taker(unit)
    if taker is None or taker == claims.driver:
        return True
    path = _beat_path(claims, taker)
    found = lease.read_holder(path)
    if found is not None and "released" not in found and not lease.gone(path, found):
        return False
    claims.give_up(unit)
    return True


def _beat_path(claims: Claims, driver: str) -> Path:
    """The file that a driver touches: STATE/lease-3.json, or one in STATE/runs/RUN/claims."""
    folder = Path(claims.folder)
    return (folder.parents[2] if driver.startswith("lease-") else folder) / f"{driver}.json"


def _receipts(folder: str, units: Mapping[str, Unit]) -> Iterator[Receipt]:
    """The receipts of some units, as far as they are there."""
    there = {name.removesuffix(".json") for name in os.listdir(folder)}
    for unit in [unit for unit in units if unit in there]:
        with suppress(CorruptState):  # who resumes the run has its unit done again
            yield read_json(Path(folder, f"{unit}.json"))
