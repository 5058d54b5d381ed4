"""The version of code that has none: a digest of what it is written as and of what it uses.

What counts is the syntax of a function or a class (`weft.pipelines.syntax`), and of all that it
uses of the user's own code, however far away: functions, classes and their bases, constants by
their values, variables of closures, defaults. The user's own is what is in the same package; of a
script or a notebook, what is in the same folder. Where it is and what its module is called does
not count, so code can move. Everything else is installed: it counts by its name, not by its
version, so an operator that is to change along with a library needs a version of its own.

Refused is what has no value that could be compared, such as an open file, a loaded model or a
list that the code itself appends to, and code without source. Unseen is what is looked up by a
name that only the running code knows: ``getattr(module, name)``, ``eval``, a registry.
"""

from __future__ import annotations

import ast
import builtins
import enum
import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from weft.errors import DefinitionError
from weft.pipelines.constants import NotCanonical, constant
from weft.pipelines.sites import Site, at
from weft.pipelines.syntax import (
    Definition,
    Written,
    attributes_of,
    definition_of,
    methods_of,
    written,
)

_INSTALLED = {"weft", "torch", "torchvision", "torchaudio", "transformers", "timm", "diffusers"}
"""Packages that are no user's own even where the code itself is theirs, such as the factory of a
model: all that it reaches would be thousands of functions."""

_MODULE_NAMES = {
    "__annotations__", "__builtins__", "__class__", "__debug__", "__doc__", "__file__",
    "__loader__", "__name__", "__package__", "__path__", "__spec__",
}  # fmt: skip
"""What a module is called and where it is."""

_NOT_ANSWERS = frozenset({"isolated", "on_change", "resources", "row_seconds", "version"})
"""Attributes of an operator that change no answer, or that are told beside its code."""

_open: ContextVar[tuple[int, ...]] = ContextVar("weft_open_digests", default=())
"""What is being digested, from the outside in: operators may use each other in a circle."""

_NOTHING = object()


def code_digest(thing: Callable[..., Any], *more: Any, defaults: bool = True) -> str:
    """The version of a function or a class that has none.

    It is the same in every process, and under Python 3.11 to 3.13.

    Args:
        thing: a function, a class, or what a decorator made of one.
        more: JSON that counts as well.
        defaults: whether the defaults of `thing` itself count; not if they are told elsewhere.

    Raises:
        DefinitionError: its source, or that of a part, cannot be read, or it uses something that
            has no value that could be compared; with the variable, on the user's line.
    """
    if id(thing) in _open.get():
        return "itself"
    token = _open.set((*_open.get(), id(thing)))
    try:
        parts = _Code(thing, defaults=defaults).parts
    finally:
        _open.reset(token)
    text = json.dumps([parts, *more], sort_keys=True, separators=(",", ":"))
    return "source:" + hashlib.sha256(text.encode()).hexdigest()[:16]


