"""Topics on one clock; truth: pandas' merge_asof, and for two directions Polars' join_asof."""

from __future__ import annotations

import base64
import io
import json
import pickle
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from mcap_ros2.writer import Writer as Ros2Writer

import weft
from weft.connectors import Files, Lance
from weft.errors import DefinitionError, RowError
from weft.operators.sensor import Align
from weft.operators.sensor.align import as_of
from weft.operators.sensor.paths import column_name
from weft.pipelines.types import Binary, Encoded, Float32, Float64, Int32, Tensor, Text

Messages = Iterable[tuple[str, int, bytes]]


def log_of(messages: Messages, encodings: dict[str, str], **form: Any) -> bytes:
    """A log of messages: topic, nanoseconds, bytes. They are published a second before."""
    log = Writer(file := io.BytesIO(), **form)
    log.start()
    channels = {t: log.register_channel(t, encoding, 0) for t, encoding in encodings.items()}
    for topic, at, data in messages:
        log.add_message(channels[topic], log_time=at, publish_time=max(0, at - 10**9), data=data)
    log.finish()
    return file.getvalue()


def number(value: object) -> bytes:
    return json.dumps({"v": value}).encode()


ticks = st.lists(st.integers(0, 10**10), max_size=30)


class TestTruth:
    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.integers(0, 300), max_size=40),
        st.lists(st.integers(0, 300), max_size=40),
        st.integers(0, 60),
        st.sampled_from(["backward", "forward", "nearest"]),
    )
    def test_as_of_is_that_of_pandas(
        self, clock: list[int], other: list[int], tolerance: int, direction: Any
    ) -> None:
        left = pd.DataFrame({"t": np.array(sorted(clock), np.int64)})
        right = pd.DataFrame({"t": np.array(sorted(other), np.int64)})
        right["place"] = np.arange(len(right))
        truth = pd.merge_asof(left, right, on="t", tolerance=tolerance, direction=direction)
        found = as_of(left["t"].to_numpy(), right["t"].to_numpy(), tolerance, direction)
        assert found.tolist() == truth["place"].fillna(-1).astype(int).tolist()

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from(["/a", "/b", "/c"]), st.integers(0, 10**10)), max_size=60
        ),
        st.sampled_from([0, 0.001, 0.25, 3]),
        st.sampled_from(["backward", "forward"]),
        st.sampled_from(list(CompressionType)),
        st.sampled_from([200, 2000]),
    )
    def test_rows_are_those_of_polars(
        self,
        stamped: list[tuple[str, int]],
        tolerance: float,
        direction: Any,
        compression: CompressionType,
        chunk_size: int,
    ) -> None:
        log = log_of(
            [(topic, at, number(i)) for i, (topic, at) in enumerate(stamped)],
            dict.fromkeys(["/a", "/b", "/c"], "json"),
            compression=compression,
            chunk_size=chunk_size,
        )
        frame = pl.DataFrame(
            [(topic, at, float(i)) for i, (topic, at) in enumerate(stamped)],
            {"topic": pl.String, "t": pl.Int64, "v": pl.Float64},
            orient="row",
        ).sort("t", maintain_order=True)
        of = {t: frame.filter(pl.col("topic") == t).drop("topic") for t in ("/a", "/b", "/c")}
        truth = of["/a"]
        for topic in "/b", "/c":
            other = of[topic].with_columns(at=pl.col("t"))
            truth = truth.join_asof(
                other, on="t", strategy=direction, tolerance=int(tolerance * 1e9), suffix=topic
            ).rename({"at": f"at{topic}"})
        align = Align("/a", {t: {"v": Float64()} for t in of}, tolerance, direction=direction)
        rows = align(log)
        assert [(r["time_ns"], r["a_v"], r["b_v"], r["c_v"]) for r in rows] == truth.select(
            "t", "v", "v/b", "v/c"
        ).rows()
        for row, one in zip(rows, truth.rows(named=True), strict=True):
            found = [one["at/b"], one["at/c"]]
            assert row["gaps"] == found.count(None)
            for name, at in zip(("b", "c"), found, strict=True):
                offset = None if at is None else (at - one["t"]) / 1e9
                assert row[f"{name}_offset_seconds"] == offset


