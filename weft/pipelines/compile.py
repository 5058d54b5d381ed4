"""From graph to verified plan: lower it, then let every pass rewrite it.

The order matters and each pass says why in its own module. First what is asked for (filters
move up and into the source, decoders take over what follows them, columns nobody reads go),
then how it runs (broadcasts, stages, pools, batches).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weft.pipelines.graph import Graph
from weft.pipelines.lowering import lower
from weft.pipelines.passes.assign_devices import assign_devices
from weft.pipelines.passes.broadcast_joins import broadcast_joins
from weft.pipelines.passes.fuse import fuse
from weft.pipelines.passes.order_filters import order_filters
from weft.pipelines.passes.place import place
from weft.pipelines.passes.prune_columns import prune_columns
from weft.pipelines.passes.push_into_decode import push_into_decode
from weft.pipelines.passes.push_into_source import push_into_source
from weft.pipelines.passes.size_batches import size_batches
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster, this_machine
from weft.pipelines.verify import verify

Pass = Callable[[Plan, Cluster], Plan]

PASSES: tuple[Pass, ...] = (
    order_filters,
    push_into_source,
    push_into_decode,
    prune_columns,
    broadcast_joins,
    assign_devices,
    fuse,
    place,
    size_batches,
)


def plain_plan(graph: Graph) -> Plan:
    """The plan of `graph` that says what is asked for, and nothing of how it runs: what the
    recipes are told by. Filters stand where they are asked, which is where rows end."""
    return order_filters(lower(graph), this_machine())


def compile_plan(graph: Graph, cluster: Cluster, passes: Sequence[Pass] = PASSES) -> Plan:
    """The plan of `graph` for `cluster`.

    Raises:
        PlanError: the cluster cannot run it.
    """
    plan = verify(lower(graph))
    for rewrite in passes:
        plan = verify(rewrite(plan, cluster))
    return plan
