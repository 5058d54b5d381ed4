"""F13: the storage under a run is full, limited or read-only.

A tmpfs of a few MB is the dataset's folder. Right before a step of the run a file takes all that
is left of it, so that the step fails as it does on a full disk: by the kernel's own word.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
import victims
from harness import ALL, contents, photographs, program, report
from lance.dataset import Tags

import weft
from weft.connectors import Files, Lance
from weft.errors import StorageDenied, StorageFull
from weft.pipelines import tables
from weft.pipelines.engines import worker
from weft.pipelines.engines.sealed import read_json
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs import journal
from weft.pipelines.runs.places import ledger_uri
from weft.pipelines.runs.storage import named, told
from weft.pipelines.tags import whole_tags

FILE_BYTES = 32 * 1024
CLUSTER = Cluster((Machine(cpus=2),))


@weft.operator(version="1")
def first(content: weft.Encoded) -> int:
    return content[0]


@weft.pipeline
def copied(source: str, out: str) -> Any:
    rows = weft.read(Files(source, kind="bytes")).apply(first)
    return rows.select("key", "first", "content").write(Lance(out))


@contextmanager
def mounted(path: Path, size: str) -> Iterator[None]:
    """A disk of that size, at `path`."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    with mounted(path, "4m"):
        yield path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """16 files that were there at the first run."""
    folder = tmp_path / "source"
    folder.mkdir()
    add(folder, range(16))
    return folder


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lance fails at once: the tries, and 3 s of waiting between them, are tested elsewhere."""
    monkeypatch.setattr(tables, "_COMMIT_TRIES", 1)


def add(folder: Path, numbers: range) -> None:
    for i in numbers:
        (folder / f"{i:02d}.bin").write_bytes(bytes([i]) + os.urandom(FILE_BYTES - 1))


def run(source: Path, out: Path, engine: str = "local") -> Any:
    cluster = CLUSTER if engine == "local" else None
    return copied(source=f"{source}/*", out=str(out)).run(engine=engine, cluster=cluster)


def rows(out: Path, version: str = "latest") -> dict[str, tuple[int, bytes]]:
    table = tables.read(str(out), version)
    keys, values, contents = (table[c].to_pylist() for c in ("key", "first", "content"))
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, zip(values, contents, strict=True), strict=True))


def fill(disk: Path) -> None:
    """Take all space that is left."""
    ballast = os.open(disk / "ballast", os.O_CREAT | os.O_WRONLY)
    with suppress(OSError):
        while os.write(ballast, bytes(4096)):
            pass
    os.close(ballast)


def point_of(what: str, first: Any, more: tuple[Any, ...]) -> str:
    """The name of a step: ``stage ledger``, ``commit dataset``, ``note publishing``, …"""
    if what == "note":
        return f"note {read_state(more[0]) if first.name == 'state.json' else first.name}"
    if what == "receipt":
        return what
    match what:
        case "stage":
            path = Path(first["uri"])
        case "commit":
            path = Path(first)
        case _:  # tags
            path = Path(first._ds.uri)
    return f"{what} {path.stem if path.parent.suffix == '.weft' else 'dataset'}"


def read_state(data: bytes) -> str:
    return str(json.loads(data)["state"])


POINTS = (
    "note run.json",
    "stage dataset",
    "stage ledger",
    "receipt",
    "note publishing",
    "commit errors",
    "commit ledger",
    "commit dataset",
    "tag ledger",
    "tag dataset",
    "latest dataset",
    "note published",
)


@contextmanager
def full_at(point: str, disk: Path) -> Iterator[list[str]]:
    """Fill the disk right before a run does `point`; what was reached is in the list."""
    reached: list[str] = []

    def before(act: Callable[..., Any], what: str) -> Callable[..., Any]:
        def call(first: Any, *more: Any, **options: Any) -> Any:
            name = point_of(what, first, more)
            if name == point and not (disk / "ballast").exists():
                fill(disk)
            reached.append(name)
            return act(first, *more, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, attribute, what in (
            (lance.LanceDataset, "commit", "commit"),
            (Tags, "create", "tag"),
            (Tags, "update", "latest"),
            (journal, "write_whole", "note"),
            (tables, "stage", "stage"),
            (worker, "put_receipt", "receipt"),
        ):
            patch.setattr(owner, attribute, before(getattr(owner, attribute), what))
        yield reached


@pytest.mark.parametrize("point", POINTS if ALL else POINTS[1::3])
def test_a_full_disk_is_named_and_the_rerun_is_clean(
    disk: Path, source: Path, tmp_path: Path, point: str
) -> None:
    out, undisturbed = disk / "o.lance", tmp_path / "u.lance"
    run(source, out)
    before = rows(out)
    add(source, range(16, 24))
    (source / "03.bin").unlink()
    with full_at(point, disk) as reached, pytest.raises(StorageFull) as caught:
        run(source, out)
    assert point in reached
    told = str(caught.value)
    assert str(disk) in told
    assert "No space left on device" in told
    assert "of 4.0 MiB are free there" in told
    journaled = journal.journals(f"{out}.weft")[0].state()["state"]
    if journaled in ("running", "publishing"):  # not even that it failed could be written down
        notes = " ".join(getattr(caught.value, "__notes__", ()))
        assert "Nor could it be written down how the run ended" in notes or point == POINTS[-1]
    seen = rows(out)
    assert seen == before or (point == "note published" and len(seen) == 23)
    left = [p for p in (disk / "o.lance.weft").rglob("*.json") if p.parent.name != "tags"]
    assert all(read_json(p) for p in left)  # no half receipt, no half state
    receipts = journal.journals(f"{out}.weft")[0].receipts_path
    assert {p.suffix for p in receipts.iterdir()} <= {".json"} if receipts.exists() else True

    (disk / "ballast").unlink()
    again = run(source, out)
    assert again.state == "published"
    run(source, undisturbed)
    assert rows(out) == rows(undisturbed)
    ledger = tables.read(ledger_uri(f"{out}.weft"), "latest")["_key"].to_pylist()
    assert sorted(ledger) == sorted(rows(out))
    assert run(source, out).in_sync


def test_what_is_full_is_told_by_a_worker_too(
    disk: Path, source: Path, tmp_path: Path, ray_or_local: str
) -> None:
    out = disk / "o.lance"
    run(source, out)
    before = rows(out)
    add(source, range(160))  # 5 MB
    with pytest.raises(StorageFull, match=r"No space left on device.*of 4.0 MiB are free there"):
        run(source, out, ray_or_local)
    assert rows(out) == before
    subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
    assert run(source, out, ray_or_local).rows == 160
    run(source, tmp_path / "u.lance")
    assert rows(out) == rows(tmp_path / "u.lance")


@pytest.fixture(params=["local", "ray"] if ALL else ["local"])
def ray_or_local(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_engine")
    return str(request.param)


def test_a_limit_on_files_is_named(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, limit[1]))
    try:
        with pytest.raises(StorageFull, match=r"File too large.*`ulimit -f`"):
            run(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert tables.latest(str(out)) is None
    assert run(source, out).rows == 16


def test_a_disk_that_becomes_read_only_is_named(disk: Path, source: Path) -> None:
    out = disk / "o.lance"
    run(source, out)
    before = rows(out)
    add(source, range(16, 20))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(StorageDenied, match=r"Read-only file system.*mount it writable"):
        run(source, out)
    assert rows(out) == before
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    run(source, out)
    assert len(rows(out)) == 20


def test_a_right_that_is_missing_is_named() -> None:
    file = "/data/o.lance.weft/lease-2.json"
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
    says = f"^{file}: Permission denied. A run writes beside its dataset and into it: give this"
    with pytest.raises(StorageDenied, match=says), told(["/data/o.lance.weft"]):
        raise error


def test_errors_with_a_name_keep_it() -> None:
    assert named(ValueError("[Errno 28]"), []) is not None
    assert named(StorageFull("[Errno 28] No space left on device"), []) is None
    assert named(ValueError("some number: 28"), []) is None


def test_a_tag_that_was_not_written_whole_is_put_back(tmp_path: Path) -> None:
    path = str(tmp_path / "t.lance")
    token = tables.ensure(path, pa.schema({"_key": pa.string()}))
    version = tables.commit(token, [], "r1", {})
    tables.tag(path, version, "r1", {"of": "r1"})
    file = tmp_path / "t.lance" / "_refs" / "tags" / "latest.json"
    whole = file.read_bytes()

    def lance_on_a_full_disk() -> None:
        with whole_tags(path, ("latest",)):
            file.unlink()
            file.write_bytes(b"")  # and it says nothing

    with pytest.raises(OSError, match="not written whole"):
        lance_on_a_full_disk()
    assert file.read_bytes() == whole
    assert tables.latest(path) == (version, {"weft.run": "r1", "of": "r1"})
    assert [p.name for p in file.parent.parent.iterdir()] == ["tags"]


RUN_SPILLING = """
import json, ray, victims
from weft.errors import WeftError
ray.init(
    num_cpus=2, object_store_memory={store}, include_dashboard=False,
    log_to_driver=False, logging_level="ERROR", _temp_dir={folder!r},
)
try:
    told = victims.piled_up(**{settings!r}).run(engine="ray").state
