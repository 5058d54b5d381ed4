"""The driver, a machine, a node or the head of Ray dies; another goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import (
    ALL,
    alive,
    calls,
    contents,
    kill_all,
    photographs,
    program,
    report,
    share,
    wait_for,
)
from victims import by_tasks

from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.journal import journals

TWO = Cluster((Machine(cpus=2),))
ENGINE = "ray" if ALL else "local"
PICTURES = 60
RUN = """
import json, victims
from weft.pipelines.runs import lease
lease.STALE_SECONDS = 3.0  # of a minute, which is what a lease on another machine is given
result = victims.by_tasks(**{settings!r}).run(engine={engine!r})
print(json.dumps(result.to_json()))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("pictures") / "jpeg", PICTURES)


class Case:
    """A pipeline over pictures, and what an undisturbed run of it gives."""

    def __init__(self, pictures: Path, path: Path, seconds: float = 0.05) -> None:
        self.out, self.log = path / "o.lance", path / "log"
        self.settings: dict[str, Any] = {"source": f"{pictures}/*", "seconds": seconds}
        twin = self.settings | {"out": str(path / "twin.lance"), "log": str(path / "twin.log")}
        by_tasks(**twin).run(engine="local", cluster=TWO)
        self.undisturbed = contents(twin["out"])
        self.settings |= {"out": str(self.out), "log": str(self.log)}

    def start(self, engine: str = "ray", host: str | None = None) -> subprocess.Popen[str]:
        """Run it in a process of its own, on a machine of its own if that has a name."""
        own = ("unshare", "-u", "sh", "-c", f'hostname {host} && exec "$0" "$@"') if host else ()
        text = RUN.format(settings=self.settings, engine=engine)
        return program(text, prefix=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait(self, units: int, process: subprocess.Popen[str]) -> None:
        """Until so many units are done."""
        wait_for(self.log, process)
        receipts = self.out.with_name(f"{self.out.name}.weft").glob
        while len(list(receipts("runs/*/receipts/*.json"))) < units:
            assert process.poll() is None
            time.sleep(0.01)

    @property
    def state(self) -> dict[str, Any]:
        return journals(f"{self.out}.weft")[0].state()

    def again(self) -> int:
        """Rows that were processed twice."""
        return calls(self.log).total() - len(self.undisturbed["rows"])


def test_a_driver_that_is_killed_leaves_no_process(pictures: Path, tmp_path: Path) -> None:
    case = Case(pictures, tmp_path)
    process = case.start()
    case.wait(1, process)
    family = psutil.Process(process.pid).children(recursive=True)
    folders = {f.path.split("/ray/")[0] for p in family for f in _files(p) if "/ray/" in f.path}
    assert len([p for p in family if p.name().startswith("ray::")]) >= 3
    killed = time.monotonic()
    process.kill()
    while left := alive(family):
        assert time.monotonic() - killed < 30, left
        time.sleep(0.1)
    process.communicate()
    seconds = time.monotonic() - killed
    assert case.state["state"] == "running"
    result = by_tasks(**case.settings).run(engine="local", cluster=TWO)
    assert result.rows_resumed > 0
    assert contents(case.out) == case.undisturbed
    assert folders
    assert not any(Path(folder).exists() for folder in folders)
    report("F5 driver on Ray", gone_after_seconds=round(seconds, 1), rows_again=case.again())


def _files(process: psutil.Process) -> list[Any]:
    try:
        return list(process.open_files())
    except psutil.Error:
        return []


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare"
)
@pytest.mark.timeout(3600)
def test_a_machine_that_is_gone(pictures: Path, tmp_path: Path) -> None:
    began, again, rounds = time.monotonic(), 0, share(5, 1)
    for number in range(rounds):
        (tmp_path / str(number)).mkdir()
        case = Case(pictures, tmp_path / str(number))
        process = case.start(ENGINE, host="first-machine")
        case.wait(1 + number, process)
        assert alive(kill_all(process)) == []
        assert case.state["host"] == "first-machine"
        other = case.start(ENGINE, host="second-machine")
        told, errors = other.communicate(timeout=180)
        assert other.returncode == 0, errors
        assert json.loads(told)["rows_resumed"] > 0
        assert contents(case.out) == case.undisturbed
        again += case.again()
    report(
        "machine", kills=rounds, rows_each=PICTURES, rows_again=again,
        seconds=round(time.monotonic() - began),
    )  # fmt: skip


