"""The files of a Lance table: those that were staged, and those that rows are deleted from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from weft.errors import BooksError, PlanError
from weft.pipelines.batch import KEY


def digest(text: str) -> str:
    """The sha256 of `text`, as hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def written(data: Path, files: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Data files and their sidecars, which hold large blobs and which fragments do not name."""
    for file in files:
        yield file, (data / file).stat().st_size
        folder = data / file.removesuffix(".lance")
        if folder.is_dir():
            for sidecar in sorted(folder.iterdir()):
                yield f"{folder.name}/{sidecar.name}", sidecar.stat().st_size


def check_staged(token: Mapping[str, Any], staged: Sequence[Mapping[str, Any]]) -> None:
    """Look at every staged file. Lance does not: a missing one makes a version nobody can read.

    Raises:
        BooksError: a file is missing, has another size, or is given twice.
        PlanError: something was staged for another schema than the token's.
    """
    data = Path(token["uri"], "data")
    schema = digest(token["schema"])
    seen: set[str] = set()
    wrong: list[str] = []
    for item in staged:
        if item["schema"] != schema:
            raise PlanError(
                f"{token['uri']}: {next(iter(item['files']))} was staged for another schema "
                "than this run's. Stage everything of a run with one token."
            )
        for file, size in item["files"].items():
            path = data / file
            if file in seen:
                wrong.append(f"{file} is given twice")
            elif not path.is_file():
                wrong.append(f"{file} is missing")
            elif path.stat().st_size != size:
                wrong.append(f"{file} has {path.stat().st_size} bytes, not {size}")
            seen.add(file)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise BooksError(
            f"{data}: {'; '.join(wrong[:3])}{more}. Nothing was committed. Was the folder "
            "cleaned while the run was going on? Run the units again that staged these files."
        )


def deletions(dataset: Any, keys: Collection[str]) -> tuple[list[int], list[Any]]:
    """The fragments of `dataset` that lose all their rows, and the others without the rows of
    `keys`: ids, and metadata with a deletion file. Reads the keys of all rows, nothing else.

    By position, not by a predicate: of 1e6 rows in one fragment, 500,000 take 0.6 s to delete,
    where a list of their keys in SQL took 14 s.
    """
    gone: list[int] = []
    thinned: list[Any] = []
    if not keys:
        return gone, thinned
    places = _places(dataset, keys)
    for fragment in dataset.get_fragments():
        found = places.get(fragment.fragment_id, [])
        if len(found) == fragment.count_rows():
            gone.append(fragment.fragment_id)
        elif len(found):
            thinned.append(fragment.delete_rows(found))
    return gone, thinned


def _places(dataset: Any, keys: Collection[str]) -> dict[int, list[int]]:
    """By fragment, the positions in its files of the rows of `keys`: a row's address has both."""
    wanted = pl.Series(list(keys), dtype=pl.String).implode()
    rows = pl.DataFrame(dataset.scanner(columns=[KEY], with_row_address=True).to_table())
    at = pl.col("_rowaddr")
    found = rows.lazy().filter(pl.col(KEY).is_in(wanted)).select(at // 2**32, of=at % 2**32)
    grouped = found.group_by("_rowaddr").agg("of").collect()
    return dict(zip(grouped["_rowaddr"], grouped["of"].to_list(), strict=True))


def content(dataset: Any) -> str:
    """A digest of what the rows are: the schema and the files, not indices or configuration."""
    fragments = [f.metadata.to_json() for f in dataset.get_fragments()]
    files = [([d["path"] for d in f["files"]], f["deletion_file"]) for f in fragments]
    columns = [(f.name, str(f.type)) for f in dataset.schema]
    return digest(json.dumps([columns, files]))
