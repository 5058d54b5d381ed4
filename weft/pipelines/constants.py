"""Values that code uses, as JSON that is the same for equal values in every process."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import json
import logging
import pathlib
import re
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable
from types import MethodType, ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

Reference = Callable[[Any], Any]
"""Tells a function or a class as JSON."""

_WRITTEN = (
    complex, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal,
    fractions.Fraction, pathlib.PurePath, range, slice, uuid.UUID, zoneinfo.ZoneInfo,
    types.EllipsisType, types.NotImplementedType, types.GenericAlias, types.UnionType,
    np.dtype, pa.DataType, pa.Field, pa.Schema,
)  # fmt: skip
"""Types whose values are what ``repr`` writes."""

_STATELESS = (logging.Logger, type(threading.Lock()), type(threading.RLock()))
"""Types whose values change no answer."""


class NotCanonical(Exception):  # noqa: N818  says why, and is caught where the variable is known
    """A value has no form that could be compared; the message is what it has instead."""


def constant(value: Any, reference: Reference) -> Any:
    """A value as JSON.

    Numbers, text, bytes, times, paths, patterns, enums, dataclasses, arrays, column types, lists,
    dicts and sets of them, and functions, classes and modules, as `reference` tells them.

    Raises:
        NotCanonical: it is something else, such as an open file or a model.
    """
    return _constant(value, reference, ())


def _constant(value: Any, reference: Reference, within: tuple[int, ...]) -> Any:
    if not isinstance(value, enum.Enum) and isinstance(value, bool | int | float | str | None):
        return value
    if id(value) in within:
        raise NotCanonical("a value that is within itself")

    def inner(part: Any) -> Any:
        return _constant(part, reference, (*within, id(value)))

    match value:
        case list() | tuple():
            return [inner(part) for part in value]
        case dict() | types.MappingProxyType():
            return {"dict": [[inner(k), inner(v)] for k, v in value.items()]}
        case set() | frozenset():
            return {"set": sorted((inner(part) for part in value), key=json.dumps)}
        case functools.partial():
            return {"partial": [inner(value.func), inner(value.args), inner(value.keywords)]}
        case enum.Enum():
            return {"enum": type(value).__qualname__, "value": inner(value.value)}
        case re.Pattern():
            return {"pattern": [inner(value.pattern), value.flags]}
        case MethodType() | types.BuiltinMethodType():
            owner = value.__self__
            if not isinstance(owner, ModuleType | None):
                return {"method": value.__name__, "of": inner(owner)}
    held = _bytes_of(value)
    return _thing(value, reference, inner) if held is None else held


def _bytes_of(value: Any) -> Any:
    """What is told by its bytes."""
    match value:
        case bytes() | bytearray():
            return {"bytes": hashlib.sha256(value).hexdigest()}
        case np.ndarray() if not value.dtype.hasobject:
            held = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return {"array": [value.dtype.str, list(value.shape), held]}
        case np.generic() if not value.dtype.hasobject:
            return {"scalar": [value.dtype.str, value.tobytes().hex()]}
    return None


def _thing(value: Any, reference: Reference, inner: Callable[[Any], Any]) -> Any:
    """What is no container and no plain value."""
    if isinstance(value, ModuleType):
        return {"module": value.__name__}
    if not isinstance(value, type) and _of_weft(type(value)):
        for method in ("identity", "to_json"):
            if callable(getattr(value, method, None)):
                return {"weft": getattr(value, method)()}
    if isinstance(value, type) or isinstance(getattr(value, "__qualname__", None), str):
        return reference(value)
    if hasattr(value, "__wrapped__"):
        return reference(value)
    if dataclasses.is_dataclass(value):
        held = {f.name: inner(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": reference(type(value)), "fields": held}
    if isinstance(value, _WRITTEN) or type(value).__module__ == "typing":
        return {type(value).__name__: repr(value)}
    if isinstance(value, _STATELESS) or type(value) is object:
        return type(value).__name__
    raise NotCanonical(f"no canonical form, being a {type(value).__name__}")


def _of_weft(cls: type) -> bool:
    return any(base.__module__.startswith("weft.") for base in cls.__mro__)
