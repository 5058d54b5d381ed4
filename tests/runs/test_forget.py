"""Rows that are forgotten are in no table, file, index or journal, and are not read again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import polars as pl
import pyarrow.parquet as pq
import pytest

import weft
from weft.connectors import Files, Lance, Parquet
from weft.errors import Busy, DefinitionError, GateFailed, OverBudget, Refused
from weft.gates import RowCount
from weft.pipelines import tables
from weft.pipelines.lowering import lower
from weft.pipelines.observe.lineage import why
from weft.pipelines.restoring import restore_run
from weft.pipelines.runs import forgotten
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.forget import forget, look
from weft.pipelines.runs.increment import find_increment
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.readers import readers
from weft.pipelines.runs.result import Listener

sys.path.insert(0, str(Path(__file__).parent))
import recordings
from recordings import PIECE, count, cut, embed, record

NAMES = ("anna-smith-01.wav", "anna-smith-02.wav", "broken-carl.wav", "dora-kim-01.wav")
GONE = "anna-smith-02.wav"
LONG = os.environ.get("WEFT_FAULTS") == "all"
DATASETS = ("pieces", "sizes", "vectors", "speakers")


class Heard(Listener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def run(pipeline: Any, **more: Any) -> tuple[Any, list[str]]:
    heard = Heard()
    given = {"budget": Budget(rows=100), "listener": heard, **more}
    return pipeline.run(engine="local", **given), heard.notices


def every(folder: Path) -> list[tuple[Any, list[str]]]:
    """Run all three, each on what the one before it made."""
    out = str(folder)
    first = run(cut(source=f"{folder}/in/*", out=out))
    return [first, run(embed(out)), run(count(out))]


class Home:
    """Two levels of datasets of four recordings, with indexes, made once and then put back: paths
    are absolute, so a copy elsewhere is no copy."""

    def __init__(self, path: Path, spare: Path) -> None:
        self.path, self._spare = path, spare
        path.mkdir()
        record(path / "in", *NAMES)
        every(path)
        pieces, vectors = (lance.dataset(f"{path}/{n}.lance") for n in ("pieces", "vectors"))
        pieces.create_scalar_index("note", "INVERTED")
        pieces.create_scalar_index("_key", "BTREE")
        vectors.create_scalar_index("speaker", "BITMAP")
        vectors.create_index("vector", "IVF_SQ", num_partitions=1, metric="cosine")
        shutil.copytree(path, spare)

    def put_back(self) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(self._spare, self.path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("forget")
    return Home(folder / "home", folder / "spare")


@pytest.fixture
def made(home: Home) -> Path:
    home.put_back()
    return home.path


def content(folder: Path, names: tuple[str, ...] = DATASETS) -> dict[str, list[dict[str, Any]]]:
    """All that readers see, in an order that does not depend on how it came about."""
    found = {}
    for name in names:
        path = f"{folder}/{name}.lance"
        for uri in (path, ledger_uri(f"{path}.weft"), errors_uri(f"{path}.weft")):
            rows = pl.DataFrame(tables.read(uri, "latest"))
            rows = rows.drop("_source", strict=False)  # versions of rows and of files
            order = [c for c in ("_key", "outcome") if c in rows.columns]
            found[uri.removeprefix(str(folder))] = rows.sort(order).to_dicts()
    return found


def changed_at(folder: Path, name: str) -> list[tuple[str, int]]:
    """The keys of a dataset, and which version wrote the row."""
    columns = ["_key", "_row_last_updated_at_version"]
    rows = lance.dataset(f"{folder}/{name}.lance").to_table(columns)
    return sorted(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def holders(folder: Path, *needles: bytes) -> list[str]:
    """Files outside the source that have one of some strings of bytes: an independent search."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.relative_to(folder).parts[0] not in ("in", "full")
        and any(needle in path.read_bytes() for needle in needles)
    ]


def needles(folder: Path, name: str = GONE) -> list[bytes]:
    raw = (folder / "in" / name).read_bytes()
    return [name.encode(), raw[:40], raw[50_000:50_100], raw[PIECE + 5 : PIECE + 90], raw[-80:]]


def full(folder: Path, *without: str) -> dict[str, list[dict[str, Any]]]:
    """What the datasets are made of a source that never had some files."""
    shutil.copytree(folder / "in", folder / "full" / "in")
    for name in without:
        (folder / "full" / "in" / name).unlink()
    every(folder / "full")
    return content(folder / "full")


