"""DATASET: a path, its state folder and the runs that are noted there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from weft.errors import DefinitionError, nearest
from weft.pipelines.runs.journal import Journal, journals
from weft.pipelines.runs.lease import is_held
from weft.pipelines.tables import local_path

_SUFFIX = ".weft"

Steps = dict[str, dict[str, float]]
"""The books of a run as JSON: step -> count -> value."""


@dataclass(frozen=True)
class Dataset:
    """A dataset's path; the state folder is beside it."""

    path: str

    @property
    def state(self) -> str:
        """The state folder."""
        return self.path + _SUFFIX

    def runs(self) -> list[Journal]:
        """Its runs, newest first."""
        return journals(self.state)


def find_dataset(given: str) -> Dataset:
    """The dataset at a path; the state folder's own path is taken for the dataset's.

    Raises:
        DefinitionError: there is none; names the nearest beside it.
    """
    path = local_path(given).removesuffix("/")
    if path.endswith(_SUFFIX) and not Path(path, "_versions").is_dir():
        path = path.removesuffix(_SUFFIX)
    dataset = Dataset(path)
    if Path(path, "_versions").is_dir() or Path(dataset.state).is_dir():
        return dataset
    parent = Path(path).parent
    if not parent.is_dir():
        raise DefinitionError(f"There is no dataset {path}: the folder {parent} does not exist.")
    beside = sorted(
        {p.name.removesuffix(_SUFFIX) for p in parent.glob("*" + _SUFFIX)}
        | {p.parent.name for p in parent.glob("*/_versions")}
    )
    hint = nearest(Path(path).name, beside)
    if not hint:
        hint = f"In {parent} there are: {', '.join(beside[:8])}." if beside else (
            f"In {parent} there are no datasets."
        )  # fmt: skip
    raise DefinitionError(f"There is no dataset {path}. {hint}")


def find_run(dataset: Dataset, given: str | None) -> Journal:
    """The run of that id, or whose id begins like that; the newest for ``None``.

    Raises:
        DefinitionError: there is none, or there are several.
    """
    found = dataset.runs()
    if not found:
        raise DefinitionError(
            f"{dataset.path} has no runs: no run of weft wrote it, or {dataset.state} is gone."
        )
    if given is None:
        return found[0]
    fits = [j for j in found if j.run == given] or [j for j in found if j.run.startswith(given)]
    if len(fits) == 1:
        return fits[0]
    names = [j.run for j in fits or found]
    what = f"{len(fits)} runs that begin with {given!r}" if fits else f"no run {given!r}"
    have = f"{'' if fits else 'Runs: '}{', '.join(names[:5])}{', …' if len(names) > 5 else ''}."
    raise DefinitionError(f"{dataset.path} has {what}. {have} {nearest(given, names)}".rstrip())


def primary(journal: Journal) -> Journal:
    """The journal that holds a run's units: of a run with several sinks, the first one's."""
    where = journal.about().get("journal")
    return journal if where is None else Journal(Path(where))


def state_of(dataset: Dataset, journal: Journal) -> dict[str, Any]:
    """How far a run is; one whose process died without a word is ``killed``."""
    state = journal.state()
    if state["state"] in ("running", "publishing") and not _held(dataset, journal.run):
        return {**state, "state": "killed"}
    return state


def began(run: str) -> datetime | None:
    """When a run began, as its id says."""
    try:
        return datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def steps_of(journal: Journal, state: dict[str, Any]) -> Steps:
    """The books of a run by step: of all of it, or of the units done so far."""
    if "result" in state:
        whole: Steps = state["result"]["steps"]
        return whole
    steps: Steps = {}
    for receipt in primary(journal).receipts():
        for name, line in receipt["books"].items():
            sums = steps.setdefault(name, dict.fromkeys(line, 0))
            for count, value in line.items():
                sums[count] += value
    return steps


def failed_in(steps: Steps) -> int:
    """Rows that failed, at whatever step."""
    return int(sum(line["failed"] + line.get("children_failed", 0) for line in steps.values()))


def version_in(dataset: Dataset, state: dict[str, Any]) -> int | None:
    """The version of this dataset that a run published."""
    writes = state.get("result", {}).get("writes", [])
    versions = [w["version"] for w in writes if w["dataset"] == dataset.path]
    return versions[0] if versions else None


def _held(dataset: Dataset, run: str) -> bool:
    """Whether the lease says that a living process works on `run`."""
    return is_held(dataset.state, run)
