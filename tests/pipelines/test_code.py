"""The version of code that has none: what changes it, what does not, what is refused."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import weft
from weft.errors import DefinitionError
from weft.pipelines.code import code_digest
from weft.pipelines.constants import constant

NUMBER = itertools.count()

OPS = '''
    from __future__ import annotations
    import re
    from dataclasses import dataclass, field
    from functools import lru_cache
    import numpy as np
    import weft
    from . import tools
    from .base import Base
    from .tools import helper, LIMIT

    WORDS = ["a", "b"]
    TABLE = {"a": 1, "b": [2, 3]}
    PATTERN = re.compile("x+")
    WEIGHTS = np.array([1.0, 2.0])
    UNUSED = 1

    @weft.operator
    def thing(x: int, by: int = 2) -> int:
        """Says what it does."""
        if PATTERN.match("x"):
            pass
        y: int = helper(x) + LIMIT
        return [y + len(WORDS) + TABLE["a"] + int(WEIGHTS[0]) for _ in "a"][0]

    def circle(n):
        return 0 if n == 0 else square(n - 1)

    def square(n):
        return circle(n)

    @lru_cache(maxsize=8)
    def remembered(n):
        return tools.deep.far(n) + f"{n:>{3}} of" f" {n!r}".count("x")

    @dataclass(frozen=True)
    class Thing(Base):
        """A class."""
        by: int = 2
        many: tuple = field(default=())
        resources = weft.Resources(cpus=1)
        scale = 3

        def map_row(self, row, loaded):
            from .local import late
            return circle(row["x"]) + remembered(3) + late() + self.scale + (lambda n=4: n)()

    def made(factor):
        @dataclass(frozen=True)
        class Inner(weft.Map):
            reads = weft.fields(x=int)
            writes = weft.fields(y=int)
            double = factor * 2

            def map_row(self, row, loaded):
                return row["x"] * factor
        return Inner

    Inner = made(3)

    def wrap(function):
        def inner(x: int) -> int:
            return function(x)
        return inner

    wrapped = weft.operator(wrap(lambda x: x + 1)); other = lambda x: x - 1
'''
BASE = """
    import weft

    class Base(weft.Map):
        reads = weft.fields(x=int)
        writes = weft.fields(y=int)

        def shared(self):
            return 1
"""
TOOLS = """
    import logging
    from enum import Enum
    from . import deep

    LIMIT = 10
    log = logging.getLogger(__name__)

    class Colour(Enum):
        RED = "red"

    def helper(x, more=1):
        log.info("x is %s", x)
        return inner(x) + more + len(Colour.RED.value)

    def inner(x):
        return x + 1

    def unused(x):
        return x
"""
DEEP = "def far(n):\n    return n * 2\n"
LOCAL = "def late():\n    return 5\n"
FILES = {"ops": OPS, "base": BASE, "tools": TOOLS, "deep": DEEP, "local": LOCAL}


def package(folder: Path, files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of these modules, under a name of its own."""
    name = f"coded{next(NUMBER)}"
    (folder / name).mkdir()
    for module, text in {"__init__": "", **files}.items():
        (folder / name / f"{module}.py").write_text(dedent(text))
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    return name


