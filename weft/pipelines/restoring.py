"""Going back to what a table was: a new newest version with the rows of an older one.

Nothing is rewritten and nothing is lost: Lance commits a manifest that names the old files, with
their indices, and goes on counting fragments and row ids where it was. The versions in between
stay readable. Such a version carries no run's id, so a search for a run's commit never takes it.

`increment` goes on from a dataset whose newest version has the rows of `latest`, and whose
ledger has those of the tag of the run at `latest`. `restore_run` leaves both so.

The caller holds the dataset's lease.
"""

from __future__ import annotations

from typing import Any

from weft.errors import CommitConflict
from weft.pipelines import tables
from weft.pipelines.fence import check_fence
from weft.pipelines.fragments import content
from weft.pipelines.tags import whole_tags


def restore(uri: str, version: int | str) -> int:
    """Make the newest version of a table have the rows and indices of `version`; its number.

    A newest version that has them already is left as it is, so doing it again changes nothing.

    >>> import tempfile
    >>> import pyarrow as pa
    >>> token = tables.ensure(tempfile.mkdtemp() + "/t.lance", pa.schema({"v": pa.int64()}))
    >>> for run, values in (("r1", [1, 2]), ("r2", [3])):
    ...     token = tables.ensure(token["uri"], pa.schema({"v": pa.int64()}))
    ...     _ = tables.commit(token, tables.stage(token, pa.table({"v": values})), run, {})
    >>> restore(token["uri"], tables.version_of(token["uri"], "r1"))
    4
    >>> tables.read(token["uri"])["v"].to_pylist()
    [1, 2]

    Raises:
        DefinitionError: there is no such table, version or tag.
        CommitConflict: somebody else wrote to the table in between.
        OSError: the storage failed.
    """
    old, newest = tables.open_table(uri, version), tables.open_table(uri)
    if _same(old, newest):
        return int(newest.version)
    wanted, before = int(old.version), int(newest.version)
    check_fence()
    old.restore()  # `old` is the newest version from here on
    restored = tables.open_table(uri)
    if restored.version != before + 1:
        raise CommitConflict(
            f"{restored.uri}: somebody else wrote to it while version {wanted} was restored "
            f"over version {before}; the newest is {restored.version}. All versions are still "
            "there: `weft history` lists them. Restore it again."
        )
    return int(restored.version)


def restore_run(dataset: str, run: str, *, ledger: str, errors: str) -> int:
    """Make a dataset, its ledger and its errors what `run` left, and show them; the version.

    The rest of the runs stays readable by its tags. A process that dies in between leaves a
    dataset whose next run processes everything, or this is done again.

    Raises:
        DefinitionError: the run has no version in one of the three any more; nothing is changed.
        CommitConflict: somebody else wrote to one of them in between.
        OSError: the storage failed.
    """
    uris = (errors, ledger, dataset)
    versions = [tables.version_of(uri, run) for uri in uris]
    for uri, version in zip(uris, versions, strict=True):
        tables.open_table(uri, version)  # all of them are there, before the first one is touched
    restored = [restore(uri, version) for uri, version in zip(uris, versions, strict=True)]
    for uri, version in zip(uris, restored, strict=True):
        show(uri, version, run)
    return restored[-1]


def show(uri: str, version: int, run: str) -> None:
    """Move `latest` to `version`, which has the rows that `run` left, with what that run says.

    Unlike `tables.tag` it says so of a version that the run did not make. A tag and what it
    says are not moved in one step: in between it says of no recipe, so that a run that finds
    it so looks at everything and is never in sync by mistake.

    Raises:
        DefinitionError: there is no such table or version, or `run` has no tag.
        OSError: the storage failed.
    """
    dataset = tables.open_table(uri, f"run-{run}")
    tags, found = dataset.tags, dataset.tags.list()
    check_fence()
    with whole_tags(dataset.uri, [tables.LATEST]):
        if tables.LATEST in found:
            tags.replace_metadata(tables.LATEST, {tables.RUN_PROPERTY: run})
            tags.update(tables.LATEST, version)
        else:
            tags.create(tables.LATEST, version)
        tags.replace_metadata(tables.LATEST, found[f"run-{run}"]["metadata"])


def _same(one: Any, other: Any) -> bool:
    """Whether two versions of a table have the same rows, in the same files, and indices."""
    return content(one) == content(other) and _indices(one) == _indices(other)


def _indices(dataset: Any) -> list[Any]:
    found = dataset.describe_indices()
    return sorted((i.name, sorted(s.uuid for s in i.segments)) for i in found)
