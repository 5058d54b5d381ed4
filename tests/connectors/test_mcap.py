"""MCAP logs; truth: the mcap package's own reader on the same files."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import NonSeekingReader
from mcap.writer import CompressionType, IndexType, Writer

from weft.connectors import mcap_log
from weft.connectors.mcap import MCAP
from weft.errors import DefinitionError

COLUMNS = ["topic", "schema", "encoding", "sequence", "log_time_ns", "publish_time_ns", "data"]
TOPICS = ("/camera", "/imu", "/gps")
FORMS: dict[str, dict[str, Any]] = {
    "zstd": {"compression": CompressionType.ZSTD},
    "lz4": {"compression": CompressionType.LZ4},
    "plain": {"compression": CompressionType.NONE},
    "no message index": {"index_types": IndexType.CHUNK},
    "no chunk index": {"index_types": IndexType.MESSAGE},
    "no statistics": {"use_statistics": False},
    "no repeated channels": {"repeat_channels": False, "repeat_schemas": False},
    "no summary": {
        "index_types": IndexType.NONE,
        "use_statistics": False,
        "use_summary_offsets": False,
        "repeat_channels": False,
        "repeat_schemas": False,
    },
    "no chunks": {"use_chunking": False},
}
INDEXED = ("zstd", "lz4", "plain")


def write(path: Path, count: int = 60, chunk_size: int = 700, **form: Any) -> Path:
    """A log of `count` messages of 0 to 200 bytes; times are nearly in order."""
    chance = random.Random(count)
    with path.open("wb") as file:
        log = Writer(file, chunk_size=chunk_size, **form)
        log.start()
        schema = log.register_schema("Imu", "jsonschema", b"{}")
        channels = [
            log.register_channel("/camera", "jpeg", 0),
            log.register_channel("/imu", "json", schema),
            log.register_channel("/gps", "json", schema),
        ]
        for i in range(count):
            log.add_message(
                channels[chance.choice([0, 1, 1, 1, 2])],
                log_time=1000 * i + chance.randrange(3000),
                publish_time=1000 * i,
                sequence=i,
                data=chance.randbytes(chance.randrange(200)),
            )
        log.add_attachment(0, 0, "notes", "text/plain", b"left out")
        log.finish()
    return path


def truth(path: Path) -> list[tuple[Any, ...]]:
    """The messages in the order of the file by mcap itself, each with its key."""
    with path.open("rb") as file:
        found = NonSeekingReader(file).iter_messages(log_time_order=False)
        return [
            (
                f"{path.name}#{number}", channel.topic, schema.name if schema else "",
                channel.message_encoding, m.sequence, m.log_time, m.publish_time, m.data,
            )
            for number, (schema, channel, m) in enumerate(found)
        ]  # fmt: skip


def rows_of(
    source: MCAP,
    columns: Sequence[str] = COLUMNS,
    predicates: Sequence[pl.Expr] = (),
    split_rows: int = 1000,
    batch_rows: int = 1000,
) -> tuple[list[tuple[Any, ...]], list[tuple[int, str]], dict[str, str]]:
    """All rows by key, what was dropped, what failed; the books of every split balance."""
    rows: list[tuple[Any, ...]] = []
    dropped: list[tuple[int, str]] = []
    failed: dict[str, str] = {}
    for split in source.splits(split_rows):
        assert split.rows <= split_rows
        seen = 0
        for chunk in source.read(split, columns, list(predicates), batch_rows):
            batch = chunk.batch
            assert list(batch.columns) == list(columns)
            assert batch.rows <= batch_rows
            for name, column in batch.columns.items():
                assert column.array.type == source.columns[name].storage
            arrays = [c.array.to_pylist() for c in batch.columns.values()]
            rows += zip(batch.keys, *arrays, strict=True)
            dropped += [(d.predicate, key) for d in chunk.dropped for key in d.keys]
            failed |= {f.key: str(f.error) for f in chunk.failed}
            seen += batch.rows + sum(len(d.keys) for d in chunk.dropped) + len(chunk.failed)
        assert seen == split.rows
    return rows, dropped, failed


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("logs")
    return {name: write(folder / f"{name}.mcap", **form) for name, form in FORMS.items()}


@pytest.mark.parametrize("form", FORMS)
def test_messages_are_those_of_mcap(logs: dict[str, Path], form: str) -> None:
    rows, dropped, failed = rows_of(MCAP(logs[form]))
    assert rows == truth(logs[form])
    assert len(rows) == MCAP(logs[form]).count() == 60
    assert (dropped, failed) == ([], {})


@pytest.mark.parametrize("form", FORMS)
def test_an_index_is_used_where_there_is_one(logs: dict[str, Path], form: str) -> None:
    blocks = mcap_log.open_log(str(logs[form])).blocks
    assert {block.index is not None for block in blocks} == {form in INDEXED}
    assert len(blocks) > 5 or form == "no chunks"


_any_cut = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_any_cut
@given(
    form=st.sampled_from(list(FORMS)), split_rows=st.integers(1, 70), batch_rows=st.integers(1, 70),
    low=st.integers(0, 70_000), topic=st.sampled_from(TOPICS),
)  # fmt: skip
def test_every_row_once_whatever_the_cut(
    logs: dict[str, Path], *, form: str, split_rows: int, batch_rows: int, low: int, topic: str
) -> None:
    cut = {"split_rows": split_rows, "batch_rows": batch_rows}
    everything = truth(logs[form])
    source = MCAP(logs[form])
    assert rows_of(source, **cut)[0] == everything
    predicates = [pl.col("log_time_ns") >= low, pl.col("topic") == topic]
    rows, dropped, failed = rows_of(source, COLUMNS, predicates, **cut)
    late = [row for row in everything if row[5] >= low]
    assert rows == [row for row in late if row[1] == topic]
    assert sorted(dropped) == sorted(
        [(0, row[0]) for row in everything if row[5] < low]
        + [(1, row[0]) for row in late if row[1] != topic]
    )
    assert failed == {}


@_any_cut
@given(
    form=st.sampled_from(list(FORMS)), split_rows=st.integers(1, 70),
    topics=st.lists(st.sampled_from(TOPICS), min_size=1, unique=True),
    start=st.integers(0, 30_000), length=st.integers(5000, 40_000),
)  # fmt: skip
def test_topics_and_range_as_mcap_has_them(
    logs: dict[str, Path], *, form: str, split_rows: int, topics: list[str], start: int, length: int
) -> None:
    with logs[form].open("rb") as file:
        found = NonSeekingReader(file).iter_messages(
            topics, starting_at=start, ending_before=start + length
        )
        sequences = sorted(message.sequence for _, _, message in found)
    source = MCAP(logs[form], topics, start, start + length)
    if not sequences:
        with pytest.raises(DefinitionError, match="there is no message in"):
            list(source.splits(10))
        return
    rows, _, _ = rows_of(source, split_rows=split_rows)
    assert [row[4] for row in rows] == sequences
    assert source.count() == len(sequences)
    assert set(rows) <= set(truth(logs[form]))  # the same keys as without
    listed = source.listing()
    assert listed["_key"].to_pylist() == [row[0] for row in rows]


@_any_cut
@given(st.sampled_from(list(FORMS)), st.sets(st.integers(0, 59)), st.integers(1, 20))
def test_only_some(logs: dict[str, Path], form: str, numbers: set[int], split_rows: int) -> None:
    source = MCAP(logs[form])
    assert source.listing()["_key"].to_pylist() == [row[0] for row in truth(logs[form])]
    keys = [f"{logs[form].name}#{number}" for number in numbers]
    some = source.only(pa.array(keys, pa.string()))
    rows, _, _ = rows_of(some, split_rows=split_rows)
    assert rows == [row for row in truth(logs[form]) if row[0] in keys]


def test_only_chunks_with_a_row_that_passes_are_unpacked(
    logs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = []
    real = mcap_log._unpacked
    monkeypatch.setattr(mcap_log, "_unpacked", lambda c: unpacked.append(c) or real(c))
    mcap_log._kept.cache_clear()
    source = MCAP(logs["zstd"])
    rows, dropped, _ = rows_of(source, ["topic", "log_time_ns"], [pl.col("topic") == "/gps"])
    assert len(rows) + len(dropped) == 60
    assert unpacked == []
    rows, _, _ = rows_of(source, ["data"], [pl.col("log_time_ns") < 5000], split_rows=7)
    assert 0 < len(rows) < 8
    assert len(unpacked) < 3
    assert source.accepts_predicate(pl.col("topic").str.starts_with("/im"))
    assert not source.accepts_predicate(pl.col("sequence") > 3)


def test_a_chunk_is_unpacked_once_for_its_splits(
    logs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = []
    real = mcap_log._unpacked
    monkeypatch.setattr(mcap_log, "_unpacked", lambda c: unpacked.append(c) or real(c))
    mcap_log._kept.cache_clear()
    source = MCAP(logs["lz4"])
    rows_of(source, ["data"], split_rows=1)
    assert len(unpacked) == len(mcap_log.open_log(str(logs["lz4"])).blocks)


def test_splits_follow_content_not_place(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "a.mcap")
    write(tmp_path / "data" / "b.mcap", count=25)
    before = list(MCAP(tmp_path / "data").splits(10))
    assert [split.rows for split in before] == [10] * 6 + [10, 10, 5]
    assert len({split.id for split in before}) == len(before)
    assert all(split.content_bytes > 0 for split in before)
    (tmp_path / "data").rename(tmp_path / "moved")
    after = list(MCAP(tmp_path / "moved").splits(10))
    assert [split.id for split in after] == [split.id for split in before]
    os.utime(tmp_path / "moved" / "a.mcap", ns=(0, 0))
    touched = list(MCAP(tmp_path / "moved").splits(10))
    same = [a.id == b.id for a, b in zip(touched, before, strict=True)]
    assert same == [False] * 6 + [True] * 3


def test_the_version_of_a_row_and_a_worker_that_lists_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mcap")
    source = MCAP(path)
    [split] = source.splits(100)
    travelled = pickle.loads(pickle.dumps(source))
    assert "_logs" not in travelled.__dict__
    chunk = next(travelled.read(split, ["uri"], [], 100))
    found = path.stat()
    assert set(chunk.batch.envelope["_source"].values) == {f"{found.st_size}-{found.st_mtime_ns}"}
    assert set(chunk.batch.columns["uri"].values) == {str(path)}
    assert source == MCAP(str(path))
    assert MCAP(path, "/imu") == MCAP(path, ["/imu"]) != source


class TestDamage:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_recorder_that_was_killed(self, tmp_path: Path, form: str) -> None:
        """Cut anywhere, every message before the cut is a row, and the rest is one failed row."""
        whole = write(tmp_path / "a.mcap", **FORMS[form])
        everything, content = truth(whole), whole.read_bytes()
        for cut in random.Random(form).sample(range(60, len(content) - 40), 12):
            whole.write_bytes(content[:cut])
            if not mcap_log.open_log(str(whole)).blocks:
                continue
            rows, _, failed = rows_of(MCAP(whole), split_rows=9)
            assert rows == everything[: len(rows)]
            if len(rows) < len(everything):
                assert list(failed) == [f"a.mcap#{len(rows)}"]
                message = failed[f"a.mcap#{len(rows)}"]
                assert "the file ends without its end, as if its recorder was killed" in message

    def test_nothing_is_lost_before_the_cut(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mcap", use_chunking=False)
        blocks = mcap_log.open_log(str(path)).blocks
        end = blocks[-1].offset + blocks[-1].length
        path.write_bytes(path.read_bytes()[: end - 1])
        rows, _, failed = rows_of(MCAP(path))
        assert (len(rows), list(failed)) == (59, ["a.mcap#59"])

    @pytest.mark.parametrize("form", ["zstd", "lz4", "plain"])
    def test_a_chunk_in_the_middle(self, tmp_path: Path, form: str) -> None:
        path = write(tmp_path / "a.mcap", **FORMS[form])
        everything = truth(path)
        block = mcap_log.open_log(str(path)).blocks[2]
        content = bytearray(path.read_bytes())
        for at in range(block.offset + 60, block.offset + 80):
            content[at] ^= 0xFF
        path.write_bytes(content)
        lost = range(block.first, block.first + block.rows)
        source = MCAP(path)
        rows, _, failed = rows_of(source, split_rows=4)
        assert rows == [row for n, row in enumerate(everything) if n not in lost]
        assert list(failed) == [f"a.mcap#{n}" for n in lost]
        assert all(f"{path} cannot be read: " in message for message in failed.values())
        topics, _, failed = rows_of(source, ["topic"])
        assert (len(topics), failed) == (60, {})  # the index is whole

    def test_a_chunk_in_the_middle_without_an_index(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mcap", **FORMS["no summary"])
        everything = truth(path)
        block = mcap_log.open_log(str(path)).blocks[2]
        content = bytearray(path.read_bytes())
        content[block.offset + block.length - 5] ^= 0xFF
        path.write_bytes(content)
        rows, _, failed = rows_of(MCAP(path))
        known = {row[4] for row in rows}
        lost = {row[4] for row in everything[block.first : block.first + block.rows]}
        assert known == {row[4] for row in everything} - lost
        assert list(failed) == [f"a.mcap#{block.first}"]

    def test_an_index_that_lies(self, tmp_path: Path) -> None:
        """Nobody is told that a message is of another topic than it is."""
        path = write(tmp_path / "a.mcap", **FORMS["zstd"])
        everything = truth(path)
        block = mcap_log.open_log(str(path)).blocks[1]
        content = bytearray(path.read_bytes())
        assert block.index is not None
        assert content[block.index[0]] == 7  # a message index; its first field is the channel
        content[block.index[0] + 9] = content[block.index[0] + 9] % 3 + 1
        path.write_bytes(content)
        rows, _, failed = rows_of(MCAP(path))
        lost = [f"a.mcap#{block.first + n}" for n in range(block.rows)]
        assert rows == [row for row in everything if row[0] not in lost]
        assert list(failed) == lost
        assert "speaks of other messages than the chunk has" in failed[lost[0]]

    def test_attachments_between_messages(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mcap"
        with path.open("wb") as file:
            log = Writer(file, use_chunking=False)
            log.start()
            channel = log.register_channel("/a", "", 0)
            for n in range(4):
                log.add_message(channel, n, b"data", n)
                log.add_attachment(n, n, "large", "", bytes(10**5))
            log.finish()
        blocks = mcap_log.open_log(str(path)).blocks
        assert [(b.rows, b.length < 100) for b in blocks] == [(1, True)] * 4
        assert rows_of(MCAP(path))[0] == truth(path)

    def test_a_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.mcap"
        for compression in (CompressionType.ZSTD, CompressionType.LZ4):
            with path.open("wb") as file:
                log = Writer(file, chunk_size=2**30, compression=compression)
                log.start()
                log.add_message(log.register_channel("/z", "", 0), 0, bytes(10**7), 0)
                log.finish()
            assert path.stat().st_size < 10**5
            monkeypatch.setattr(mcap_log, "MAX_RECORD_BYTES", 10**6)
            rows, _, failed = rows_of(MCAP(path), ["data"])
            assert rows == []
            assert "said to unpack to 10000" in failed["a.mcap#0"]

    def test_a_file_that_changed(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.mcap")
        source = MCAP(path)
        splits = list(source.splits(50))
        os.utime(path, ns=(0, 0))
        chunks = list(source.read(splits[1], ["topic"], [], 100))
        failed = [row for chunk in chunks for row in chunk.failed]
        assert [row.key for row in failed] == [f"a.mcap#{n}" for n in range(50, 60)]
        assert "changed since it was listed. Run again" in str(failed[0].error)
        path.unlink()
        chunks = list(source.read(splits[0], ["data"], [], 100))
        assert sum(len(chunk.failed) for chunk in chunks) == 50
        assert "is gone since it was listed" in str(chunks[0].failed[0].error)

    def test_random_bytes(self, tmp_path: Path) -> None:
        """Whatever is in a file, the books balance and nothing else is raised."""
        whole = write(tmp_path / "a.mcap", count=20).read_bytes()
        chance = random.Random(0)
        for _ in range(150):
            content = bytearray(whole)
            for _ in range(chance.choice([1, 3, 20])):
                content[chance.randrange(8, len(content))] = chance.randrange(256)
            (tmp_path / "a.mcap").write_bytes(content)
            try:
                rows_of(MCAP(tmp_path / "a.mcap"), split_rows=7)
            except DefinitionError as error:
                assert "there is no message" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({"topics": []}, r"MCAP: topics=\[\]: expected names like '/imu'"),
        ({"topics": "/imo"}, r"no file has topic '/imo'\. Given: /camera, /gps, /imu\. Did you"),
        ({"start_ns": 1.5}, r"MCAP: start_ns=1\.5: expected whole nanoseconds"),
        ({"start_ns": 5, "stop_ns": 5}, r"start_ns=5 and stop_ns=5: nothing is between"),
        ({"start_ns": 10**9}, r"there is no message in .* start_ns=1000000000, stop_ns=None"),
    ],
)
def test_wrong_parameters(
    logs: dict[str, Path], given_params: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        list(MCAP(logs["zstd"], **given_params).splits(10))


def test_no_mcap(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"text")
    with pytest.raises(DefinitionError, match=r"a\.mcap is no MCAP file: it does not start with"):
        list(MCAP(tmp_path).splits(10))
