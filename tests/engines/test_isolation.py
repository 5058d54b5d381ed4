"""Operators in a process of their own: what they answer, what ends them, what they may not do."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import decimal
import errno
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import weft
from weft.connectors import Arrow, Memory
from weft.errors import ContractError, DefinitionError, RowError
from weft.pipelines.batch import Batch
from weft.pipelines.engines import isolation, segments, wire
from weft.pipelines.engines.books import new_books
from weft.pipelines.engines.confine import environment
from weft.pipelines.engines.runners import Runner, Work
from weft.pipelines.engines.worker import runner
from weft.pipelines.lowering import lower

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has what it needs")

N = weft.fields(n=int)


def step(values: list[Any], apply: Callable[[Any], Any]) -> tuple[Runner, Batch, Work]:
    """The runner of the step that `apply` adds to rows of `n`, and what it takes."""

    @weft.pipeline
    def made() -> Any:
        return apply(weft.read(Arrow({"n": values}))).write(Memory("out"))

    plan = lower(made().graph)
    source = plan.steps[0].action.source  # type: ignore[union-attr]
    [split] = source.splits(10**6)
    [chunk] = source.read(split, ["n"], [], 10**6)
    return runner(plan, plan.steps[1], "cpu", {}), chunk.batch, Work(new_books(plan))


def run(values: list[Any], operator: Any, **more: Any) -> tuple[list[Any], dict[str, Any]]:
    """What comes out of an isolated operator, and the failures: key -> error, signal, attempts."""
    on, batch, work = step(values, lambda rows: rows.apply(operator, **{"isolated": True} | more))
    out = on(batch, work)
    [name] = operator.writes or ["n"]
    failed = {
        key: (
            error,
            o.rows["signal"][i].as_py() if "signal" in o.rows.column_names else None,
            o.rows["attempts"][i].as_py() if "attempts" in o.rows.column_names else 1,
        )
        for o in work.outcomes
        if o.kind in ("failed", "nulled")
        for i, (key, (error, _)) in enumerate(zip(o.keys, o.errors, strict=True))
    }
    return list(out.columns[name].values), failed


def children() -> list[psutil.Process]:
    """The processes that operators of this one run in."""
    return [p for p in psutil.Process().children(recursive=True) if "confine" in str(p.cmdline())]


def gone(processes: list[psutil.Process], seconds: float = 2.0) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert not children()


# -- values on their way ---------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=100)
    | st.datetimes(timezones=st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
)
KINDS = ("|b1", "|u1", "<i2", "<i8", "<f2", "<f4", "<f8", "<c8", "<M8[us]", "<m8[s]")
ARRAYS = st.sampled_from(KINDS).flatmap(
    lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(min_dims=0, min_side=0))
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


class Pipe:
    """Both ends of what a child and its parent share."""

    def __init__(self) -> None:
        self.records = wire.Records(os.memfd_create("test"))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.ours, self.writer, self.reader = ours, segments.Writer(theirs), segments.Reader()

    def receive(self) -> None:
        while True:
            try:
                message, [handle], _, _ = socket.recv_fds(self.ours, 64, 1)
            except BlockingIOError:
                return
            _, number, size, kept = segments.SEGMENT.unpack(message)
            self.reader.take(number, size, kept, handle)
            os.close(handle)

    def __call__(self, value: Any) -> Any:
        where = self.records.write(value, self.writer.put)
        self.receive()
        return self.records.read(where, self.reader.get)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and (a.dtype, a.shape) == (b.dtype, b.shape)
            and a.tobytes() == b.tobytes()
        )
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@given(VALUES)
def test_values_come_as_they_went(value: Any) -> None:
    assert same(value, Pipe()(value))


def test_rarer_values_come_as_what_columns_hold() -> None:
    pipe = Pipe()
    assert pipe((1, (2.5,))) == [1, [2.5]]
    assert pipe(np.float32(0.1)) == np.float32(0.1)
    assert np.isnan(pipe(float("nan")))
    assert pipe(signal.SIGINT) == 2
    assert pipe(bytearray(b"ab")) == pipe(memoryview(b"ab")) == b"ab"
    assert pipe(pa.array([b"x", None])).equals(pa.array([b"x", None]))
    assert pipe(np.array([b"x", None], object)) == [b"x", None]
    assert pipe(decimal.Decimal("1.20")).as_tuple() == decimal.Decimal("1.20").as_tuple()
    fixed = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int8(), (1,)), pa.array([[1]], pa.list_(pa.int8(), 1))
    )
    assert pipe(fixed).equals(fixed)
    with pytest.raises(TypeError, match="a Pipe cannot leave the process of its operator"):
        pipe({"x": [pipe]})


@pytest.mark.parametrize("layout", ["plain", "reversed", "transposed"])
def test_large_arrays_are_not_copied_on_arrival(layout: str) -> None:
    array = np.arange(3 * 2**18, dtype=np.float32).reshape(2**18, 3)
    array = {"plain": array, "reversed": array[::-1, ::-1], "transposed": array.T}[layout]
    come = Pipe()(array)
    assert same(np.ascontiguousarray(array), come)
    assert come.flags.writeable
    assert not come.flags.owndata
    assert pa.array(come.reshape(-1)).buffers()[1].address == come.ctypes.data


def test_there_may_be_more_than_a_child_keeps_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MAPPED_BYTES", (1 << 20) - 1)
    pipe = Pipe()
    come = [pipe(np.full((4, 2**18), n, np.uint8)[:, ::-1]) for n in range(4)]
    assert [set(array.ravel().tolist()) for array in come] == [{0}, {1}, {2}, {3}]
    assert not pipe.writer._maps
    del come
    assert pipe.reader.released() == ([], [])
    assert not pipe.reader._maps


def test_memory_is_used_again_when_nobody_looks_at_it_any_more() -> None:
    pipe = Pipe()
    first = pipe(np.full(2**20, 1, np.uint8))
    part = first[5:10].reshape(5, 1)
    address = first.ctypes.data
    del first
    pipe.writer.recycle(*pipe.reader.released())
    second = pipe(np.full(2**20, 2, np.uint8))
    assert second.ctypes.data != address  # `part` is still there
    assert part.tolist() == [[1]] * 5
    del part
    free, lost = pipe.reader.released()
    assert (len(free), lost) == (1, [])
    pipe.writer.recycle(free, lost)
    third = pipe(np.full(2**20 - 7, 3, np.uint8))
    assert third.ctypes.data == address
    assert set(second.tolist()) == {2}


def test_an_array_that_is_made_where_it_is_read_is_not_copied() -> None:
    pipe = Pipe()
    made = pipe.writer.empty((2**9, 2**10), np.uint8)
    assert made is not None
    made[:] = 1
    come = pipe(made[:, :, None])
    assert come.shape == (2**9, 2**10, 1)
    made[0] = 2  # which an operator must not do: it shows that they are one
    assert set(come[0].ravel().tolist()) == {2}
    again = pipe(made)  # in two columns: whoever changes the one does not change the other
    assert len(pipe.writer._maps) == 2
    del come, again
    free, lost = pipe.reader.released()
    pipe.writer.recycle(free, lost)
    other = pipe.writer.empty((2**19,), np.uint8)
    assert len(pipe.writer._maps) == 2
    assert len(pipe.writer._users) == 2
    assert not np.shares_memory(other, made)  # the operator may still look at it
    del made
    third = pipe.writer.empty((2**16,), np.float64)
    assert third is not None
    assert third.dtype == np.float64
    assert len(pipe.writer._maps) == 2, "it is used again when both have let go of it"


def test_what_is_made_and_not_answered_is_used_again() -> None:
    pipe = Pipe()
    writer = pipe.writer
    for _ in range(3):
        made = writer.empty((2**19,), np.uint8)
        assert made is not None
        del made
    assert len(writer._maps) == 1
    part = writer.empty((2**10, 2**10), np.uint8)
    assert part is not None
    assert writer.put(part[:, ::2])[0] != writer.put(part)[0]  # the one is copied side by side


def test_not_everything_is_made_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    assert pipe.writer.empty((wire.LARGE - 1,), np.uint8) is None
    monkeypatch.setattr(segments, "MAPPED_BYTES", 3 << 19)
    first = pipe.writer.empty((1 << 20,), np.uint8)
    assert first is not None
    assert pipe.writer.empty((1 << 20,), np.uint8) is None
    come = pipe(first)
    pipe.writer.recycle([], [1])  # the parent gives it up, and both still have what they have
    first[:3] = 7
    assert come[:3].tolist() == [7, 7, 7]
    del first
    assert pipe.writer.empty((1 << 20,), np.uint8) is not None


def test_threads_and_forks_make_theirs_elsewhere() -> None:
    """They would write where another array is: the segments are known to one thread."""
    pipe = Pipe()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(pipe.writer.empty, (1 << 20,), np.uint8).result() is None
    if not (child := os.fork()):
        os._exit(0 if pipe.writer.empty((1 << 20,), np.uint8) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pipe.writer.empty((1 << 20,), np.uint8) is not None


def test_without_memory_to_map_a_plain_array_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    pipe = Pipe()
    with monkeypatch.context() as patch:
        patch.setattr(segments.Mapped, "__init__", full)
        assert pipe.writer.empty((1 << 20,), np.uint8) is None
        where = pipe.writer.put(np.full(1 << 20, 3, np.uint8))
    pipe.receive()
    assert set(pipe.reader.get(where).tolist()) == {3}


def test_what_an_answer_that_is_none_had_is_used_again() -> None:
    pipe = Pipe()
    pipe.writer.begin()
    pipe.writer.put(np.zeros(1 << 20, np.uint8))
    pipe.writer.take_back()
    pipe.writer.put(np.zeros(1 << 20, np.uint8))
    assert len(pipe.writer._maps) == 1


def test_what_is_kept_to_be_used_again_is_bounded() -> None:
    pipe = Pipe()
    many = [pipe(np.zeros(8 << 20, np.uint8)) for _ in range(segments.SPARE_BYTES // (8 << 20) + 4)]
    del many
    free, lost = pipe.reader.released()
    assert sum(pipe.writer._maps[n].size for n in free) <= segments.SPARE_BYTES
    assert len(lost) >= 4
    pipe.writer.recycle(free, lost)
    assert pipe.reader.released() == ([], [])
    assert len(pipe.writer._maps) == len(pipe.reader._maps) == len(free)


@given(st.binary(max_size=60), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3))
def test_nonsense_is_refused(data: bytes, where: list[int]) -> None:
    records = wire.Records(os.memfd_create("test"))
    os.pwrite(records.handle, data, 0)
    for place in ([0, 0, len(data)], where):
        with contextlib.suppress(ValueError, TypeError, LookupError, OSError, MemoryError):
            records.read(place, segments.Reader().get)
    os.close(records.handle)


@pytest.mark.parametrize(
    "said",
    [
        {"array": ["|u1", [9], [-1, 0, 9]]},
        {"array": ["|u1", [9], [-1, -4, 4]]},
        {"array": ["|O", [1], [-1, 0, 8]]},
        {"array": ["|u1", [2**40], [-1, 0, 8]]},
        {"bytes": [7, 0, 1]},
        {"pickle": [-1, 0, 8]},
        {"arrow": [-1, 0, 8]},
        {},
    ],
)
def test_what_is_not_there_is_not_read(said: Any) -> None:
    records = wire.Records(os.memfd_create("test"))
    text = json.dumps(said).encode()
    os.pwrite(records.handle, b"secret!!" + text, 0)
    with pytest.raises((ValueError, TypeError, LookupError, pa.ArrowException)):
        records.read([0, 8, 8 + len(text)], segments.Reader().get)


def test_a_segment_cannot_be_cut_under_its_reader() -> None:
    pipe = Pipe()
    handle = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, 4096)
    with pytest.raises(ValueError, match="segment 1 has fewer than 8192 bytes"):
        pipe.reader.take(1, 8192, True, handle)
    pipe.reader.take(2, 4096, True, handle)
    with pytest.raises(PermissionError):
        os.ftruncate(handle, 0)


# -- what ends a process ---------------------------------------------------------------------------


@weft.operator(version="1")
def poison(n: int, log: str = "") -> int:
    """Ends its process in one way or another where `n` is negative."""
    if log:
        with open(log, "a") as file:
            file.write(f"{n}\n")
    if n == -1:
        os.abort()
    if n == -2:
        ctypes.string_at(0)
    if n == -3:
        os._exit(0)
    if n == -4:
        os.kill(os.getpid(), signal.SIGKILL)
    if n == -5:
        time.sleep(1000)
    if n == -6:
        ctypes.PyDLL(None).pause()  # holds the lock of the interpreter
    if n == -7:
        held = []
        while True:
            held.append(np.empty(1 << 28, np.uint8))
    return 2 * n


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (-1, ("RowCrashed", "SIGABRT", 2)),
        (-2, ("RowCrashed", "SIGSEGV", 2)),
        (-3, ("RowCrashed", "exit 0", 2)),
        (-4, ("RowCrashed", "SIGKILL", 2)),
        (-5, ("RowTimeout", "timeout", 1)),
        (-6, ("RowTimeout", "timeout", 1)),
        (-7, ("RowOutOfMemory", None, 1)),
    ],
)
def test_one_row_is_lost(n: int, expected: tuple[Any, ...], tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = [1, 2, n, 3, 4]
    began = time.monotonic()
    made, failed = run(rows, poison.replace(log=str(log)), row_seconds=3)
    assert made == [2, 4, 6, 8]
    assert failed == {"2": expected}
    busy = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    assert time.monotonic() - began < 15 * busy
    called = log.read_text().split()  # no row but the one at fault is tried twice
    assert called == ["1", "2", *[str(n)] * expected[2], "3", "4"]


def test_many_in_one_batch() -> None:
    made, failed = run([0, -1, -2, 1, -3, 2, -1], poison)
    assert made == [0, 2, 4]
    assert sorted(failed) == ["1", "2", "4", "6"]


def test_the_clock_runs_for_each_row() -> None:
    @weft.operator(version="1")
    def slow(n: int) -> int:
        time.sleep(0.3)
        return n

    assert run([1, 2, 3, 4], slow, row_seconds=0.9) == ([1, 2, 3, 4], {})


def test_batch_by_batch_the_row_is_found_by_halves() -> None:
    @dataclass(frozen=True)
    class Whole(weft.Map):
        version = "1"
        reads = N
        writes = weft.fields(m=int)

        def map(self, batch: Any, loaded: Any) -> Any:
            if 5 in batch["n"]:
                os.abort()
            return {"m": np.asarray(batch["n"]) + 1}

    made, failed = run(list(range(8)), Whole())
    assert made == [1, 2, 3, 4, 5, 7, 8]
    assert failed == {"5": ("RowCrashed", "SIGABRT", 2)}


def test_filters() -> None:
    @weft.operator(version="1")
    def even(n: int) -> weft.Keep:
        if n == 3:
            os.abort()
        return n % 2 == 0

    assert run([1, 2, 3, 4], even) == ([2, 4], {"2": ("RowCrashed", "SIGABRT", 2)})


@weft.operator(version="1")
def raises(n: int) -> int:
    class UnpicklableError(Exception):
        def __init__(self, a: Any, b: Any) -> None:
            super().__init__(lambda: a)

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    errors: list[BaseException] = [
        ValueError("token=abc"), UnpicklableError(1, 2), SystemExit(3), KeyboardInterrupt(),
        GeneratorExit(), ValueError("x" * 10**7), MuteError(), MemoryError(),
        RecursionError("deep"), RowError("this row"), ContractError("broken"),
    ]  # fmt: skip
    if n < len(errors):
        raise errors[n]
    return n


def test_whatever_is_raised_costs_its_row() -> None:
    on, batch, work = step(list(range(13)), lambda rows: rows.apply(raises, isolated=True))
    assert list(on(batch, work).columns["raises"].values) == [11, 12]
    [failed] = work.outcomes
    assert [kind for kind, _ in failed.errors] == [
        "ValueError", "UnpicklableError", "SystemExit", "KeyboardInterrupt", "GeneratorExit",
        "ValueError", "MuteError", "RowOutOfMemory", "RecursionError", "RowError", "ContractError",
    ]  # fmt: skip
    said = [text for _, text in failed.errors]
    assert said[0] == "token=***"
    assert len(said[5]) == 500
    assert said[6] == "a MuteError that cannot be put into words"
    assert said[9] == "this row"


@pytest.mark.parametrize("isolated", [False, True])
def test_raised_in_this_process_they_do_too(isolated: bool) -> None:
    rows = [{"n": n} for n in (0, 1, 2, 5, 6, 11)]
    on, batch, work = step(
        [r["n"] for r in rows], lambda rows: rows.apply(raises, isolated=isolated)
    )
    assert list(on(batch, work).columns["raises"].values) == [11]
    [failed] = work.outcomes
    assert [e for e, _ in failed.errors] == [
        "ValueError", "UnpicklableError", "SystemExit", "ValueError", "MuteError",
    ]  # fmt: skip


def test_null_and_raise_hold_for_crashes() -> None:
    made, failed = run([1, -1, 2], poison, on_error="null")
    assert made == [2, None, 4]
    assert failed == {"1": ("RowCrashed", "SIGABRT", 2)}
    with pytest.raises(
        RowError, match=r"poison: row '1': RowCrashed: .* ended by SIGABRT, 2 times"
    ):
        run([1, -1, 2], poison, on_error="raise")


def test_what_no_column_holds_is_the_rows_fault() -> None:
    @weft.operator(version="1")
    def strange(n: int) -> int:
        return object() if n == 1 else n  # type: ignore[return-value]

    on, batch, work = step([0, 1, 2], lambda rows: rows.apply(strange, isolated=True))
    assert list(on(batch, work).columns["strange"].values) == [0, 2]
    assert work.outcomes[0].errors == [
        (
            "ContractError",
            "strange: a object cannot leave the process of its operator; expected numbers, text, "
            "bytes, times, arrays, and lists or dicts of them",
        )
    ]


# -- setup -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loads(weft.Map):
    how: str = "well"
    version = "1"
    reads = N
    writes = weft.fields(m=int)

    def setup(self, device: str) -> int:
        if self.how == "raises":
            raise OSError("no model")
        if self.how == "aborts":
            os.abort()
        return os.getpid()

    def map_row(self, row: Any, loaded: int) -> int:
        return loaded


def test_setup_happens_in_the_child_and_once() -> None:
    made, _ = run([1, 2, 3], Loads())
    assert len(set(made)) == 1
    assert made[0] != os.getpid()


def test_a_setup_that_fails_ends_the_run() -> None:
    with pytest.raises(ContractError, match=r"Loads\.setup\('cpu'\): OSError: no model"):
        run([1], Loads("raises"))
    with pytest.raises(
        ContractError,
        match="Loads: its process ended by SIGABRT while operators were set up, each of 3 times",
    ):
        run([1], Loads("aborts"))


# -- expands ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pages(weft.Expand):
    """As many children as `n` says; where it is 4, the children 1 and 2 cannot be made."""

    log: str
    version = "1"
    reads = N
    writes = weft.fields(page=int, image=weft.Tensor("uint8", (None,)))
    early = ("page",)

    def expand_row(self, row: Any, loaded: Any) -> Iterator[Any]:
        n = row["n"]
        self.note(f"list {n}")
        if n == 3:
            os.abort()
        for page in range(n):
            yield {"page": page, "image": weft.Later(lambda page=page: self.make(n, page))}

    def make(self, n: int, page: int) -> Any:
        self.note(f"make {n}.{page}")
        if (n, page) == (4, 1) or n == 20:
            os.abort()
        if (n, page) == (4, 2):
            time.sleep(1000)
        return np.full(300_000, page, np.uint8)

    def note(self, what: str) -> None:
        with open(self.log, "a") as file:
            file.write(f"{what}\n")


def test_children_of_a_row_end_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    on, batch, work = step(
        [2, 3, 4, 1], lambda rows: rows.apply(Pages(str(log)), isolated=True, row_seconds=1)
    )
    out = on(batch, work)
    assert list(out.columns["page"].values) == [0, 1, 0, 3, 0]
    assert [v[0] for v in out.columns["image"].values] == [0, 1, 0, 3, 0]
    line = work.books["pages"]
    assert (line.taken, line.failed, line.children_failed, line.emitted) == (4, 1, 2, 5)
    failed = {k: e for o in work.outcomes for k, (e, _) in zip(o.keys, o.errors, strict=False)}
    assert failed == {"1": "RowCrashed", "2#1": "RowCrashed", "2#2": "RowTimeout"}
    notes = log.read_text().split("\n")
    made = [note for note in notes if note.startswith("make")]
    assert made == [f"make {m}" for m in ("2.0", "2.1", "4.0", "4.1", "4.1", "4.2", "4.3", "1.0")]


def test_a_family_that_keeps_ending_its_process_is_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    on, batch, work = step([20, 1], lambda rows: rows.apply(Pages(str(log)), isolated=True))
    out = on(batch, work)
    assert list(out.columns["page"].values) == [0]
    [failed] = [o for o in work.outcomes if o.kind == "failed"]
    assert len(failed.keys) == 20
    assert "was not tried" in failed.errors[-1][1]
    made = [n for n in log.read_text().split("\n") if n.startswith("make 20")]
    assert len(made) == isolation.FAMILY_DEATHS * isolation.TRIES


# -- the process -----------------------------------------------------------------------------------


@weft.operator(version="1")
def where(n: int) -> str:
    """What a child is and may, as JSON."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    try:
        socket.create_connection(("127.0.0.1", n), timeout=5).close()
        network = "open"
    except OSError as error:
        network = type(error).__name__
    return json.dumps(
        {
            "pid": os.getpid(),
            "session": os.getsid(0) == os.getppid(),
            "privileges": status["NoNewPrivs"],
            "input": os.read(0, 1) == b"",
            "network": network,
            "environment": sorted(os.environ),
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "size": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
            "open": len(os.listdir("/proc/self/fd")),
        }
    )


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_child_is_confined(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_PASSWORD", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("SOME_URL", "https://me:canary@host/")
    monkeypatch.setenv("SOME_SETTING", "kept")
    [text], _ = run([port], where)
    found = json.loads(text)
    names = found.pop("environment")
    assert {"PATH", "SOME_SETTING"} <= set(names)
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_PASSWORD", "SOME_URL"} & set(names)
    assert found.pop("open") < 12
    network = found.pop("network")
    assert network != "open" or not _can_leave_the_network()
    assert found.pop("pid") != os.getpid()
    limits = {"core": 0, "files": 256, "size": isolation.memory_limit(where)}
    assert found == {"session": True, "privileges": "1", "input": True, **limits}


def _can_leave_the_network() -> bool:
    made = subprocess.run(["unshare", "--user", "--net", "true"], capture_output=True, check=False)
    return made.returncode == 0


def test_one_with_a_clock_alone_keeps_what_its_operator_needs(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    [text], _ = run([port], where, isolated=None, row_seconds=9)
    found = json.loads(text)
    assert "OPENAI_API_KEY" in found["environment"]
    assert found["network"] == "open"


def test_what_holds_credentials_is_left_out() -> None:
    secret = [
        "AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_ID", "DATABASE_URL",
        "GITHUB_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "HTTPS_PROXY", "PGPASSWORD",
        "RAY_AUTH_TOKEN_PATH", "SENTRY_DSN", "SLACK_API_KEY", "SSH_AUTH_SOCK", "session_cookie",
    ]  # fmt: skip
    plain = ["HOME", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PATH", "PYTHONPATH", "TZ"]
    assert environment(dict.fromkeys(secret + plain, "x")) == dict.fromkeys(plain, "x")


def test_one_child_for_all_operators_of_a_thread() -> None:
    @weft.operator(version="1")
    def pid(n: int) -> int:
        return os.getppid()

    first, batch, work = step([1], lambda rows: rows.apply(pid, isolated=True))
    second, again, noted = step([1], lambda rows: rows.apply(Loads(), isolated=True))
    assert not children()  # before the first row
    one = first(batch, work).columns["pid"].values[0]
    second(again, noted)
    assert first(batch, work).columns["pid"].values[0] == one
    assert len(children()) == 2  # the supervisor and its worker
    del first, second


def test_a_child_that_is_killed_from_outside_costs_no_row() -> None:
    on, batch, work = step(list(range(5)), lambda rows: rows.apply(poison, isolated=True))
    on(batch, work)
    for _ in range(3):
        for victim in children()[-1:]:
            victim.kill()
        time.sleep(0.05)
        assert list(on(batch, work).columns["poison"].values) == [0, 2, 4, 6, 8]
    supervisor = next(c for c in children() if c.ppid() == os.getpid())
    supervisor.kill()
    assert list(on(batch, work).columns["poison"].values) == [0, 2, 4, 6, 8]
    assert not work.outcomes


def test_arrays_outlive_their_process() -> None:
    @weft.operator(version="1")
    def picture(n: int) -> weft.Image(channels=1):  # type: ignore[valid-type]
        if n < 0:
            os.abort()
        return np.full((1000, 1000, 1), n, np.uint8)

    on, batch, work = step([1, 2, -1, 3], lambda rows: rows.apply(picture, isolated=True))
    outs = [on(batch, work) for _ in range(5)]
    assert all([int(v.mean()) for v in out.columns["picture"].values] == [1, 2, 3] for out in outs)
    held = outs[0].columns["picture"].values[0]
    del outs, on
    gc.collect()
    assert not children()
    assert set(np.unique(held)) == {1}


PROGRAM = """
    import os, time, weft
    from weft.connectors import Arrow, Memory
    from weft.pipelines.resources import Cluster, Machine

    @weft.operator(version="1")
    def sleepy(n: int) -> int:
        open("LOG", "a").write(f"{os.getpid()} {os.getppid()}\\n")
        time.sleep(1000)

    @weft.pipeline
    def p():
        rows = weft.read(Arrow({"n": [1]})).apply(sleepy, isolated=True)
        return rows.write(Memory("out"))

    if __name__ == "__main__":
        p().run(engine="local", cluster=Cluster((Machine(cpus=2),)))
"""


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    """The operator is of ``__main__`` too, which the child cannot import."""
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text(textwrap.dedent(PROGRAM).replace("LOG", str(log)))
    parent = subprocess.Popen([sys.executable, str(program)])
    while not log.exists() or not log.read_text().endswith("\n"):
        assert parent.poll() is None
        time.sleep(0.02)
    left = [psutil.Process(int(pid)) for pid in log.read_text().split()]
    assert all(p.is_running() for p in left)
    parent.kill()
    parent.wait()
    assert gone(left)


# -- what a user may say ---------------------------------------------------------------------------


def test_an_operator_stays_here_unless_told_otherwise() -> None:
    @weft.operator(version="1")
    def pid(n: int) -> int:
        return os.getpid()

    assert run([1], pid, isolated=None)[0] == [os.getpid()]
    assert run([1], pid, isolated=False)[0] == [os.getpid()]
    assert run([1], pid, isolated=None, row_seconds=5)[0] != [os.getpid()]


def test_decoders_of_media_are_isolated() -> None:
    from weft.operators import audio, document, image, video

    for kind in (
        audio.Decode, audio.Probe, document.PDF, document.Probe, image.Decode, image.Probe,
        video.AudioTrack, video.Frames, video.Probe, video.Sample, video.Shots,
    ):  # fmt: skip
        assert kind.isolated
    assert not image.Resize.isolated


def test_neither_option_is_part_of_the_recipe() -> None:
    def recipe(**more: Any) -> str:
        @weft.pipeline
        def made() -> Any:
            return weft.read(Arrow({"n": [1]})).apply(poison, **more).write(Memory("out"))

        return made().graph.recipe()

    assert recipe() == recipe(isolated=True) == recipe(isolated=False) == recipe(row_seconds=3)


class OnGpu(Loads):
    resources = weft.Resources(gpus=1)


@pytest.mark.parametrize(
    ("operator", "more", "message"),
    [
        (poison, {"row_seconds": 0}, "row_seconds=0; expected a positive number"),
        (poison, {"row_seconds": float("nan")}, "row_seconds=nan; expected a positive number"),
        (poison, {"row_seconds": 1, "isolated": False}, "only what runs in another process can be"),
        (OnGpu(), {"isolated": True}, "OnGpu takes a GPU, and an operator on a GPU runs in no"),
    ],
)
def test_what_cannot_be(operator: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        step([1], lambda rows: rows.apply(operator, **more))
