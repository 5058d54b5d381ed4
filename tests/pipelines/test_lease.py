"""One run at a time on a dataset, also when holders die."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from weft.errors import Busy
from weft.pipelines.runs.journal import whoami
from weft.pipelines.runs.lease import hold

HOLDER = """
import sys
from weft.pipelines.runs.lease import hold
with hold(sys.argv[1], "theirs") as lease:
    print(lease.epoch, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(state: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease until its input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        yield process


def lease_of(state: Path) -> dict[str, Any]:
    return json.loads((state / "lease.json").read_text())


def test_held_and_given_back(tmp_path: Path) -> None:
    with hold(tmp_path, "mine") as lease:
        lease.check()
        found = lease_of(tmp_path)
        assert (found["run"], found["epoch"]) == ("mine", 1)
        assert found["pid"] == whoami()["pid"]
    assert list(tmp_path.iterdir()) == []


def test_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path, "mine"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_living_holder_is_left_alone(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        with pytest.raises(Busy) as error, hold(tmp_path, "mine"):
            pass
        assert str(error.value) == (
            f"Run theirs is working on this dataset (process {process.pid} on {whoami()['host']}). "
            "Wait for it, or stop it and run again."
        )
        assert lease_of(tmp_path)["run"] == "theirs"
        process.communicate("")
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 1  # given back, not broken


def test_a_dead_holder_is_not(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        process.kill()
        process.wait()
    assert lease_of(tmp_path)["run"] == "theirs"
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 2
        assert lease_of(tmp_path)["run"] == "mine"
        lease.check()
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_a_process_that_was_given_again(tmp_path: Path) -> None:
    with hold(tmp_path, "old"):
        pass
    mine = {"run": "old", "epoch": 4, "taken": 0.0, **whoami(), "born": "another boot:1"}
    (tmp_path / "lease.json").write_text(json.dumps(mine))
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 5


def test_a_holder_that_was_broken_sees_it(tmp_path: Path) -> None:
    with hold(tmp_path, "mine") as lease:
        taken = {**lease_of(tmp_path), "run": "theirs", "epoch": 2}
        (tmp_path / "lease.json").write_text(json.dumps(taken))
        with pytest.raises(Busy) as error:
            lease.check()
        assert str(error.value) == (
            f"Run mine lost the lease {tmp_path / 'lease.json'} to theirs; it publishes nothing. "
            "Its finished units are kept: `weft resume` goes on."
        )
    assert lease_of(tmp_path)["run"] == "theirs"  # it is not ours to give back


def test_the_same_run_at_a_later_epoch_is_another_holder(tmp_path: Path) -> None:
    with hold(tmp_path, "mine") as lease:
        taken = {**lease_of(tmp_path), "epoch": 2}
        (tmp_path / "lease.json").write_text(json.dumps(taken))
        with pytest.raises(Busy, match=r"^Run mine lost the lease"):
            lease.check()


def test_another_host_is_judged_by_its_beat(tmp_path: Path) -> None:
    import os
    import time

    from weft.pipelines.runs.lease import STALE_SECONDS

    path = tmp_path / "lease.json"
    path.write_text(
        json.dumps({"run": "far", "epoch": 1, "taken": 0, "host": "far", "pid": 1, "born": "x"})
    )
    with pytest.raises(Busy, match=r"^Run far is working on this dataset \(process 1 on far\)"):
        hold(tmp_path, "mine").__enter__()
    old = time.time() - STALE_SECONDS - 1
    os.utime(path, (old, old))
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 2


def test_of_many_contenders_one_wins(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text(
        json.dumps({"run": "dead", "epoch": 1, "taken": 0, **whoami(), "born": "before"})
    )
    code = HOLDER.replace("print(lease.epoch", "print('held', lease.epoch")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    lines = []
    for process in started:
        assert process.stdout is not None
        lines.append(process.stdout.readline().strip())
    ends = [process.communicate("")[1] for process in started]
    assert sorted(lines) == ["", "", "", "held 2"]
    assert sum("weft.errors.Busy" in end for end in ends) == 3
