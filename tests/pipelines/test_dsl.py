"""What a user writes: the verbs, and every refusal with the line it is on and what to do.

A refused pipeline marks the line at fault with ``# here``; the message must begin with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.pipelines.fields import arrow_schema
from weft.pipelines.types import Embedding, Encoded, Float32, Image, Int64

LINES = Path(__file__).read_text().splitlines()


@weft.operator(version="1")
def sharpness(image: weft.Image) -> Float32:
    return 0.0


@weft.operator(version="1")
def classify(image: weft.Image(224, 224)) -> int:  # type: ignore[valid-type]
    return 0


@weft.operator(version="1")
def near(vector: weft.Embedding(512)) -> weft.Keep:  # type: ignore[valid-type]
    return True


@weft.operator(version="1")
def length(text: str) -> int:
    return len(text)


@weft.operator(version="1")
def two(text: str) -> weft.fields(a=int, b=int):  # type: ignore[valid-type]
    return {"a": 1, "b": 2}


class Shorten(weft.Map):
    reads = weft.fields(text=str)
    writes = weft.fields(text=str)

    def map_row(self, row: Any, loaded: Any) -> str:
        return row["text"][:3]


class Both(Shorten):
    def map(self, batch: Any, loaded: Any) -> Any:
        return {}


@dataclass(frozen=True)
class Forgets(weft.Map):
    version = "1"
    reads = weft.fields(text=str)
    writes = weft.fields(a=int, b=int)

    def infer(self, inputs: Any) -> Any:
        return weft.fields(a=int)

    def map_row(self, row: Any, loaded: Any) -> Any:
        return {}


def source() -> Arrow:
    kinds = weft.fields(
        id=int, text=str, photo=Image(64, 64), vector=Embedding(768), content=Encoded("image")
    )
    values = [[1], ["a"], np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 768), np.float32), [b""]]
    arrays = [kind.to_arrow(v) for kind, v in zip(kinds.values(), values, strict=True)]
    return Arrow(pa.table(arrays, schema=arrow_schema(kinds)))


GIVEN = (
    "id: Int64, text: Text, photo: Image(64x64), vector: Embedding(768), content: Encoded('image')"
)


def refused(function: Callable[..., Any], *values: Any, **named: Any) -> str:
    """What a pipeline is refused with, after the line marked ``# here`` that it must name."""
    first = function.__code__.co_firstlineno
    line = next(i for i, text in enumerate(LINES[first - 1 :], first) if text.endswith("# here"))
    with pytest.raises(DefinitionError) as error:
        weft.pipeline(function)(*values, **named)
    place, text, *message = str(error.value).split("\n")
    assert place == f"{__file__}:{line}"
    assert text == f"    {LINES[line - 1].strip()}"
    return "\n".join(message)


def test_a_pipeline() -> None:
    @weft.pipeline
    def made(limit: int = 3) -> Any:
        """Says what it is."""
        rows = weft.read(source()).where(pl.col("id") > limit).apply(sharpness, image="photo")
        assert repr(rows) == f"<rows of sharpness: {rows.columns}>"
        return rows.select("id", "sharpness").write(Memory("out"))

    pipeline = made(limit="4")
    assert pipeline.name == "made"
    assert made.__doc__ == "Says what it is."
    assert repr(made) == "<pipeline made(limit: int = 3)>"
    assert pipeline.parameters == {"limit": 4}
    assert [n.id for n in pipeline.graph.nodes] == ["read", "where", "sharpness", "select", "write"]
    assert str(pipeline.graph.node("write").columns) == "id: Int64, sharpness: Float32"
    assert pipeline.graph.recipe() == made(4).graph.recipe() != made(5).graph.recipe()