def test_a_row_and_all_that_was_made_of_it_are_in_no_file(made: Path) -> None:
    gone = needles(made)
    before = {path.split(os.sep)[0] for path in holders(made, *gone)}
    assert before == {f"{n}.lance{s}" for n in DATASETS for s in ("", ".weft")} - {"speakers.lance"}
    receipt = forget(f"{made}/pieces.lance", [GONE])
    assert receipt.complete
    assert holders(made, *gone) == []
    told = {Path(d["dataset"]).stem: d for d in receipt.document["datasets"]}
    assert list(told) == ["speakers", "vectors", "pieces", "sizes"]  # what was made of others first
    assert {n: d["rows"] for n, d in told.items()} == {
        "speakers": 1, "vectors": 5, "pieces": 5, "sizes": 1,
    }  # fmt: skip
    assert [n for n, d in told.items() if d["made_anew_by_the_next_run"]] == ["speakers"]
    assert len(told["speakers"]["of_several_rows"]) == 1
    scan = receipt.document["proof"]["scan"]
    assert scan["seen_before"] == scan["traces"] > 15
    assert scan["found"] == []
    for name in DATASETS:
        dataset = lance.dataset(f"{made}/{name}.lance")
        assert len(dataset.versions()) == 1
        assert set(dataset.tags.list()) == {
            "latest",
            f"run-{journals(f'{dataset.uri}.weft')[0].run}",
        }


def test_rows_that_stay_stay_with_their_media_and_indexes(made: Path) -> None:
    before = content(made)
    written = {name: changed_at(made, name) for name in ("pieces", "sizes")}
    forget(f"{made}/pieces.lance", [GONE])
    after = content(made)
    for table in ("/pieces.lance", "/sizes.lance", "/vectors.lance"):
        assert after[table] == [r for r in before[table] if not r["_key"].startswith(GONE)]
    assert {r["piece"] is None for r in after["/pieces.lance"]} == {True, False}
    assert b"" in [r["piece"] for r in after["/pieces.lance"]]
    for name, rows in written.items():  # readers of the dataset see no row that has changed
        stay = [row for row in rows if not row[0].startswith(GONE)]
        assert changed_at(made, name) == stay
    pieces, vectors = (lance.dataset(f"{made}/{n}.lance", version="latest")
                       for n in ("pieces", "vectors"))  # fmt: skip
    assert sorted(i.index_type for i in pieces.describe_indices()) == ["BTree", "Inverted"]
    assert sorted(i.index_type for i in vectors.describe_indices()) == ["Bitmap", "IVF_SQ"]
    assert {i.num_rows_indexed for d in (pieces, vectors) for i in d.describe_indices()} == {10}
    found = pieces.to_table(["_key"], full_text_query="smith", limit=20)["_key"].to_pylist()
    assert sorted(found) == [f"anna-smith-01.wav#{i}" for i in range(5)]
    assert vectors.count_rows("speaker = 'anna'") == 5


def test_the_next_runs_make_what_a_source_without_it_would(made: Path) -> None:
    forget(f"{made}/pieces.lance", [GONE])
    assert (made / "in" / GONE).exists()
    (first, _), (second, _), (third, notices) = every(made)
    assert first.in_sync
    assert (second.rows, second.increment["unchanged"]) == (0, 10)
    assert third.rows == 10  # the groups, of all that is left
    assert notices[0].startswith("All rows are processed: group works on rows that are together")
    assert content(made) == full(made, GONE)
    assert all(result.in_sync for result, _ in every(made))
    assert why(f"{made}/vectors.lance", "dora-kim-01.wav#0")


def test_it_is_not_read_again(made: Path) -> None:
    forget(f"{made}/pieces.lance", [GONE])
    (made / "in" / GONE).unlink()
    every(made)
    record(made / "in", GONE, "emil-frost-01.wav", seed=5)
    pipeline = cut(source=f"{made}/in/*", out=str(made))
    found = find_increment(lower(forgotten.without(pipeline.graph.afresh())))
    assert found.counts["new"] == 1  # type: ignore[union-attr]  what `weft plan` says
    (first, notices), *_ = every(made)
    assert (first.rows, first.increment["new"]) == (1, 1)
    assert "1 row is forgotten and not read." in notices
    assert all(result.in_sync for result, _ in every(made))
    result, notices = run(pipeline, fresh=True)
    assert (result.rows, notices) == (4, ["1 row is forgotten and not read."])
    assert result.kept == {"write": 15, "write_2": 4}
    assert GONE not in [r["_key"] for r in content(made)["/sizes.lance"]]
    assert holders(made, GONE.encode()) == []


