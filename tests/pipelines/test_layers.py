"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import weft

ROOT = Path(weft.__file__).parent

CONTRACTS = (
    "lazy", "errors", "pipelines.sites", "pipelines.plain", "pipelines.tensors", "pipelines.types",
    "pipelines.memory", "pipelines.fields", "pipelines.resources", "pipelines.syntax",
    "pipelines.constants", "pipelines.code", "pipelines.operator", "pipelines.functions",
    "pipelines.batch", "pipelines.grouping",
    "pipelines.connector", "pipelines.expressions", "pipelines.relations", "pipelines.aggregates",
)  # fmt: skip
"""From the bottom up: each may import those before it."""

STORAGE = ("tables", "blobs", "indexes")
"""What connectors share of Lance."""

MEDIA = {"PIL", "av", "cv2", "soundfile", "pypdfium2"}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, but for type checking alone."""
    for node in _run(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            for alias in node.names:  # ``from weft.pipelines import tables`` is a module too
                inside = ROOT.parent.joinpath(*(node.module or "").split("."))
                if (inside / f"{alias.name}.py").exists() or (inside / alias.name).is_dir():
                    yield f"{node.module}.{alias.name}"


def _run(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not checking:
            yield child
            yield from _run(child)


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module(p): p for p in sorted(ROOT.rglob("*.py"))}
IMPORTS = {name: sorted(set(imports(path))) for name, path in FILES.items()}
OWN = {
    name: [i.removeprefix("weft.") for i in found if i.startswith("weft.")]
    for name, found in IMPORTS.items()
}
EVERY = pytest.mark.parametrize("name", FILES)


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def uses(name: str, library: str) -> bool:
    return any(below(i, library) for i in IMPORTS[name])


def test_the_reader_sees_imports(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ray\n"
        "def f():\n    import lance.torch\n    from weft.pipelines import tables\n"
    )
    assert set(imports(file)) == {
        "typing", "lance.torch", "weft.pipelines", "weft.pipelines.tables",
    }  # fmt: skip


@pytest.mark.parametrize("name", CONTRACTS)
def test_contracts_know_nothing_above_them(name: str) -> None:
    lower = CONTRACTS[: CONTRACTS.index(name)]
    assert set(OWN[name]) - {"pipelines"} <= set(lower)


@EVERY
def test_operators_and_connectors_import_contracts(name: str) -> None:
    for package in ("operators", "connectors"):
        if below(name, package):
            allowed = {*CONTRACTS, "pipelines"} | {f"pipelines.{n}" for n in STORAGE}
            assert {i for i in OWN[name] if not below(i, package)} <= allowed


@EVERY
def test_pipelines_never_import_operators_or_connectors(name: str) -> None:
    if below(name, "pipelines") or name == "errors":
        assert [i for i in OWN[name] if below(i, "operators") or below(i, "connectors")] == []


@EVERY
def test_engines_do_not_know_runs(name: str) -> None:
    if below(name, "pipelines.engines"):
        assert [i for i in OWN[name] if below(i, "pipelines.runs")] == []


@EVERY
def test_heavy_libraries_have_one_home(name: str) -> None:
    if uses(name, "ray"):
        assert name in {"pipelines.engines.ray", "pipelines.engines.jobs"}
    if uses(name, "lance"):
        assert name in {
            "connectors.lance", "pipelines.tables", "pipelines.blobs", "pipelines.erasing",
            "pipelines.columns", "pipelines.compaction",
        }  # fmt: skip
    if uses(name, "torch"):
        assert below(name, "operators") or name == "connectors.feed"
    if any(uses(name, library) for library in MEDIA):
        assert below(name, "operators") or below(name, "samples")


def test_the_homes_are_there() -> None:
    assert uses("pipelines.engines.ray", "ray")
    assert uses("pipelines.tables", "lance")
    assert uses("operators.image.decode", "PIL")


@EVERY
def test_no_module_is_long(name: str) -> None:
    assert len(FILES[name].read_text().splitlines()) <= 500
