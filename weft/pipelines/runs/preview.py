"""The first rows a pipeline would write, computed in this process and written nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from weft.pipelines.compile import compile_plan
from weft.pipelines.engines.runners import Work
from weft.pipelines.engines.books import new_books
from weft.pipelines.engines.worker import Cargo, Context, StageWorker, Unit, dataset_schema, units_of
from weft.pipelines.plan import Plan, Stage
from weft.pipelines.resources import Cluster, Machine, Resources

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline

_ROOMY = Cluster((Machine(cpus=1e6, gpus=1e6),))
"""A preview runs in one thread wherever it is asked for, so no placement can fail."""
