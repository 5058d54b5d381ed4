"""What a gate is: an expectation on a new version of a dataset, and what it found.

A gate changes no row, so it is no part of a recipe: a gate that is added, changed or taken away
makes nothing be computed anew.

A null, a NaN and a vector with a number that is not finite are *missing* values. `NullShare`
counts them; all other gates leave them out. A gate that has nothing to measure does not pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weft.errors import DataError, DefinitionError
from weft.pipelines.connector import Sink
from weft.pipelines.fields import Fields
from weft.pipelines.sites import Site, at

if TYPE_CHECKING:
    from weft.pipelines.gates.snapshot import Snapshot


class Unmeasurable(DataError):  # noqa: N818  as its siblings in weft.errors
    """A version has nothing that a gate could measure; the gate does not pass."""


@dataclass(frozen=True)
class Verdict:
    """What a gate found of a version: `measured` as JSON, `told` in words with what it expected."""

    gate: str
    passed: bool
    told: str
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.gate} {'passed' if self.passed else 'FAILED'}: {self.told}"

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON."""
        return {**dataclasses.asdict(self), "measured": dict(self.measured)}


class Gate:
    """Base of all gates; a frozen dataclass of parameters."""

    def check(self, columns: Fields) -> None:
        """Refuse columns that it cannot measure, as the pipeline is built.

        Raises:
            DefinitionError: there is no such column, or it is of the wrong type.
        """

    def measure(self, new: Snapshot, accepted: Snapshot | None) -> Verdict:
        """Judge a version, beside the one accepted last, if there is one.

        Raises:
            Unmeasurable: there is nothing to measure.
        """
        raise NotImplementedError

    def verdict(self, told: str, *, passed: bool, **measured: Any) -> Verdict:
        """What this gate found."""
        return Verdict(str(self), passed, told, measured)

    def __str__(self) -> str:
        given = [
            f"{f.name}={value!r}"
            for f in dataclasses.fields(self)  # type: ignore[arg-type]  # of subclasses
            if (value := getattr(self, f.name)) != f.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


def checked(gates: Iterable[Gate], sink: Sink, columns: Fields, site: Site) -> tuple[Gate, ...]:
    """The gates of a write to `sink`, each of which can measure `columns`.

    Raises:
        DefinitionError: one of them is no gate or cannot, or `sink` cannot hold a version back.
    """
    listed = tuple(gates) if isinstance(gates, Iterable) else (gates,)
    for gate in listed:
        if not isinstance(gate, Gate) or isinstance(gates, Gate):
            raise at(site, f"gates= takes a list of weft.gates, such as [RowCount(min=1)]; "
                     f"given {gates!r}.")  # fmt: skip
        try:
            gate.check(columns)
        except DefinitionError as error:
            raise at(site, f"{gate}: {error}") from None
    if listed and sink.state is None:
        raise at(site, f"{sink} keeps no versions, so nothing could be held back from its "
                 "readers. Gates are for writes to Lance.")  # fmt: skip
    return listed
