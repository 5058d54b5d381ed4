"""What was asked of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from weft.errors import DefinitionError
from weft.pipelines.graph import Graph
from weft.pipelines.resources import Cluster, this_machine
from weft.pipelines.runs import forgotten
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.result import Listener

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline

Engine = Literal["ray", "local"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The arguments of `run`, with what stands for those that were not given."""

    pipeline: Pipeline
    engine: Engine
    address: str | None
    cluster: Cluster | None
    fresh: bool
    retry_failed: bool
    budget: Budget
    listener: Listener
    target: str | None
    max_recompute: int | None = None
    publish_every: float | None = None
    rows: int | None = None
    """New and changed rows to process at most; the rest is for a later run."""

    def graph(self) -> Graph:
        """The pipeline on what its sources are now."""
        return forgotten.without(self.pipeline.graph.afresh())

    def start(self) -> tuple[Any, Cluster]:
        """Start the engine; what executes plans on it, and the shape to plan for.

        Raises:
            DefinitionError: there is no such engine, or no such cluster.
        """
        if self.engine == "local":
            from weft.pipelines.engines import local

            return local.execute, self.cluster or this_machine()
        if self.engine == "ray":
            from weft.pipelines.engines import ray

            cpus = self.cluster.cpus if self.cluster and self.address is None else None
            live = ray.start(self.address, cpus)
            return ray.execute, self.cluster or live
        raise DefinitionError(f"engine={self.engine!r}; expected 'ray' or 'local'.")