NODES = """
import json, os, random, signal, sys, threading, time, warnings
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
import victims
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1}})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
for line in sys.stdin:
    settings = json.loads(line)
    node = cluster.add_node(num_cpus=1)
    def kill():
        while not Path(settings["log"]).exists():
            time.sleep(0.02)
        time.sleep(random.uniform(0.2, 1.5))
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    thread = threading.Thread(target=kill)
    thread.start()
    result = victims.by_tasks(**settings).run(engine="ray")
    thread.join()
    cluster.remove_node(node, allow_graceful=False)
    print(json.dumps(result.to_json()), flush=True)
"""


@pytest.mark.skipif(not ALL, reason="a cluster of three nodes: make faults")
@pytest.mark.timeout(3600)
def test_a_node_that_is_lost(pictures: Path, tmp_path: Path) -> None:
    began, again, seen = time.monotonic(), 0, 0
    environment = {"RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with program(NODES.replace("{{", "{").replace("}}", "}"), env=environment, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(20):
            (tmp_path / str(number)).mkdir()
            case = Case(pictures, tmp_path / str(number), seconds=0.15)
            print(json.dumps(case.settings), file=process.stdin, flush=True)
            line = process.stdout.readline()
            while line and not line.startswith("{"):
                line = process.stdout.readline()
            incidents = json.loads(line)["incidents"]
            seen += any("was lost" in text or "died with unit" in text for text in incidents)
            assert contents(case.out) == case.undisturbed
            again += case.again()
        process.stdin.close()
    assert seen == 20
    report("F3 nodes", kills=20, seen=seen, rows_again=again, seconds=_since(began))


HEAD = """
import os, signal, threading, time
from pathlib import Path
import psutil, victims
from weft.errors import WeftError
settings = {settings!r}
def kill():
    global began
    while not Path(settings["log"]).exists():
        time.sleep(0.02)
    time.sleep({delay})
    began = time.monotonic()
    for process in psutil.Process().children(recursive=True):
        if process.name() == {victim!r}:
            process.kill()
threading.Thread(target=kill, daemon=True).start()
try:
    victims.by_tasks(**settings).run(engine="ray")
except WeftError as error:
    print(type(error).__name__, round(time.monotonic() - began), error, flush=True)
"""


@pytest.mark.skipif(not ALL, reason="a minute for each: make faults")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_the_head_that_is_lost(pictures: Path, tmp_path: Path, victim: str) -> None:
    began, slowest = time.monotonic(), 0
    for number in range(5):
        (tmp_path / str(number)).mkdir()
        case = Case(pictures, tmp_path / str(number), seconds=0.0)
        case.settings["seconds"] = 3.0  # it lasts longer than the head is waited for
        text = HEAD.format(settings=case.settings, victim=victim, delay=number)
        process = program(text, stdout=subprocess.PIPE)
        wait_for(case.log, process)
        family = psutil.Process(process.pid).children(recursive=True)
        told, _ = process.communicate(timeout=120)
        [line] = [s for s in told.splitlines() if s.startswith("Retryable")]  # Ray speaks, too
        _, seconds, *words = line.split(maxsplit=2)
        assert re.search("head of the Ray cluster|Ray of this machine|RayletDied", words[0])
        assert int(seconds) < 60
        slowest = max(slowest, int(seconds))
        assert case.state["state"] == "failed"
        time.sleep(5)
        assert alive(family) == []
        result = by_tasks(**case.settings).run(engine="local", cluster=Cluster((Machine(cpus=60),)))
        assert result.state == "published"
        assert contents(case.out) == case.undisturbed
    report(f"F4 {victim}", kills=5, slowest_end_seconds=slowest, seconds=_since(began))


@pytest.mark.skipif(not ALL, reason="Ray waits for what was lost: make faults")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "rpc",
    [
        "NodeManagerService.grpc_client.RequestWorkerLease",
        "CoreWorkerService.grpc_client.PushTask",
        "NodeManagerService.grpc_client.ReturnWorkerLease",
    ],
)
def test_messages_within_ray_that_are_lost(pictures: Path, tmp_path: Path, rpc: str) -> None:
    began = time.monotonic()
    case = Case(pictures, tmp_path)
    text = RUN.format(settings=case.settings, engine="ray")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    lost = {"num_failures": 20, "req_failure_prob": 25, "resp_failure_prob": 25}
    lost["in_flight_failure_prob"] = 0
    process = program(text, env={"RAY_testing_rpc_failure": json.dumps({rpc: lost})}, **pipes)
    told, errors = process.communicate(timeout=400)
    if process.returncode:
        assert "Retryable" in errors
        by_tasks(**case.settings).run(engine="local", cluster=TWO)
    assert contents(case.out) == case.undisturbed
    report(
        "F19", rpc=rpc, ended="published" if told else "typed error", rows_again=case.again(),
        seconds=_since(began),
    )  # fmt: skip


def _since(began: float) -> int:
    return round(time.monotonic() - began)
