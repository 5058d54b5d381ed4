"""A real cluster on this machine, with a token: joined by address, and submitted to from afar."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pytest

from weft.cli.submit import _start
from weft.pipelines.engines.jobs import Job

pytest.importorskip("aiohttp", reason="needs ray[default]: pip install 'weft[cluster]'")

MINE = """\
import os
import time
from pathlib import Path

import weft
from helper import factor
from weft.connectors import Arrow, Lance

print("SENT", sorted(set(os.listdir()) - {"__pycache__"}))


@weft.operator(version="1")
def tripled(n: int, gate: str = "") -> int:
    while gate and not Path(gate).exists():
        time.sleep(0.05)
    if n == 99 and not Path(f"{gate}.ok").exists():
        raise ValueError("ninety-nine")
    return factor() * n


@weft.pipeline
def mine(out: str, last: int = 2, gate: str = ""):
    rows = weft.read(Arrow({"n": [1, last]})).apply(tripled.replace(gate=gate))
    return rows.write(Lance(out))
"""


@dataclass(frozen=True)
class Ray:
    """The cluster: where it is, and how to be let in."""

    address: str
    dashboard: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return clean | {"RAY_AUTH_TOKEN": self.token}


def ports(count: int) -> list[int]:
    """Ports that are free now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    """A head of two CPUs with a dashboard, and `weft` on its path; gone afterwards."""
    folder = tempfile.mkdtemp(prefix="weft-")  # short: a socket's path may have 107 bytes
    gcs, dashboard, agent, agent_grpc, metrics, client = ports(6)
    ray = Ray(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", secrets.token_hex(32))
    bin_folder = Path(sys.executable).parent
    log = Path(folder, "start.log")
    process = subprocess.Popen(
        [
            str(bin_folder / "ray"), "start", "--head", "--block", f"--port={gcs}",
            "--num-cpus=2", "--include-dashboard=true", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}",
            f"--ray-client-server-port={client}", f"--temp-dir={folder}/ray",
            f"--object-store-memory={200 * 2**20}", "--disable-usage-stats",
        ],
        env=ray.environment
        | {"RAY_AUTH_MODE": "token", "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        cwd=folder,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 90
        while not answers(ray):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield ray
    finally:
        end(folder, process)
        shutil.rmtree(folder, ignore_errors=True)


def end(folder: str, process: subprocess.Popen[bytes]) -> None:
    """End the cluster of `folder` at once: in order it takes more than 30 seconds."""
    process.kill()
    process.wait()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if folder.encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def answers(ray: Ray) -> bool:
    request = urllib.request.Request(
        f"{ray.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {ray.token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mine(work: Path) -> Path:
    """A pipeline, a module beside it, and things that nobody should send anywhere."""
    folder = work / "project"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "helper.py").write_text("def factor():\n    return 3\n")
    (folder / ".env").write_text("PASSWORD=hunter2\n")
    (folder / "old.lance").mkdir()
    (folder / "old.lance" / "rows").write_text("large")
    return folder / "mine.py"


@pytest.fixture
def call(work: Path, cluster: Ray) -> Call:
    """The command line in a process of its own, which knows the token."""

    def run(*arguments: object, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        process = popen(work, cluster, *arguments, **env)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == code, (process.returncode, stdout, stderr)
        return subprocess.CompletedProcess(process.args, code, stdout, stderr)

    return run


def popen(work: Path, cluster: Ray, *arguments: object, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from weft.cli.main import main; main()", *map(str, arguments)],
        cwd=work,
        env=cluster.environment | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tripled(dataset: Path) -> list[int]:
    return sorted(lance.dataset(str(dataset)).to_table(columns=["tripled"])["tripled"].to_pylist())


def jobs(cluster: Ray) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{cluster.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return [j for j in json.load(response) if j["submission_id"]]


def test_run_joins_the_cluster_and_ships_the_users_code(call, cluster, mine, work) -> None:
    out = work / "joined.lance"
    found = call("run", mine, "--address", cluster.address, f"--set=out={out}", "--json")
    assert json.loads(found.stdout)["state"] == "published"
    assert tripled(out) == [3, 6]


def test_a_wrong_token_is_told(call, cluster, mine, work) -> None:
    submit = ("submit", mine, "--address", cluster.dashboard, f"--set=out={work}/no.lance")
    found = call(*submit, code=2, RAY_AUTH_TOKEN="not-the-token")
    assert f"The Ray cluster {cluster.dashboard} wants a token. " in found.stderr
    assert "put it into RAY_AUTH_TOKEN" in found.stderr
    assert "Traceback" not in found.stderr
    assert "not-the-token" not in found.stderr


def test_submit_exits_as_the_run_does_and_tries_again(call, cluster, mine, work) -> None:
    out, gate = work / "submitted.lance", work / "open"
    gate.touch()
    submit = ("submit", mine, "--address", cluster.dashboard, f"--set=out={out}",
              f"--set=gate={gate}", "--set=last=99", "--max-failed=0")  # fmt: skip
    first = call(*submit, code=4)
    assert "error: 1 of 2 rows failed, more than the error budget" in first.stdout
    assert "SENT ['helper.py', 'mine.py']" in first.stdout.splitlines()
    [job] = [j for j in jobs(cluster) if str(out) in j["entrypoint"]]
    name = job["submission_id"]
    assert name.startswith("weft-mine-")
    assert job["metadata"].keys() == {"pipeline", "recipe"}
    assert first.stdout.endswith(f"Job {name} failed.\n")
    assert f"Job {name} submitted to {cluster.dashboard}." in first.stderr
    Path(f"{gate}.ok").touch()
    second = call(*submit, "--json")
    assert json.loads(second.stdout) == {
        "job": f"{name}-2", "address": cluster.dashboard, "state": "SUCCEEDED", "exit_code": 0,
    }  # fmt: skip
    assert "2 read, 2 kept" in second.stderr  # the summary, as `weft run` there printed it
    assert f"{name} failed." in second.stderr
    assert tripled(out) == [3, 297]


def test_a_submission_that_runs_is_followed_and_left_by_ctrl_c(call, cluster, mine, work) -> None:
    gate = work / "gate"
    out = work / "gated.lance"
    submit = ("submit", mine, "--address", cluster.dashboard, f"--set=out={out}",
              f"--set=gate={gate}", "--id=day-21")  # fmt: skip
    started = json.loads(call(*submit, "--no-follow", "--json").stdout)
    assert started["exit_code"] is None
    assert started["job"] == (name := "day-21")
    leaving = popen(work, cluster, *submit)
    assert leaving.stderr is not None
    assert f"Job {name} is doing this already" in leaving.stderr.readline()
    time.sleep(1)
    leaving.send_signal(signal.SIGINT)
    _, stderr = leaving.communicate(timeout=30)
    assert leaving.returncode == 1
    assert f"Job {name} goes on without us. Submit the same again to follow it" in stderr
    assert f"`ray job stop --address {cluster.dashboard} {name}`" in stderr
    staying = popen(work, cluster, *submit)
    gate.touch()
    stdout, stderr = staying.communicate(timeout=60)
    assert staying.returncode == 0, (stdout, stderr)
    assert f"Job {name} succeeded." in stdout
    assert "2 read, 2 kept" in stdout
    assert call(*submit).stderr.endswith("Job day-21 has done this.\n")
    assert len([j for j in jobs(cluster) if str(gate) in j["entrypoint"]]) == 1


class Told:
    """The jobs of a cluster that exists in this test alone."""

    address = "http://head:8265"

    def __init__(self, *states: str, faster: bool = False) -> None:
        self.had = [Job("a" if i == 0 else f"a-{i + 1}", s) for i, s in enumerate(states)]
        self.faster = faster
        self.sent: list[str] = []

    def attempts(self, name: str) -> list[Job]:
        return self.had

    def submit(self, name: str, *_: object) -> bool:
        self.sent.append(name)
        return not self.faster


@pytest.mark.parametrize(
    ("states", "again", "job", "sent"),
    [
        ((), True, "a", ["a"]),
        (("PENDING",), True, "a", []),
        (("RUNNING",), False, "a", []),
        (("SUCCEEDED",), True, "a-2", ["a-2"]),
        (("SUCCEEDED",), False, "a", []),
        (("FAILED",), True, "a-2", ["a-2"]),
        (("FAILED",), False, "a-2", ["a-2"]),
        (("FAILED", "STOPPED"), False, "a-3", ["a-3"]),
        (("FAILED", "RUNNING"), True, "a-2", []),
    ],
)
def test_what_a_submission_finds_and_does(states, again, job, sent) -> None:
    told = Told(*states)
    found, _ = _start(told, "a", "true", None, {}, again=again)  # type: ignore[arg-type]
    assert (found.name, told.sent) == (job, sent)


def test_two_at_once_are_one_job() -> None:
    found, said = _start(Told(faster=True), "a", "true", None, {}, again=True)  # type: ignore[arg-type]
    assert (found.name, said) == ("a", "Job a was submitted by another just now.")


LOCAL = ("submit", "--address", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set=out=a.lance",), "is relative to "),
        (("--set=out=/data/a.lance?token=abc",), "this looks like a credential"),
        (("--set=out=s3://me:abc@bucket/a",), "this looks like a credential"),
        (("--set=out=/data/a.lance", "--id=a/b"), "--id 'a/b' cannot name a job. Expected up to"),
        (("--set=out=/data/a.lance", "--max-failed=some"), "'some' is not an error budget"),
    ],
)
def test_what_is_refused_before_anything_is_sent(weft, mine, arguments, message) -> None:
    found = weft(*LOCAL, str(mine), *arguments, code=2)
    assert message in found.stderr
    assert "abc" not in found.stderr


def test_a_home_folder_is_not_sent(weft, mine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(mine.parent))
    found = weft(*LOCAL, str(mine), "--set=out=/data/a.lance", code=2)
    assert f"would be sent to the cluster, and it is {mine.parent}. Put the" in found.stderr


def test_a_pipeline_that_opens_a_relative_file(weft, work) -> None:
    (work / "project").mkdir()
    (work / "config.txt").write_text("/data/a.lance")
    (work / "project" / "opens.py").write_text(
        "import weft\nfrom weft.connectors import Arrow, Lance\n\n\n@weft.pipeline\ndef opens():\n"
        "    out = open('config.txt').read()\n"
        "    return weft.read(Arrow({'n': [1]})).write(Lance(out))\n"
    )
    found = weft(*LOCAL, "project/opens.py", code=2)
    assert "opens 'config.txt' while it is made" in found.stderr
    assert "Path(__file__).with_name" in found.stderr
