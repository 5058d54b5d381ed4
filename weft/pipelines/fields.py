"""Fields and their order: the schema of a stream of rows, and of an operator's ports.

Two kinds of name share these classes. A *column* is a field of a stream; a *port* is a field
of an operator, bound to a column when the operator is applied. Names that start with an
underscore belong to the engine (`_key`, `_source`, …) and are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from weft.errors import DefinitionError, nearest
from weft.pipelines.types import METADATA_KEY, Type, as_type, from_arrow


class Fields(Mapping[str, Type]):
    """Named types in order; immutable and hashable.

    >>> from weft.pipelines.types import Float32, Image
    >>> print(Fields({"image": Image, "sharpness": Float32}))
    image: Image, sharpness: Float32
    """

    __slots__ = ("_types",)

    def __init__(self, types: Mapping[str, Any] | None = None) -> None:
        checked: dict[str, Type] = {}
        for name, hint in (types or {}).items():
            if not name.isidentifier() or name.startswith("_"):
                raise DefinitionError(
                    f"{name!r} cannot name a field. Expected an identifier that does not start "
                    "with an underscore: those belong to the engine."
                )
            checked[name] = as_type(hint)
        self._types = checked

    def __getitem__(self, name: str) -> Type:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fields):
            return NotImplemented
        return list(self._types.items()) == list(other._types.items())

    def __hash__(self) -> int:
        return hash(tuple(self._types.items()))

    def __repr__(self) -> str:
        return f"fields({', '.join(f'{n}={t!r}' for n, t in self.items())})"

    def __str__(self) -> str:
        return ", ".join(f"{name}: {kind}" for name, kind in self.items())

    def require(self, name: str, what: str = "column") -> Type:
        """The type of `name`.

        Raises:
            DefinitionError: there is no such field; the message lists those there are.
        """
        if name not in self._types:
            have = ", ".join(self._types) or "none"
            hint = nearest(name, self._types)
            raise DefinitionError(f"There is no {what} {name!r}. Given: {have}. {hint}".rstrip())
        return self._types[name]

    def only(self, names: tuple[str, ...] | list[str]) -> Fields:
        """These fields, in this order."""
        return Fields({name: self.require(name) for name in names})

    def merge(self, other: Mapping[str, Type]) -> Fields:
        """These fields, then those of `other`; a name in both keeps its place, not its type."""
        return Fields(self._types | dict(other))

    def to_json(self) -> dict[str, Any]:
        """Canonical JSON, for recipes and manifests."""
        return {name: kind.to_json() for name, kind in self.items()}

    @property
    def row_bytes(self) -> int:
        """About how many bytes one row takes in memory."""
        return sum(kind.row_bytes for kind in self.values())


def fields(**types: Any) -> Fields:
    """Named ports: ``reads = weft.fields(image=weft.Image())``."""
    return Fields(types)


def arrow_field(name: str, kind: Type) -> pa.Field:
    """The Arrow field that stores a column, its meaning in the metadata."""
    meaning = json.dumps(kind.to_json(), sort_keys=True, separators=(",", ":")).encode()
    return pa.field(name, kind.storage, kind.nullable, {METADATA_KEY: meaning})


def arrow_schema(columns: Mapping[str, Type]) -> pa.Schema:
    """The Arrow schema that stores these columns."""
    return pa.schema([arrow_field(name, kind) for name, kind in columns.items()])


def fields_of(schema: pa.Schema) -> Fields:
    """The columns of an Arrow schema; the engine's own, that start with ``_``, are left out."""
    return Fields({f.name: from_arrow(f) for f in schema if not f.name.startswith("_")})