class _Code:
    """A walk through what a piece of code uses; `parts` has each function and class once."""

    def __init__(self, root: Any, *, defaults: bool) -> None:
        self.parts: list[Any] = []
        self._root = root
        self._name = getattr(root, "__qualname__", type(root).__name__)
        self._defaults = defaults
        self._own = _Own(root)
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is given twice
        self._within: list[str] = []
        self._site: Site | None = None
        self._value(root, getattr(root, "__name__", ""))

    def _value(self, value: Any, name: str) -> Any:
        """A value as JSON; functions and classes among it go to the parts."""
        try:
            return constant(value, self._reference)
        except NotCanonical as error:
            raise self._refused(
                f"uses {name!r}, which has {error}, so runs could not tell one value from another"
            ) from None

    def _reference(self, thing: Any) -> Any:
        """A function, a class, or what has the name of one."""
        if isinstance(thing, FunctionType | type) and self._own(_module_of(thing)):
            return {"part": self._part(thing)}
        by = thing if isinstance(thing, FunctionType | type) else type(thing)
        if (wrapped := getattr(thing, "__wrapped__", None)) is not None:
            return {"by": _name_of(by), "wrapped": self._value(wrapped, wrapped.__name__)}
        return _name_of(thing)

    def _part(self, thing: FunctionType | type) -> int:
        if id(thing) not in self._numbers:
            self._numbers[id(thing)] = number = len(self.parts)
            self._alive.append(thing)
            self.parts.append(None)
            self._within.append(thing.__qualname__)
            self.parts[number] = self._told(thing)
            self._within.pop()
        return self._numbers[id(thing)]

    def _told(self, thing: FunctionType | type) -> Any:
        try:
            file, definition = definition_of(thing)
        except OSError as error:
            if made := _made_by_call(thing):
                return made
            used = "" if thing is self._root else f", which {self._name} uses,"
            raise self._placed(
                f"The source code of {thing.__qualname__}{used} cannot be read, so a change to it "
                f'would go unnoticed. Give {self._name if used else "it"} a version: version="1"'
            ) from error
        if self._site is None:
            self._site = Site(file, definition.lineno)
        found: dict[str, Any] = {}
        root = thing is self._root
        if isinstance(thing, type):
            found["bases"] = [self._value(base, base.__name__) for base in thing.__bases__]
            said = written(definition, **_policy(thing, root=root))
        else:
            found["defaults"] = self._defaults_of(thing)
            said = written(definition, decorators=not root, defaults=False)
        return {"syntax": said.syntax, "uses": self._uses(thing, said), **found}

    def _defaults_of(self, function: FunctionType) -> Any:
        if function is self._root and not self._defaults:
            return []
        given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
        return [self._value(value, "a default value") for value in given]

    def _uses(self, thing: FunctionType | type, said: Written) -> dict[str, Any]:
        """What stands behind the names that a definition has from elsewhere."""
        closure, module = _closure(thing), _globals(thing)
        found: dict[str, Any] = {}
        self._refuse_changed(closure, said)
        for name in sorted((said.outer | set(closure)) - _MODULE_NAMES):
            value = closure.get(name, module.get(name, _NOTHING))
            if value is not _NOTHING:
                self._refuse_changed({name: value}, said)
                found |= self._named(name, value, said.node)
            elif isinstance(thing, type) and not hasattr(builtins, name):
                found[name] = self._attributes(thing, said.node, name)
        for name, value in self._imported(module, said):
            found |= self._named(name, value, said.node)
        return found

    def _refuse_changed(self, values: Mapping[str, Any], said: Written) -> None:
        for name in sorted(said.changed & set(values)):
            if not isinstance(values[name], ModuleType | type):
                raise self._refused(
                    f"changes {name!r}, so an answer would depend on what was asked before"
                )

    def _named(self, name: str, value: Any, node: ast.AST) -> dict[str, Any]:
        """What a name stands for; of a module, what is taken of it."""
        if not isinstance(value, ModuleType):
            return {name: self._value(value, name)}
        if not self._own(value.__name__):
            return {name: {"module": value.__name__}}
        found: dict[str, Any] = {}
        for chain in sorted(attributes_of(node, name)):
            taken: Any = value
            for number, attribute in enumerate(chain, 1):
                taken = getattr(taken, attribute, _NOTHING)
                if not isinstance(taken, ModuleType) or not self._own(taken.__name__):
                    path = ".".join([name, *chain[:number]])
                    found |= {} if taken is _NOTHING else self._named(path, taken, node)
                    break
        return found

    def _imported(self, module: dict[str, Any], said: Written) -> Iterator[tuple[str, Any]]:
        """The user's own among what a definition imports itself."""
        for name, level, path, taken in said.imports:
            package = module.get("__package__") or ""
            whole = importlib.util.resolve_name("." * level + path, package) if level else path
            if self._own(whole):
                try:
                    value: Any = importlib.import_module(whole)
                    if taken is not None and not hasattr(value, taken):
                        importlib.import_module(f"{whole}.{taken}")
                except ImportError:
                    continue  # then the operator cannot either, or it takes something else
                yield name, value if taken is None else getattr(value, taken)

    def _attributes(self, cls: type, node: Definition, name: str) -> Any:
        """What the body of a class made of a name of the function around it, which is gone."""
        assert isinstance(node, ast.ClassDef)
        made = {}
        for line in node.body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                used = {n.id for n in ast.walk(line.value) if isinstance(n, ast.Name)}
                targets = line.targets if isinstance(line, ast.Assign) else [line.target]
                for target in targets:
                    if name in used and isinstance(target, ast.Name) and target.id in vars(cls):
                        made[target.id] = self._value(vars(cls)[target.id], target.id)
        return made

    def _refused(self, what: str) -> DefinitionError:
        where = f" (in {self._within[-1]})" if len(self._within) > 1 else ""
        return self._placed(
            f"{self._within[0]}{where} {what}. Load it in setup(), make it a parameter, or give "
            f'{self._within[0]} a version of its own: version="1"'
        )

    def _placed(self, message: str) -> DefinitionError:
        return at(self._site, message) if self._site else DefinitionError(message)


