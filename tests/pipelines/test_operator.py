"""What an operator is: kinds, plain calls, parameters, identity."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import weft
from weft.errors import DefinitionError
from weft.operators import image
from weft.pipelines.operator import Operator, digest
from weft.pipelines.types import Float32


@weft.operator(version="1")
def scaled(x: int, by: int = 2) -> int:
    """`x` times `by`."""
    return x * by


@weft.operator(version="1")
def both(x: int, y: int) -> weft.fields(sum=int, product=int):  # type: ignore[valid-type]
    return {"sum": x + y, "product": x * y}


@weft.operator
def positive(x: int) -> weft.Keep:
    return x > 0


@weft.operator(version="1")
def parts(text: str, by: str = " ") -> Iterator[str]:
    yield from text.split(by)


@dataclass(frozen=True)
class Scale(weft.Map):
    by: int = 2
    reads = weft.fields(x=int)
    writes = weft.fields(y=int)

    def setup(self, device: str) -> Any:
        return self.by

    def map(self, batch: Any, loaded: Any) -> Any:
        return {"y": [x * loaded for x in batch["x"]]}


@dataclass(frozen=True)
class Big(weft.Filter):
    limit: int
    reads = weft.fields(x=int)

    def keep(self, batch: Any, loaded: Any) -> Any:
        return [x > self.limit for x in batch["x"]]


@dataclass(frozen=True)
class Split(weft.Expand):
    reads = weft.fields(text=str)
    writes = weft.fields(word=str)

    def expand(self, batch: Any, loaded: Any) -> Any:
        return [[{"word": w} for w in t.split()] for t in batch["text"]]


def test_plain_calls() -> None:
    assert scaled(3) == 6
    assert scaled(3, by=5) == scaled.replace(by=5)(3) == 15
    assert both(2, 3) == {"sum": 5, "product": 6}
    assert (positive(1), positive(-1)) == (True, False)
    assert list(parts("a b")) == ["a", "b"]
    assert Scale(3)(4) == Scale(3)(x=4) == 12
    assert Big(3)(4) is True
    assert Big(3)(3) is False
    assert Split()("a b") == [{"word": "a"}, {"word": "b"}]


def test_kinds_and_ports() -> None:
    assert isinstance(scaled, weft.Map)
    assert isinstance(positive, weft.Filter)
    assert isinstance(parts, weft.Expand)
    assert (str(scaled.reads), str(scaled.writes)) == ("x: Int64", "scaled: Int64")
    assert str(both.writes) == "sum: Int64, product: Int64"
    assert (str(positive.writes), str(parts.writes)) == ("", "parts: Text")
    assert [op.rowwise for op in (scaled, positive, parts)] == [True, True, True]
    assert [op.rowwise for op in (Scale(), Big(1), Split())] == [False, False, False]


def test_names() -> None:
    assert str(scaled) == "scaled(by=2)"
    assert repr(scaled) == "<operator scaled(by=2)>"
    assert scaled.__doc__ == "`x` times `by`."
    assert str(Scale()) == "Scale"
    assert str(Scale(3)) == "Scale(by=3)"
    assert image.Decode().name == "image.Decode"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Scale(), "Scale(x) takes exactly these ports; given 0 values and []."),
        (lambda: Scale()(1, 2), "Scale(x) takes exactly these ports; given 2 values and []."),
        (lambda: Scale()(y=2), "Scale(x) takes exactly these ports; given 0 values and ['y']."),
        (
            lambda: scaled.replace(bye=3),
            "scaled has no parameter 'bye'. Given: by. Did you mean 'by'?",
        ),
        (lambda: both.replace(z=3), "both has no parameter 'z'. Given: none."),
    ],
)
def test_wrong_calls(call: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        call()
    assert str(error.value) == message


def test_operators_do_not_change() -> None:
    other = scaled.replace(by=5)
    assert scaled(1) == 2
    assert other != scaled == scaled.replace(by=2)
    assert hash(scaled) == hash(scaled.replace(by=2))
    with pytest.raises(
        AttributeError, match=r"^scaled is an operator and cannot be changed; use re"
    ):
        scaled.version = "2"


def test_operators_travel() -> None:
    for operator in (scaled.replace(by=7), Scale(7), positive):
        assert cloudpickle.loads(cloudpickle.dumps(operator)) == operator
    assert cloudpickle.loads(cloudpickle.dumps(scaled.replace(by=7)))(1) == 7


class Both(weft.Map):
    def map(self, batch: Any, loaded: Any) -> Any:
        return {}

    def map_row(self, row: Any, loaded: Any) -> Any:
        return {}


class Neither(weft.Filter):
    pass


class Inherits(Both):
    map = weft.Map.map


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (
            Both(),
            "Operator Both must define exactly one of map(batch, loaded) and map_row(row, loaded); "
            "it defines both.",
        ),
        (
            Neither(),
            "Operator Neither must define exactly one of keep(batch, loaded) and "
            "keep_row(row, loaded); it defines neither.",
        ),
    ],
)
def test_one_method(operator: Operator, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        _ = operator.rowwise
    assert str(error.value) == message


def test_a_method_taken_back_is_not_defined() -> None:
    assert Inherits().rowwise


def no_hint(x, y: int) -> int:  # type: ignore[no-untyped-def]
    return x


def no_return(x: int):  # type: ignore[no-untyped-def]
    return x


def star(*x: int) -> int:
    return 1


def unknown(x: Immage) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


def no_type(x: list) -> int:  # type: ignore[type-arg]
    return 1


def no_canonical(x: int, how: Any = print) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_hint, "Parameter 'x' of no_hint has no hint. Say what column it reads: x: weft.Image"),
        (
            no_return,
            "no_return has no return hint. Say what it writes: -> weft.Float32, or "
            "-> weft.Keep for a filter",
        ),
        (
            star,
            "star(*x) cannot be an operator: each input port needs a name and a hint.",
        ),
        (unknown, "A hint of unknown is unknown: name 'Immage' is not defined"),
        (
            no_type,
            "Hint of 'x': <class 'list'> is not a column type. Expected a weft type (weft.Image, "
            "weft.Float32, …), bool, int, float, str, bytes, datetime, or a pyarrow type.",
        ),
        (
            no_canonical,
            "Parameter no_canonical.how is a builtin_function_or_method, which has no canonical "
            "form, so runs could not tell one value from another. Expected numbers, text, paths, "
            "lists or dicts of them; load everything else in setup().",
        ),
    ],
)
def test_refused_where_they_are_defined(function: Any, message: str) -> None:
    line = function.__code__.co_firstlineno
    text = Path(__file__).read_text().splitlines()[line - 1]
    with pytest.raises(DefinitionError) as error:
        weft.operator(function)
    assert str(error.value) == f"{__file__}:{line}\n    {text}\n{message}"


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Anything(weft.Map):
    value: Any
    version = "1"


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (1.5, 1.5),
        ("a", "a"),
        (None, None),
        (Colour.RED, "red"),
        (Path("/a/b"), "/a/b"),
        (b"\x01", {"bytes": "01"}),
        ((1, [2]), [1, [2]]),
        ({"b": 1, "a": (2,)}, {"b": 1, "a": [2]}),
        ({3, 1, 2}, [1, 2, 3]),
        (Float32(nan=True), {"type": "Float32", "nan": True}),
        (weft.fields(a=int), {"a": {"type": "Int64"}}),
        (Anything(1), {"operator": "Anything", "version": "1", "params": {"value": 1}}),
    ],
)
def test_canonical_parameters(value: Any, canonical: Any) -> None:
    assert Anything(value).params() == {"value": canonical}


@pytest.mark.parametrize("value", [object(), print, 1j, [object()], {"a": lambda: 1}])
def test_parameters_without_a_canonical_form(value: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^Parameter Anything\.value is a \w+, which has no"):
        Anything(value).identity()


def test_identity() -> None:
    assert scaled.identity() == {"operator": "scaled", "version": "1", "params": {"by": 2}}
    written = rb'{"a":1,"b":[1,"\u00fc"]}'
    assert digest({"b": [1, "ü"], "a": 1}) == hashlib.sha256(written).hexdigest()[:32]
    assert str(positive.identity()["version"]).startswith("source:")


SOURCE = """
    import weft

    @weft.operator
    def thing(x: int) -> int:
        return x + 1