def test_rows_are_values() -> None:
    @weft.pipeline
    def made() -> Any:
        rows = weft.read(source())
        before = str(rows.columns)
        more = rows.with_columns(double=pl.col("id") * 2)
        assert str(rows.columns) == before
        assert str(more.columns) == f"{before}, double: Int64?"
        return {"a": rows.write(Memory("a")), "b": [more][0].write(Memory("b"))}

    graph = made().graph
    assert [n.inputs for n in graph.nodes] == [(), ("read",), ("read",), ("with_columns",)]


def test_ports() -> None:
    @weft.pipeline
    def made() -> Any:
        rows = weft.read(source()).apply(length, length="n").apply(Shorten())
        assert [*rows.columns][-1] == "n"  # the text was replaced in its place
        rows = rows.apply(two, a="b", b="a").apply(sharpness, image="photo", on_error="null")
        assert rows.columns["sharpness"] == Float32(nullable=True)
        return rows.write(Memory("out"))

    assert made().graph.node("two").action.outputs == (("a", "b"), ("b", "a"))


def test_what_may_be_null() -> None:
    @weft.operator(version="1")
    def filled(n: int | None) -> int:
        return n or 0

    @weft.operator(version="1")
    def twice(n: int) -> int:
        return 2 * n

    @weft.operator(version="1")
    def parts(n: int) -> list[int]:
        return [n]

    @weft.pipeline
    def made() -> Any:
        rows = weft.read(Arrow({"n": [1, None]}))
        one = rows.apply(filled)  # takes null, never answers null
        two = rows.apply(parts)  # a null has no parts
        three = rows.apply(twice)
        assert one.columns["filled"] == two.columns["parts"] == Int64()
        assert three.columns["twice"] == Int64(nullable=True)
        return [r.write(Memory(str(i))) for i, r in enumerate((one, two, three))]

    made()


def test_wrong_column() -> None:
    def made() -> Any:
        return weft.read(source()).apply(length, text="txt").write(Memory("x"))  # here

    assert refused(made) == (
        "length reads port 'text' (Text) from column 'txt', and there is no such column. "
        f"Given: {GIVEN}. Did you mean 'text'? Bind another: apply(length(…), text=\"text\")"
    )


def test_missing_column() -> None:
    def made() -> Any:
        rows = weft.read(source()).select("id")
        return rows.apply(sharpness).write(Memory("x"))  # here

    assert refused(made) == (
        "sharpness reads port 'image' (Image) from column 'image', and there is no such column. "
        "Given: id: Int64. No column here is Image."
    )


def test_wrong_type() -> None:
    def made() -> Any:
        return weft.read(source()).apply(sharpness, image="content").write(Memory("x"))  # here

    assert refused(made) == (
        "sharpness reads port 'image' as Image; column 'content' is Encoded('image'). "
        'Bind another: apply(sharpness(…), image="photo")'
    )


def test_wrong_shape() -> None:
    def made() -> Any:
        return weft.read(source()).apply(classify, image="photo").write(Memory("x"))  # here

    assert refused(made) == (
        "classify reads port 'image' as Image(224x224); column 'photo' is Image(64x64). "
        "No column here is Image(224x224)."
    )


def test_wrong_dimension() -> None:
    def made() -> Any:
        return weft.read(source()).apply(near).write(Memory("x"))  # here

    assert refused(made) == (
        "near reads port 'vector' as Embedding(512); column 'vector' is Embedding(768). "
        "No column here is Embedding(512)."
    )


def test_unknown_port() -> None:
    def made() -> Any:
        return weft.read(source()).apply(length, lenght="n").write(Memory("x"))  # here

    assert refused(made) == (
        "length has no port 'lenght'. It reads (text: Text) and writes (length: Int64). "
        "Did you mean 'length'?"
    )


def test_a_port_is_bound_to_a_name() -> None:
    def made() -> Any:
        return weft.read(source()).apply(length, text=pl.col("text")).write(Memory("x"))  # here

    assert refused(made).startswith("length binds port 'text' to <Expr")
    assert refused(made).endswith("; expected the name of a column.")