class _Own:
    """Whether a module, by its name, is the user's own, as seen from a piece of code."""

    def __init__(self, root: Any) -> None:
        self._module = _module_of(root)
        top = self._module.partition(".")[0]
        self._package = top if hasattr(sys.modules.get(top), "__path__") else None
        file = getattr(sys.modules.get(self._module), "__file__", None)
        self._folder = Path(file).resolve().parent if file else Path.cwd()

    def __call__(self, module: str) -> bool:
        top = module.partition(".")[0]
        if module == self._module:
            return True
        if top in _INSTALLED or top in sys.stdlib_module_names:
            return False
        if self._package is not None:
            return top == self._package
        if top not in sys.modules and (self._folder / f"{top}.py").exists():
            return True
        found = sys.modules.get(top)
        file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", [])), None)
        path = Path(file).resolve() if file else Path("/")
        installed = {"site-packages", "dist-packages"} & set(path.parts)
        return path.is_relative_to(self._folder) and not installed


def _module_of(thing: Any) -> str:
    """The module that something is written in; a decorator may have told another."""
    if isinstance(thing, FunctionType):
        return str(thing.__globals__.get("__name__", "__main__"))
    if (wrapped := getattr(thing, "__wrapped__", None)) is not None:
        return _module_of(wrapped)
    return str(getattr(thing, "__module__", None) or "__main__")


def _name_of(thing: Any) -> str:
    """The name of something installed; weft's own may move within weft."""
    module = _module_of(thing)
    name = thing.__code__.co_qualname if isinstance(thing, FunctionType) else thing.__qualname__
    return f"{'weft' if module.startswith('weft.') else module}:{name}"


def _made_by_call(thing: FunctionType | type) -> Any:
    """A class that a call made, ``namedtuple("Point", "x y")`` or ``Enum("Colour", "RED")``."""
    if isinstance(thing, type) and issubclass(thing, tuple) and hasattr(thing, "_fields"):
        return {"fields": list(thing._fields)}
    if isinstance(thing, enum.EnumType):
        return {"members": list(thing.__members__)}
    return None


def _closure(thing: FunctionType | type) -> dict[str, Any]:
    """The variables of functions around it that it uses, by name."""
    found: dict[str, Any] = {}
    for method in [thing] if isinstance(thing, FunctionType) else methods_of(thing):
        names = method.__code__.co_freevars
        for name, cell in zip(names, method.__closure__ or (), strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # it is not bound yet
                found[name] = None
    return found


def _globals(thing: FunctionType | type) -> dict[str, Any]:
    for method in [thing] if isinstance(thing, FunctionType) else methods_of(thing):
        return method.__globals__
    return vars(sys.modules.get(thing.__module__, builtins))


def _policy(cls: type, *, root: bool) -> dict[str, Any]:
    """What of a class does not count: of an operator, attributes that change no answer, and the
    defaults of its parameters, which are told by their values."""
    if not any(base.__module__.startswith("weft.") for base in cls.__mro__):
        return {"decorators": not root}
    made = getattr(cls, "__dataclass_fields__", {}).values()
    fields = frozenset(f.name for f in made if _is_field(f))
    return {"decorators": False, "without": _NOT_ANSWERS, "parameters": fields}


def _is_field(field: Any) -> bool:
    return str(field._field_type) == "_FIELD"
