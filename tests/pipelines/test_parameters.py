"""Parameters of a pipeline: from Python, from text, refused."""

from __future__ import annotations

from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from weft.errors import DefinitionError
from weft.pipelines.parameters import Parameter, bind, named_values, parameters_of


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@pytest.mark.parametrize(
    ("hint", "given", "value"),
    [
        (str, "a", "a"),
        (str, Path("a"), "a"),
        (int, "3", 3),
        (int, 3, 3),
        (float, "0.5", 0.5),
        (float, 1, 1.0),
        (bool, "yes", True),
        (bool, "False", False),
        (bool, True, True),
        (Path, "a/b", Path("a/b")),
        (date, "2026-01-02", date(2026, 1, 2)),
        (datetime, "2026-01-02T03:04", datetime(2026, 1, 2, 3, 4)),
        (Size, "SMALL", Size.SMALL),
        (Size, "l", Size.LARGE),
        (Size, Size.LARGE, Size.LARGE),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Literal[0, 1], "0", 0),
        (int | None, "none", None),
        (int | None, "4", 4),
        (Optional[int], None, None),  # noqa: UP045
        (list[int], "1,2", [1, 2]),
        (list[int], [1, 2], [1, 2]),
        (tuple[str], "a,b", ("a", "b")),
        (Any, "x", "x"),
    ],
)
def test_values(hint: Any, given: Any, value: Any) -> None:
    found = bind("p", (Parameter("x", hint),), {"x": given})["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("hint", "given", "name"),
    [
        (int, "three", "int"),
        (int, 3.5, "int"),
        (int, True, "int"),
        (float, "x", "float"),
        (bool, "maybe", "bool"),
        (bool, 1, "bool"),
        (date, "soon", "date"),
        (Size, "medium", "Size"),
        (Literal["a", "b"], "c", "Literal['a', 'b']"),
        (int | None, "x", "int | None"),
        (list[int], "1,x", "list[int]"),
        (str, 3, "str"),
        (str, None, "str"),
    ],
)
def test_ill_typed(hint: Any, given: Any, name: str) -> None:
    with pytest.raises(DefinitionError) as error:
        bind("p", (Parameter("x", hint),), {"x": given})
    assert str(error.value) == f"Parameter 'x' of pipeline 'p' is {name}; given {given!r}."


def photos(source: str, size: int = 3, fast=True) -> None:  # type: ignore[no-untyped-def]
    pass


def test_signature() -> None:
    found = parameters_of(photos)
    assert [str(p) for p in found] == ["source: str", "size: int = 3", "fast: bool = True"]
    assert [p.required for p in found] == [True, False, False]
    assert bind("photos", found, {"source": "x"}) == {"source": "x", "size": 3, "fast": True}


def test_unknown_and_missing() -> None:
    with pytest.raises(DefinitionError) as error:
        bind("photos", parameters_of(photos), {"sorce": "x"})
    assert str(error.value) == (
        "Pipeline 'photos' has no parameter 'sorce'. It has: source: str, size: int = 3, "
        "fast: bool = True. Did you mean 'source'?"
    )
    with pytest.raises(DefinitionError) as error:
        bind("photos", parameters_of(photos), {})
    assert str(error.value) == (
        "Pipeline 'photos' needs parameter 'source' (str). Set it: --set source=…, or "
        "photos(source=…)"
    )


def test_given_by_place() -> None:
    found = parameters_of(photos)
    assert named_values("photos", found, ("x", 4), {"fast": False}) == {
        "source": "x",
        "size": 4,
        "fast": False,
    }
    with pytest.raises(DefinitionError) as error:
        named_values("photos", found, ("x",), {"source": "y"})
    assert str(error.value) == "Pipeline 'photos' was given parameter 'source' twice."
    with pytest.raises(DefinitionError) as error:
        named_values("photos", found, ("x", 1, True, 2), {})
    assert str(error.value) == (
        "Pipeline 'photos' takes 3 parameters (source, size, fast); given 4."
    )


def no_hint(x) -> None:  # type: ignore[no-untyped-def]
    pass


def gathers(**x: int) -> None:
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_hint, "Parameter 'x' of pipeline 'no_hint' has no hint. Say what it is: x: str"),
        (
            gathers,
            "Parameter 'x' of pipeline 'gathers' gathers extra arguments; name each one instead.",
        ),
    ],
)
def test_refused_signatures(function: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parameters_of(function)
    assert str(error.value) == message
