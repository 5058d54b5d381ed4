"""Parameters of a pipeline: typed by its function's signature, set from Python or as text."""

from __future__ import annotations

import enum
import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from weft.errors import DefinitionError, nearest

_TRUE = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, its hint and its default."""

    name: str
    hint: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    def __str__(self) -> str:
        default = "" if self.required else f" = {self.default!r}"
        return f"{self.name}: {_name(self.hint)}{default}"


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters that a function's signature declares.

    Raises:
        DefinitionError: one has neither a hint nor a default, or gathers extra arguments.
    """
    hints = inspect.get_annotations(function, eval_str=True)
    found = []
    for p in inspect.signature(function).parameters.values():
        where = f"Parameter {p.name!r} of pipeline {function.__name__!r}"
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise DefinitionError(f"{where} gathers extra arguments; name each one instead.")
        hint = hints.get(p.name, inspect.Parameter.empty)
        if hint is p.empty and (p.default is p.empty or p.default is None):
            raise DefinitionError(f"{where} has no hint. Say what it is: {p.name}: str")
        hint = type(p.default) if hint is p.empty else hint
        found.append(Parameter(p.name, hint, p.default))
    return tuple(found)


def named_values(
    pipeline: str,
    parameters: tuple[Parameter, ...],
    values: tuple[Any, ...],
    named: Mapping[str, Any],
) -> dict[str, Any]:
    """What a call gave, by name.

    Raises:
        DefinitionError: too many values, or one parameter twice.
    """
    names = [p.name for p in parameters]
    if len(values) > len(names):
        raise DefinitionError(
            f"Pipeline {pipeline!r} takes {len(names)} parameters ({', '.join(names)}); "
            f"given {len(values)}."
        )
    given = dict(zip(names, values, strict=False))
    for name in given:
        if name in named:
            raise DefinitionError(f"Pipeline {pipeline!r} was given parameter {name!r} twice.")
    return given | dict(named)


def bind(
    pipeline: str, parameters: tuple[Parameter, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The value of every parameter, from what was given and the defaults.

    Text is read as the hint says; other values must be of the hint's type.

    Raises:
        DefinitionError: an unknown, missing or ill-typed parameter.
    """
    known = {p.name: p for p in parameters}
    for name in given:
        if name not in known:
            have = ", ".join(str(p) for p in parameters) or "none"
            raise DefinitionError(
                f"Pipeline {pipeline!r} has no parameter {name!r}. It has: {have}. "
                f"{nearest(name, known)}".rstrip()
            )
    values = {}
    for name, parameter in known.items():
        if name in given:
            values[name] = _convert(given[name], parameter, pipeline)
        elif parameter.required:
            raise DefinitionError(
                f"Pipeline {pipeline!r} needs parameter {name!r} ({_name(parameter.hint)}). "
                f"Set it: --set {name}=…, or {pipeline}({name}=…)"
            )
        else:
            values[name] = parameter.default
    return values


def _convert(value: Any, parameter: Parameter, pipeline: str) -> Any:
    try:
        return _as(value, parameter.hint)
    except (ValueError, TypeError, KeyError) as error:
        raise DefinitionError(
            f"Parameter {parameter.name!r} of pipeline {pipeline!r} is "
            f"{_name(parameter.hint)}; given {value!r}."
        ) from error


def _as(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _as_union(value, arguments)
    if origin is typing.Literal:
        matching = [a for a in arguments if value in (a, str(a))]
        return matching[0] if matching else _no()
    if origin in (list, tuple):
        items = value.split(",") if isinstance(value, str) else value
        inner = arguments[0] if arguments else str
        return origin(_as(item, inner) for item in items)
    if not isinstance(value, str):
        return _as_instance(value, hint)
    if hint is bool:
        return _TRUE[value.lower()]
    if hint in (datetime, date):
        return hint.fromisoformat(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint[value] if value in hint.__members__ else hint(value)
    return hint(value)


def _as_union(value: Any, arguments: tuple[Any, ...]) -> Any:
    if value is None or value == "none":
        return None if types.NoneType in arguments else _no()
    for argument in arguments:
        try:
            return _as(value, argument)
        except (ValueError, TypeError, KeyError):
            continue
    return _no()


def _as_instance(value: Any, hint: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is pathlib.Path and isinstance(value, pathlib.PurePath):
        return pathlib.Path(value)
    if hint is str and isinstance(value, pathlib.PurePath):
        return str(value)
    wrong_bool = isinstance(value, bool) and hint in (int, float)
    return value if isinstance(value, hint) and not wrong_bool else _no()


def _no() -> typing.NoReturn:
    raise ValueError


def _name(hint: Any) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "")
