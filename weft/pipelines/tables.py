"""A Lance table that many stage into and one commits: every write to Lance is in this module.

``ensure`` makes the table if there is none and gives a token. Workers ``stage`` with the token:
files are written, nothing is visible. The driver ``commit``s once: the staged files become the
table's whole content, or take the place of the rows that go. What was there stays readable as
an older version. ``tag`` is what shows the version to readers: ``run-<run>`` for good,
``latest`` until a newer one comes.

A commit of the whole content is one ``Overwrite`` against exactly the version that was looked
at: with ``max_retries=0`` it is a compare-and-swap, and it carries its own schema and field ids.
So is one with new columns, a ``Merge``: see `weft.pipelines.columns`. A commit of rows alone is
one ``Update``, which keeps indices. That is not a compare-and-swap,
measured on pylance 14.0.2: it keeps the old schema (staged floats were read back as integers),
so the schemas must be equal, and it is rebased over a concurrent append without a word, so a
version that is not the next one is refused before anybody sees it.
Lance does not know a transaction that it has already applied, not even by uuid, so the run's id
travels in the transaction's properties and is looked for first.

Only local paths are supported: staging needs the size of files that Lance wrote.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from weft.errors import CommitConflict, DefinitionError, PlanError, Refused, nearest
from weft.pipelines import blobs
from weft.pipelines.columns import fitted, merge
from weft.pipelines.connector import Replacement
from weft.pipelines.fence import check_fence
from weft.pipelines.fragments import check_staged, content, deletions, digest, written

LATEST = "latest"
TABLE_ID = b"weft.table"
"""Key of the schema's metadata: a name that a table made anew at the same path does not have."""

RUN_PROPERTY = "weft.run"
_MESSAGE_PROPERTY = "__lance_commit_message"  # lance.dataset.LANCE_COMMIT_MESSAGE_KEY
_BASE_PROPERTY = "weft.base"
"""The version that a run committed on top of."""

_BLOB_STORAGE = (2, 2)
"""The oldest Lance file format that has blob columns of the second kind."""

_FILE_BYTES = 512 << 20
"""Where a data file ends. Lance's 90 GB makes one file of a whole unit; with a few MB, the
manifest, which every commit rewrites whole, grows by a line per file."""

_FILE_ROWS = 1 << 20

_COMMIT_TRIES = 6
"""Each try looks for the run first. Waiting doubles from 50 ms, so all of them take 3 s."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What can be a tag. Lance takes other letters too, and then cannot list the tags any more."""


@dataclass(frozen=True)
class Version:
    """One version of a table, as `history` lists it."""

    number: int
    time: datetime
    rows: int
    tags: tuple[str, ...]
    run: str | None
    properties: Mapping[str, str]


