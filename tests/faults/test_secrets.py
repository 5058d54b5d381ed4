"""Secrets that are given to a run are nowhere in what it writes, prints or logs.

Canaries go in by every door that weft knows: a parameter named like a secret, an address with a
password and a signature, and messages of exceptions, of single rows and of the whole run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness import ALL

from weft.cli.main import cli

CANARY = "canary4711"

PROGRAM = """
import weft
from weft.connectors import Files, Lance

@weft.operator(version="1")
def called(content: weft.Encoded, endpoint: str = "", hf_token: str = "") -> int:
    if content.startswith(b"bad"):
        told = f"Authorization: Bearer {hf_token}, token={hf_token}"
        raise ValueError(f"GET {endpoint} failed: {told}")
    return len(content)

@weft.pipeline
def asks(source: str, out: str, endpoint: str, hf_token: str, on_error: str = "quarantine"):
    rows = weft.read(Files(source, kind="text"))
    rows = rows.apply(called.replace(endpoint=endpoint, hf_token=hf_token), on_error=on_error)
    return rows.select("key", "called").write(Lance(out))
"""

LOOK = f"""
import runpy, sys
from pathlib import Path
from weft.cli.main import cli
cli.main(sys.argv[1:], standalone_mode=False)
import ray
session = Path(ray._private.worker._global_node.get_session_dir_path())
logs = [p for p in session.rglob("*") if p.is_file()]
assert len(logs) > 10
assert [str(p) for p in logs if b"{CANARY}" in p.read_bytes()] == []
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "source").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "asking.py").write_text(PROGRAM)
    for i in range(30):
        bad = "bad" if i % 15 == 0 else "good"
        (folder / "source" / f"{i:02d}.txt").write_text(bad)
    return folder


def settings(work: Path, **more: str) -> Iterator[str]:
    given = {
        "source": "source/*",
        "out": "o.lance",
        "endpoint": f"https://me:{CANARY}@host.example/v1?sig={CANARY}&expires=9",
        "hf_token": CANARY,
        **more,
    }
    for name, value in given.items():
        yield from ("--set", f"{name}={value}")


@pytest.fixture
def weft(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call a command; all that it prints."""
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work.parent / "code"))

    def call(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == code, (arguments, done.output)
        return done.output

    return call


def leaks(work: Path) -> list[str]:
    """Files with a canary in them, or in their names."""
    files = [p for p in work.rglob("*") if p.is_file()]
    assert len(files) > 30
    return [str(p) for p in files if CANARY.encode() in p.read_bytes() or CANARY in str(p)]


def test_no_secret_is_written_or_printed(
    work: Path, weft: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    said = weft(
        "run", "asking:asks", *settings(work), "--engine", "local", "--max-failed", "5",
        "--metrics-file", "metrics.prom",
    )  # fmt: skip
    for command in (
        ("runs", "o.lance"), ("show", "o.lance"), ("errors", "o.lance"), ("report", "o.lance"),
        ("history", "o.lance"), ("why", "o.lance", "01.txt"), ("show", "o.lance", "--json"),
        ("errors", "o.lance", "--json"),
    ):  # fmt: skip
        said += weft(*command)
    assert "Authorization: ***" in said  # the message is told, without what it must not tell
    assert CANARY not in said + "".join(capfd.readouterr())
    assert leaks(work) == []


def test_no_secret_is_in_a_plan(work: Path, weft: Callable[..., str]) -> None:
    given = list(settings(work))
    said = weft("plan", "asking:asks", *given, "--graph", "plan.svg", code=10)
    said += weft("plan", "asking:asks", *given, "--json", code=10)
    assert CANARY not in said
    assert leaks(work) == []


def test_no_secret_is_in_the_error_of_a_run_that_stops(
    work: Path, weft: Callable[..., str]
) -> None:
    given = list(settings(work, on_error="raise"))
    said = weft("run", "asking:asks", *given, "--engine", "local", code=1)
    assert "host.example" in said
    assert CANARY not in said
    [state] = work.glob("o.lance.weft/runs/*/state.json")
    assert json.loads(state.read_text())["state"] == "failed"
    assert leaks(work) == []


@pytest.mark.skipif(not ALL, reason="takes a start of Ray: make faults")
def test_no_secret_is_in_the_logs_of_ray(work: Path) -> None:
    given = [*settings(work), "--engine", "ray", "--max-failed", "5"]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket is short
        done = subprocess.run(
            [sys.executable, "-c", LOOK, "run", "asking:asks", *given],
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(work.parent / "code"), "TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert CANARY not in done.stdout + done.stderr
    assert leaks(work) == []
