"""One at a time on a dataset, also when holders die, sleep, or have another idea of the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from weft.errors import Busy, CorruptState, Held
from weft.pipelines.runs import lease as leases
from weft.pipelines.runs.journal import whoami
from weft.pipelines.runs.lease import hold, holder, identity, is_held, lease_path, past_epoch, put

HOLDER = """
import sys
from weft.pipelines.runs.lease import hold
with hold(sys.argv[1], "theirs") as lease:
    print("held", lease.epoch, flush=True)
    sys.stdin.read()
"""


def another(state: Path) -> subprocess.Popen[str]:
    """Another process that takes the lease and holds it until its input closes."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def far(run: str = "far", epoch: int = 1, **more: Any) -> dict[str, Any]:
    """What a holder on another host writes."""
    return {"run": run, "epoch": epoch, **identity(), "host": "far", "pid": 1, **more}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of minutes."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.8)
    monkeypatch.setattr(leases, "_LOOK_SECONDS", 0.02)


@contextmanager
def touching(path: Path, times: Callable[[int], float]) -> Iterator[None]:
    """Somebody who touches a file ten times a second; beat `n` sets the time to `times(n)`."""
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while not stop.wait(0.1):
            number += 1
            os.utime(path, (times(number), times(number)))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_held_and_given_back(tmp_path: Path) -> None:
    with hold(tmp_path, "mine") as lease:
        lease.check()
        found = holder(tmp_path)
        assert found is not None
        assert (found["run"], found["epoch"], found["pid"]) == ("mine", 1, os.getpid())
    assert holder(tmp_path) is None
    with pytest.raises(ZeroDivisionError), hold(tmp_path, "mine"):
        raise ZeroDivisionError
    assert holder(tmp_path) is None


def test_epochs_never_go_back(tmp_path: Path) -> None:
    for epoch in range(1, 5):
        with hold(tmp_path, "mine") as lease:
            assert lease.epoch == epoch
        assert [p.name for p in tmp_path.iterdir()] == [f"lease-{epoch}.json"]


def test_a_living_holder_is_left_alone(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        assert said(process) == "held 1"
        with pytest.raises(Held) as error, hold(tmp_path, "mine"):
            pass
        assert str(error.value) == (
            f"Run theirs is working on this dataset (process {process.pid} on {whoami()['host']}). "
            "Wait for it, or stop it and run again."
        )
        assert is_held(tmp_path, "theirs")
        assert not is_held(tmp_path, "mine")
        process.communicate("")
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 2


def test_a_dead_holder_is_not(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        assert said(process) == "held 1"
        process.kill()
        process.wait()
    assert holder(tmp_path) is not None
    assert not is_held(tmp_path, "theirs")
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 2
        lease.check()
        assert [p.name for p in tmp_path.iterdir()] == ["lease-2.json"]


def test_a_number_of_a_process_that_was_given_again(tmp_path: Path) -> None:
    boot = whoami()["born"].partition(":")[0]
    put(lease_path(tmp_path, 4), {"run": "old", "epoch": 4, **identity(), "born": f"{boot}:1"})
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 5


def test_an_epoch_is_past_when_nothing_can_be_done_in_it_any_more(tmp_path: Path) -> None:
    assert past_epoch(tmp_path) == 0
    with hold(tmp_path, "mine"):
        assert past_epoch(tmp_path) == 0
    assert past_epoch(tmp_path) == 1
    process = another(tmp_path)
    assert said(process) == "held 2"
    assert past_epoch(tmp_path) == 1
    process.kill()
    process.wait()
    assert past_epoch(tmp_path) == 2
    put(lease_path(tmp_path, 3), far(epoch=3))  # it may be asleep
    assert past_epoch(tmp_path) == 2


def test_a_holder_that_was_broken_sees_it(tmp_path: Path) -> None:
    with hold(tmp_path, "mine") as lease:
        put(lease_path(tmp_path, 2), far("theirs", 2))
        with pytest.raises(Busy) as error:
            lease.check()
        assert str(error.value) == (
            f"Run mine lost the lease {tmp_path / 'lease-1.json'} to theirs; it publishes "
            "nothing. Its finished units are kept: `weft resume` goes on."
        )
    assert holder(tmp_path) == far("theirs", 2)  # it is not ours to give back


def test_the_same_run_at_a_later_epoch_is_another_holder(tmp_path: Path) -> None:
    with hold(tmp_path, "mine") as lease:
        put(lease_path(tmp_path, 2), far("mine", 2))
        with pytest.raises(Busy, match=r"^Run mine lost the lease"):
            lease.check()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "times",
    [
        lambda n: time.time() + 3600,
        lambda n: 1e9 - 60 * n,  # steps back with every beat
        lambda n: time.time() + (-1) ** n * 3600,  # jumps to and fro
    ],
    ids=["ahead", "backwards", "jumping"],
)
def test_who_beats_lives_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Callable[[int], float]
) -> None:
    path = lease_path(tmp_path, 1)
    put(path, far())
    with touching(path, times):
        for skew in (0, 3600, -3600):
            monkeypatch.setattr(leases, "time", lambda skew=skew: time.time() + skew)
            with pytest.raises(Held, match=r"^Run far is working on this dataset \(process 1 on"):
                hold(tmp_path, "mine").__enter__()
        time.sleep(1.0)  # longer than a lease may be silent
        with pytest.raises(Held):
            hold(tmp_path, "mine").__enter__()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("skew", [0, 3600, -3600])
