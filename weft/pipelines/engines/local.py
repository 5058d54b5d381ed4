"""The local engine: this process, threads, no start-up.

Tasks share one pool of threads, as many as the cluster has CPUs; every pooled stage has threads
of its own. A bounded number of units is under way, so memory is bounded however large the
source. Decoders and NumPy release the interpreter's lock, which is what makes threads enough.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from weft.pipelines.engines.claims import leave
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Cargo, Context, StageWorker, Unit
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster


def execute(
    plan: Plan, units: Iterable[Unit], context: Context, cluster: Cluster
) -> Iterator[Receipt]:
    """Run units through a plan; receipts come as units end, in no particular order.

    Raises:
        WeftError: an operator broke its contract, or ``on_error="raise"`` met a failure.
    """
    threads = max(1, int(cluster.cpus))
    tasks = ThreadPoolExecutor(threads, "weft-task")
    pools = [
        ThreadPoolExecutor(s.workers, f"weft-stage-{i + 1}") if s.workers else tasks
        for i, s in enumerate(plan.stages)
    ]
    slots = threads + 1 + sum(2 * (s.workers or 0) for s in plan.stages)
    workers = _Workers(plan, context, int(cluster.gpus))
    waits = True
    try:
        yield from _stream(workers, units, pools, slots)
    except KeyboardInterrupt:
        waits = False  # a unit may take minutes; nobody minds one that ends when the run is over
        raise
    finally:
        for pool in {tasks, *pools}:
            pool.shutdown(wait=waits, cancel_futures=True)


class _Workers:
    """A worker of each stage for each thread, made when first needed: operators load once.

    A worker on a GPU gets the one that has the most room. (On Ray it sees only its own.)
    """

    def __init__(self, plan: Plan, context: Context, gpus: int) -> None:
        self.plan = plan
        self.context = context
        self._local = threading.local()
        self._taken = [0.0] * max(1, gpus)
        self._lock = threading.Lock()

    def __call__(self, index: int) -> StageWorker:
        mine: dict[int, StageWorker] = self._local.__dict__.setdefault("workers", {})
        if index not in mine:
            gpu = self._gpu(self.plan.stages[index].resources.gpus)
            mine[index] = StageWorker(self.plan, index, self.context, gpu=gpu)
        return mine[index]

    def _gpu(self, share: float) -> int:
        with self._lock:
            gpu = min(range(len(self._taken)), key=self._taken.__getitem__)
            self._taken[gpu] += share
            return gpu


def _stream(
    workers: _Workers,
    units: Iterable[Unit],
    pools: list[ThreadPoolExecutor],
    slots: int,
) -> Iterator[Receipt]:
    """Keep up to `slots` units under way, each in one stage at a time."""
    waiting = iter(units)
    running: dict[Future[Cargo | Receipt], int] = {}
    try:
        while True:
            while len(running) < slots and (unit := next(waiting, None)) is not None:
                running[pools[0].submit(_first(workers), unit)] = 0
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                result = future.result()
                if isinstance(result, Cargo):
                    onward = pools[index + 1].submit(_later(workers, index + 1), result)
                    running[onward] = index + 1
                else:
                    yield result
    finally:
        for future in running:
            future.cancel()


def _first(workers: _Workers) -> Callable[[Unit], Cargo | Receipt]:
    claims = workers.context.claims

    def call(unit: Unit) -> Cargo | Receipt:
        if claims is not None and not claims.take(unit.id):
            return leave(unit.id)
        worker = workers(0)
        cargo = worker.start(unit)
        return worker.finish(cargo) if worker.last else cargo

    return call


def _later(workers: _Workers, index: int) -> Callable[[Cargo], Cargo | Receipt]:
    def call(cargo: Cargo) -> Cargo | Receipt:
        worker = workers(index)
        cargo = worker.proceed(cargo)
        return worker.finish(cargo) if worker.last else cargo

    return call
