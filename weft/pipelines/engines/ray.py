"""The Ray engine: a plan as one Ray Data pipeline, on this machine or on a cluster.

One stream carries everything. Each unit is one block; each stage is one `map_batches`, tasks or
a pool of actors, that takes a unit and hands on the next block; the last stage leaves receipts,
and only those come back. Work that two branches share is in one stage and happens once, where
Ray Data by itself would run it once for each consumer.

What Ray Data gives is used: streaming, placement, back-pressure, retries. What it lacks is
bounded here: a worker that dies is retried a few times, not for ever, and an error that ends
the run comes back as data, with its own type and words.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pyarrow as pa

from weft import errors
from weft.errors import DefinitionError, PlanError, Retryable, WeftError
from weft.pipelines.engines import deaths, exchange, reaper
from weft.pipelines.engines.claims import leave
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.watch import KEPT, Watch, answers
from weft.pipelines.engines.worker import Context, StageWorker, Unit
from weft.pipelines.graph import Apply, Group, Read
from weft.pipelines.plan import Plan, Stage
from weft.pipelines.resources import Cluster, Machine

SILENT_SECONDS = deaths.SILENT_SECONDS

RETRIES = 3
"""How often a task, an actor or an out-of-memory kill is tried again. Ray's default is for ever:
a file that crashes its decoder would loop until the end of days."""

_BARREN = 2
"""Executions in a row of which nothing came until a run gives up: Ray tried `RETRIES` times in
each, and the second is for a machine that was lost."""

_UNITS_BEGUN, _UNITS_SENT = 2, 3
"""Units that a worker of a pool has begun with, and all that were sent to it: one computes, one
waits with its rows at hand, one is on its way. Operators still run in one thread, unit by unit.
With one begun a worker idles for 4 to 10 ms between units, while Ray stores what came of the one
and opens the next: a tenth of the time of a GPU that needs 50 ms for a unit."""

_ENVIRONMENT = {
    "RAY_task_oom_retries": str(RETRIES),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a thread that asks a Ray that has ended starts another
}
"""Read by Ray when it is imported or started; what a user has set stays."""

_OBJECT_STORE = (200 * 2**20, 4 * 2**30)
"""The least and the most that a cluster of our own gives its object store."""

_KNOCK_SECONDS = 10.0

ADMITTANCE = (
    "A cluster with token authentication lets in who has its token: put it into RAY_AUTH_TOKEN, "
    "or the path of its file into RAY_AUTH_TOKEN_PATH."
)
"""What to do when a cluster refuses us."""


def start(address: str | None = None, cpus: float | None = None) -> Cluster:
    """Connect to Ray, starting it on this machine if no address is given; what it has.

    A Ray that is already connected is used as it is. One that is started here is private: its
    folder and its token are readable by this user alone, and it ends with this process.

    Raises:
        DefinitionError: `address` is none that can be run on, or the cluster's token is wrong.
        PlanError: the cluster has other versions of Ray or Python, or no node.
        Retryable: nothing answers at `address`.
    """
    endpoint = _endpoint(address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is None and "ray" not in sys.modules:
        # Ray reads these when it is imported. Without them it writes a token file into the home
        # directory, which other users can read.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if address is not None:
        show_token()
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after its import, which sets it
    if not ray.is_initialized():
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            _start_private(ray, cpus, quiet)
        else:
            _join(ray, address, endpoint, quiet)
    return _cluster(ray)


def show_token() -> None:
    """Have Ray, which reads this when it is imported, show a cluster the token that we have."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _endpoint(address: str | None) -> tuple[str, int] | None:
    """Host and port of an address; none of ``auto``, which Ray finds out by itself."""
    if address is None or address == "auto":
        return None
    if address.startswith(("http://", "https://")):
        raise DefinitionError(
            f"--address {errors.redact(address)} is of a dashboard, which `weft submit` takes. "
            "Expected HOST:6379, on a machine of the cluster."
        )
    if address.startswith("ray://"):
        raise DefinitionError(
            f"--address {address} is of a Ray Client server, and Ray Data cannot be run through "
            "one. Give HOST:6379 on a machine of the cluster, or use `weft submit --address "
            "http://HOST:8265` from anywhere."
        )
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise DefinitionError(
            f"--address {errors.redact(address)!r} is no address of a Ray cluster. Expected "
            "HOST:6379, or 'auto' for the one that runs on this machine."
        )
    return host.strip("[]"), int(port)


