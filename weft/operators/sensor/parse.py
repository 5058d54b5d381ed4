"""Fields of JSON messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError
from weft.operators.sensor.log import from_json
from weft.operators.sensor.paths import checked, column_name, value_at
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Binary


@dataclass(frozen=True)
class Parse(Map):
    """Read fields out of a JSON message, such as a row of `weft.connectors.MCAP`.

    Reads `data`: the message.
    Writes a column for each path in `paths`, named by its words: "angular_velocity.z" is
    ``angular_velocity_z``. Paths and types are those of `Align`; a field that the message leaves
    out is null.

    >>> from weft.pipelines.types import Float64, Text
    >>> parse = Parse({"angular_velocity.z": Float64(), "header.frame_id": Text()})
    >>> parse(b'{"angular_velocity": {"x": 0, "z": 0.5}, "header": {}}')
    {'angular_velocity_z': 0.5, 'header_frame_id': None}

    Raises:
        DefinitionError: `paths` is none, or two of them make one name.
        RowError: no JSON, or a field is of another type.
    """

    paths: Mapping[str, Any]

    version = "1"
    reads = fields(data=Binary())

    def __post_init__(self) -> None:
        declared = checked(self.paths, f"{self.name}: paths")
        if "" in declared:
            raise DefinitionError(f"{self.name}: path '' is the whole message, which is `data`.")
        names = [column_name(path) for path in declared]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(f"{self.name}: two columns would be named {name!r}.")
        object.__setattr__(self, "paths", declared)
        object.__setattr__(self, "writes", Fields(dict(zip(names, declared.values(), strict=True))))

    def map_row(self, row: Row, loaded: Any) -> Any:
        """One message."""
        message = from_json(row["data"], self.name)
        values = {
            column_name(path): value_at(message, path, kind, self.name)
            for path, kind in self.paths.items()
        }
        return values if len(values) > 1 else next(iter(values.values()))