def test_who_is_silent_is_gone_whatever_the_clocks_say(tmp_path: Path, skew: float) -> None:
    path = lease_path(tmp_path, 1)
    put(path, far())
    os.utime(path, (time.time() + skew,) * 2)
    began = time.monotonic()
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 2
        assert 0.8 <= time.monotonic() - began < 10


@pytest.mark.usefixtures("quick")
def test_one_that_stops_beating_is_gone_after_a_while(tmp_path: Path) -> None:
    path = lease_path(tmp_path, 1)
    put(path, far())
    with touching(path, lambda n: 1e9 + n), pytest.raises(Held):
        hold(tmp_path, "mine").__enter__()
    with pytest.raises(Held):  # it was seen alive a moment ago
        hold(tmp_path, "mine").__enter__()
    time.sleep(0.9)
    began = time.monotonic()
    with hold(tmp_path, "mine"):
        assert time.monotonic() - began < 0.75  # it has been watched since


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("differs", [{"host": "far"}, {"space": "pid:[1]"}, {"born": "boot:7"}])
def test_a_process_is_asked_only_where_its_number_means_the_same(
    tmp_path: Path, differs: dict[str, str]
) -> None:
    """A container may have the boot of its host, and the name of it, and other processes."""
    path = lease_path(tmp_path, 1)
    put(path, {**far(), **identity(), "pid": 2**22, **differs})
    with touching(path, lambda n: 1e9 + n), pytest.raises(Held):
        hold(tmp_path, "mine").__enter__()


def test_who_slept_before_putting_its_file_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = leases.put, list[int]()

    def slow(path: Path, content: dict[str, Any]) -> bool:
        if not calls:
            calls.append(1)
            for _ in range(3):  # meanwhile others come and go
                with hold(tmp_path, "theirs"):
                    pass
        return real(path, content)

    monkeypatch.setattr(leases, "put", slow)
    with hold(tmp_path, "mine") as lease:
        assert lease.epoch == 4
        lease.check()
        assert [p.name for p in tmp_path.iterdir()] == ["lease-4.json"]


def test_of_many_contenders_one_wins(tmp_path: Path) -> None:
    boot = whoami()["born"].partition(":")[0]
    put(lease_path(tmp_path, 1), {"run": "dead", "epoch": 1, **identity(), "born": f"{boot}:1"})
    started = [another(tmp_path) for _ in range(4)]
    lines = [said(process) for process in started]
    ends = [process.communicate("")[1] for process in started]
    assert sorted(lines) == ["", "", "", "held 2"]
    assert sum("weft.errors.Held" in end for end in ends) == 3


def test_threads_take_turns(tmp_path: Path) -> None:
    inside, most, taken = 0, 0, list[int]()

    def work() -> None:
        nonlocal inside, most
        while len(taken) < 60:
            try:
                with hold(tmp_path, "mine") as lease:
                    inside += 1
                    most = max(most, inside)
                    taken.append(lease.epoch)
                    time.sleep(0.001)
                    lease.check()
                    inside -= 1
            except Held:
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken == sorted(set(taken))


def test_a_damaged_lease_is_told_of(tmp_path: Path) -> None:
    with hold(tmp_path, "mine"):
        pass
    path = lease_path(tmp_path, 1)
    path.write_bytes(path.read_bytes().replace(b"mine", b"mind"))
    with pytest.raises(CorruptState, match=r"lease-1\.json .* If nobody is, delete it\.$"):
        hold(tmp_path, "other").__enter__()
    path.write_text(json.dumps(far())[:20])
    with pytest.raises(CorruptState, match=r"is not JSON.* If nobody is, delete it\.$"):
        hold(tmp_path, "other").__enter__()
    path.unlink()
    with hold(tmp_path, "other"):
        pass