def test_an_output_over_a_column() -> None:
    def made() -> Any:
        return weft.read(source()).apply(length, length="id").write(Memory("x"))  # here

    assert refused(made) == (
        "length would overwrite column 'id'. Name its output: apply(length(…), length=\"id_2\")"
    )


def test_two_outputs_into_one_column() -> None:
    def made() -> Any:
        return weft.read(source()).apply(two, a="n", b="n").write(Memory("x"))  # here

    assert refused(made) == (
        "two would write two outputs to column 'n'. Name one of them: apply(two(…), a=\"n_2\")"
    )


def test_an_operator_that_forgets_an_output() -> None:
    def made() -> Any:
        return weft.read(source()).apply(Forgets()).write(Memory("x"))  # here

    assert refused(made) == (
        "Forgets.infer() gives types for (a: Int64); expected (a: Int64, b: Int64)."
    )


def test_a_class_instead_of_an_operator() -> None:
    def made() -> Any:
        return weft.read(source()).apply(Shorten).write(Memory("x"))  # here

    assert refused(made) == "apply() takes an operator; given Shorten. Make one: Shorten()"


def test_a_function_instead_of_an_operator() -> None:
    def made() -> Any:
        return weft.read(source()).apply(len).write(Memory("x"))  # here

    assert refused(made) == (
        "apply() takes an operator; given <built-in function len>. Decorate it with @weft.operator."
    )


def test_two_methods() -> None:
    def made() -> Any:
        return weft.read(source()).apply(Both()).write(Memory("x"))  # here

    assert refused(made) == (
        "Operator Both must define exactly one of map(batch, loaded) and map_row(row, loaded); "
        "it defines both."
    )


def test_unknown_policy() -> None:
    def made() -> Any:
        return weft.read(source()).apply(length, on_error="skip").write(Memory("x"))  # here

    assert refused(made) == "on_error='skip'; expected 'quarantine', 'null' or 'raise'."


def test_predicates_and_expressions() -> None:
    def unknown() -> Any:
        return weft.read(source()).where(pl.col("idd") > 1).write(Memory("x"))  # here

    def python() -> Any:
        return weft.read(source()).where(lambda row: True).write(Memory("x"))  # here

    def neighbours() -> Any:
        rows = weft.read(source())
        return rows.with_columns(m=pl.col("id").mean()).write(Memory("x"))  # here

    def twice() -> Any:
        rows = weft.read(source())
        return rows.with_columns(pl.col("id") + 1, pl.col("id") + 2).write(Memory("x"))  # here

    def nothing() -> Any:
        return weft.read(source()).with_columns().write(Memory("x"))  # here

    assert refused(unknown) == (
        "There is no column 'idd'. Given: id, text, photo, vector, content. Did you mean 'id'?"
    )
    assert refused(python).startswith(
        'Expected a Polars expression such as pl.col("x") > 0; given <function'
    )
    assert refused(neighbours).startswith(
        'col("id").mean().alias("m") depends on other rows of the batch, so its answer would change'
    )
    assert refused(twice) == (
        "Two expressions make one column: id, id. Name them apart with .alias(…)."
    )
    assert refused(nothing) == (
        "with_columns() was given no expression. Give one: with_columns(area=pl.col(…))"
    )


def test_select() -> None:
    def unknown() -> Any:
        return weft.read(source()).select("id", "txt").write(Memory("x"))  # here

    def twice() -> Any:
        return weft.read(source()).select("id", "id").write(Memory("x"))  # here

    assert refused(unknown) == (
        "There is no column 'txt'. Given: id, text, photo, vector, content. Did you mean 'text'?"
    )
    assert refused(twice) == "select() needs columns, each once; given ('id', 'id')."


