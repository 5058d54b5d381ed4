"""weft: typed multimodal data pipelines on Ray Data and Lance.

The public names live here and are loaded when first used, so ``import weft`` costs next to
nothing. Operators are in `weft.operators`, sources and sinks in `weft.connectors`, and what new
versions are expected to be like in `weft.gates`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "weft.errors": ("WeftError",),
    "weft.gates": ("gates",),
    "weft.pipelines.dsl": ("pipeline", "read", "union"),
    "weft.pipelines.fields": ("fields",),
    "weft.pipelines.functions": ("Keep", "operator"),
    "weft.pipelines.grouping": ("Compose", "Group", "Order", "Pick"),
    "weft.pipelines.operator": ("Expand", "Filter", "Later", "Map"),
    "weft.pipelines.resources": ("Cluster", "Machine", "Resources"),
    "weft.pipelines.types": (
        "Binary", "Bool", "Embedding", "Encoded", "Float32", "Float64", "Frames", "Image",
        "Int8", "Int16", "Int32", "Int64", "Tensor", "Text", "Timestamp",
        "UInt8", "UInt16", "UInt32", "UInt64", "Waveform",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])  # noqa: PLE0605

if TYPE_CHECKING:
    from weft import gates as gates
    from weft.errors import WeftError as WeftError
    from weft.pipelines.dsl import pipeline as pipeline
    from weft.pipelines.dsl import read as read
    from weft.pipelines.dsl import union as union
    from weft.pipelines.fields import fields as fields
    from weft.pipelines.functions import Keep as Keep
    from weft.pipelines.functions import operator as operator
    from weft.pipelines.grouping import Compose as Compose
    from weft.pipelines.grouping import Group as Group
    from weft.pipelines.grouping import Order as Order
    from weft.pipelines.grouping import Pick as Pick
    from weft.pipelines.operator import Expand as Expand
    from weft.pipelines.operator import Filter as Filter
    from weft.pipelines.operator import Later as Later
    from weft.pipelines.operator import Map as Map
    from weft.pipelines.resources import Cluster as Cluster
    from weft.pipelines.resources import Machine as Machine
    from weft.pipelines.resources import Resources as Resources
    from weft.pipelines.types import Binary as Binary
    from weft.pipelines.types import Bool as Bool
    from weft.pipelines.types import Embedding as Embedding
    from weft.pipelines.types import Encoded as Encoded
    from weft.pipelines.types import Float32 as Float32
    from weft.pipelines.types import Float64 as Float64
    from weft.pipelines.types import Frames as Frames
    from weft.pipelines.types import Image as Image
    from weft.pipelines.types import Int8 as Int8
    from weft.pipelines.types import Int16 as Int16
    from weft.pipelines.types import Int32 as Int32
    from weft.pipelines.types import Int64 as Int64
    from weft.pipelines.types import Tensor as Tensor
    from weft.pipelines.types import Text as Text
    from weft.pipelines.types import Timestamp as Timestamp
    from weft.pipelines.types import UInt8 as UInt8
    from weft.pipelines.types import UInt16 as UInt16
    from weft.pipelines.types import UInt32 as UInt32
    from weft.pipelines.types import UInt64 as UInt64
    from weft.pipelines.types import Waveform as Waveform


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    home = importlib.import_module(_HOME[name])
    value = home if home.__name__ == f"{__name__}.{name}" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
