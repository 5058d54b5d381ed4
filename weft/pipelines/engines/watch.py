"""Looks on while a cluster works: is it there, and does anybody on it do anything?

Ray waits for ever for a machine that will not come back. Of a head that is gone it says nothing
for a minute, and then it ends the process that asked. And it sees whole units alone, of which one
may take an hour; here a sign of life is a batch.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from weft.errors import Retryable
from weft.pipelines.engines.deaths import SILENT_SECONDS, silence_seconds

KEPT = "Finished units are kept: `weft resume` goes on with the rest."
"""What every error says that is none of the pipeline's."""

LOOK_SECONDS = 2.0
HEAD_SECONDS = 30.0
"""How long the head may be away. One that keeps its state elsewhere is back in less; after a
minute Ray ends the process that asks."""

OWN_SECONDS = 4.0
"""How long the Ray of this machine may be away: it does not come back, and soon after it Ray ends
this process. Who is merely busy has a kernel that answers."""

STALLED_SECONDS = 2 * SILENT_SECONDS
"""By then an operator that does not come back was ended, so it is none that we wait for."""


class Watch:
    """Looks on while a cluster does what is in `notes`, see `deaths`. It is lost without its head
    and the Ray of this machine, of which there are addresses, ``HOST:PORT``."""

    def __init__(self, head: str, own: str, notes: str) -> None:
        self.vital = {
            f"The head of the Ray cluster, {head},": (head, HEAD_SECONDS),
            f"The Ray of this machine, {own},": (own, OWN_SECONDS),
        }
        self.notes = notes
        self.lost = False
        self._looked = self._heard = time.monotonic()
        self._seen = dict.fromkeys(self.vital, self._looked)

    def over(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items, which another thread waits for, while this one looks on.

        Raises:
            Retryable: something vital is gone, or nobody has done anything for too long.
        """
        box: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=8)
        stop = threading.Event()
        puller = threading.Thread(
            target=_pull, args=(items, box, stop), daemon=True, name="weft-ray"
        )
        puller.start()
        try:
            while True:
                self._look()
                try:
                    what, given = box.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    continue
                if what == "end":
                    return
                if what == "error":
                    raise given
                yield given
        finally:
            stop.set()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for name, (address, seconds) in self.vital.items():
            if answers(address):
                self._seen[name] = now
            elif now - self._seen[name] > seconds:
                self.lost = True
                raise Retryable(f"{name} has not answered for {seconds:.0f} s. {KEPT}")
        self._listen(now)

    def _listen(self, now: float) -> None:
        if now - self._heard < STALLED_SECONDS:
            return  # the notes of a large run are many
        silent = silence_seconds(self.notes)
        self._heard = max(self._heard, now - silent) if silent is not None else self._heard
        if now - self._heard >= STALLED_SECONDS:
            raise Retryable(
                f"Nothing has happened on Ray for {STALLED_SECONDS / 60:.0f} minutes: no worker "
                "has begun, gone on with or ended a unit. Has the cluster lost a machine that a "
                f"step needs? See `ray status`. {KEPT}"
            )


def answers(address: str) -> bool:
    """Whether anybody listens at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def _pull(items: Iterator[Any], box: queue.Queue[tuple[str, Any]], stop: threading.Event) -> None:
    """Put all items into a box, then how they ended."""
    try:
        for item in items:
            if not _put(box, ("item", item), stop):
                return
        _put(box, ("end", None), stop)
    except Exception as error:  # noqa: BLE001  raised again by who looks into the box
        _put(box, ("error", error), stop)


def _put(box: queue.Queue[tuple[str, Any]], item: tuple[str, Any], stop: threading.Event) -> bool:
    """Whether there was room in the box before nobody wanted it any more."""
    while not stop.is_set():
        try:
            box.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False
