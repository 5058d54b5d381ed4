"""Operators made of functions: the decorator, and what it makes.

A function that works on one row becomes a frozen operator value: its parameters without a
default are ports, those with one are settings, and its return hint says which kind it is.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from weft.errors import DefinitionError, nearest
from weft.pipelines.code import code_digest
from weft.pipelines.fields import Fields
from weft.pipelines.operator import (
    Expand,
    Filter,
    Map,
    Operator,
    Row,
    canonical,
    show,
)
from weft.pipelines.resources import Resources
from weft.pipelines.sites import at, definition_site
from weft.pipelines.types import Type, as_type


class Keep:
    """Return hint of a decorated function that is a `Filter`: true keeps the row."""


class _Function(Operator):
    """What the three kinds of decorated function share."""

    function: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...]

    def _init(
        self, *, function: Callable[..., Any], settings: tuple[tuple[str, Any], ...], **more: Any
    ) -> None:
        about = {"__doc__": function.__doc__, "__name__": function.__name__}
        self.__dict__.update(
            more, function=function, settings=settings, __wrapped__=function, **about
        )

    @property
    def name(self) -> str:
        return self.function.__name__

    def params(self) -> dict[str, Any]:
        return {k: canonical(v, f"{self.name}.{k}") for k, v in self.settings}

    def identity(self) -> dict[str, Any]:
        params, version = self.params(), self.version
        if version is None:
            ports = [self.reads.to_json(), self.writes.to_json()]  # hints, which are no code
            version = code_digest(self.function, ports, defaults=False)
        return {"operator": self.name, "version": version, "params": params}

    def replace(self, **settings: Any) -> Self:
        """This operator with other values for its parameters that have a default."""
        known = dict(self.settings)
        for name in settings:
            if name not in known:
                raise DefinitionError(
                    f"{self.name} has no parameter {name!r}. Given: {', '.join(known) or 'none'}. "
                    f"{nearest(name, known)}".rstrip()
                )
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, settings=tuple((known | settings).items()))
        return other

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.name} is an operator and cannot be changed; use replace()")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Function) and self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash(json.dumps(self.identity(), sort_keys=True))

    def __call__(self, *values: Any, **named: Any) -> Any:
        return self.function(*values, **(dict(self.settings) | named))

    def __repr__(self) -> str:
        return f"<operator {self}>"

    def __str__(self) -> str:
        given = ", ".join(f"{k}={show(v)}" for k, v in self.settings)
        return f"{self.name}({given})" if given else self.name


class FunctionMap(_Function, Map):
    """A decorated function that returns a value, or a dict of fields."""

    def map_row(self, row: Row, loaded: Any) -> Any:
        return self.function(**row, **dict(self.settings))


class FunctionFilter(_Function, Filter):
    """A decorated function whose return hint is `Keep`."""

    def keep_row(self, row: Row, loaded: Any) -> bool:
        return bool(self.function(**row, **dict(self.settings)))


class FunctionExpand(_Function, Expand):
    """A decorated function whose return hint is an `Iterator` of something."""

    def expand_row(self, row: Row, loaded: Any) -> Iterable[Any]:
        children: Iterable[Any] = self.function(**row, **dict(self.settings))
        return children


@typing.overload
def operator(function: Callable[..., Any], /) -> Any: ...
@typing.overload
def operator(
    *, version: str | None = ..., resources: Resources = ...
) -> Callable[[Callable[..., Any]], Any]: ...


def operator(
    function: Callable[..., Any] | None = None,
    /,
    *,
    version: str | None = None,
    resources: Resources = Operator.resources,
) -> Any:
    """Make an operator of a function that works on one row.

    Parameters without a default are input ports, those with one are settings. The return hint
    decides the kind: a type is a `Map` whose output port has the function's name,
    ``weft.fields(...)`` a `Map` with these ports (return a dict), ``weft.Keep`` a `Filter`,
    ``Iterator[...]`` of either an `Expand`.

    >>> @operator(version="1")
    ... def shout(text: str, mark: str = "!") -> str:
    ...     return text.upper() + mark
    >>> shout("hi"), str(shout.replace(mark="?"))
    ('HI!', "shout(mark='?')")

    Raises:
        DefinitionError: a hint is missing or names no column type.
    """
    if function is None:
        return lambda f: _decorate(f, version, resources)
    return _decorate(function, version, resources)


def _decorate(function: Callable[..., Any], version: str | None, resources: Resources) -> Any:
    try:
        made = _from_function(function, version, resources)
        made.identity()  # settings that cannot be part of a recipe are refused here, not in a run
        return made
    except DefinitionError as error:
        raise at(definition_site(function), error) from error.__cause__


def _from_function(
    function: Callable[..., Any], version: str | None, resources: Resources
) -> _Function:
    try:
        hints = inspect.get_annotations(function, eval_str=True)
    except NameError as error:
        raise DefinitionError(f"A hint of {function.__name__} is unknown: {error}") from error
    reads: dict[str, Type] = {}
    settings: list[tuple[str, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DefinitionError(
                f"{function.__name__}(*{parameter.name}) cannot be an operator: "
                "each input port needs a name and a hint."
            )
        if parameter.default is not parameter.empty:
            settings.append((parameter.name, parameter.default))
        elif parameter.name not in hints:
            raise DefinitionError(
                f"Parameter {parameter.name!r} of {function.__name__} has no hint. "
                f"Say what column it reads: {parameter.name}: weft.Image"
            )
        else:
            reads[parameter.name] = _hint(hints[parameter.name], parameter.name)
    if "return" not in hints:
        raise DefinitionError(
            f"{function.__name__} has no return hint. "
            "Say what it writes: -> weft.Float32, or -> weft.Keep for a filter"
        )
    kind, writes = _outputs(function.__name__, hints["return"])
    made = object.__new__(kind)
    made._init(
        function=function,
        reads=Fields(reads),
        writes=writes,
        settings=tuple(settings),
        version=version,
        resources=resources,
    )
    return made


def _outputs(name: str, hint: Any) -> tuple[type[_Function], Fields]:
    if hint is Keep:
        return FunctionFilter, Fields()
    kind: type[_Function] = FunctionMap
    if typing.get_origin(hint) in (Iterator, Iterable, list):
        kind, (hint,) = FunctionExpand, typing.get_args(hint)
    if isinstance(hint, Fields):
        return kind, hint
    return kind, Fields({name: _hint(hint, "return")})


def _hint(hint: Any, what: str) -> Type:
    try:
        return as_type(hint)
    except DefinitionError as error:
        raise DefinitionError(f"Hint of {what!r}: {error}") from error
