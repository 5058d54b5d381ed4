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
import shutil
import sys
import sysconfig
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from weft import errors
from weft.errors import PlanError, Retryable, WeftError
from weft.pipelines.engines import exchange
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Context, StageWorker, Unit
from weft.pipelines.graph import Apply, Read
from weft.pipelines.plan import Plan, Stage
from weft.pipelines.resources import Cluster, Machine

RETRIES = 3
"""How often a task, an actor or an out-of-memory kill is tried again. Ray's default is for ever:
a file that crashes its decoder would loop until the end of days."""

_ENVIRONMENT = {
    "RAY_task_oom_retries": str(RETRIES),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
"""Read by Ray when it is imported or started; what a user has set stays."""

_OBJECT_STORE = (200 * 2**20, 4 * 2**30)
"""The least and the most that a cluster of our own gives its object store."""


def start(address: str | None = None, cpus: float | None = None) -> Cluster:
    """Connect to Ray, starting it on this machine if no address is given; what it has.

    A Ray that is already connected is used as it is. One that is started here is private: its
    folder and its token are readable by this user alone, and it ends with this process.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is None and "ray" not in sys.modules:
        # Ray reads these when it is imported. Without them it writes a token file into the home
        # directory, which other users can read.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after its import, which sets it
    if not ray.is_initialized():
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            _start_private(ray, cpus, quiet)
        else:
            ray.init(address=address, **quiet)
    return _cluster(ray)


def _start_private(ray: ModuleType, cpus: float | None, quiet: dict[str, Any]) -> None:
    # Ray makes its own folder 0777 whatever the umask, so it gets one inside a folder of mode
    # 0700. The names are short because the path of a socket may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="weft-")
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
    finally:
        os.umask(before)
    atexit.register(_stop_private, ray, folder)


def _stop_private(ray: ModuleType, folder: str) -> None:
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


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

    Raises:
        WeftError: an operator broke its contract, or ``on_error="raise"`` met a failure.
        Retryable: workers kept dying.
    """
    import ray

    blocks = [exchange.pack_unit(unit) for unit in units]
    if not blocks:
        return
    ship_user_code(plan)
    dataset = _dataset(ray, plan, blocks, context)
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for result in exchange.unpack_results(table):
                if isinstance(result, tuple):
                    raise _rebuilt(*result)
                yield result
    except ray.exceptions.RayError as error:
        raise _told(error) from error


def _dataset(ray: ModuleType, plan: Plan, blocks: list[pa.Table], context: Context) -> Any:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data = ray.data.DataContext.get_current()
    data.enable_progress_bars = False
    data.print_on_execution_start = False
    data.enable_fallback_to_arrow_object_ext_type = False  # nothing of ours is ever pickled in
    data.target_max_block_size = None  # a unit is a block, whole, through every stage
    dataset = ray.data.from_arrow(blocks)
    for index, stage in enumerate(plan.stages):
        with warnings.catch_warnings():
            # Bounded retries have no named argument yet; until 2.64 they go in by this door.
            warnings.filterwarnings("ignore", message=".*ray_remote_args", category=Warning)
            dataset = dataset.map_batches(
                _stage_function(plan, index, context),
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
        pool = ray.data.ActorPoolStrategy(size=stage.workers)
        return asked | {"compute": pool, "max_restarts": RETRIES, "max_task_retries": RETRIES}
    return asked | {"compute": ray.data.TaskPoolStrategy(), "max_retries": RETRIES}


def _stage_function(plan: Plan, index: int, context: Context) -> Any:
    """What Ray calls with a unit: a function for tasks, a class for a pool."""
    call = _stage_call(plan, index, context)
    if not plan.stages[index].workers:
        return call

    class Pool:
        """One worker of the pool; operators load when it starts."""

        def __init__(self) -> None:
            _worker(plan, index, context)

        def __call__(self, table: pa.Table) -> pa.Table:
            return call(table)

    return Pool


def _stage_call(plan: Plan, index: int, context: Context) -> Callable[[pa.Table], pa.Table]:
    def stage(table: pa.Table) -> pa.Table:
        if exchange.is_error(table):
            return table
        try:
            worker = _worker(plan, index, context)
            if index == 0:
                cargo = worker.start(exchange.unpack_unit(table))
            else:
                cargo = worker.proceed(exchange.unpack_cargo(plan, table))
            if worker.last:
                return exchange.pack_receipt(worker.finish(cargo))
            return exchange.pack_cargo(plan, cargo)
        except WeftError as error:
            return exchange.pack_error(table["unit"][0].as_py(), type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001  raised again by the driver, with its own words
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {errors.redact(str(error))}"
            place = f"{where.filename}:{where.lineno}"
            return exchange.pack_error(
                table["unit"][0].as_py(),
                "WeftError",
                f"Stage {index + 1} failed at {place}: {text}",
            )

    stage.__name__ = stage.__qualname__ = f"stage_{index + 1}"
    return stage


_WORKERS: dict[tuple[str, int], StageWorker] = {}
"""The stage workers of this process: operators load once, however many tasks run here."""


def _worker(plan: Plan, index: int, context: Context) -> StageWorker:
    key = (context.run, index)
    if key not in _WORKERS:
        for run, other in list(_WORKERS):
            if run != context.run:  # a process that outlives a run must not keep its models
                del _WORKERS[run, other]
        _WORKERS[key] = StageWorker(plan, index, context)
    return _WORKERS[key]


def ship_user_code(plan: Plan) -> None:
    """Send operators of the user's own files along by value: workers may not have the files."""
    from ray import cloudpickle

    for step in plan.steps:
        if isinstance(step.action, Apply):
            operator = step.action.operator
            thing = getattr(operator, "function", type(operator))
        elif isinstance(step.action, Read):
            thing = type(step.action.source)
        else:
            continue
        module = sys.modules.get(thing.__module__)
        if module is not None and _is_user_file(module):
            cloudpickle.register_pickle_by_value(module)


def _is_user_file(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] in ("weft", "__main__"):
        return False
    installed = [sysconfig.get_path(n) for n in ("purelib", "platlib", "stdlib")]
    return not any(Path(file).is_relative_to(p) for p in installed)


def _rebuilt(kind: str, message: str) -> WeftError:
    """The error that a worker sent, as the type it was."""
    found = getattr(errors, kind, None)
    made = found if isinstance(found, type) and issubclass(found, WeftError) else WeftError
    return made(message)


def _told(error: Exception) -> Retryable:
    """A failure of Ray itself, in words that help."""
    first = str(error).strip().split("\n", 1)[0]
    return Retryable(
        f"Ray gave up after {RETRIES} tries: {type(error).__name__}: {errors.redact(first)} "
        "Finished units are kept: `weft resume` goes on with the rest."
    )