def local_path(uri: str) -> str:
    """The absolute path that `uri` names.

    >>> local_path("file:///data/photos.lance")
    '/data/photos.lance'

    Raises:
        PlanError: `uri` is on a storage that is not supported.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme != "file":
        raise PlanError(
            f"Lance tables can be on a local or mounted path for now, not on {scheme}://. "
            f"Given: {uri!r}. Use a path, or file://…."
        )
    return str(Path(rest if separator else uri).expanduser().absolute())


def exists(uri: str) -> bool:
    """Whether there is a Lance table at `uri`.

    Raises:
        PlanError: `uri` is on a storage that is not supported.
    """
    return _newest(local_path(uri)) is not None


def ensure(uri: str, schema: pa.Schema) -> dict[str, Any]:
    """Make an empty table of `schema` if there is none; the token that the others take.

    The token is JSON and belongs to one run: keep it in the run's journal, because a commit
    looks for an earlier commit of its run no further back than the token's version.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> token = ensure(f"{folder}/t.lance", pa.schema({"_key": pa.string()}))
    >>> staged = stage(token, pa.table({"_key": ["a", "b"]}))
    >>> version = commit(token, staged, "r1", {})
    >>> version == commit(token, staged, "r1", {})
    True
    >>> tag(token["uri"], version, "r1", {})
    >>> read(token["uri"], "latest").num_rows
    2

    Raises:
        PlanError: `uri` is not supported, or the table there is of a format without blobs.
        OSError: the storage failed.
    """
    path = local_path(uri)
    dataset = _newest(path)
    if dataset is None:  # an empty one is false
        dataset = _create(path, schema)
    storage = dataset.data_storage_version
    if tuple(map(int, storage.split("."))) < _BLOB_STORAGE:
        raise PlanError(
            f"The Lance table {path} has file format {storage}; weft writes 2.2 or newer. "
            "Write to another path."
        )
    return {
        "uri": path,
        "schema": schema.serialize().to_pybytes().hex(),
        "storage": storage,
        "read_version": dataset.version,
        "content": content(dataset),
    }


def stage(token: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
    """Write `table` to files that nobody sees yet; returns JSON that `commit` takes.

    Media columns (`Encoded`) become blob columns, whose bytes no scan of another column reads.

    Raises:
        pa.ArrowInvalid, ValueError: `table` does not have the token's columns.
        OSError: the storage failed, for example because it is full.
    """
    from lance.fragment import write_fragments

    schema = _schema(token)
    if table.num_rows == 0:
        return []
    fragments = write_fragments(
        blobs.to_stored(table.select(schema.names).cast(schema)),
        token["uri"],
        mode="overwrite",  # field ids of the given schema, not of the table's present one
        max_rows_per_file=_FILE_ROWS,
        max_bytes_per_file=_FILE_BYTES,
        data_storage_version=token["storage"],
    )
    data = Path(token["uri"], "data")
    return [
        {
            "fragment": fragment.to_json(),
            "rows": fragment.physical_rows,
            "files": dict(written(data, [f.path for f in fragment.files])),
            "schema": digest(token["schema"]),
        }
        for fragment in fragments
    ]


def commit(
    token: Mapping[str, Any],
    staged: Sequence[Mapping[str, Any]],
    run: str,
    properties: Mapping[str, str],
    *,
    removed: Collection[str] | None = None,
    replacement: Replacement | None = None,
) -> int:
    """Make what is staged the table's content, in one transaction; its version.

    Without `removed` it is the whole content. With it, the rows of these keys go and all others
    stay, but for the columns of a `replacement`; a key may be staged again.

    A run that is already committed is found and nothing changes. An error that leaves open
    whether the commit took place leads back to looking; nothing staged is ever deleted. Other
    commits since the token was made are no conflict as long as the rows are what they were:
    indices, configuration and leases do not come between.

    Raises:
        CommitConflict: somebody else changed the rows in between.
        BooksError: a staged file is missing, has another size, or was given twice.
        PlanError: something was staged for another schema.
        DefinitionError: `run` cannot name a run.
        OSError, RuntimeError: Lance failed each time and nothing was committed; try again later.
    """
    check_run_id(run)
    failures: list[Exception] = []
    while True:
        dataset = open_table(token["uri"])
        done = _find_run(dataset, run, token["read_version"])
        if done is not None:
            return _check_next(dataset, done, run)
        _check_content(dataset, token, run)
        if len(failures) == _COMMIT_TRIES:
            _give_up(token, run, failures[-1])
        check_staged(token, staged)
        try:
            operation = _operation(dataset, token, staged, removed, replacement)
            message = f"run {run}: {sum(item['rows'] for item in staged)} rows"
            about = {**properties, RUN_PROPERTY: run, _MESSAGE_PROPERTY: message}
            return _transact(dataset, token, operation, about)
        except (OSError, RuntimeError) as error:  # conflicts too; any of them may be ambiguous
            failures.append(error)
            time.sleep(0.05 * 2 ** (len(failures) - 1))


def tag(uri: str, version: int, run: str, properties: Mapping[str, str]) -> None:
    """Show `version` to readers: tag it ``run-<run>``, then move ``latest`` to it.

    ``latest`` never moves back. Moving it is not a compare-and-swap: the caller holds the lease.
    Doing it again completes what a killed process left half done.

    Raises:
        Refused: ``run-<run>`` already names another version.
        DefinitionError: `run` cannot name a run, or there is no such version.
        OSError: the storage failed.
    """
    check_run_id(run)
    check_fence()
    dataset = open_table(uri, version)
    name, metadata = f"run-{run}", {**properties, RUN_PROPERTY: run}
    tags = dataset.tags.list()
    if name not in tags:
        dataset.tags.create(name, version)
    elif tags[name]["version"] != version:
        raise Refused(
            f"{dataset.uri}: tag {name!r} names version {tags[name]['version']} and cannot be "
            f"moved to {version}. A run has one version: give the new run another id."
        )
    dataset.tags.replace_metadata(name, metadata)
    current = tags[LATEST]["version"] if LATEST in tags else 0
    if current == 0:
        dataset.tags.create(LATEST, version)
    elif current < version:
        dataset.tags.update(LATEST, version)
    if current <= version:
        dataset.tags.replace_metadata(LATEST, metadata)


def open_table(uri: str, version: int | str | None = None) -> Any:
    """The Lance dataset at a version number or a tag; the newest version for ``None``.

    Raises:
        DefinitionError: there is no table, version or tag of that name; lists those there are.
        PlanError: `uri` is on a storage that is not supported.
    """
    path = local_path(uri)
    if (dataset := _newest(path)) is None:
        raise DefinitionError(f"There is no Lance table at {path}. Check the path.")
    if isinstance(version, str):
        tags = {name: tag["version"] for name, tag in dataset.tags.list().items()}
        if version not in tags:
            hint = nearest(version, tags)
            raise DefinitionError(
                f"{path} has no tag {version!r}. Tags: {', '.join(sorted(tags)) or 'none'}. "
                f"{hint}".rstrip()
            )
        version = tags[version]
    if version is None or version == dataset.version:
        return dataset
    if version not in _versions(dataset):
        raise DefinitionError(
            f"{path} has no version {version}; the newest is {dataset.version}, and old ones "
            "may have been cleaned up. `weft history` lists them."
        )
    return dataset.checkout_version(version)


def read(
    uri: str,
    version: int | str | None = None,
    columns: Sequence[str] | None = None,
    where: str | None = None,
) -> pa.Table:
    """Rows at a version number or a tag, all of them in memory; media as bytes.

    `where` is a Lance SQL filter. For the ledger, the errors table and previews; a pipeline
    reads datasets through the `Lance` source.

    Raises:
        DefinitionError: there is no such table, version or tag.
        ValueError: there is no such column, or `where` is not SQL that Lance understands.
    """
    dataset = open_table(uri, version)
    names = list(columns) if columns is not None else dataset.schema.names
    table = dataset.scanner(names, filter=where, blob_handling="all_binary").to_table()
    plain = blobs.plain_schema(dataset.schema)
    return pa.table(table.columns, schema=pa.schema([plain.field(name) for name in names]))


def latest(uri: str) -> tuple[int, dict[str, str]] | None:
    """The version that readers see and its properties; ``None`` if nothing is published.

    Raises:
        PlanError: `uri` is on a storage that is not supported.
    """
    dataset = _newest(local_path(uri))
    found = dataset.tags.list().get(LATEST) if dataset is not None else None
    return None if found is None else (found["version"], dict(found["metadata"]))


def version_of(uri: str, run: str) -> int:
    """The version that `run` committed, shown to readers or not.

    Raises:
        DefinitionError: there is no such table, or `run` has no version that is still there.
    """
    version = _find_run(open_table(uri), run, since=1)
    if version is None:
        raise DefinitionError(f"{local_path(uri)} has no version of run {run!r}.")
    return version


def history(uri: str, limit: int | None = None) -> list[Version]:
    """The table's versions, the newest first; at most `limit`. Reads two small files of each.

    Raises:
        DefinitionError: there is no such table.
    """
    dataset = open_table(uri)
    tags: dict[int, list[str]] = {}
    for name, found in dataset.tags.list().items():
        tags.setdefault(found["version"], []).append(name)
    versions = sorted(dataset.versions(), key=lambda v: v["version"], reverse=True)[:limit]
    return [_version(dataset, v, sorted(tags.get(v["version"], ()))) for v in versions]


def _version(dataset: Any, found: Mapping[str, Any], tags: Sequence[str]) -> Version:
    properties = _properties(dataset, found["version"])
    return Version(
        number=found["version"],
        time=found["timestamp"].astimezone(UTC),  # Lance gives local time without a zone
        rows=int(found["metadata"]["total_rows"]),
        tags=tuple(tags),
        run=properties.pop(RUN_PROPERTY, None),
        properties=properties,
    )


def check_run_id(run: str) -> None:
    """Refuse what cannot name a run, before it is in a transaction and cannot be in a tag.

    Raises:
        DefinitionError: `run` has other characters than a tag may have.
    """
    if not _RUN_ID.fullmatch(run):
        raise DefinitionError(
            f"{run!r} cannot name a run. Expected up to 128 ASCII letters, digits, '.', '-' and "
            "'_', and a letter or digit first."
        )


def _schema(token: Mapping[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(token["schema"])))


def _newest(path: str) -> Any | None:
    import lance

    if not Path(path, "_versions").is_dir():
        return None
    try:
        return lance.dataset(path)
    except ValueError:  # "not found": the folder of a table whose creation was cut short
        return None


def _create(path: str, schema: pa.Schema) -> Any:
    """Lance's own ``mode="create"`` lets several of a race win; version 0 lets one."""
    from lance import LanceDataset, LanceOperation, Transaction

    named = blobs.stored_schema(schema).with_metadata({TABLE_ID: secrets.token_hex(8)})
    first = Transaction(0, LanceOperation.Overwrite(named, []))
    try:
        return LanceDataset.commit(path, first, max_retries=0, enable_stable_row_ids=True)
    except OSError:
        dataset = _newest(path)
        if dataset is None:
            raise
        return dataset