def versions(folder: Path, files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    ops: Any = importlib.import_module(f"{package(folder, files, monkeypatch)}.ops")
    return {
        name: operator.identity()["version"]
        for name, operator in (
            ("thing", ops.thing), ("Thing", ops.Thing()), ("Inner", ops.Inner()),
            ("wrapped", ops.wrapped),
        )
    }  # fmt: skip


CHANGES: list[tuple[str, str, str, set[str]]] = [
    # what is asked of rows
    ("ops", "len(WORDS) +", "len(WORDS) -", {"thing"}),
    ("ops", 'return 0 if n == 0', "return 1 if n == 0", {"Thing"}),
    ("ops", "+ self.scale", "- self.scale", {"Thing"}),
    ("ops", "lambda n=4", "lambda n=5", {"Thing"}),
    ("ops", "scale = 3", "scale = 4", {"Thing"}),
    ("ops", "f\"{n:>{3}} of\"", "f\"{n:>{4}} of\"", {"Thing"}),
    ("ops", "lru_cache(maxsize=8)", "lru_cache(maxsize=9)", {"Thing"}),
    ("ops", "return circle(n)", "return circle(n) + 0", {"Thing"}),
    ("ops", "row[\"x\"] * factor", "factor * row[\"x\"]", {"Inner"}),
    # hints that are ports
    ("ops", "by: int = 2) -> int:", "by: int = 2) -> weft.Float32:", {"thing"}),
    # constants, closures, defaults, bases
    ("ops", '["a", "b"]', '["a", "c"]', {"thing"}),
    ("ops", '[2, 3]}', '[2, 4]}', {"thing"}),
    ("ops", '"x+"', '"x*"', {"thing"}),
    ("ops", "[1.0, 2.0]", "[1.0, 2.5]", {"thing"}),
    ("ops", "factor * 2", "factor * 3", {"Inner"}),
    ("ops", "made(3)", "made(4)", {"Inner"}),
    ("ops", "lambda x: x + 1", "lambda x: x + 2", {"wrapped"}),
    ("ops", "return function(x)", "return function(x) + 0", {"wrapped"}),
    ("base", "return 1", "return 2", {"Thing"}),
    # elsewhere in the package
    ("tools", "LIMIT = 10", "LIMIT = 11", {"thing"}),
    ("tools", "return inner(x)", "return 1 + inner(x)", {"thing"}),
    ("tools", "return x + 1", "return x + 2", {"thing"}),
    ("tools", "more=1", "more=2", {"thing"}),
    ("tools", '"red"', '"rot"', {"thing"}),
    ("deep", "n * 2", "n * 3", {"Thing"}),
    ("local", "return 5", "return 6", {"Thing"}),
    # what changes no answer
    ("ops", "UNUSED = 1", "UNUSED = 2", set()),
    ("ops", '"""Says what it does."""', "'''Other words.'''", set()),
    ("ops", '        pass\n', '        ...  # nothing\n', set()),
    ("ops", "y: int = helper", "y = helper", set()),
    ("ops", "@weft.operator\n", "@weft.operator(resources=weft.Resources(cpus=2))\n", set()),
    ("ops", "by: int = 2)", "by: int = 3)", set()),  # a parameter, told by its value
    ("ops", "by: int = 2\n", "by: int = 3\n", set()),
    ("ops", "field(default=())", "field(default=(1,))", set()),
    ("ops", "weft.Resources(cpus=1)", "weft.Resources(cpus=2)", set()),
    ("ops", "def map_row(self, row, loaded):\n            from",
     "def map_row(self, row: dict, loaded: None) -> int:\n            from", set()),
    ("ops", '" f" {n!r}"', ' {n!r}"', set()),
    ("ops", "x - 1", "x - 2", set()),
    ("tools", "return x\n", "return x + 1\n", set()),
    ("tools", "def inner(x):", "# a remark\n\n    def inner(x: int) -> int:", set()),
]  # fmt: skip


@pytest.fixture(scope="module")
def as_it_is(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        return versions(tmp_path_factory.mktemp("as_it_is"), FILES, patch)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[1].strip())
def test_what_changes_a_version(
    change: tuple[str, str, str, set[str]],
    as_it_is: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, old, new, changed = change
    assert old in FILES[module]
    edited = {**FILES, module: FILES[module].replace(old, new)}
    found = versions(tmp_path, edited, monkeypatch)
    assert {name for name, version in found.items() if version != as_it_is[name]} == changed


def test_code_can_move(as_it_is: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other packages, modules and files, and lines in them."""
    moved = {
        "ops": "from .elsewhere import *\n",
        "elsewhere": "\n" * 9 + dedent(OPS).replace("from .tools import", "from .kit import"),
        "base": BASE,
        "kit": "from .tools import helper\nLIMIT = 10\n",
        "tools": TOOLS.replace(
            "    def inner(x):\n        return x + 1\n", "    from .two import *"
        ),
        "two": "def inner(x):\n    return x + 1\n",
        "deep": DEEP,
        "local": LOCAL,
    }
    assert versions(tmp_path, moved, monkeypatch) == as_it_is


GOLDEN = {
    "thing": "source:3e12e88093d2a588",
    "Thing": "source:a19dd56dc3fc4547",
    "Inner": "source:313095b57cc37245",
    "wrapped": "source:b8c588933d2bc059",
}


def test_versions_are_the_same_under_every_python(as_it_is: Any) -> None:
    assert as_it_is == GOLDEN


def test_versions_are_the_same_in_every_process(
    as_it_is: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = package(tmp_path, FILES, monkeypatch)
    code = (
        f"from {name} import ops; "
        "print([o.identity()['version'] for o in (ops.thing, ops.Thing(), ops.Inner())])"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == str([as_it_is[n] for n in ("thing", "Thing", "Inner")])


SCRIPT = """
    import other
    from dataclasses import dataclass
    from weft import operator

    def helper(x):
        return other.f(x) + other.K

    @operator
    def thing(x: int) -> int:
        return helper(x)

    print(thing.identity()["version"])
"""


def test_a_script_and_the_files_beside_it(tmp_path: Path) -> None:
    def version(script: str, other: str) -> str:
        (tmp_path / "script.py").write_text(dedent(script))
        (tmp_path / "other.py").write_text(other)
        return subprocess.run(
            [sys.executable, "-B", "script.py"], cwd=tmp_path, check=True, capture_output=True,
            text=True,
        ).stdout  # fmt: skip

    before = version(SCRIPT, "K = 1\ndef f(x):\n    return x\n")
    assert before.startswith("source:")
    assert version(SCRIPT, "import os\n\ndef f(x): return x\nK = 1") == before
    assert version(SCRIPT, "K = 2\ndef f(x):\n    return x\n") != before
    assert version(SCRIPT, "K = 1\ndef f(x):\n    return 1 + x\n") != before


def refusal(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = package(folder, {"ops": "import weft\n" + dedent(text)}, monkeypatch)
    with pytest.raises(DefinitionError) as error:
        importlib.import_module(f"{name}.ops")
    return str(error.value).replace(str(folder / name), "")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("object.__new__(type('Net', (), {}))", "Net"),
        ("open('/dev/null')", "TextIOWrapper"),
        ("{'a': [open('/dev/null')]}", "TextIOWrapper"),
        ("iter([1])", "list_iterator"),
    ],
)
def test_state_is_refused(
    state: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"MODEL = {state}\n\n@weft.operator\ndef thing(x: int) -> int:\n    return MODEL\n"
    assert refusal(tmp_path, text, monkeypatch) == (
        "/ops.py:5\n    def thing(x: int) -> int:\n"
        f"thing uses 'MODEL', which has no canonical form, being a {kind}, so runs could not tell "
        "one value from another. Load it in setup(), make it a parameter, or give thing a version "
        'of its own: version="1"'
    )


def test_state_of_a_helper_and_of_a_closure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        STATE = iter(())

        def helper(x):
            return next(STATE)

        @weft.operator
        def thing(x: int) -> int:
            return helper(x)
    """
    assert "thing (in helper) uses 'STATE', which has no" in refusal(tmp_path, text, monkeypatch)
    text = """
        def make(model):
            @weft.operator
            def thing(x: int) -> int:
                return model(x)
            return thing

        make(iter(()))
    """
    assert "thing uses 'model', which has no canon" in refusal(tmp_path, text, monkeypatch)


@pytest.mark.parametrize(
    "change",
    [
        "SEEN.append(x)", "SEEN[0] = x", "del SEEN[0]", "global SEEN; SEEN = [x]",
        "SEEN.sort(); return len(SEEN)",
    ],
)  # fmt: skip
def test_what_code_changes_itself_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"SEEN = [1]\n\n@weft.operator\ndef thing(x: int) -> int:\n    {change}\n    return x\n"
    assert "thing changes 'SEEN', so an answer would depend on what was asked before. Load" in (
        refusal(tmp_path, text, monkeypatch)
    )


def test_a_counter_in_a_closure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        def make():
            count = 0
            @weft.operator
            def thing(x: int) -> int:
                nonlocal count
                count += 1
                return count
            return thing

        make()
    """
    assert "thing changes 'count', so an answer would dep" in refusal(tmp_path, text, monkeypatch)


def test_a_helper_without_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        exec("def helper(x): return x")

        @weft.operator
        def thing(x: int) -> int:
            return helper(x)
    """
    assert refusal(tmp_path, text, monkeypatch).endswith(
        "The source code of helper, which thing uses, cannot be read, so a change to it would go "
        'unnoticed. Give thing a version: version="1"'
    )


def test_a_version_of_its_own_asks_for_nothing() -> None:
    state = iter(())
    scope: dict[str, Any] = {"weft": weft, "state": state}
    exec("@weft.operator(version='1')\ndef f(x: int) -> int:\n    return next(state)", scope)
    assert scope["f"].identity()["version"] == "1"


def test_a_class_with_state_is_refused_on_its_line() -> None:
    state = iter(())

    class Stateful(weft.Map):
        reads = weft.fields(x=int)
        writes = weft.fields(y=int)

        def map_row(self, row: Any, loaded: Any) -> int:
            return next(state)

    with pytest.raises(DefinitionError, match=r"test_code.py:\d+\n    class Stateful.*\n.*'state'"):
        Stateful().identity()


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (True, 1), ("1", 1), (b"a", "a"), ([], {}), ({"a": 1, "b": 2}, {"b": 2, "a": 1})],
)
def test_values_that_differ(one: Any, other: Any) -> None:
    assert repr(constant(one, repr)) != repr(constant(other, repr))


def test_a_value_within_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Exception, match="a value that is within itself"):
        constant(loop, repr)


def test_operators_that_use_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        import weft

        @weft.operator
        def even(x: int) -> bool:
            return x == 0 or odd(x - 1)

        @weft.operator
        def odd(x: int) -> bool:
            return x != 0 and even(x - 1)
    """
    one = importlib.import_module(f"{package(tmp_path, {'ops': text}, monkeypatch)}.ops")
    text = text.replace("x != 0", "x > 0")
    other = importlib.import_module(f"{package(tmp_path, {'ops': text}, monkeypatch)}.ops")
    assert one.even.identity() != other.even.identity()
    assert one.odd.identity() != other.odd.identity()


def test_what_is_installed_counts_by_its_name() -> None:
    import torch

    found = code_digest(torch.nn.Linear)
    assert found.startswith("source:")
    assert found == code_digest(torch.nn.Linear) != code_digest(torch.nn.Bilinear)