"""


def identity_of(source: str, tmp_path: Path, seed: str = "0") -> str:
    """The identity of `thing` in a program of its own, in a process of its own."""
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(source))
    code = "import program, json; print(json.dumps(program.thing.identity()))"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"},
    ).stdout  # fmt: skip


def test_identity_is_the_same_in_every_process(tmp_path: Path) -> None:
    source = SOURCE.replace("x: int)", "x: int, of: frozenset = frozenset({'a', 'b', 'c', 'd'}))")
    found = {identity_of(source, tmp_path, seed) for seed in ("0", "1", "2")}
    assert len(found) == 1
    assert '"of": ["a", "b", "c", "d"]' in found.pop()


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("return x + 1", "return x + 1  # one more", True),
        ("return x + 1", '"""One more."""\n        return x + 1', True),
        ("return x + 1", "return (\n            x  +  1)", True),
        ("@weft.operator", "@weft.operator(resources=weft.Resources(cpus=2))", True),
        ("return x + 1", "return x + 2", False),
        ("return x + 1", "y = 1; return x + y", False),
        ("x: int) -> int", "x: int) -> weft.Float32", False),
    ],
)
def test_what_changes_a_version(old: str, new: str, same: bool, tmp_path: Path) -> None:
    changed = identity_of(SOURCE.replace(old, new), tmp_path)
    assert (changed == identity_of(SOURCE, tmp_path)) is same


def test_source_that_cannot_be_read() -> None:
    scope: dict[str, Any] = {"weft": weft}
    with pytest.raises(DefinitionError) as error:
        exec("@weft.operator\ndef hidden(x: int) -> int:\n    return x", scope)
    assert str(error.value).endswith(
        "The source code of hidden cannot be read, so a change to it would go unnoticed. "
        'Give it a version: version="1"'
    )
    exec('@weft.operator(version="1")\ndef hidden(x: int) -> int:\n    return x', scope)
    assert scope["hidden"](2) == 2
