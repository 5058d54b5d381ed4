"""``weft operators [NAME]``: the built-in operators, or one in full.

The list is read from the source, without importing an operator, so that one whose model
library is not installed is listed too.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.errors import DefinitionError

if TYPE_CHECKING:
    from weft.pipelines.operator import Operator

_ROWS = {
    "Map": "1 -> 1",
    "Filter": "1 -> 0..1",
    "Expand": "1 -> n",
    "Group": "n -> 1",
    "Pick": "n -> 0..n",
    "Order": "n -> 0..n",
    "Compose": "n -> n",
}


@click.command("operators", cls=Command)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the built-in operators, or explain one: weft operators image.Decode."""
    found = _homes()
    if name is None:
        listed = [{"name": n, "summary": _summary(module, n)} for n, module in found.items()]
        text = aligned([[o["name"], o["summary"]] for o in listed])
        emit({"operators": listed}, text)
        return
    if name not in found:
        raise DefinitionError(_unknown(name, found))
    document = _explain(name, found[name])
    emit(document, "\n".join(_lines(document)))


def _homes() -> dict[str, str]:
    """Module by operator, from the lazy table of each family."""
    import weft.operators

    found = {}
    for family in pkgutil.iter_modules(weft.operators.__path__):
        if family.ispkg:
            package = importlib.import_module(f"weft.operators.{family.name}")
            for name, module in sorted(getattr(package, "_HOME", {}).items()):
                found[f"{family.name}.{name}"] = f"{package.__name__}.{module}"
    return dict(sorted({**found, "model.Torch": "weft.operators.model"}.items()))


def _unknown(name: str, found: dict[str, str]) -> str:
    wanted = name.lower()
    called: dict[str, list[str]] = {}
    for full in found:
        key = full.lower() if "." in name else full.rpartition(".")[2].lower()
        called.setdefault(key, []).append(full)
    close = difflib.get_close_matches(wanted, called, n=1)
    hint = "See `weft operators`."
    if close:
        hint = f"Did you mean {' or '.join(map(repr, called[close[0]]))}?"
    return f"There is no operator {name!r}. {hint}"


def _summary(module: str, name: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if (
            isinstance(node, ast.ClassDef | ast.FunctionDef)
            and node.name == name.rpartition(".")[2]
        ):
            return (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
    return ""


def _explain(name: str, module: str) -> dict[str, Any]:
    operator: type[Operator] = getattr(importlib.import_module(module), name.rpartition(".")[2])
    doc = inspect.cleandoc(operator.__doc__ or "")
    kind = next((k for c in operator.__mro__ if (k := c.__name__) in _ROWS), "Map")
    return {
        "name": name,
        "kind": kind,
        "rows": _ROWS[kind],
        "summary": _summary(module, name),
        "reads": {port: str(t) for port, t in operator.reads.items()},
        "writes": {port: str(t) for port, t in operator.writes.items()},
        "parameters": _parameters(operator, doc),
        "resources": str(operator.resources),
        "example": _example(doc),
        "doc": doc,
    }


def _parameters(operator: type[Operator], doc: str) -> list[dict[str, Any]]:
    if not dataclasses.is_dataclass(operator):
        return []
    return [
        {
            "name": f.name,
            "type": f.type if isinstance(f.type, str) else getattr(f.type, "__name__", str(f.type)),
            "default": None if f.default is dataclasses.MISSING else repr(f.default),
            "meaning": _meaning(f.name, doc),
        }
        for f in dataclasses.fields(operator)
        if f.init
    ]


def _meaning(name: str, doc: str) -> str:
    """What a docstring says of a parameter: its line under Args, or the sentences that name it."""
    listed = re.search(rf"(?m)^ *{name}: (.+(?:\n {{6,}}.+)*)", doc.partition("Args:")[2])
    if listed:
        return " ".join(listed[1].split())
    prose = re.sub(r"(?m)^\s*>>>.*(?:\n.+)*", "", doc)
    sentences = re.split(r"(?<=[.;])\s+", " ".join(prose.split()))
    named = re.compile(rf"`{name}`|\b{name}=|\({name}[,)]|, {name}\)")
    return " ".join(s for s in sentences if named.search(s))


def _example(doc: str) -> str:
    blocks = [b for b in doc.split("\n\n") if b.lstrip().startswith(">>>")]
    return inspect.cleandoc("\n".join(blocks)) if blocks else ""


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['name']}  ({found['kind']}, rows {found['rows']}; {found['resources']})", ""]
    prose = re.split(r"\n\s*(?=>>>|Raises:)", found["doc"])[0].rstrip()
    lines += [f"  {line}".rstrip() for line in prose.split("\n")]
    for head in ("reads", "writes"):
        ports = [[f"  {port}", kind] for port, kind in found[head].items()]
        lines += ["", head, aligned(ports)] if ports else []
    if found["parameters"]:
        lines += ["", "parameters"]
    for p in found["parameters"]:
        default = "" if p["default"] is None else f" = {p['default']}"
        lines.append(f"  {p['name']}: {p['type']}{default}")
        lines += [f"      {p['meaning']}"] if p["meaning"] else []
    if found["example"]:
        lines += ["", "example", *(f"  {line}" for line in found["example"].split("\n"))]
    return lines