def test_a_row_that_failed_and_what_is_said_of_it(made: Path) -> None:
    key = b"broken-carl.wav"
    assert holders(made, key) != []
    journal = journals(f"{made}/pieces.lance.weft")[0]
    assert [s["key"] for s in journal.state()["result"]["samples"]] == [key.decode()]
    receipt = forget(f"{made}/pieces.lance", [key.decode()])
    assert receipt.complete
    assert holders(made, key) == []
    assert journal.state()["result"]["samples"] == []
    assert tables.read(errors_uri(f"{made}/pieces.lance.weft")).num_rows == 0
    assert run(cut(source=f"{made}/in/*", out=str(made)))[0].in_sync
    every(made)
    assert content(made) == full(made, key.decode())


def test_what_only_older_versions_hold_goes_as_well(made: Path) -> None:
    old = needles(made)[1:]
    record(made / "in", GONE, seed=9)
    every(made)
    (made / "in" / GONE).unlink()
    every(made)
    record(made / "in", "emil-frost-01.wav")
    every(made)
    assert [h for h in holders(made, *old) if h.endswith(".blob")] != []
    receipt = forget(f"{made}/pieces.lance", [GONE])
    assert receipt.complete
    assert receipt.document["datasets"][2]["rows"] == 0
    assert holders(made, GONE.encode(), *old) == []
    every(made)
    assert content(made) == full(made)


def test_a_copy_of_it_that_stays_is_told(made: Path) -> None:
    shutil.copy(made / "in" / GONE, made / "in" / "copy.wav")
    every(made)
    receipt = forget(f"{made}/pieces.lance", [GONE])
    assert receipt.complete
    assert receipt.document["proof"]["scan"]["in_rows_that_stay"] > 5
    assert holders(made, GONE.encode()) == []


def test_forgetting_again_proves_it_again(made: Path) -> None:
    first = forget(f"{made}/pieces.lance", [GONE])
    again = forget(f"{made}/pieces.lance", [GONE])
    assert again.complete
    assert again.path != first.path
    assert again.document["keys"] == first.document["keys"]
    assert GONE not in first.path.read_text()
    assert not Path(f"{made}/pieces.lance.weft/forgotten/pending.json").exists()


def test_a_key_that_nobody_holds(made: Path) -> None:
    with pytest.raises(DefinitionError, match=r"holds no row 'anna-smith-03.wav'.*'anna-smith-0"):
        look(f"{made}/pieces.lance", ["anna-smith-03.wav"])
    before = content(made)
    receipt = forget(f"{made}/pieces.lance", ["anna-smith-03.wav"], even_if_absent=True)
    assert receipt.complete
    assert receipt.document["absent"] == 1
    assert content(made) == before
    record(made / "in", "anna-smith-03.wav")
    (result, notices), *_ = every(made)
    assert result.rows == 0
    assert "1 row is forgotten and not read." in notices
    assert content(made) == before


def test_what_was_made_of_others_is_refused_with_what_to_forget(made: Path) -> None:
    told = rf"was made of {GONE}, .* would make it again.*: weft forget .*pieces.lance '{GONE}'"
    with pytest.raises(DefinitionError, match=told):
        look(f"{made}/pieces.lance", [f"{GONE}#1"])
    told = r"'anna' was made of 10 rows, as a group.*: weft forget .*speakers.lance 'anna.*#0'"
    with pytest.raises(DefinitionError, match=told):
        look(f"{made}/speakers.lance", ["anna"])
    with pytest.raises(DefinitionError, match="has no ledger"):
        look(f"{made}/pieces.lance.weft/ledger.lance", ["anna"])


def test_a_row_of_one_dataset_leaves_those_that_it_was_made_of(made: Path) -> None:
    key = f"{GONE}#1"
    receipt = forget(f"{made}/vectors.lance", [key])
    assert receipt.complete
    assert [Path(d["dataset"]).stem for d in receipt.document["datasets"]] == [
        "speakers",
        "vectors",
    ]
    assert key in [r["_key"] for r in content(made)["/pieces.lance"]]
    (first, _), (second, _), (third, _) = every(made)
    assert first.in_sync
    assert second.in_sync
    assert third.rows == 14
    assert not [r for r in content(made)["/vectors.lance"] if r["_key"] == key]


