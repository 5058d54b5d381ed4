"""Source code as syntax: what a function or a class is written as, less what changes no answer.

Comments, layout, docstrings, annotations and ``pass`` say nothing about what code does. What is
left is told as JSON by a form of our own, not by ``ast.dump`` or ``ast.unparse``, which differ
between versions of Python: for code that all of them can read it is the same under 3.11 to 3.13.
"""

from __future__ import annotations

import ast
import copy
import dis
import inspect
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
"""What a function or a class is written as."""

_SILENT = {"annotation", "ctx", "kind", "returns", "simple", "type_comment", "type_params"}
"""Fields of syntax that change no answer."""

_BINDS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL")
"""Instructions that look a name up outside of the code itself."""


@dataclass(frozen=True)
class Written:
    """What a definition says, as far as it changes answers.

    Attributes:
        node: the definition, without what changes no answer.
        syntax: the same as JSON.
        outer: the names that it looks up outside of itself, its inner functions too.
        changed: names of things that it rebinds, or changes in place.
        imports: what it imports itself: the name that this gets, the level and the name of the
            module, and what is taken of it.
    """

    node: Definition
    syntax: Any
    outer: frozenset[str]
    changed: frozenset[str]
    imports: tuple[tuple[str, int, str, str | None], ...]


@lru_cache(maxsize=1024)
def written(
    definition: Definition,
    *,
    decorators: bool = True,
    defaults: bool = True,
    without: frozenset[str] = frozenset(),
    parameters: frozenset[str] = frozenset(),
) -> Written:
    """What a definition says.

    Args:
        definition: as `definition_of` found it.
        decorators: whether its own decorators count.
        defaults: whether the defaults of its own arguments count.
        without: attributes of a class that do not count.
        parameters: attributes of a class whose values do not count.
    """
    node = _silenced(definition)
    if not decorators and not isinstance(node, ast.Lambda):
        node.decorator_list = []
    if isinstance(node, ast.ClassDef):
        _drop(node, without, parameters)
    elif not defaults:
        node.args.defaults, node.args.kw_defaults = [], [None for _ in node.args.kwonlyargs]
    outer, changed = frozenset(_outer_names(node)), frozenset(_changed_names(node))
    return Written(node, told(node), outer, changed, tuple(_imports(node)))


def definition_of(thing: FunctionType | type) -> tuple[str, Definition]:
    """The file of a function or a class, and its definition there.

    Raises:
        OSError: its source cannot be read.
    """
    if isinstance(thing, FunctionType):
        code = thing.__code__
        file, line, name = code.co_filename, code.co_firstlineno, code.co_name
        found = [n for n in _index(file).get((name, line), []) if _is_of(n, code)]
    else:
        file, line = _place(thing)
        classes = _index(file).get((thing.__qualname__, 0), [])
        found = [n for n in classes if _first(n) <= line <= (n.end_lineno or line)]
    if not found:
        raise OSError(f"{file} does not define {thing.__qualname__}")
    return file, found[-1]  # of lambdas in each other, the inner one


Index = dict[tuple[str, int], list[Definition]]
"""Functions by their names and first lines, classes by their qualified names and 0."""


def _index(file: str) -> Index:
    lines = linecache.getlines(file)
    if not lines:
        raise OSError(f"no source in {file}")
    return _indexed("".join(lines), file)