except WeftError as error:
    told = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(told))
"""


@pytest.mark.skipif(not ALL, reason="two Rays of its own, and a minute: make faults")
@pytest.mark.timeout(900)
def test_little_room_to_spill_to(tmp_path: Path) -> None:
    """Ray has 80 MB of memory for what is between stages, and a disk of 64 MB for the rest."""
    pictures = photographs(tmp_path / "pictures", 60, 1600)
    settings = {"source": f"{pictures}/*", "seconds": 0.2}
    twin = settings | {"out": f"{tmp_path}/twin.lance", "log": f"{tmp_path}/twin.log"}
    victims.piled_up(**twin).run(engine="local", cluster=CLUSTER)
    here = settings | {"out": f"{tmp_path}/o.lance", "log": f"{tmp_path}/log"}
    told = []
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="weft-") as folder:  # a short path
        for size in ("64m", "4g"):
            with mounted(Path(folder), size):
                text = RUN_SPILLING.format(store=80 * 2**20, folder=folder, settings=here)
                process = program(text, stdout=subprocess.PIPE)
                told.append(json.loads(process.communicate(timeout=400)[0]))
    report("F13 spill", told=told)
    assert told[0] == "published" or told[0].startswith(("StorageFull: ", "Retryable: "))
    assert told[1] in ("published", "in sync")
    assert contents(here["out"]) == contents(twin["out"])