def test_what_is_no_source_and_no_sink() -> None:
    def no_source() -> Any:
        return weft.read("photos/*.jpg").write(Memory("x"))  # here

    def no_sink() -> Any:
        return weft.read(source()).write("out.lance")  # here

    assert refused(no_source) == (
        "read() takes a source such as Files('photos/*.jpg'); given 'photos/*.jpg'."
    )
    assert refused(no_sink) == (
        "write() takes a sink such as Lance('out.lance'); given 'out.lance'."
    )


def test_read_outside_a_pipeline() -> None:
    with pytest.raises(DefinitionError, match=r"belongs in a function under @weft\.pipeline\.$"):
        weft.read(source())


def test_returned_nothing() -> None:
    def made() -> Any:  # here
        weft.read(source()).write(Memory("x"))

    def rows() -> Any:  # here
        return weft.read(Arrow({"n": [1]}))

    fix = "Return what rows.write(…) returns: return rows.write(Lance(out))"
    assert refused(made) == f"Pipeline 'made' returned nothing. {fix}"
    assert refused(rows) == f"Pipeline 'rows' returned <rows of read: n: Int64>. {fix}"


def test_rows_nobody_uses() -> None:
    def made() -> Any:
        rows = weft.read(source())
        rows.where(pl.col("id") > 1)  # here
        return rows.write(Memory("x"))

    assert refused(made) == (
        "Nobody uses the rows of 'where'. Rows are values: each call returns new ones. Write them, "
        "use them, or remove the line."
    )


def test_a_write_that_is_not_returned() -> None:
    def made() -> Any:
        rows = weft.read(source())
        rows.write(Memory("a"))  # here
        return rows.write(Memory("b"))

    assert refused(made) == "This write is not returned by pipeline 'made'. Return it."


def test_two_writes_to_one_dataset() -> None:
    def made() -> Any:
        rows = weft.read(source())
        one = rows.write(Memory("a"))
        other = rows.write(Memory("a"))  # here
        return one, other

    line = made.__code__.co_firstlineno + 2
    assert refused(made) == (
        f"Two writes to one dataset, memory://a; the other is at {__file__}:{line}. "
        "Give each its own path, or union the rows first."
    )


def test_read_and_written(tmp_path: Path) -> None:
    from weft.connectors import Lance

    path = str(tmp_path / "a.lance")
    table = pa.table({"n": [1]})
    import lance

    lance.write_dataset(table, path)

    def made() -> Any:
        rows = weft.read(Lance(path))  # here
        return rows.write(Lance(path))

    line = made.__code__.co_firstlineno + 2
    assert refused(made) == (
        f"A cycle: {path} is read here and written at {__file__}:{line}. Write to another path."
    )


def test_parameters() -> None:
    def made(limit: int = 3) -> Any:  # here
        return weft.read(source()).write(Memory("x"))

    assert refused(made, limt=4) == (
        "Pipeline 'made' has no parameter 'limt'. It has: limit: int = 3. Did you mean 'limit'?"
    )
    assert refused(made, limit="four") == (
        "Parameter 'limit' of pipeline 'made' is int; given 'four'."
    )
    assert refused(made, 1, 2) == "Pipeline 'made' takes 1 parameters (limit); given 2."

    def hintless(limit) -> Any:  # type: ignore[no-untyped-def]  # here
        return None

    assert refused(hintless) == (
        "Parameter 'limit' of pipeline 'hintless' has no hint. Say what it is: limit: str"
    )


def test_decorators_do_not_hide_the_line() -> None:
    with pytest.raises(DefinitionError) as error:

        @weft.operator(
            version="1",
        )
        def hintless(image):  # type: ignore[no-untyped-def]
            return image

    assert "def hintless(image):" in str(error.value).split("\n")[1]


def test_lines_of_a_package_beside_weft_are_the_users(tmp_path: Path) -> None:
    from weft.pipelines import sites

    beside = Path(sites._PACKAGE.rstrip("/") + "_project") / "mine.py"
    scope = {"call_site": sites.call_site}
    exec(compile("site = call_site()", str(beside), "exec"), scope)
    assert str(scope["site"]) == f"{beside}:1"