@lru_cache(maxsize=64)
def _indexed(text: str, file: str) -> Index:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise OSError(f"{file} has changed, and is no Python now") from error
    found: Index = {}
    for name, node in _definitions(tree, ""):
        found.setdefault((name, 0 if isinstance(node, ast.ClassDef) else _first(node)), []).append(
            node
        )
    return found


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    """Definitions below `node`, from the outside in: functions by their names, classes by their
    qualified ones."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield f"{prefix}{child.name}", child
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.<locals>.")
        else:
            if isinstance(child, ast.Lambda):
                yield "<lambda>", child
            yield from _definitions(child, prefix)


def _first(node: Definition) -> int:
    """The line that a definition begins on: that of its first decorator."""
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(d.lineno for d in decorators)])


def _is_of(node: Definition, code: CodeType) -> bool:
    return not isinstance(node, ast.Lambda) or _holds(node, code)


def _holds(node: ast.Lambda, code: CodeType) -> bool:
    """Whether all of `code` is made of the body of `node`, not of a lambda beside it."""
    body = node.body
    start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    steps = [p for p in code.co_positions() if None not in p and p[3]]  # the first has no width
    return all(
        start <= (line, column) and (last, until) <= end
        for line, last, column, until in steps
        if line is not None and last is not None and column is not None and until is not None
    )


def _place(cls: type) -> tuple[str, int]:
    """The file of a class and a line in it: of a method, or where Python says that it begins."""
    for method in methods_of(cls):
        return method.__code__.co_filename, method.__code__.co_firstlineno
    return _found(cls)


@lru_cache(maxsize=1024)
def _found(cls: type) -> tuple[str, int]:
    try:
        return inspect.getfile(cls), inspect.findsource(cls)[1] + 1
    except TypeError as error:  # of a class in a notebook without methods
        raise OSError(str(error)) from error


def methods_of(cls: type) -> Iterator[FunctionType]:
    """The methods that are written in a class, not made for it."""
    for value in vars(cls).values():
        method = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(method, FunctionType):
            code = method.__code__
            if code.co_qualname == f"{cls.__qualname__}.{code.co_name}":
                yield method


def _silenced(node: Definition) -> Definition:
    made = _Silence().visit(copy.deepcopy(node))
    assert isinstance(made, Definition)
    return made


class _Silence(ast.NodeTransformer):
    def __init__(self) -> None:
        self.within: list[ast.AST] = []

    def visit(self, node: ast.AST) -> Any:
        scope = isinstance(node, Definition)
        if scope:
            self.within.append(node)
        made = super().visit(node)
        if scope:
            self.within.pop()
        if isinstance(made, ast.AST):
            self._empty(made)
        return made

    @staticmethod
    def _empty(node: ast.AST) -> None:
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None and not isinstance(node, ast.AnnAssign):
                setattr(node, name, None)
        if hasattr(node, "type_params"):
            node.type_params = []
        if (
            isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)
            and getattr(node, "body", None) == []
        ):
            node.body = [ast.copy_location(ast.Pass(), node)]  # type: ignore[union-attr]

    def visit_Expr(self, node: ast.Expr) -> Any:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """In a function, a hint says nothing; in a class, it may make a field of a dataclass."""
        self.generic_visit(node)
        if isinstance(self.within[-1], ast.ClassDef):
            node.annotation = ast.copy_location(ast.Constant(None), node)
            return node
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)


def _drop(node: ast.ClassDef, without: frozenset[str], parameters: frozenset[str]) -> None:
    """Take attributes, or their values, out of a class."""
    body: list[ast.stmt] = []
    for line in node.body:
        targets = line.targets if isinstance(line, ast.Assign) else []
        if isinstance(line, ast.AnnAssign):
            targets = [line.target]
            if isinstance(line.target, ast.Name) and line.target.id in parameters:
                line.value = None
        if not {t.id for t in targets if isinstance(t, ast.Name)} & without:
            body.append(line)
    node.body = body or [ast.copy_location(ast.Pass(), node)]


def told(node: Any) -> Any:
    """Syntax as JSON."""
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _pieces(node)]
    if isinstance(node, ast.Constant):
        return [type(node.value).__name__, node.value if _plain(node.value) else repr(node.value)]
    if isinstance(node, ast.AST):
        fields = ((f, getattr(node, f, None)) for f in node._fields if f not in _SILENT)
        return [type(node).__name__, *([f, told(v)] for f, v in fields if v not in (None, []))]
    if isinstance(node, list):
        return [told(item) for item in node]
    return node


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | str)


def _pieces(node: ast.JoinedStr) -> list[Any]:
    """Texts that follow each other are one; versions of Python cut them in different ways."""
    pieces: list[Any] = []
    for value in node.values:
        text = str(value.value) if isinstance(value, ast.Constant) else None
        if text is None:
            pieces.append(told(value))
        elif pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        elif text:
            pieces.append(text)
    return pieces


def _outer_names(node: Definition) -> set[str]:
    if isinstance(node, ast.Lambda):
        return set(_looked_up(compile(ast.Expression(node), "<code>", "eval", dont_inherit=True)))
    around = {n for s in ast.walk(node) if isinstance(s, ast.Nonlocal) for n in s.names}
    lines = [f"def around({', '.join(sorted(around))}): pass"] if around else []
    module = ast.parse("\n".join(lines))
    if around:  # what it rebinds is of a function around it
        assert isinstance(module.body[0], ast.FunctionDef)
        module.body[0].body = [node]
    else:
        module.body = [node]
    ast.fix_missing_locations(module)
    return set(_looked_up(compile(module, "<code>", "exec", dont_inherit=True)))


def _looked_up(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in _BINDS:
            yield step.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _looked_up(inner)


def attributes_of(node: ast.AST, name: str) -> set[tuple[str, ...]]:
    """How a name is used: the chains of attributes that are taken of it, ``()`` for itself."""
    inner = {id(n.value) for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    chains = (_chain(n) for n in ast.walk(node) if id(n) not in inner)
    return {chain[1:] for chain in chains if chain[:1] == (name,)}


def _chain(node: ast.AST) -> tuple[str, ...]:
    """``a.b.c`` as its names; nothing, if it does not begin with a name."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (base := _chain(node.value)):
        return (*base, node.attr)
    return ()


_CHANGING = {
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse",
    "setdefault", "sort", "update",
}  # fmt: skip
"""Methods that change what they are called on."""


def _changed_names(node: ast.AST) -> set[str]:
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Global | ast.Nonlocal):
            found.update(inner.names)
        elif isinstance(inner, ast.Subscript | ast.Attribute):
            changes = isinstance(inner.ctx, ast.Store | ast.Del)
            if changes and isinstance(inner.value, ast.Name):
                found.add(inner.value.id)
        chain = _chain(inner.func) if isinstance(inner, ast.Call) else ()
        if chain[1:] and chain[-1] in _CHANGING:
            found.add(chain[0])
    return found


def _imports(node: ast.AST) -> Iterator[tuple[str, int, str, str | None]]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            for alias in inner.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or whole, 0, whole, None
        elif isinstance(inner, ast.ImportFrom):
            for alias in inner.names:
                name = alias.asname or alias.name
                yield name, inner.level, inner.module or "", alias.name