def test_an_unfinished_run_is_refused_or_given_up(made: Path) -> None:
    class Stop(Heard):
        def advanced(self, rows_done: int, *_: Any) -> None:
            raise KeyboardInterrupt

    record(made / "in", GONE, seed=3)
    staged = needles(made)
    with pytest.raises(weft.errors.Interrupted):
        run(cut(source=f"{made}/in/*", out=str(made)), listener=Stop())
    with pytest.raises(Refused, match=r"is not finished.*weft resume .*pieces.lance.*--abandon"):
        forget(f"{made}/pieces.lance", [GONE])
    receipt = forget(f"{made}/pieces.lance", [GONE], abandon=True)
    assert receipt.complete
    assert holders(made, *staged) == []
    assert journals(f"{made}/sizes.lance.weft")[0].state()["state"] == "abandoned"
    every(made)
    assert content(made) == full(made, GONE)


def test_a_reader_that_has_staged_it_and_shown_nothing(made: Path) -> None:
    """The errors of a run over its budget, the rows it staged, and a table never shown."""

    @weft.operator(version="1")
    def fussy(piece: weft.Encoded | None, note: str) -> weft.Encoded("audio"):  # type: ignore[valid-type]
        if GONE in note and piece:
            return piece
        raise ValueError(f"after {GONE}: {note}")

    @weft.pipeline
    def fuss() -> Any:
        rows = weft.read(Lance(f"{made}/pieces.lance")).apply(fussy)
        return rows.select("fussy").write(Lance(f"{made}/fuss.lance"))

    with pytest.raises(OverBudget):
        run(fuss(), budget=Budget(rows=0))
    gone = needles(made)
    assert any(path.startswith("fuss.lance") for path in holders(made, *gone))
    receipt = forget(f"{made}/pieces.lance", [GONE])
    assert receipt.complete
    assert holders(made, *gone) == []


def test_a_run_on_any_of_the_datasets_is_in_the_way(made: Path) -> None:
    with hold(f"{made}/speakers.lance.weft", "other"), pytest.raises(Busy, match="Run other"):
        forget(f"{made}/pieces.lance", [GONE])
    assert look(f"{made}/pieces.lance", [GONE]).parts[2].rows == 5


def test_columns_that_were_computed_anew(tmp_path: Path) -> None:
    """A fragment then has files of columns, and what it had before is in them still."""

    def loud(version: str) -> Any:
        @weft.operator(version=version)
        def shout(note: str) -> str:
            return f"{note.upper()} in version {version}"

        @weft.pipeline
        def shouted() -> Any:
            rows = weft.read(Files(f"{tmp_path}/in/*", kind="audio"))
            rows = rows.apply(recordings.pieces).apply(shout)
            return rows.select("piece", "note", "shout").write(Lance(f"{tmp_path}/loud.lance"))

        return shouted()

    record(tmp_path / "in", *NAMES)
    run(loud("1"))
    assert len(run(loud("2"))[1]) > 0
    gone = [*needles(tmp_path), GONE.upper().encode()]
    assert any(h.startswith("loud.lance/data") for h in holders(tmp_path, GONE.upper().encode()))
    receipt = forget(f"{tmp_path}/loud.lance", [GONE])
    assert receipt.complete
    assert holders(tmp_path, *gone) == []
    assert run(loud("2"))[0].in_sync
    result, _ = run(loud("3"))
    assert result.rows == 0  # nothing is read: the column is made of what the dataset has
    rows = tables.read(f"{tmp_path}/loud.lance", "latest")
    assert rows.num_rows == 10
    assert all(text.endswith("in version 3") for text in rows["shout"].to_pylist())


def test_after_a_rollback(made: Path) -> None:
    first = journals(f"{made}/pieces.lance.weft")[0].run
    (made / "in" / NAMES[0]).unlink()
    every(made)
    uri = f"{made}/pieces.lance"
    beside = {"ledger": ledger_uri(f"{uri}.weft"), "errors": errors_uri(f"{uri}.weft")}
    restore_run(uri, first, **beside)
    receipt = forget(uri, [GONE])
    assert receipt.complete
    assert holders(made, *needles(made)) == []
    keys = {key.partition("#")[0] for key in tables.read(uri, "latest")["_key"].to_pylist()}
    assert keys == {NAMES[0], NAMES[3]}
    assert tables.latest(uri)[1]["weft.run"] == first  # type: ignore[index]
    every(made)
    assert {r["_key"].partition("#")[0] for r in content(made)["/pieces.lance"]} == {NAMES[3]}


