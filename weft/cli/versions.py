"""VERSION: a version's number, a tag, a run's id, or how that begins."""

from __future__ import annotations

from weft.errors import DefinitionError, nearest
from weft.pipelines import tables

_RUN = "run-"


def find_version(dataset: str, given: str) -> int:
    """The number of the version that is meant.

    Raises:
        DefinitionError: there is none, or there are several; names the nearest.
    """
    table = tables.open_table(dataset)
    tags = {name: found["version"] for name, found in table.tags.list().items()}
    for name in (given, _RUN + given):
        if name in tags:
            return int(tags[name])
    runs = sorted(name.removeprefix(_RUN) for name in tags if name.startswith(_RUN))
    if given.isdigit() and any(v["version"] == int(given) for v in table.versions()):
        return int(given)
    fits = [run for run in runs if run.startswith(given)]
    if len(fits) == 1:
        return int(tags[_RUN + fits[0]])
    if fits:
        some = ", ".join(fits[:5]) + (", …" if len(fits) > 5 else "")
        raise DefinitionError(f"{dataset} has {len(fits)} runs that begin with {given!r}: {some}")
    if given.isdigit():
        tables.open_table(dataset, int(given))  # raises, and says what there is
    names = [name for name in tags if not name.startswith(_RUN)] + runs
    raise DefinitionError(
        f"{dataset} has no version, tag or run {given!r}. `weft history` lists them. "
        f"{nearest(given.removeprefix(_RUN), names)}".rstrip()
    )
