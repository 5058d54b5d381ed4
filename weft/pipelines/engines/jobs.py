"""Ray's Jobs API: a command that runs on the head of a cluster, submitted and followed from afar.

The API is HTTP, on the port of the dashboard. A job has a name, and a cluster runs a name once:
that is what makes a submission idempotent. A job that has ended keeps its name, so that the
next attempt at the same thing has a number behind it: ``weft-photos-1f0c``,
``weft-photos-1f0c-2``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import DefinitionError, Retryable, WeftError, redact
from weft.pipelines.engines.ray import ADMITTANCE, show_token

NOT_SHIPPED = ("*.lance", "*.lance.weft", ".?*", "__pycache__", "*.pyc")
"""What stays here when a folder is sent to the cluster: datasets and what lies beside them, and
hidden files, which are where credentials are (``.env``, ``.netrc``, ``.git``)."""

_PATIENCE_SECONDS = 60.0
"""How long a cluster that is followed may not answer: a head that is restarted takes less."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Job:
    """A job as the cluster tells of it: `state` is PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.

    `code` is what its command exited with, if it did; `message` is what Ray says of the state.
    """

    name: str
    state: str
    code: int | None = None
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether it is over, well or not."""
        return self.state in _ENDED

    @property
    def exit_code(self) -> int:
        """The exit code of its command; 1 if it was stopped, killed or never began."""
        if self.state == "SUCCEEDED":
            return 0
        return self.code if self.code is not None and 0 < self.code < 256 else 1


class Jobs:
    """The jobs of the cluster whose dashboard is at `address`, such as ``http://head:8265``.

    Raises:
        DefinitionError: `address` is none, the token is wrong, or Ray's dashboard client is not
            installed.
        Retryable: nothing answers there.
    """

    def __init__(self, address: str) -> None:
        if not re.fullmatch(r"https?://[^\s/@?#]+/?", address):
            raise DefinitionError(
                f"--address {redact(address)!r} is of no dashboard. Expected http://HOST:8265, as "
                "`ray start --head` prints it."
            )
        self.address = address.rstrip("/")
        self._client: Any = _client(self.address)

    def find(self, name: str) -> Job | None:
        """The job of that name."""
        return next((job for job in self._all() if job.name == name), None)

    def attempts(self, name: str) -> list[Job]:
        """The jobs that were submitted for `name`, oldest first."""
        found = [(number, job) for job in self._all() if (number := _number(name, job.name))]
        return [job for _, job in sorted(found, key=lambda pair: pair[0])]

    def submit(
        self,
        name: str,
        command: str,
        folder: Path | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Start `command` as the job `name`, in a copy of `folder`; whether it was us.

        It was not if somebody else has submitted the name meanwhile: theirs is the same job.

        Raises:
            DefinitionError: the folder is too large to be sent.
            WeftError: the cluster refuses the job.
        """
        shipped = {"working_dir": str(folder), "excludes": list(NOT_SHIPPED)} if folder else {}
        try:
            self._client.submit_job(
                entrypoint=command,
                submission_id=name,
                runtime_env=shipped,
                metadata=dict(metadata or {}),
            )
        except ValueError as error:  # Ray's limit, 512 MiB
            raise DefinitionError(
                f"{folder} cannot be sent to the cluster: {redact(str(error))} Put the pipeline "
                "into a folder of its own, and the data where all nodes see it."
            ) from error
        except RuntimeError as error:
            if self.find(name) is not None:
                return False
            raise WeftError(f"{self.address} refuses the job: {redact(str(error))}") from error
        return True

    def follow(self, name: str, write: Callable[[str], object]) -> Job:
        """Hand on what a job prints, from its beginning, until it ends.

        Raises:
            Retryable: the cluster does not answer any more, or has forgotten the job.
        """
        shown, heard = 0, time.monotonic()
        while True:
            shown = asyncio.run(self._tail(name, write, shown))
            try:
                job = self.find(name)
            except Retryable:
                if time.monotonic() - heard > _PATIENCE_SECONDS:
                    raise
                time.sleep(2)
                continue
            heard = time.monotonic()
            if job is None:
                raise Retryable(
                    f"{self.address} does not know the job {name} any more: the cluster was "
                    "started anew, and its jobs ended with it. Submit again; finished units are "
                    "kept."
                )
            if job.ended:
                return job
            time.sleep(0.5)

    async def _tail(self, name: str, write: Callable[[str], object], shown: int) -> int:
        """Hand on the log from the character `shown`, as far as the connection lasts."""
        import aiohttp

        at = 0
        try:
            async for text in self._client.tail_job_logs(name):
                at += len(text)
                if at > shown:
                    write(text[-(at - shown) :])
                    shown = at
        except (aiohttp.ClientError, RuntimeError, OSError):
            pass  # it is asked next whether the job has ended, and if not, tailed again
        return shown

    def _all(self) -> Iterable[Job]:
        try:
            listed = self._client.list_jobs()
        except (OSError, RuntimeError) as error:  # of the network, and of the dashboard
            raise Retryable(f"{self.address} does not answer: {redact(str(error))}") from error
        return [
            Job(j.submission_id, j.status.value, j.driver_exit_code, redact(j.message or ""))
            for j in listed
            if j.submission_id
        ]


def _number(name: str, attempt: str) -> int:
    """Which attempt at `name` a job is: 1, 2, …; 0 if it is something else."""
    match = re.fullmatch(re.escape(name) + r"(?:-(\d{1,4}))?", attempt)
    return int(match[1] or 1) if match else 0


def _client(address: str) -> Any:
    show_token()
    try:
        import aiohttp  # noqa: F401  which ray[data] does without, and its client does not say so
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise DefinitionError(
            f"`weft submit` needs Ray's dashboard client ({error}): pip install 'weft[cluster]'"
        ) from error
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    logging.getLogger("ray._private.runtime_env.packaging").setLevel(logging.WARNING)
    try:
        with _without("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise DefinitionError(f"The Ray cluster {address} wants a token. {ADMITTANCE}") from error
    except OSError as error:
        raise Retryable(
            f"Nothing answers at {address}. Is the cluster up, is this the address of its "
            "dashboard (port 8265 by default), and does the dashboard listen to others than its "
            "own machine (ray start --dashboard-host)?"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise DefinitionError(
            f"{address} answers, but not as a Ray dashboard: {redact(str(error))}"
        ) from error


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Environment variables that Ray prefers to the address it is given."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
