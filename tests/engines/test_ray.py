"""What the Ray engine adds: bounded retries, privacy, user code that workers do not have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import Retryable
from weft.pipelines.resources import Cluster, Machine


@weft.operator(version="1")
def fatal(n: int, log: str = "") -> int:
    """Ends its process on one row, and leaves a trace of each try."""
    if n == 5:
        with Path(log).open("a") as file:
            file.write("x")
        os._exit(1)
    return n


@weft.pipeline
def crashing(log: str):
    rows = weft.read(Arrow({"n": list(range(10))})).apply(fatal.replace(log=log))
    return rows.write(Memory("crashing"))


def test_a_row_that_kills_its_worker_fails_alone_after_three_deaths(tmp_path: Path) -> None:
    log = tmp_path / "tries"
    result = crashing(log=str(log)).run(engine="ray", cluster=Cluster((Machine(cpus=2),)))
    assert log.stat().st_size == 3
    assert Memory("crashing").table()["n"].to_pylist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert result.failed == 1
    assert result.samples[0]["key"] == "5"
    assert "fatal ended its process each of the 2 times that it was" in result.samples[0]["message"]
    (incident,) = result.incidents
    assert incident.startswith("3 workers died with unit ")
    assert incident.endswith("rows that killed them: '5' at fatal.")


class Fatal(Arrow):
    """A source that ends its process as it is read."""

    def read(self, *_: object) -> Any:
        os._exit(1)


@weft.pipeline
def unreadable():
    return weft.read(Fatal({"n": [1, 2]})).write(Memory("unreadable"))


def test_a_source_that_kills_its_worker_ends_the_run_with_the_unit_named() -> None:
    told = (
        r"Ray gave up after 3 tries: .*Crashed.* 4 workers died with unit \w+ in stage 1 "
        r"\(read, write\), the last one process \d+ on .*`weft resume` goes on"
    )
    with pytest.raises(Retryable, match=told):
        unreadable().run(engine="ray", cluster=Cluster((Machine(cpus=2),)))


PRIVATE = """
import os, stat, sys, tempfile
from pathlib import Path
from typing import Any
from weft.pipelines.engines import ray
ray.start(cpus=1)
import ray as real
folder = Path(real._private.worker._global_node.get_session_dir_path()).parent.parent
assert folder.parent == Path(tempfile.gettempdir()), folder
assert stat.S_IMODE(folder.stat().st_mode) == 0o700, oct(folder.stat().st_mode)
for token in Path.home().rglob("*token*"):
    assert stat.S_IMODE(token.stat().st_mode) & 0o077 == 0, token
print(folder)
"""


def test_nobody_else_can_read_what_ray_leaves(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE],
        env=clean | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not Path(done.stdout.strip()).exists()  # gone with the process


def test_operators_of_a_file_that_workers_cannot_import(tmp_path: Path) -> None:
    (tmp_path / "tripling.py").write_text(
        "import weft\n"
        "from weft.connectors import Arrow, Memory\n"
        "@weft.operator(version='1')\n"
        "def tripled(n: int) -> int:\n"
        "    return 3 * n\n"
        "@weft.pipeline\n"
        "def mine():\n"
        "    return weft.read(Arrow({'n': [1, 2]})).apply(tripled).write(Memory('mine'))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import tripling  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    tripling.mine().run(engine="ray", cluster=Cluster((Machine(cpus=2),)))
    assert Memory("mine").table()["tripled"].to_pylist() == [3, 6]