def test_a_version_that_gates_withhold_is_refused(tmp_path: Path) -> None:
    @weft.pipeline
    def sizes() -> Any:
        rows = weft.read(Files(f"{tmp_path}/in/*", kind="audio")).select("key", "size")
        return rows.write(Lance(f"{tmp_path}/sizes.lance"), gates=[RowCount(min=4)])

    record(tmp_path / "in", *NAMES)
    run(sizes())
    (tmp_path / "in" / NAMES[0]).unlink()
    with pytest.raises(GateFailed):
        run(sizes())
    with pytest.raises(Refused, match=r"is withheld by its gates.*weft promote .*weft reject"):
        forget(f"{tmp_path}/sizes.lance", [GONE])


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Buyers and goods, whose numbers are the same and mean other things."""
    buyers = {"id": [1, 2, 3], "name": ["ann", "ben", "cem"], "bought": [2, 1, 2]}
    goods = {"id": [1, 2, 9], "title": ["a pear of gold", "two plums of iron", "a fig of glass"]}
    pq.write_table(pl.DataFrame(buyers).to_arrow(), tmp_path / "buyers.parquet")
    pq.write_table(pl.DataFrame(goods).to_arrow(), tmp_path / "goods.parquet")
    return tmp_path


def sales(folder: Path) -> list[Any]:
    out = str(folder)

    @weft.pipeline
    def people() -> Any:
        rows = weft.read(Parquet(f"{folder}/buyers.parquet", key="id"))
        return rows.write(Lance(f"{out}/people.lance"))

    @weft.pipeline
    def goods() -> Any:
        rows = weft.read(Parquet(f"{folder}/goods.parquet", key="id"))
        return rows.write(Lance(f"{out}/goods.lance"))

    first = [run(people()), run(goods())]

    @weft.pipeline
    def sold() -> Any:
        left = weft.read(Lance(f"{out}/people.lance"))
        right = weft.read(Lance(f"{out}/goods.lance", key="title"))
        right = right.with_columns(bought=pl.col("id") % 8).select("bought", "title")
        rows = left.join(right, on="bought", how="left", many=True)
        return rows.write(Lance(f"{out}/sold.lance"))

    return [*first, run(sold())]


def test_numbers_that_name_other_rows_in_other_datasets(prices: Path) -> None:
    """A row goes by the read that it came by; one of the right takes along what it was joined to;
    readers that name it by another column are followed by that."""
    sales(prices)
    receipt = forget(f"{prices}/goods.lance", ["2"])  # ann and cem have bought it
    assert receipt.complete
    assert receipt.document["proof"]["scan"]["keys_too_short"] > 0
    assert holders(prices, b"two plums of iron") == [str(Path("goods.parquet"))]
    sold = tables.read(f"{prices}/sold.lance", "latest")
    with pytest.raises(DefinitionError, match=r"made of '2', by a join.* weft forget .* '2'"):
        look(f"{prices}/sold.lance", ["2*a pear of gold"])
    assert sold["name"].to_pylist() == ["ben", "ben"]  # who met two of the right
    assert tables.read(f"{prices}/people.lance", "latest").num_rows == 3
    (_, told), (goods, notices), (result, _) = sales(prices)
    assert (told, result.rows) == ([], 5)
    assert (goods.rows, goods.in_sync, notices) == (0, True, [])
    found = tables.read(f"{prices}/sold.lance", "latest")
    assert set(zip(found["name"].to_pylist(), found["title"].to_pylist(), strict=True)) == {
        ("ann", None), ("ben", "a pear of gold"), ("ben", "a fig of glass"), ("cem", None),
    }  # fmt: skip
    assert all(result.in_sync for result, _ in sales(prices))


def test_a_source_that_does_not_list_its_rows(prices: Path) -> None:
    sales(prices)
    forget(f"{prices}/people.lance", ["2"])
    rows = {"id": [3, 2, 5], "name": ["cem", "ben", "eva"], "bought": [1, 1, 1]}
    pq.write_table(pl.DataFrame(rows).to_arrow(), prices / "buyers.parquet")
    (result, notices), *_ = sales(prices)
    assert (result.rows, result.books["read"].taken, result.kept) == (2, 2, {"write": 2})
    assert "1 row is forgotten and not read." in notices
    assert tables.read(f"{prices}/people.lance")["name"].to_pylist() == ["cem", "eva"]
    assert "2" not in tables.read(ledger_uri(f"{prices}/people.lance.weft"))["_key"].to_pylist()


def test_readers_register_and_those_that_cannot_are_named(made: Path) -> None:
    assert [Path(r).stem for r in readers(f"{made}/pieces.lance")] == ["vectors"]
    assert [Path(r).stem for r in readers(f"{made}/vectors.lance")] == ["speakers"]
    Path(f"{made}/pieces.lance.weft/readers").rename(made / "lost")
    assert [Path(p.dataset).stem for p in look(f"{made}/pieces.lance", [GONE]).parts] == [
        "pieces", "sizes",
    ]  # fmt: skip
    also = [f"{made}/vectors.lance"]
    found = look(f"{made}/pieces.lance", [GONE], also)
    assert {Path(p.dataset).stem: p.rows for p in found.parts} == {
        "speakers": 1, "vectors": 5, "pieces": 5, "sizes": 1,
    }  # fmt: skip
    foreign = made / "foreign.lance"
    lance.write_dataset(pl.DataFrame({"k": ["a"]}).to_arrow(), foreign, enable_stable_row_ids=True)

    @weft.pipeline
    def copy() -> Any:
        return weft.read(Lance(foreign)).write(Lance(f"{made}/copy.lance"))

    run(copy())
    assert journals(f"{made}/copy.lance.weft")[0].about()["unregistered"] == [str(foreign)]


def test_a_reader_that_weft_cannot_erase_from(made: Path) -> None:
    note = Path(f"{made}/pieces.lance.weft/readers/0.json")
    note.write_text('{"dataset": "postgres://host/table"}')
    receipt = forget(f"{made}/pieces.lance", [GONE])
    assert not receipt.complete
    assert receipt.document["not_erased"] == ["postgres://host/table"]
    note.unlink()
    assert forget(f"{made}/pieces.lance", [GONE]).complete


# Dying on the way


@pytest.fixture(scope="module")
def process() -> Iterator[Callable[..., dict[str, Any]]]:
    """A process that forgets in processes of its own, which die where they are told to."""
    command = [sys.executable, "-c", "import recordings; recordings.main()"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def forget_in(dataset: str, dies: str) -> dict[str, Any]:
            asked = {"dataset": dataset, "keys": [GONE], "dies": dies}
            print(json.dumps(asked), file=server.stdin, flush=True)
            found: dict[str, Any] = json.loads(server.stdout.readline())  # type: ignore[union-attr]
            return found

        yield forget_in
        server.stdin.close()


POINTS = ("write forgotten.json of sizes", "rewrite vectors", "move latest of pieces")
"""Some of the points that a process may die at; all of them take minutes."""


@pytest.mark.timeout(3600 if LONG else 120)
def test_killed_at_any_point_it_is_completed(
    home: Home, process: Callable[..., dict[str, Any]]
) -> None:
    home.put_back()
    made = home.path
    gone, before = needles(made), content(made)
    whole = process(f"{made}/pieces.lance", "")
    after = content(made)
    assert (whole["exit"], holders(made, *gone)) == (0, [])
    # Where a row is alone in its fragment, as the units fell, nothing of that is rewritten.
    points = [point for point in POINTS if point in whole["steps"]]
    assert len(points) >= len(POINTS) - 1
    for point in dict.fromkeys(whole["steps"]) if LONG else points:
        home.put_back()
        assert process(f"{made}/pieces.lance", point)["exit"] == -9, point
        seen = content(made)  # of each table all that it had, or all that it is to have
        assert all(rows in (before[t], after[t]) for t, rows in seen.items()), point
        receipt = forget(f"{made}/pieces.lance", [GONE])
        assert receipt.complete, point
        assert content(made) == after, point
        assert holders(made, *gone) == [], point


def test_runs_between_a_death_and_the_next_try(
    home: Home, process: Callable[..., dict[str, Any]]
) -> None:
    """They do not read it, and what they make is as if it had never been there."""
    home.put_back()
    made = home.path
    gone = needles(made)
    assert process(f"{made}/pieces.lance", "move latest of pieces")["exit"] == -9
    every(made)
    assert content(made) == full(made, GONE)
    assert holders(made, *gone) != []
    with pytest.raises(Refused, match=r"Other rows .* are half forgotten.*again: 'anna-smith-02"):
        forget(f"{made}/pieces.lance", [NAMES[0]])
    receipt = forget(f"{made}/pieces.lance", [GONE])
    assert receipt.complete
    assert holders(made, *gone) == []
    every(made)
    assert content(made) == content(made / "full")
