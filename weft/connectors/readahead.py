"""Reading whole files ahead of whoever needs them, in order, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from weft.connectors.listing import readable
from weft.errors import RowError
from weft.pipelines.resources import format_bytes

_THREADS = 4
"""Files open at a time per read. From the page cache one would do; a disk with a queue, and a
network file system above all, answer several requests in the time of one."""

Batches = Generator[tuple[pa.Table, list[bytes | RowError] | None], None, None]


def batches(listed: pa.Table, batch_rows: int, content: bool) -> Batches:
    """Rows of a listing in batches, with what is in the files.

    While one batch is worked on the next is being read, so two are in memory and no more.
    """
    parts = [listed.slice(i, batch_rows) for i in range(0, listed.num_rows, batch_rows)]
    if not content:
        yield from ((part, None) for part in parts)
        return
    pool = ThreadPoolExecutor(_THREADS, "weft-files")
    try:
        ahead: deque[tuple[pa.Table, list[Future[list[bytes | RowError]]]]] = deque()
        for part in parts:
            ahead.append((part, _submit(pool, part)))
            if len(ahead) == 2:
                yield _gather(*ahead.popleft())
        while ahead:
            yield _gather(*ahead.popleft())
    finally:  # also when the consumer stops early
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ThreadPoolExecutor, part: pa.Table) -> list[Future[list[bytes | RowError]]]:
    """One task for several files, two tasks for a thread: handing over costs 30 us a time."""
    paths, sizes, times = (part[n].to_pylist() for n in ("path", "size", "mtime_ns"))
    step = -(-len(paths) // (2 * _THREADS))
    return [
        pool.submit(_read_all, paths[i : i + step], sizes[i : i + step], times[i : i + step])
        for i in range(0, len(paths), step)
    ]


def _gather(
    part: pa.Table, futures: list[Future[list[bytes | RowError]]]
) -> tuple[pa.Table, list[bytes | RowError]]:
    return part, [content for future in futures for content in future.result()]


def _read_all(
    paths: Sequence[bytes], sizes: Sequence[int], times: Sequence[int]
) -> list[bytes | RowError]:
    return [_read_file(*file) for file in zip(paths, sizes, times, strict=True)]


def _read_file(path: bytes, size: int, mtime_ns: int) -> bytes | RowError:
    """The bytes of a file that is still as it was listed, or why there are none.

    It is compared after reading, so that a writer in between is seen as well.
    """
    try:
        # Opening a pipe that took the file's place would wait for ever without O_NONBLOCK.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            content = _read_bytes(handle, size)
            now = os.fstat(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return RowError(f"{readable(path)} is gone since it was listed. Run again.")
    except MemoryError:
        return RowError(
            f"{readable(path)} does not fit in memory: {format_bytes(size)}. Leave it out, or read "
            "it by its uri."
        )
    except OSError as error:
        reason = f"{readable(path)} cannot be read: {error.strerror}"
        return RowError(f"{reason}. Check the file and who may read it.")
    if now.st_mtime_ns != mtime_ns or now.st_size != size or len(content) != size:
        return RowError(
            f"{readable(path)} changed since it was listed: {format_bytes(size)} of "
            f"{_moment(mtime_ns)} then, {format_bytes(now.st_size)} of {_moment(now.st_mtime_ns)} "
            "now. Run again when nobody writes it."
        )
    return content


def _read_bytes(handle: int, size: int) -> bytes:
    content = os.read(handle, size)  # one call gives at most 2 GiB
    if len(content) == size or not content:
        return content
    parts = [content]
    while size > (have := sum(map(len, parts))) and (more := os.read(handle, size - have)):
        parts.append(more)
    return b"".join(parts)


def _moment(mtime_ns: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=mtime_ns // 1000)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"
