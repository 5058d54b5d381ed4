"""What an operator is: a frozen value of parameters, typed ports, and one method.

Cardinality is the operator's kind:

=========  ==========  ======================================  ============================
kind       rows        batch by batch                          row by row
=========  ==========  ======================================  ============================
`Map`      1 -> 1      ``map(batch, loaded)`` -> dict          ``map_row(row, loaded)``
`Filter`   1 -> 0..1   ``keep(batch, loaded)`` -> bools        ``keep_row(row, loaded)``
`Expand`   1 -> n      ``expand(batch, loaded)`` -> lists      ``expand_row(row, loaded)``
=========  ==========  ======================================  ============================

An operator implements one of the two columns. Row by row is the default choice: an exception
then marks its row and nothing else. Batch by batch is for models and vector code: a batch that
raises is bisected until the rows at fault are alone.

Keys, counts and lineage belong to the engine; operators never see them. A null in a port that
is not nullable never reaches the operator: its outputs are null on that row, a filter drops
the row, an expand has no children.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from weft.errors import ContractError, DefinitionError
from weft.pipelines.code import code_digest
from weft.pipelines.fields import Fields
from weft.pipelines.resources import Resources
from weft.pipelines.types import Type, Values

Row = Mapping[str, Any]
"""One row as an operator sees it: port name -> value."""

BatchView = Mapping[str, Values]
"""One batch as an operator sees it: port name -> list or array."""


OnChange = Literal["recompute", "keep", "new-rows-only"]
"""A change of code: ``recompute`` all rows; ``keep`` the values, they are as good as new ones;
``new-rows-only``: leave those that are there as they are, which the dataset remembers."""


class Operator:
    """Base of all operators; derive from `Map`, `Filter` or `Expand` instead."""

    reads: Fields = Fields()
    """Input ports."""

    writes: Fields = Fields()
    """Output ports."""

    version: str | None = None
    """Change it when the answer changes. ``None``: a digest of the operator's source
    code and of what it uses, see `weft.pipelines.code`."""

    resources: Resources = Resources()
    """What one worker of this operator holds."""

    isolated: bool = False
    """Whether it decodes bytes that nobody vouches for. It then runs in a process of its own, with
    limits, without a network and without credentials; see `weft.pipelines.engines.isolation`.
    One that takes a GPU never does."""

    row_seconds: float | None = None
    """How long it may take for a row, or for one child of an `Expand`. It then runs in a process
    of its own, which alone can be stopped. ``None``: as long as it likes, a minute if `isolated`.
    """

    on_change: OnChange = "recompute"
    """What a change of its version alone means for rows that were computed with the old one."""

    _methods: tuple[str, str] = ("", "")  # batch by batch, row by row

    def infer(self, inputs: Fields) -> Fields:
        """The types this operator writes, given the types bound to its ports.

        Override it when an output depends on an input, such as a resize that keeps channels.
        """
        return self.writes

    def setup(self, device: str) -> Any:
        """Load what the operator needs, once per worker; it is given back as `loaded`.

        Args:
            device: ``"cpu"`` or ``"cuda:0"``.
        """
        return None

    def absorb(self, following: Operator, port: str) -> Operator | None:
        """One operator that answers as this one then `following` on its output, or ``None``.

        It is how a decoder takes over the resize that comes after it. `following` changes in
        place what this operator writes to `port`. If it reads or changes other ports too, they
        are this operator's ports of the same names.
        """
        return None

    @property
    def name(self) -> str:
        """The name in plans, errors and recipes: ``image.Decode``; a user's class by its own."""
        cls = type(self)
        package, _, rest = cls.__module__.partition("weft.operators.")
        family = rest.partition(".")[0] if not package and rest else ""
        return f"{family}.{cls.__qualname__}" if family else cls.__qualname__

    @property
    def rowwise(self) -> bool:
        """Whether the operator works row by row."""
        batch, row = self._methods
        cls = type(self)
        base = next(b for b in cls.__mro__ if b.__dict__.get("_methods"))
        has_batch = getattr(cls, batch) is not getattr(base, batch)
        has_row = getattr(cls, row) is not getattr(base, row)
        if has_batch == has_row:
            raise DefinitionError(
                f"Operator {self.name} must define exactly one of {batch}(batch, loaded) and "
                f"{row}(row, loaded); it defines {'both' if has_batch else 'neither'}."
            )
        return has_row

    def params(self) -> dict[str, Any]:
        """The parameters as canonical JSON values."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {
            f.name: canonical(getattr(self, f.name), f"{self.name}.{f.name}")
            for f in dataclasses.fields(self)
        }

    def identity(self) -> dict[str, Any]:
        """Name, version and parameters: what makes two operators the same operator."""
        version = self.version if self.version is not None else code_digest(type(self))
        return {"operator": self.name, "version": version, "params": self.params()}

    def _check(self, bound: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        """The values of one row by port, from a plain call."""
        ports = list(self.reads)
        values = dict(zip(ports, bound, strict=False)) | dict(named)
        if len(bound) > len(ports) or set(values) != set(ports):
            raise DefinitionError(
                f"{self.name}({', '.join(ports)}) takes exactly these ports; "
                f"given {len(bound)} values and {sorted(named)}."
            )
        return values

    def __str__(self) -> str:
        if not dataclasses.is_dataclass(self):
            return self.name
        given = [
            f"{f.name}={show(value)}"
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) != _default(f)
        ]
        return f"{self.name}({', '.join(given)})" if given else self.name


class Map(Operator):
    """One row in, one row out: new columns from columns."""

    _methods = ("map", "map_row")

    def map(self, batch: BatchView, loaded: Any) -> Mapping[str, Values]:
        """The output ports of a batch, each with as many values as the batch has rows."""
        raise NotImplementedError

    def map_row(self, row: Row, loaded: Any) -> Any:
        """The output ports of one row as a dict, or the value itself if there is one port."""
        raise NotImplementedError

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Run on plain values, without an engine: one row in, its value or dict out."""
        row = self._check(values, named)
        loaded = self.setup("cpu")
        if self.rowwise:
            return self.map_row(row, loaded)
        out = self.map({port: [value] for port, value in row.items()}, loaded)
        first = {port: column[0] for port, column in out.items()}
        return next(iter(first.values())) if len(self.writes) == 1 else first