def _join(
    ray: ModuleType, address: str, endpoint: tuple[str, int] | None, quiet: dict[str, Any]
) -> None:
    if endpoint is not None:
        _knock(address, endpoint)
    try:
        ray.init(address=address, **quiet)
    except ray.exceptions.AuthenticationError as error:
        raise DefinitionError(f"The Ray cluster {address} wants a token. {ADMITTANCE}") from error
    except ConnectionError as error:
        if endpoint is None:
            raise Retryable(
                "No Ray cluster was found on this machine. Start one (`ray start --head`), or "
                "give its --address HOST:6379."
            ) from error
        raise DefinitionError(
            f"Something answers at {address}, but not as a Ray cluster that lets us in. Is it "
            f"the port of its GCS (6379 by default)? {ADMITTANCE}"
        ) from error
    except (RuntimeError, ValueError) as error:  # other versions of Ray or Python, above all
        raise PlanError(
            f"The Ray cluster {address} cannot be joined from here: {errors.redact(str(error))} "
            "`weft run --address` works on a machine of the cluster, with its versions of Ray "
            "and Python; `weft submit` works from anywhere."
        ) from error


def _knock(address: str, endpoint: tuple[str, int]) -> None:
    """Make sure that somebody listens: Ray itself would try for two minutes, then crash."""
    try:
        socket.create_connection(endpoint, timeout=_KNOCK_SECONDS).close()
    except OSError as error:
        raise Retryable(
            f"Nothing answers at {address}: {error.strerror or error}. Is the cluster up, and is "
            "this the address that `ray start --head` printed?"
        ) from error