def _versions(dataset: Any) -> list[int]:
    return sorted(ref["version"] for ref in dataset.version_refs())


def _properties(dataset: Any, version: int) -> dict[str, str]:
    try:
        transaction = dataset.read_transaction(version)
    except TypeError:
        # pylance 14 cannot build its own RewrittenIndex from the transaction of a compaction
        # that remapped an index; weft makes no such transaction under a run's id.
        return {}
    return dict((transaction.transaction_properties or {}) if transaction else {})


def _find_run(dataset: Any, run: str, since: int) -> int | None:
    """The version that `run` committed, if any. 0.15 ms per version since the token was made."""
    tags = dataset.tags.list()
    if f"run-{run}" in tags:
        return int(tags[f"run-{run}"]["version"])
    for version in reversed([v for v in _versions(dataset) if v >= since]):
        if _properties(dataset, version).get(RUN_PROPERTY) == run:
            return version
    return None


def _check_content(dataset: Any, token: Mapping[str, Any], run: str) -> None:
    if content(dataset) == token["content"]:
        return
    since = [v for v in _versions(dataset) if v > token["read_version"]]
    others = [f"{v} (run {_properties(dataset, v).get(RUN_PROPERTY, 'unknown')})" for v in since]
    raise CommitConflict(
        f"{dataset.uri}: run {run!r} began at version {token['read_version']} and the rows have "
        f"changed since, in one of the versions {', '.join(others[-5:])}. Nothing was committed "
        "and nothing staged was deleted. Start the run again from the newest version."
    )