def test_every_direction_and_both_times() -> None:
    log = log_of(
        [("/a", 10 * 10**9, b""), ("/b", 9 * 10**9, number(1)), ("/b", 11 * 10**9, number(2))],
        {"/a": "raw", "/b": "json"},
    )
    topics = {"/b": {"v": Int32()}}
    for direction, value in (("backward", 1), ("forward", 2), ("nearest", 1)):
        [row] = Align("/a", topics, 1, direction=direction)(log)
        assert (row["b_v"], row["gaps"], row["time_ns"]) == (value, 0, 10**10)
        [row] = Align("/a", topics, 0.999, direction=direction)(log)
        assert (row["b_v"], row["b_offset_seconds"], row["gaps"]) == (None, None, 1)
    [row] = Align("/a", topics, 1, time="publish")(log)
    assert row["time_ns"] == 9 * 10**9


class TestFields:
    def test_json(self) -> None:
        message = {
            "data": base64.b64encode(b"\xff\xd8").decode(),
            "pose": {"position": [1, 2.5, 3]},
            "name": "left",
            "n": 7,
            "none": None,
        }
        log = log_of([("/cam/0", 5, json.dumps(message).encode())], {"/cam/0": "json"})
        paths = {
            "data": Encoded("image"),
            "pose.position": Tensor("float32", (3,)),
            "pose.position.1": Float32(),
            "pose.position.9": Float32(),
            "name": Text(),
            "n": Int32(),
            "none": Float64(),
            "not.there": Text(),
            "": Binary(),
        }
        align = Align("/cam/0", {"/cam/0": paths})
        [row] = align(log)
        assert row.pop("cam_0_pose_position").tolist() == [1, 2.5, 3]
        assert row == {
            "time_ns": 5, "gaps": 0, "cam_0_data": b"\xff\xd8", "cam_0_pose_position_1": 2.5,
            "cam_0_pose_position_9": None, "cam_0_name": "left", "cam_0_n": 7, "cam_0_none": None,
            "cam_0_not_there": None, "cam_0": json.dumps(message).encode(),
        }  # fmt: skip
        assert align.writes["cam_0_data"] == Encoded("image", nullable=True)
        assert align.early == ("time_ns", "gaps")

    def test_ros2(self) -> None:
        """A log as ROS 2 records it, written by mcap-ros2-support."""
        log = Ros2Writer(file := io.BytesIO())
        vector = log.register_msgdef(
            "geometry_msgs/Vector3Stamped",
            "std_msgs/Header header\ngeometry_msgs/Vector3 vector\n"
            + "=" * 80 + "\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
            + "=" * 80 + "\nMSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n",
        )  # fmt: skip
        image = log.register_msgdef("sensor_msgs/CompressedImage", "string format\nuint8[] data\n")
        for at in range(3):
            log.write_message(
                "/camera", image, {"format": "jpeg", "data": [at, 255]}, log_time=at * 100
            )
            log.write_message(
                "/imu", vector,
                {"header": {"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "base"},
                 "vector": {"x": at, "y": 0.5, "z": -at}},
                log_time=at * 100,
            )  # fmt: skip
        log.finish()
        align = Align(
            "/camera",
            {
                "/camera": {"data": Encoded("image")},
                "/imu": {"vector.z": Float64(), "header.frame_id": Text()},
            },
        )
        rows = align(file.getvalue())
        assert [row["camera_data"] for row in rows] == [bytes([at, 255]) for at in range(3)]
        assert [row["imu_vector_z"] for row in rows] == [0, -1, -2]
        assert {row["imu_header_frame_id"] for row in rows} == {"base"}

    @pytest.mark.parametrize(
        ("data", "encoding", "kind", "message"),
        [
            (b"{", "json", Float64(), r"^sensor\.Align: a message is no JSON: .*Given b'{'"),
            (number("x"), "json", Float64(), r"field 'v' is str 'x'; expected Float64\?\. Decl"),
            (number(1), "json", Encoded("image"), r"field 'v' is int '1'; expected Encoded"),
            (number("no base64!"), "json", Binary(), r"field 'v' is str 'no base64!'"),
            (number(1), "json", Tensor("float32", (3,)), r"field 'v' is int '1'; expected Tensor"),
            (b"abc", "protobuf", Float64(), r"messages are encoded as 'protobuf'; expected 'json'"),
        ],
    )
    def test_of_another_type(self, data: bytes, encoding: str, kind: Any, message: str) -> None:
        log = log_of([("/a", 1, data)], {"/a": encoding})
        with pytest.raises(RowError, match=message):
            Align("/a", {"/a": {"v": kind}})(log)

    def test_names(self) -> None:
        assert column_name("/a/b-c", "x.0.y_z") == "a_b_c_x_0_y_z"
        align = Align("/a", {"/a": {"x": Float64()}, "/b c": {"y": Float64()}})
        assert list(align.writes) == ["time_ns", "gaps", "b_c_offset_seconds", "a_x", "b_c_y"]
        assert pickle.loads(pickle.dumps(align)).writes == align.writes


class TestHostile:
    whole = log_of([("/a", i, bytes(50)) for i in range(99)], {"/a": "x"}, chunk_size=500)

    def test_cut_or_damaged(self) -> None:
        align, chance, refused = Align("/a", {"/a": {"": Binary()}}), random.Random(0), 0
        for cut in chance.sample(range(len(self.whole) - 1), 30):
            with pytest.raises(RowError, match=r"no MCAP log, or damaged or cut short|no topic"):
                align(self.whole[:cut])
        for _ in range(100):
            content = bytearray(self.whole)
            content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
            try:
                align(bytes(content))
            except RowError:
                refused += 1
        assert refused > 30

    def test_a_bomb(self) -> None:
        for compression in CompressionType.ZSTD, CompressionType.LZ4:
            bomb = log_of(
                [("/a", 1, bytes(10**7))], {"/a": "x"}, compression=compression, chunk_size=2**30
            )
            assert len(bomb) < 10**5
            align = Align("/a", {"/a": {"": Binary()}}, max_bytes=10**6)
            with pytest.raises(RowError, match="unpacks to more than max_bytes=1000000"):
                align(bomb)

    def test_no_such_topic(self) -> None:
        with pytest.raises(RowError, match=r"the log has no topic '/b'\. Given: /a\."):
            Align("/a", {"/b": {"": Binary()}})(self.whole)


def test_a_gap_that_is_dropped_is_not_decoded(tmp_path: Path) -> None:
    """The second tick has no JSON at all, which nobody sees: it is dropped by its times."""
    messages = [("/a", 10**9, b"{}"), ("/b", 10**9, number(1)), ("/a", 5 * 10**9, b"no JSON")]
    (tmp_path / "a.mcap").write_bytes(log_of(messages, {"/a": "json", "/b": "json"}))

    @weft.pipeline
    def aligned(out: str, gaps: int = 0):
        rows = weft.read(Files(tmp_path / "a.mcap"))
        rows = rows.apply(Align("/a", {"/a": {"v": Float64()}, "/b": {"v": Float64()}}))
        return rows.where(pl.col("gaps") <= gaps).select("time_ns", "a_v", "b_v").write(Lance(out))

    result = aligned(str(tmp_path / "one.lance")).run(engine="local")
    assert (result.failed, result.kept) == (0, {"write": 1})
    result = aligned(str(tmp_path / "two.lance"), gaps=9).run(engine="local")
    assert (result.failed, result.kept) == (1, {"write": 1})


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({"clock": ""}, r"sensor\.Align: clock='': expected the name of a topic"),
        ({"topics": {}}, r"topics=\{\}: expected topic -> path -> type"),
        ({"topics": {"/a": {}}}, r"topics\['/a'\]=\{\}: expected paths and their types"),
        ({"topics": {"/a": {"x..y": Text()}}}, r"'x\.\.y' is no path"),
        ({"topics": {"/a": {"x": "float"}}}, r"'float' is not a column type"),
        ({"topics": {"/a/b": {"": Text()}, "/a_b": {"": Text()}}}, "two columns .* 'a_b_offset_se"),
        ({"tolerance_seconds": -1}, r"tolerance_seconds=-1: expected seconds, 0 or more"),
        ({"direction": "near"}, r"direction='near': expected one of backward, forward, nearest"),
        ({"time": "header"}, r"time='header': expected one of log, publish"),
        ({"max_bytes": 0}, r"max_bytes=0: expected at least 1"),
    ],
)
def test_wrong_parameters(given_params: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Align(**({"clock": "/c", "topics": {"/a": {"x": Float64()}}} | given_params))