class Filter(Operator):
    """Keeps a row or drops it. A dropped row stays on the books as its key."""

    _methods = ("keep", "keep_row")

    def keep(self, batch: BatchView, loaded: Any) -> Sequence[bool]:
        """For each row of a batch, whether to keep it."""
        raise NotImplementedError

    def keep_row(self, row: Row, loaded: Any) -> bool:
        """Whether to keep one row."""
        raise NotImplementedError

    def __call__(self, *values: Any, **named: Any) -> bool:
        """Run on plain values, without an engine."""
        row = self._check(values, named)
        loaded = self.setup("cpu")
        if self.rowwise:
            return bool(self.keep_row(row, loaded))
        return bool(self.keep({port: [value] for port, value in row.items()}, loaded)[0])


@dataclasses.dataclass(frozen=True)
class Later:
    """A value of a child that is made only if somebody wants it: a page that is not rendered.

    `make` is called at most once, in the order of the children, after all children of the row
    are listed. It is not called for a column that no later step reads, nor for a child that a
    pushed predicate drops.
    """

    make: Callable[[], Any]


class Expand(Operator):
    """One row in, any number of rows out: frames of a video, pages of a document.

    The children keep the columns of their parent that later steps read, and know their parent,
    their index and how many they are. A value that costs something to make may be a `Later`.
    """

    early: tuple[str, ...] = ()
    """Ports that are never a `Later`: a `where` on them that follows is asked before the rest
    is made. Their types do not depend on the input."""

    _methods = ("expand", "expand_row")

    def expand(self, batch: BatchView, loaded: Any) -> Sequence[Sequence[Row]]:
        """For each row of a batch, its children."""
        raise NotImplementedError

    def expand_row(self, row: Row, loaded: Any) -> Iterable[Any]:
        """The children of one row: dicts of ports, or values if there is one port."""
        raise NotImplementedError

    def __call__(self, *values: Any, **named: Any) -> list[Any]:
        """Run on plain values, without an engine."""
        row = self._check(values, named)
        loaded = self.setup("cpu")
        if self.rowwise:
            children = list(self.expand_row(row, loaded))
        else:
            children = list(self.expand({port: [value] for port, value in row.items()}, loaded)[0])
        return [_made(child) for child in children]


def _made(child: Any) -> Any:
    """A child with nothing left for later."""
    if isinstance(child, Mapping):
        return {port: _made(value) for port, value in child.items()}
    return child.make() if isinstance(child, Later) else child


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def booleans(what: str, answers: Any, rows: int) -> npt.NDArray[np.bool_]:
    """The answers of a filter or a pick, held to what they must be; `what` is its method.

    Raises:
        ContractError: not one boolean for each row.
    """
    mask = np.asarray(answers, None if rows else np.bool_)  # of no answers NumPy makes floats
    if mask.shape != (rows,) or mask.dtype != np.bool_:
        raise ContractError(
            f"{what}() must return {rows} booleans, one for each row; it returned {mask.dtype} "
            f"of shape {mask.shape}."
        )
    return mask


def canonical_bytes(value: Any) -> bytes:
    """`value`, which is JSON, as the one sequence of bytes that stands for it."""
    return _encode(value).encode()


def digest(value: Any) -> str:
    """The first 128 bits of the sha256 of `value`'s canonical bytes, as hex.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(canonical_bytes(value)).hexdigest()[:32]


def canonical(value: Any, what: str) -> Any:
    """`value` as JSON that is the same for equal values, in every process.

    Raises:
        DefinitionError: it has no such form; `what` names the parameter.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return canonical(value.value, what)
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Operator):
        return value.identity()
    if isinstance(value, Type):
        return value.to_json()
    if isinstance(value, Fields):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(k): canonical(v, what) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v, what) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((canonical(v, what) for v in value), key=canonical_bytes)
    raise DefinitionError(
        f"Parameter {what} is a {type(value).__name__}, which has no canonical form, so runs "
        "could not tell one value from another. Expected numbers, text, paths, lists or dicts "
        "of them; load everything else in setup()."
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def show(value: Any) -> str:
    """A parameter for people."""
    if isinstance(value, Operator):
        return str(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(show(v) for v in value) + "]"
    return repr(value)
