"""`--address`: what is wrong with it is said at once, and what to do. (A real cluster is joined
in ``tests/cli/test_submit.py``.)"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from weft.errors import DefinitionError, Retryable
from weft.pipelines.engines import ray
from weft.pipelines.engines.jobs import Job, Jobs, _number


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://head:8265", r"of a dashboard, which `weft submit` takes\. Expected HOST:6379"),
        ("ray://head:10001", r"Ray Data cannot be run through one.*weft submit --address http:"),
        ("head", r"'head' is no address of a Ray cluster\. Expected HOST:6379, or 'auto'"),
        (":6379", r"is no address of a Ray cluster"),
        ("head:port", r"is no address of a Ray cluster"),
        ("head:70000", r"is no address of a Ray cluster"),
        ("http://me:secret@head:8265", r"http://\*\*\*@head:8265 is of a dashboard"),
    ],
)
def test_what_is_no_address(address: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ray._endpoint(address)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        (None, None),
        ("auto", None),
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("[::1]:6379", ("::1", 6379)),
    ],
)
def test_what_is_one(address: str | None, endpoint: tuple[str, int] | None) -> None:
    assert ray._endpoint(address) == endpoint


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that nobody listens at, and that nobody else is given meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_nobody_listens(nobody: str) -> None:
    began = time.monotonic()
    with pytest.raises(Retryable, match=rf"Nothing answers at {nobody}: .*refused.*ray start"):
        ray.start(nobody)
    assert time.monotonic() - began < 5  # Ray by itself: two minutes


@pytest.mark.parametrize(
    "address", ["head:8265", "auto", "http://", "http://me:pw@head:8265", "http://head/a?b=c"]
)
def test_what_is_no_dashboard(address: str) -> None:
    with pytest.raises(
        DefinitionError, match=r"is of no dashboard\. Expected http://HOST:8265"
    ) as e:
        Jobs(address)
    assert "pw" not in str(e.value)


def test_no_dashboard_listens(nobody: str) -> None:
    with pytest.raises(Retryable, match=rf"Nothing answers at http://{nobody}\. Is the cluster up"):
        Jobs(f"http://{nobody}")


def test_attempts_are_told_from_other_jobs() -> None:
    names = ["a", "a-2", "a-10", "a-b", "ab", "a-2-2", "b-a"]
    assert [_number("a", n) for n in names] == [1, 2, 10, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0), ("SUCCEEDED", None, 0), ("FAILED", 4, 4), ("FAILED", None, 1),
        ("FAILED", -9, 1), ("STOPPED", None, 1), ("STOPPED", 0, 1),
    ],
)  # fmt: skip
def test_the_exit_code_of_a_job(state: str, code: int | None, expected: int) -> None:
    assert Job("a", state, code).exit_code == expected
