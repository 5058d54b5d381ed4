"""Fields of JSON messages; truth: json and jq-like paths spelled out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lance
import pytest
from mcap.writer import Writer

import weft
from weft.connectors import MCAP, Lance
from weft.errors import DefinitionError, RowError
from weft.operators.sensor import Parse
from weft.pipelines.types import Float64, Int64, Text


def test_fields_and_what_is_left_out() -> None:
    parse = Parse({"a.b": Float64(), "a.c.1": Text(), "d": Int64()})
    assert list(parse.writes) == ["a_b", "a_c_1", "d"]
    assert parse(json.dumps({"a": {"b": 0.5, "c": ["x", "y"]}}).encode()) == {
        "a_b": 0.5,
        "a_c_1": "y",
        "d": None,
    }
    assert Parse({"d": Int64()})(b'{"d": 9007199254740993}') == 9007199254740993
    assert Parse({"d": Int64()})(b"[1]") is None


def test_messages_of_a_log(tmp_path: Path) -> None:
    with (tmp_path / "a.mcap").open("wb") as file:
        log = Writer(file)
        log.start()
        imu = log.register_channel("/imu", "json", 0)
        for at in range(5):
            log.add_message(imu, at, json.dumps({"gyro": {"z": at / 2}}).encode(), at)
        log.add_message(imu, 5, b"broken", 5)
        log.finish()

    @weft.pipeline
    def gyro(out: str):
        rows = weft.read(MCAP(tmp_path, topics="/imu")).apply(Parse({"gyro.z": Float64()}))
        return rows.select("log_time_ns", "gyro_z").write(Lance(out))

    result = gyro(str(tmp_path / "out.lance")).run(engine="local")
    assert (result.rows, result.failed) == (6, 1)
    table = lance.dataset(str(tmp_path / "out.lance")).to_table(["log_time_ns", "gyro_z"])
    rows = sorted(tuple(row.values()) for row in table.to_pylist())
    assert rows == [(at, at / 2) for at in range(5)]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_no_json(data: bytes) -> None:
    with pytest.raises(RowError, match=r"^sensor\.Parse: a message is no JSON: "):
        Parse({"a": Text()})(data)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({}, r"sensor\.Parse: paths=\{\}: expected paths and their types"),
        ({"": Text()}, r"path '' is the whole message, which is `data`"),
        ({"a.b": Text(), "a_b": Text()}, r"two columns would be named 'a_b'"),
        ({"a.": Text()}, r"'a\.' is no path"),
    ],
)
def test_wrong_parameters(paths: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Parse(paths)
