"""Gates on tables: what passes, what does not, and what is refused as a pipeline is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Files, Lance, Memory
from weft.errors import DefinitionError
from weft.gates import Between, Drift, FailedShare, NullShare, RowCount, Unique
from weft.pipelines import tables
from weft.pipelines.engines.ledger import LEDGER_SCHEMA
from weft.pipelines.fields import Fields, arrow_schema
from weft.pipelines.gates import expectations, snapshot
from weft.pipelines.gates.gate import Gate, Unmeasurable, Verdict
from weft.pipelines.gates.snapshot import Snapshot
from weft.pipelines.types import Embedding, Encoded, Float32, Float64, Int64, Text

NAN, INF = float("nan"), float("inf")

COLUMNS = Fields(
    {
        "n": Int64() | None,
        "x": Float64() | None,
        "text": Text() | None,
        "vector": Embedding(2) | None,
        "image": Encoded("image") | None,
    }
)

Make = Callable[..., Snapshot]


@pytest.fixture
def version(tmp_path: Path) -> Make:
    """A new version of one table with these columns; those not given are null."""
    uri, made = str(tmp_path / "t.lance"), iter(range(100))

    def make(**columns: list[Any]) -> Snapshot:
        rows = len(next(iter(columns.values())))
        schema = pa.schema([pa.field("_key", pa.string()), *arrow_schema(COLUMNS)])
        given = {"_key": [f"k{i}" for i in range(rows)], **columns}
        arrays = [pa.array(given.get(f.name, [None] * rows), f.type) for f in schema]
        token = tables.ensure(uri, schema)
        staged = tables.stage(token, pa.table(arrays, schema=schema))
        return Snapshot(uri, tables.commit(token, staged, f"r{next(made)}", {}))

    return make


class TestRowCount:
    @pytest.mark.parametrize(
        ("gate", "rows", "before", "passed"),
        [
            (RowCount(min=3), 3, None, True),
            (RowCount(min=4), 3, None, False),
            (RowCount(max=3), 3, None, True),
            (RowCount(max=2), 3, None, False),
            (RowCount(min=0), 0, None, True),
            (RowCount(max_drop=0.1), 3, None, True),
            (RowCount(max_drop=0.1), 9, 10, True),
            (RowCount(max_drop=0.1), 8, 10, False),
            (RowCount(max_drop=0), 10, 10, True),
            (RowCount(max_drop=1), 0, 10, True),
            (RowCount(max_growth=0.5), 15, 10, True),
            (RowCount(max_growth=0.5), 16, 10, False),
            (RowCount(min=5, max_drop=0.5), 5, 11, False),
        ],
    )
    def test_passes(
        self, version: Make, gate: RowCount, rows: int, before: int | None, *, passed: bool
    ) -> None:
        accepted = None if before is None else version(n=[1] * before)
        found = gate.measure(version(n=[1] * rows), accepted)
        assert found.passed is passed
        assert found.measured == {"rows": rows, "accepted_rows": before}

    def test_says_what_it_found(self, version: Make) -> None:
        gate = RowCount(min=5, max_drop=0.25)
        found = gate.measure(version(n=[1] * 3), version(n=[1] * 8))
        assert str(found) == (
            "RowCount(min=5, max_drop=0.25) FAILED: 3 rows, 8 before; expected at least 5, at "
            "most 0.25 of those before to be gone"
        )

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, r"^RowCount\(\) expects nothing\. Give min, max, max_drop or max_growth\.$"),
            ({"min": -1}, r"^RowCount\(min=-1\): expected numbers of 0 or more"),
            ({"max_drop": 1.5}, r"max_drop up to 1"),
            ({"max_growth": NAN}, r"max_growth=nan\): expected numbers"),
            ({"min": 3, "max": 2}, r"^RowCount\(min=3, max=2\): min is more than max\.$"),
        ],
    )
    def test_limits_that_are_none(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            RowCount(**given)


class TestNullShare:
    @pytest.mark.parametrize(
        ("column", "values", "missing"),
        [
            ("n", [1, None, 3, 4], 1),
            ("x", [1.0, None, NAN, INF], 2),
            ("text", ["", None, "a", "b"], 1),
            ("vector", [[1, 2], None, [1, NAN], [INF, 0]], 3),
            ("image", [b"", None, b"a", b"b" * 300_000], 1),
        ],
    )
    def test_counts(self, version: Make, column: str, values: list[Any], missing: int) -> None:
        new, share = version(**{column: values}), missing / 4
        found = NullShare(column, max=share).measure(new, None)
        assert found.passed
        assert found.measured == {"missing": missing, "null_share": share}
        assert not NullShare(column, max=share - 0.01).measure(new, None).passed

    def test_says_what_it_found(self, version: Make) -> None:
        found = NullShare("n", max=0.1).measure(version(n=[1, None, None]), None)
        assert found.told == "2 of 3 are missing, 0.6667; expected at most 0.1"

    def test_media_are_not_read(self, version: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        new = version(image=[b"a", None])
        monkeypatch.setattr(Snapshot, "batches", None)
        assert new.missing("image") == 1

    def test_of_no_rows(self, version: Make) -> None:
        assert version(vector=[]).missing("vector") == 0
        with pytest.raises(Unmeasurable, match="there are no rows"):
            NullShare("n", max=1).measure(version(n=[]), None)

    @pytest.mark.parametrize("share", [-0.1, 1.1, NAN])
    def test_no_share(self, share: float) -> None:
        with pytest.raises(DefinitionError, match=r"max=.*max is a share, 0 to 1"):
            NullShare("n", max=share)


class TestUnique:
    def test_of_a_column(self, version: Make) -> None:
        new = version(text=["a", "b", "a", "c", "a", "b", None, None])
        found = Unique("text").measure(new, None)
        assert not found.passed
        assert found.measured == {"repeating": 3}
        assert found.told == (
            "3 rows repeat another; expected none. The most: 3 are as k0, 2 are as k1"
        )
        assert Unique("text").measure(version(text=["a", "b", None, None]), None).passed

    def test_of_several_together(self, version: Make) -> None:
        new = version(text=["a", "a", "b", "a"], n=[1, 2, 1, None])
        assert Unique(("text", "n")).measure(new, None).passed
        assert Unique(["text", "n"]) == Unique(("text", "n"))  # type: ignore[arg-type]
        new = version(text=["a", "a", "b", "a"], n=[1, 2, 1, 1])
        found = Unique(("text", "n")).measure(new, None)
        assert found.told.endswith("The most: 2 are as k0")

    def test_across_batches(self, version: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snapshot, "BATCH_ROWS", 7)
        values = list(range(100)) * 2
        found = Unique("n").measure(version(n=values), None)
        assert found.measured == {"repeating": 100}
        assert Unique("n").measure(version(n=values[:100]), None).passed

    def test_digests_that_meet_by_chance(
        self, version: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            pl.DataFrame, "hash_rows", lambda rows: pl.Series([7] * len(rows), dtype=pl.UInt64)
        )
        assert Unique("n").measure(version(n=[1, 2, 3]), None).passed
        assert Unique("n").measure(version(n=[1, 2, 2]), None).measured == {"repeating": 1}

    def test_long_keys_are_cut_and_values_are_not_told(self, version: Make) -> None:
        new = version(text=["ada@example.org"] * 2, _key=["a" * 500, "b" * 500])
        told = Unique("text").measure(new, None).told
        assert "ada" not in told
        assert told.endswith(f"2 are as {'a' * 59}…")

    def test_all_missing(self, version: Make) -> None:
        with pytest.raises(Unmeasurable, match="all of 2 rows are missing"):
            Unique("n").measure(version(n=[None, None]), None)

    def test_of_nothing(self) -> None:
        with pytest.raises(DefinitionError, match="expected a column, or several"):
            Unique(())


class TestBetween:
    @pytest.mark.parametrize(
        ("gate", "passed"),
        [
            (Between("x", 0, 5), True),
            (Between("x", 0.5), True),
            (Between("x", high=5.0), True),
            (Between("x", 0.6), False),
            (Between("x", high=4.9), False),
        ],
    )
    def test_both_ends_belong(self, version: Make, gate: Between, *, passed: bool) -> None:
        found = gate.measure(version(x=[0.5, None, NAN, 5.0, 2.0]), None)
        assert found.passed is passed
        assert found.measured["low"] == 0.5
        assert found.measured["high"] == 5.0

    def test_names_the_rows(self, version: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snapshot, "BATCH_ROWS", 2)
        found = Between("n", 1, 3).measure(version(n=[1, 9, -4, 2, 7, 8]), None)
        assert found.told == ("-4 to 9; expected 1 to 3. 4 outside: 9 in k1, -4 in k2, 7 in k4")
        assert found.measured == {"low": -4, "high": 9, "outside": 4}

    def test_no_secrets(self, version: Make) -> None:
        new = version(n=[9], _key=["https://host/a.jpg?sig=abc"])
        assert Between("n", high=1).measure(new, None).told.endswith("9 in https://host/a.jpg?***")

    def test_infinity_is_a_number(self, version: Make) -> None:
        assert not Between("x", high=1e300).measure(version(x=[1.0, INF]), None).passed

    def test_all_missing(self, version: Make) -> None:
        with pytest.raises(Unmeasurable, match="all of 2 values are missing"):
            Between("x", 0, 1).measure(version(x=[None, NAN]), None)

    def test_limits_that_are_none(self) -> None:
        with pytest.raises(DefinitionError, match=r"Between\(column='x'\) expects nothing"):
            Between("x")
        with pytest.raises(DefinitionError, match="nothing is between low and high"):
            Between("x", 2, 1)


class TestFailedShare:
    def snapshot(self, tmp_path: Path, *rows: tuple[str, str | None, str]) -> Snapshot:
        """Of rows of the ledger: key, parent, outcome."""
        ledger, table = str(tmp_path / "ledger.lance"), str(tmp_path / "t.lance")
        noted = [
            {"_key": k, "_source": "s", "outcome": o, "step": "s", "_parent": p, "read": "read"}
            for k, p, o in rows
        ]
        token = tables.ensure(ledger, LEDGER_SCHEMA)
        staged = tables.stage(token, pa.Table.from_pylist(noted, schema=LEDGER_SCHEMA))
        version = tables.commit(token, staged, "r", {})
        tables.ensure(table, pa.schema({"_key": pa.string()}))
        return Snapshot(table, 1, (ledger, version))

    def test_of_rows(self, tmp_path: Path) -> None:
        rows = [("a", None, "kept"), ("b", None, "failed"), ("c", None, "dropped")]
        found = FailedShare(0.3).measure(self.snapshot(tmp_path, *rows), None)
        assert not found.passed
        assert found.told == "1 failed of 3 read, 0.3333; expected at most 0.3"

    def test_of_children_for_each_row_of_the_source(self, tmp_path: Path) -> None:
        rows = [("a", None, "expanded"), ("a/0", "a", "kept"), ("a/1", "a", "failed"),
                ("a/2", "a", "failed"), ("b", None, "expanded"), ("a", None, "kept")]  # fmt: skip
        found = FailedShare(1).measure(self.snapshot(tmp_path, *rows), None)
        assert found.passed
        assert found.measured == {"failed": 2, "failed_share": 1.0}

    def test_nothing_read(self, tmp_path: Path) -> None:
        with pytest.raises(Unmeasurable, match="no row was read"):
            FailedShare(0).measure(self.snapshot(tmp_path), None)

    def test_limits_that_are_none(self) -> None:
        with pytest.raises(DefinitionError, match=r"FailedShare\(max=-1\): max is 0 or more"):
            FailedShare(-1)


class TestDrift:
    def test_of_numbers(self, version: Make) -> None:
        rng = np.random.default_rng(0)
        before = version(x=rng.normal(size=2000).tolist())
        same, moved = (version(x=rng.normal(m, size=2000).tolist()) for m in (0, 1))
        for method, most in (("psi", 0.1), ("ks", 0.1)):
            gate = Drift("x", method, max=most)  # type: ignore[arg-type]
            assert gate.measure(same, before).passed
            found = gate.measure(moved, before)
            assert not found.passed
            assert found.measured[method] > most
            assert found.told.endswith(f"between 2,000 and 2,000 values; expected at most {most}")

    def test_of_vectors(self, version: Make) -> None:
        rng = np.random.default_rng(0)
        before = version(vector=[*rng.normal(size=(500, 2)).tolist(), None, [NAN, 1.0]])
        same, moved = (version(vector=rng.normal(m, size=(500, 2)).tolist()) for m in (0, 1))
        for method in ("mmd", "frechet"):
            gate = Drift("vector", method, max=0.05)  # type: ignore[arg-type]
            found = gate.measure(same, before)
            assert found.passed
            assert found.measured["sampled"] == [500, 500]
            assert not gate.measure(moved, before).passed

    def test_of_text_and_of_few_integers(self, version: Make) -> None:
        before = version(text=["cat", "dog"] * 50, n=[1, 1000] * 50)
        moved = version(text=["cat"] * 60 + ["cow"] * 40, n=[1] * 99 + [1000])
        for column in ("text", "n"):
            gate = Drift(column, "psi", max=0.25)
            assert gate.measure(before, before).measured["psi"] == 0
            assert not gate.measure(moved, before).passed

    def test_many_integers_are_cut_into_bins(self, version: Make) -> None:
        before, moved = version(n=list(range(1000))), version(n=list(range(1, 1001)))
        assert Drift("n", "psi", max=0.01).measure(moved, before).passed

    def test_samples_are_drawn_alike(self, version: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(expectations.SAMPLE_ROWS, "ks", 300)
        rng = np.random.default_rng(0)
        before, new = (version(x=rng.normal(size=5000).tolist()) for _ in range(2))
        gate = Drift("x", "ks", max=0.2)
        first, second = gate.measure(new, before), gate.measure(new, before)
        assert first == second
        assert first.passed
        assert first.measured["sampled"] == [300, 300]

    def test_a_sample_is_of_all_rows(self, version: Make) -> None:
        sampled = version(n=list(range(10_000))).sample("n", 1000)
        assert sampled.n_unique() == 1000
        assert sampled.mean() == pytest.approx(5000, rel=0.06)
        assert sampled.max() > 9900  # type: ignore[operator]

    def test_nothing_to_compare_with(self, version: Make) -> None:
        gate = Drift("x", "ks", max=0)
        found = gate.measure(version(x=[1.0, 2.0]), None)
        assert (found.passed, found.told) == (True, "no version was accepted before")

    def test_a_column_that_is_new(self, version: Make, tmp_path: Path) -> None:
        uri, schema = str(tmp_path / "old.lance"), pa.schema({"other": pa.int64()})
        before = Snapshot(uri, tables.ensure(uri, schema)["read_version"])
        found = Drift("x", "ks", max=0).measure(version(x=[1.0]), before)
        assert found.told == "no version with column 'x' was accepted before"
        assert found.passed

    def test_a_column_of_another_type(self, version: Make, tmp_path: Path) -> None:
        uri, schema = str(tmp_path / "old.lance"), pa.schema({"x": pa.int64()})
        token = tables.ensure(uri, schema)
        rows = pa.table({"x": [1, 2, 3]})
        before = Snapshot(uri, tables.commit(token, tables.stage(token, rows), "r", {}))
        with pytest.raises(Unmeasurable, match="the column was Int64 and is Float64"):
            Drift("x", "ks", max=1).measure(version(x=[1.0, 2.0]), before)

    @pytest.mark.parametrize("which", ["new", "accepted"])
    def test_all_missing(self, version: Make, which: str) -> None:
        some, none = version(x=[1.0, 2.0, 3.0]), version(x=[None, NAN, 1.0])
        new, accepted = (none, some) if which == "new" else (some, none)
        with pytest.raises(Unmeasurable, match="1 values of column 'x' in 3 rows"):
            Drift("x", "ks", max=1).measure(new, accepted)

    def test_no_such_method(self) -> None:
        with pytest.raises(DefinitionError, match=r"expected a method of 'psi', 'ks', 'mmd', 'fr"):
            Drift("x", "kl", max=1)  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="max is 0 or more"):
            Drift("x", "ks", max=NAN)


def test_a_column_that_is_gone(version: Make, tmp_path: Path) -> None:
    uri = str(tmp_path / "other.lance")
    new = Snapshot(uri, tables.ensure(uri, pa.schema({"_key": pa.string()}))["read_version"])
    accepted = version(n=[1, 2, 3], x=[1.0, 2.0, 3.0], vector=[[1, 2]] * 3)
    for gate in (NullShare("n", max=1), Unique("n"), Between("x", 0), Drift("x", "psi", max=1)):
        with pytest.raises(Unmeasurable, match=r"version 1 has no column '[nx]'"):
            gate.measure(new, accepted)


@weft.operator(version="1")
def read(content: weft.Encoded) -> weft.fields(score=Float32, text=str, v=Embedding(4)):  # type: ignore[valid-type]
    raise NotImplementedError


def build(*gates: Any, sink: Any = None, given: Any = None) -> Any:
    @weft.pipeline
    def scores() -> Any:
        rows = weft.read(Files("*.txt", kind="text")).apply(read)
        rows = rows.select("uri", "score", "text", "v", "content")
        out = Lance("out.lance") if sink is None else sink
        return rows.write(out, gates=list(gates) if given is None else given)

    return scores()


class TestChecks:
    """What is refused as the pipeline is built, on the line of the write."""

    @pytest.mark.parametrize(
        ("gate", "message"),
        [
            (NullShare("scor", 0), r"NullShare\(column='scor', max=0\): There is no column 'scor'"),
            (Unique("scor"), r"Did you mean 'score'\?"),
            (Unique("v"), r"column 'v' is Embedding\(4\); expected one value a row"),
            (Unique("content"), r"column 'content' is Encoded\('text'\); expected one value"),
            (Between("text", 0), r"column 'text' is Text; expected numbers\."),
            (Drift("text", "ks", max=1), r"column 'text' is Text; expected numbers\."),
            (Drift("v", "psi", max=1), r"expected numbers, text or truth values"),
            (Drift("score", "mmd", max=1), r"'score' is Float32; expected vectors of one length"),
            (Drift("score", "frechet", max=1), r"expected vectors of one length"),
        ],
    )
    def test_columns(self, gate: Gate, message: str) -> None:
        with pytest.raises(DefinitionError, match=message) as error:
            build(RowCount(min=1), gate)
        assert "test_gates.py:" in str(error.value)
        assert "return rows.write(out" in str(error.value)

    def test_what_fits(self) -> None:
        gates = (
            RowCount(min=1), NullShare("content", 0), Unique(("uri", "text")), Between("score", 0),
            FailedShare(0), Drift("score", "psi", 1), Drift("text", "psi", 1),
            Drift("score", "ks", 1), Drift("v", "mmd", 1), Drift("v", "frechet", 1),
        )  # fmt: skip
        (write,) = build(*gates).graph.writes()
        assert write.action.gates == gates

    @pytest.mark.parametrize("given", [RowCount(min=1), ["rows > 0"], RowCount, "rows"])
    def test_what_is_no_gate(self, given: Any) -> None:
        with pytest.raises(DefinitionError, match=r"gates= takes a list of weft\.gates, such as"):
            build(given=given)

    def test_sinks_without_versions(self) -> None:
        with pytest.raises(DefinitionError, match="keeps no versions, so nothing could be"):
            build(RowCount(min=1), sink=Memory("gates"))
        build(sink=Memory("gates"))

    def test_a_gate_is_no_part_of_the_recipe(self) -> None:
        plain, gated = build().graph, build(RowCount(min=1)).graph
        identities = [[n.action.identity() for n in graph.nodes] for graph in (plain, gated)]
        assert identities[0] == identities[1]


def test_verdicts_are_json() -> None:
    verdict = RowCount(min=1).verdict("3 rows", passed=True, rows=3)
    assert Verdict(**verdict.to_json()) == verdict
    assert str(verdict) == "RowCount(min=1) passed: 3 rows"