def _start_private(ray: ModuleType, cpus: float | None, quiet: dict[str, Any]) -> None:
    # Ray makes its own folder 0777 whatever the umask, so it gets one inside a folder of mode
    # 0700. The names are short because the path of a socket may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="weft-")
    ours = reaper.start(folder)
    atexit.register(_stop_private, ray, ours)  # whatever comes of the start
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    store = min(max(memory // 5, _OBJECT_STORE[0]), _OBJECT_STORE[1])
    before = os.umask(0o077)
    try:
        with warnings.catch_warnings():
            # Ray forks only to execute its own programs, which Lance's warning is not about.
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            ray.init(
                address="local",
                num_cpus=int(cpus) if cpus else len(os.sched_getaffinity(0)),
                include_dashboard=False,
                object_store_memory=store,
                _temp_dir=f"{folder}/ray",
                **quiet,
            )
    except Exception as error:
        if type(error) is not Exception:  # what Ray raises when one of its processes is too slow
            raise
        raise Retryable(
            f"Ray does not start on this machine: {errors.redact(str(error))} Is it short of CPU, "
            "memory or disk? `--engine local` needs no Ray."
        ) from error
    finally:
        os.umask(before)


def _stop_private(ray: ModuleType, ours: subprocess.Popen[bytes]) -> None:
    ray.shutdown()
    ours.communicate()  # it ends who is left


def _cluster(ray: ModuleType) -> Cluster:
    machines = tuple(
        Machine(
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            memory=int(node["Resources"].get("memory", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    if not machines:
        raise PlanError("The Ray cluster has no living node. See `ray status` on its head node.")
    return Cluster(machines)


def execute(
    plan: Plan, units: Iterable[Unit], context: Context, cluster: Cluster
) -> Iterator[Receipt]:
    """Run units through a plan on the connected Ray; receipts come as units end.

    A death that Ray has tried often enough to get over ends what it executes. That is begun anew
    with the units that are left, as long as this leads on: units ended, or rows that kill their
    workers were found.

    Raises:
        WeftError: an operator broke its contract, or ``on_error="raise"`` met a failure.
        Retryable: workers kept dying, or the cluster is gone or does nothing any more.
    """
    import ray

    left = {unit.id: unit for unit in units}
    if not left:
        return
    ship_user_code(plan)
    nodes = _nodes(ray)
    if context.folder is not None:
        Path(context.folder).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="tries-", dir=context.folder) as notes:
        barren = killers = 0
        while left:
            failure: Exception | None = None
            before = len(left)
            try:
                for receipt in _stream(ray, plan, left.values(), context, notes):
                    left.pop(receipt["unit"], None)
                    yield receipt
            except ray.exceptions.RayError as error:
                failure = error
            found = deaths.histories(notes)
            known = sum(len(h.killers) for h in found.values())
            barren = 0 if len(left) < before or known > killers else barren + 1
            killers = known
            dead = isinstance(failure, ray.exceptions.LocalRayletDiedError)
            if left and (dead or barren == _BARREN or deaths.guilty(found)):
                raise _told(failure, deaths.tell(plan, deaths.guilty(found))) from failure
            deaths.pardon(notes)
        context.incidents.extend(deaths.tell(plan, found))
    gone = nodes.items() - (_nodes(ray, knock=True) or nodes).items()
    context.incidents.extend(f"Machine {host} (Ray node {node}) was lost." for node, host in gone)


def _nodes(ray: ModuleType, *, knock: bool = False) -> dict[str, str]:
    """The host names of the living nodes, by their ids; none if the head does not tell.

    With `knock` each is asked whether it still is: the head takes some 15 s to see that one died.
    """
    if not answers(ray.get_runtime_context().gcs_address):
        return {}  # to ask it would take a minute, and then the life of this process
    alive = [node for node in ray.nodes() if node["Alive"]]
    if knock:
        with ThreadPoolExecutor(32) as pool:
            heard = list(pool.map(lambda node: answers(_address(node)), alive))
        alive = [node for node, living in zip(alive, heard, strict=True) if living]
    return {node["NodeID"]: node["NodeManagerHostname"] for node in alive}


def _address(node: Mapping[str, Any]) -> str:
    """Where the Ray of a node listens."""
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


def _own_address(ray: ModuleType) -> str:
    """Where the Ray of this machine listens."""
    here = ray.get_runtime_context().get_node_id()
    return _address(next(n for n in ray.nodes() if n["NodeID"] == here))


def _stream(
    ray: ModuleType, plan: Plan, units: Iterable[Unit], context: Context, notes: str
) -> Iterator[Receipt]:
    """One execution by Ray Data; its receipts."""
    datasets = []

    def tables() -> Iterator[pa.Table]:
        datasets.append(_dataset(ray, plan, [exchange.pack_unit(u) for u in units], context, notes))
        yield from datasets[0].iter_batches(batch_size=None, batch_format="pyarrow")

    watch = Watch(ray.get_runtime_context().gcs_address, _own_address(ray), notes)
    try:
        for table in watch.over(tables()):
            for result in exchange.unpack_results(table):
                if isinstance(result, tuple):
                    raise _rebuilt(*result)
                yield result
    finally:
        for dataset in datasets:
            executor = getattr(dataset, "_current_executor", None)
            if executor is not None and not watch.lost:
                executor.shutdown(force=True)  # workers that hang too


def _dataset(
    ray: ModuleType, plan: Plan, blocks: list[pa.Table], context: Context, notes: str
) -> Any:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # we tell of errors ourselves
    data = ray.data.DataContext.get_current()
    data.enable_progress_bars = False
    data.print_on_execution_start = False
    data.enable_fallback_to_arrow_object_ext_type = False  # nothing of ours is ever pickled in
    data.target_max_block_size = None  # a unit is a block, whole, through every stage
    data.execution_no_progress_timeout_s = -1  # it sees whole units alone; `_Watch` sees batches
    dataset = ray.data.from_arrow(blocks)
    for index, stage in enumerate(plan.stages):
        with warnings.catch_warnings():
            # Bounded retries have no named argument yet; until 2.64 they go in by this door.
            warnings.filterwarnings("ignore", message=".*ray_remote_args", category=Warning)
            dataset = dataset.map_batches(
                _stage_function(plan, index, context, notes),
                batch_size=None,
                batch_format="pyarrow",
                zero_copy_batch=True,
                **_remote(ray, stage),
            )
    return dataset


def _remote(ray: ModuleType, stage: Stage) -> dict[str, Any]:
    """How Ray is to run a stage: compute strategy, resources, bounded retries."""
    needs = stage.resources
    asked: dict[str, Any] = {"num_cpus": needs.cpus}
    if needs.gpus:
        asked["num_gpus"] = needs.gpus
    if needs.memory:
        asked["memory"] = needs.memory
    if stage.workers:
        pool = ray.data.ActorPoolStrategy(
            size=stage.workers,
            max_concurrent_calls_per_actor=_UNITS_BEGUN,
            max_tasks_in_flight_per_actor=_UNITS_SENT,
        )
        return asked | {"compute": pool, "max_restarts": RETRIES, "max_task_retries": RETRIES}
    return asked | {"compute": ray.data.TaskPoolStrategy(), "max_retries": RETRIES}


def _stage_function(plan: Plan, index: int, context: Context, notes: str) -> Any:
    """What Ray calls with a unit: a function for tasks, a class for a pool."""
    call = _stage_call(plan, index, context, notes)
    if not plan.stages[index].workers:
        return call

    class Pool:
        """One worker of the pool; operators load when it starts."""

        def __init__(self) -> None:
            _worker(plan, index, context)

        def __call__(self, table: pa.Table) -> pa.Table:
            return call(table)

    return Pool


def _stage_call(
    plan: Plan, index: int, context: Context, notes: str
) -> Callable[[pa.Table], pa.Table]:
    seconds = SILENT_SECONDS

    def stage(table: pa.Table) -> pa.Table:
        if exchange.is_over(table):
            return table
        unit, claims = table["unit"][0].as_py(), context.claims
        try:
            if index == 0 and claims is not None and not claims.take(unit):
                return exchange.pack_receipt(leave(unit))
            loaded = _worker(plan, index, context)
            with deaths.noted(notes, unit, loaded, seconds) as worker:
                if index == 0:
                    cargo = worker.start(exchange.unpack_unit(table))
                else:
                    cargo = worker.proceed(exchange.unpack_cargo(plan, table))
                if worker.last:
                    return exchange.pack_receipt(worker.finish(cargo))
                return exchange.pack_cargo(plan, cargo)
        except WeftError as error:
            return exchange.pack_error(unit, type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001  raised again by the driver, with its own words
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {errors.redact(str(error))}"
            place = f"{where.filename}:{where.lineno}"
            said = f"Stage {index + 1} failed at {place}: {text}"
            return exchange.pack_error(unit, "WeftError", said)

    stage.__name__ = stage.__qualname__ = f"stage_{index + 1}"
    return stage


_WORKERS: dict[tuple[str, str, int, int], StageWorker] = {}
"""The stage workers of this process: operators load once, however many tasks run here."""


def _worker(plan: Plan, index: int, context: Context) -> StageWorker:
    key = (context.run, plan.recipe, plan.stages[index].phase, index)
    if key not in _WORKERS:
        for other in list(_WORKERS):
            if other[:3] != key[:3]:  # a process that outlives a phase must not keep its models
                del _WORKERS[other]
        _WORKERS[key] = StageWorker(plan, index, context)
    return _WORKERS[key]


def ship_user_code(plan: Plan) -> None:
    """Send operators of the user's own files along by value: workers may not have the files.

    With them goes what they use of modules beside them, if it is imported by now.
    """
    from ray import cloudpickle

    folders: set[Path] = set()
    for step in plan.steps:
        if isinstance(step.action, Apply | Group) and step.action.operator is not None:
            operator = step.action.operator
            thing = getattr(operator, "function", type(operator))
        elif isinstance(step.action, Read):
            source = step.action.source
            thing = type(getattr(source, "source", source))  # one that leaves forgotten rows out
        else:
            continue
        module = sys.modules.get(thing.__module__)
        if module is not None and (file := _user_file(module)) is not None:
            cloudpickle.register_pickle_by_value(module)
            folders.add(file.parents[module.__name__.count(".")])
    for module in list(sys.modules.values()):
        file = _user_file(module)
        if file is not None and any(file.is_relative_to(folder) for folder in folders):
            cloudpickle.register_pickle_by_value(module)


def _user_file(module: ModuleType) -> Path | None:
    """The file of a module that is the user's own: neither installed, nor of weft or Python."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] in ("weft", "__main__"):
        return None
    installed = [sysconfig.get_path(n) for n in ("purelib", "platlib", "stdlib")]
    return None if any(Path(file).is_relative_to(p) for p in installed) else Path(file)


def _rebuilt(kind: str, message: str) -> WeftError:
    """The error that a worker sent, as the type it was."""
    found = getattr(errors, kind, None)
    made = found if isinstance(found, type) and issubclass(found, WeftError) else WeftError
    return made(message)


def _told(error: Exception | None, deaths: Sequence[str]) -> Retryable:
    """A failure of Ray itself, in words that help."""
    if error is None:
        said = "units were lost on their way"
    else:
        first = str(error).strip().split("\n", 1)[0]
        said = f"{type(error).__name__}: {errors.redact(first)}"
    return Retryable(" ".join([f"Ray gave up after {RETRIES} tries: {said}", *deaths, KEPT]))
