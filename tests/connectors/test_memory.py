import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from weft.connectors.memory import Memory
from weft.errors import DefinitionError
from weft.pipelines.fields import Fields, arrow_schema, fields_of
from weft.pipelines.types import Image, Text


@pytest.fixture
def sink(request):
    sink = Memory(request.node.name)
    yield sink
    sink.clear()


ROWS = pa.table({"x": [1, 2, 3], "s": ["a", None, "c"]})


def write(sink, table, run, parts=2):
    token = json.loads(json.dumps(sink.prepare(table.schema)))
    staged = []
    for start in range(0, table.num_rows, parts):
        staged += json.loads(json.dumps(sink.stage(token, table.slice(start, parts))))
    return sink.commit(token, staged, run, {})


def test_rows_show_when_published_and_not_before(sink):
    version = write(sink, ROWS, "r1")
    with pytest.raises(DefinitionError) as error:
        sink.table()
    assert str(error.value) == (
        f"Nothing is published in memory://{sink.name}. Run a pipeline that writes it."
    )
    sink.publish(version, "r1", {})
    assert sink.table() == ROWS


def test_committing_a_run_again_changes_nothing(sink):
    first = write(sink, ROWS, "r1")
    assert write(sink, ROWS.slice(0, 1), "r1") == first
    assert sink.table(first) == ROWS


def test_a_run_replaces_what_was_there(sink):
    sink.publish(write(sink, ROWS, "r1"), "r1", {})
    second = write(sink, ROWS.slice(2), "r2")
    assert sink.table() == ROWS
    sink.publish(second, "r2", {})
    assert sink.table() == ROWS.slice(2)
    assert sink.table(second - 1) == ROWS


def test_no_rows_are_a_table_with_columns(sink):
    sink.publish(write(sink, ROWS.slice(0, 0), "r1"), "r1", {})
    assert sink.table() == ROWS.schema.empty_table()


def test_types_survive(sink):
    kinds = {"image": Image(2, 2), "text": Text(nullable=True)}
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    table = pa.table(
        [kinds["image"].to_arrow(pixels), pa.array(["a", None])], schema=arrow_schema(kinds)
    )
    version = write(sink, table, "r1", parts=1)
    found = sink.table(version)
    assert fields_of(found.schema) == Fields(kinds)
    assert np.array_equal(kinds["image"].to_values(found["image"].combine_chunks()), pixels)


def test_staging_in_another_process(sink):
    token = sink.prepare(ROWS.schema)
    code = (
        "import json, sys, pyarrow as pa; from weft.connectors.memory import Memory;"
        "name, token = json.loads(sys.argv[1]);"
        "rows = pa.table({'x': [1, 2, 3], 's': ['a', None, 'c']});"
        "print(json.dumps(Memory(name).stage(token, rows)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, json.dumps([sink.name, token])],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert sink.table(sink.commit(token, json.loads(shown.stdout), "r1", {})) == ROWS


def test_value():
    assert Memory().uri == "memory://memory"
    assert Memory("a") == Memory("a") != Memory("b")
    assert Memory("a").identity() == {"sink": "Memory", "name": "a"}
    assert Memory("a").check(ROWS.schema) is None


def test_unknown_version(sink):
    write(sink, ROWS, "r1")
    for ask in (lambda: sink.table(7), lambda: sink.publish(7, "r1", {})):
        with pytest.raises(DefinitionError) as error:
            ask()
        assert str(error.value) == f"There is no version 7 of {sink.uri}. Given: 1."


def test_nothing_published_names_what_is_near(sink):
    write(sink, ROWS, "r1")
    with pytest.raises(DefinitionError) as error:
        Memory(sink.name + "s").table()
    assert str(error.value) == (
        f"Nothing is published in {sink.uri}s. Run a pipeline that writes it. "
        f"Did you mean {sink.name!r}?"
    )
