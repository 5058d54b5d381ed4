"""Fields of a message by path: ``"angular_velocity.z"`` in JSON or in a ROS 2 message.

A path is names between dots; a number counts in a list, from 0. Names of columns are made of
it: every run of what is no letter or digit becomes one underscore.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from weft.errors import DefinitionError, RowError
from weft.pipelines.types import Binary, Encoded, Tensor, Type, as_type


def column_name(*words: str) -> str:
    """The column of a topic or of a field of it.

    >>> column_name("/imu/data", "angular_velocity.z"), column_name("/camera/front", "")
    ('imu_data_angular_velocity_z', 'camera_front')
    """
    return "_".join(re.sub(r"[^0-9A-Za-z]+", "_", word).strip("_") for word in words if word)


def checked(declared: object, what: str) -> dict[str, Type]:
    """Fields as they are declared: path -> type, every one nullable.

    Raises:
        DefinitionError: it is none, or no mapping of paths to types.
    """
    if not isinstance(declared, Mapping) or not declared:
        raise DefinitionError(
            f"{what}={declared!r}: expected paths and their types, like "
            "{'angular_velocity.z': weft.Float64()}."
        )
    for path in declared:
        if not isinstance(path, str) or (path and not all(path.split("."))):
            raise DefinitionError(
                f"{what}: {path!r} is no path. Expected names between dots, like "
                "'angular_velocity.z', or '' for the bytes of the whole message."
            )
    return {path: as_type(kind).or_null() for path, kind in declared.items()}


def value_at(message: Any, path: str, kind: Type, what: str) -> Any:
    """The field at `path` of a decoded message, as a column of type `kind` holds it.

    A field that is null, or that is left out, is null. Bytes stand in JSON as base64 text.

    Raises:
        RowError: the field is of another type.
    """
    found = message
    for name in path.split("."):
        found = _step(found, name)
        if found is None:
            return None
    try:
        return _as(found, kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise RowError(
            f"{what}: field {path!r} is {type(found).__name__} {str(found)[:40]!r}; expected "
            f"{kind}. Declare the type it has."
        ) from error


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    if isinstance(value, list | tuple | np.ndarray):
        return value[int(name)] if name.isdigit() and int(name) < len(value) else None
    return getattr(value, name, None) if not name.startswith("_") else None


def _as(value: Any, kind: Type) -> Any:
    if isinstance(kind, Binary | Encoded):
        return _bytes(value)
    if isinstance(kind, Tensor):
        array = np.asarray(value, kind.dtype)
        if array.shape != kind.shape:
            raise ValueError(f"shape {array.shape}")
        return array
    if isinstance(value, float) and math.isnan(value) and not getattr(kind, "nan", True):
        raise ValueError("NaN")
    return kind.to_arrow([value])[0].as_py()


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError("no base64") from error
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    octets = np.asarray(value, np.uint8)  # how JSON without base64 and ROS 2 have them
    if octets.ndim != 1:
        raise ValueError("no list of octets")
    return octets.tobytes()
