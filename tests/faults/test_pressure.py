"""More data than memory, and somebody who takes it slowly: bounded, and it comes to an end."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
from harness import ALL, calls, contents, photographs, program, report
from victims import piled_up

from weft.errors import PlanError
from weft.pipelines.resources import Cluster, Machine

WIDTH = 1600
PICTURE_BYTES = WIDTH * WIDTH * 3 // 4 * 3
STORE_BYTES = 80 * 2**20
RUN = """
import json, ray, victims
ray.init(
    num_cpus=2, object_store_memory={store}, include_dashboard=False,
    log_to_driver=False, logging_level="ERROR", _temp_dir={folder!r},
)
print(json.dumps(victims.piled_up(**{settings!r}).run(engine="ray").to_json()))
"""


class Meter(threading.Thread):
    """Looks how much memory a process and all that it started have at most, and how many rows
    wait between two logs."""

    def __init__(self, pid: int, made: Path, taken: Path) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.made, self.taken = made, taken
        self.private_bytes = self.waiting = 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.2):
            try:
                family = [self.root, *self.root.children(recursive=True)]
                # What is shared is the object store, whose size is given.
                used = [(m := p.memory_info()).rss - m.shared for p in family]
            except psutil.NoSuchProcess:
                continue
            self.private_bytes = max(self.private_bytes, sum(used))
            self.waiting = max(self.waiting, calls(self.made).total() - calls(self.taken).total())


@pytest.mark.skipif(not ALL, reason="a Ray of its own, and a minute: make faults")
@pytest.mark.timeout(3600)
def test_ten_times_what_the_object_store_holds(tmp_path: Path) -> None:
    count = 10 * STORE_BYTES // PICTURE_BYTES
    pictures, began = photographs(tmp_path / "pictures", count, WIDTH), time.monotonic()
    settings = {"source": f"{pictures}/*", "seconds": 0.05}
    twin = settings | {"out": str(tmp_path / "twin.lance"), "log": str(tmp_path / "twin.log")}
    piled_up(**twin).run(engine="local", cluster=Cluster((Machine(cpus=2),)))
    here = settings | {"out": str(tmp_path / "o.lance"), "log": str(tmp_path / "log")}
    folder = f"/tmp/weft-{os.getpid()}"  # the path of a socket must be short
    text = RUN.format(store=STORE_BYTES, folder=folder, settings=here)
    process = program(text, stdout=subprocess.PIPE)
    meter = Meter(process.pid, Path(f"{here['log']}.decoded"), Path(here["log"]))
    meter.start()
    told, _ = process.communicate(timeout=600)
    meter.stop.set()
    meter.join()
    assert json.loads(told)["rows"] == count
    assert contents(here["out"]) == contents(twin["out"])
    assert calls(Path(here["log"])).total() == count
    report(
        "F12, F20", pictures=count, megabytes=count * PICTURE_BYTES // 2**20,
        store_megabytes=STORE_BYTES // 2**20, private_megabytes=meter.private_bytes // 2**20,
        waiting_megabytes=meter.waiting * PICTURE_BYTES // 2**20,
        seconds=round(time.monotonic() - began),
    )  # fmt: skip
    assert meter.private_bytes < 3 * 2**30


def test_units_wait_for_a_slow_stage(tmp_path: Path) -> None:
    pictures, log = photographs(tmp_path / "pictures", 96, 64), tmp_path / "log"
    made = piled_up(source=f"{pictures}/*", out=f"{tmp_path}/o", log=str(log), seconds=0.02)
    meter = Meter(os.getpid(), Path(f"{log}.decoded"), log)
    meter.start()
    result = made.run(engine="local", cluster=Cluster((Machine(cpus=2),)))
    meter.stop.set()
    meter.join()
    assert result.kept == {"write": 96}
    assert calls(log).total() == 96
    assert 0 < meter.waiting <= 6 * 8  # of 12 units of 8 rows: 3 to decode, 2 to look at, 1 between


def test_a_pool_that_takes_every_cpu_is_refused(tmp_path: Path) -> None:
    made = piled_up(source=f"{tmp_path}/*", out=f"{tmp_path}/o", log="x", seconds=0.0)
    with pytest.raises(PlanError, match=r"hold 1 CPUs .* leaves 0 of 1 for the tasks that feed"):
        made.run(engine="local", cluster=Cluster((Machine(cpus=1),)))
