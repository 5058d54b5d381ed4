"""Who does which unit, where several processes work on one run, or one is to stop.

A worker claims a unit before it begins with it, by putting a file where there is none. A claim
is in the name of the process that drives the worker, so a unit that Ray tries again is its own.
A driver that is to stop puts a file, too: its workers end what they have begun and begin nothing
more, on whatever machine they are.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from weft.pipelines.engines.receipts import Receipt

_LEFT = "left"


@dataclass(frozen=True)
class Claims:
    """The claims that one driver's workers make, in a folder that all of a run share."""

    folder: str
    driver: str

    def take(self, unit: str) -> bool:
        """Whether this driver's workers may begin with a unit, which is theirs from now on."""
        if self.stop_path.exists():
            return False
        path = Path(self.folder, unit)
        temporary = path.with_name(f".{unit}.{secrets.token_hex(4)}")
        try:
            temporary.write_text(self.driver)
        except FileNotFoundError:
            return False  # the folder is gone: all units are done
        try:
            os.link(temporary, path)  # atomic, and refuses to replace
        except FileExistsError:
            return self.taker(unit) == self.driver
        finally:
            temporary.unlink()
        return True

    def taker(self, unit: str) -> str | None:
        """The driver whose workers have a unit."""
        try:
            return Path(self.folder, unit).read_text()
        except FileNotFoundError:
            return None

    def give_up(self, unit: str) -> None:
        """Make a unit free again."""
        Path(self.folder, unit).unlink(missing_ok=True)

    @property
    def stop_path(self) -> Path:
        """The file that says that this driver's workers are to begin nothing more."""
        return Path(self.folder, f"{self.driver}.stop")


def leave(unit: str) -> Receipt:
    """What an engine gives for a unit that it did not begin with."""
    return {"unit": unit, "rows": 0, _LEFT: True}


def was_left(receipt: Receipt) -> bool:
    """Whether the unit was not begun with."""
    return _LEFT in receipt