def _operation(
    dataset: Any,
    token: Mapping[str, Any],
    staged: Sequence[Mapping[str, Any]],
    removed: Collection[str] | None,
    replacement: Replacement | None,
) -> Any:
    from lance import LanceOperation
    from lance.fragment import FragmentMetadata

    fragments, schema = [s["fragment"] for s in staged], blobs.stored_schema(_schema(token))
    if removed is None:
        named = dataset.schema.metadata or {TABLE_ID: secrets.token_hex(8)}
        new = [FragmentMetadata.from_json(json.dumps(f)) for f in fragments]
        return LanceOperation.Overwrite(schema.with_metadata(named), new)
    if replacement is not None:
        return merge(dataset, schema, fragments, removed, replacement)
    if not schema.equals(dataset.schema):
        raise PlanError(
            f"{token['uri']}: the rows to add have other columns than the table. Run with --fresh."
        )
    new = [FragmentMetadata.from_json(json.dumps(f)) for f in fitted(dataset, schema, fragments)]
    gone, thinned = deletions(dataset, removed)
    return LanceOperation.Update(gone, thinned, new)


def _transact(
    dataset: Any, token: Mapping[str, Any], operation: Any, about: Mapping[str, str]
) -> int:
    from lance import LanceDataset, Transaction

    check_fence()
    properties = {**about, _BASE_PROPERTY: str(dataset.version)}
    transaction = Transaction(dataset.version, operation, transaction_properties=properties)
    made = LanceDataset.commit(token["uri"], transaction, max_retries=0)
    return _check_next(made, int(made.version), about[RUN_PROPERTY])


def _check_next(dataset: Any, version: int, run: str) -> int:
    """`version` of a run, if nobody came between it and the version it was made for."""
    base = _properties(dataset, version).get(_BASE_PROPERTY)
    if base is not None and int(base) + 1 != version:
        raise CommitConflict(
            f"{dataset.uri}: somebody else wrote version {version - 1} while run {run!r} committed "
            f"on top of version {base}. Their mixture is version {version}, which no tag names. "
            "Run again with --fresh."
        )
    return version


def _give_up(token: Mapping[str, Any], run: str, failure: Exception) -> NoReturn:
    from lance.commit import CommitConflictError

    if isinstance(failure, CommitConflictError):
        raise CommitConflict(
            f"{token['uri']}: others committed each of the {_COMMIT_TRIES} times that run "
            f"{run!r} tried to. Nothing was committed; try again."
        ) from failure
    failure.add_note(f"Run {run!r} is not committed to {token['uri']}; committing again is safe.")
    raise failure
