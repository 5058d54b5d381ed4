"""Versions that gates refuse: held back, promoted, given up, wherever the driver dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
from click.testing import CliRunner
from lance.dataset import Tags

import weft
from weft.cli.main import cli
from weft.connectors import Files, Lance
from weft.errors import Busy, GateFailed, Refused
from weft.gates import Between, Drift, FailedShare, NullShare, Unique
from weft.pipelines import tables
from weft.pipelines.fragments import content
from weft.pipelines.gates.accepting import promote, reject
from weft.pipelines.gates.judging import GATES_PROPERTY, judged
from weft.pipelines.observe.summary import summarise
from weft.pipelines.runs import journal as journals_of
from weft.pipelines.runs.journal import Journal, journals
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.places import errors_uri, ledger_uri

sys.path.insert(0, str(Path(__file__).parent))

import gated
import sinks
from test_many_sinks import Home

MANY = " ".join(f"word{i}" for i in range(gated.MOST_WORDS + 1))
"""What a text must not have."""


class Gated(Home):
    """The datasets of `gated.gated`."""

    def run(self, **more: Any) -> Any:
        return gated.gated(**self.settings).run(engine="local", **more)

    def refuse(self, name: str = "a.txt") -> str:
        """Run with a text that is refused; the run."""
        self.write(name, MANY)
        with pytest.raises(GateFailed):
            self.run()
        return self.journal().run

    def journal(self, name: str = "lines") -> Journal:
        return journals(f"{self.dataset(name)}.weft")[0]

    def states(self) -> list[str]:
        return [self.journal(name).state()["state"] for name in sinks.NAMES]

    def three(self, name: str) -> tuple[str, str, str]:
        state = f"{self.dataset(name)}.weft"
        return self.dataset(name), ledger_uri(state), errors_uri(state)

    def assert_goes_on_from(self, run: str) -> None:
        """What `increment` demands: the newest versions have the rows that `run` left."""
        assert self.latest() == [run] * 3
        for name in sinks.NAMES:
            dataset, ledger, _ = self.three(name)
            assert same_rows(dataset, "latest")
            assert same_rows(ledger, f"run-{run}")


def same_rows(uri: str, version: str) -> bool:
    return content(lance.dataset(uri)) == content(lance.dataset(uri, version=version))


@pytest.fixture
def home(tmp_path: Path) -> Gated:
    return Gated(tmp_path)


def weft_(*arguments: object, code: int = 0) -> str:
    """What a command of weft prints."""
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.stdout if code == 0 else result.stderr


def answer(*arguments: object) -> Any:
    return json.loads(weft_(*arguments, "--json"))


class TestAccepted:
    def test_what_gates_found_is_written_down(self, home: Gated) -> None:
        result = home.run()
        found = result.to_json()["gates"]
        assert {write: [v["gate"] for v in many] for write, many in found.items()} == {
            "write": ["RowCount(min=1)", "FailedShare(max=0.5)"],
            "write_2": ["NullShare(column='word', max=0)", "RowCount(max=20)"],
        }
        assert all(v["passed"] for many in found.values() for v in many)
        assert found["write_2"][1]["measured"] == {"rows": 8, "accepted_rows": None}
        for name, write in (("lines", "write"), ("words", "write_2")):
            for tag in ("latest", f"run-{result.run}"):
                said = lance.dataset(home.dataset(name)).tags.list()[tag]["metadata"]
                measured = [{n: v for n, v in one.items() if n != "told"} for one in found[write]]
                assert json.loads(said[GATES_PROPERTY]) == measured
        said = lance.dataset(home.dataset("sizes")).tags.list()["latest"]["metadata"]
        assert GATES_PROPERTY not in said  # it has none
        assert self.state(home)["result"]["gates"] == found

    def state(self, home: Gated) -> dict[str, Any]:
        return home.journal("words").state()

    def test_a_line_for_each_gate(self, home: Gated) -> None:
        result = home.run()
        told = "RowCount(min=1) passed: 5 rows; expected at least 1"
        assert f"  gate     {told}" in summarise(result)
        assert f"gate       {told}" in weft_("show", home.dataset("lines"))

    def test_gates_change_no_row_and_so_no_recipe(self, home: Gated) -> None:
        home.run()
        plain = sinks.three(**home.settings).run(engine="local")
        assert plain.in_sync

    def test_are_compared_with_what_was_accepted(self, home: Gated) -> None:
        home.run()
        home.write("a.txt", "uno")
        found = home.run().gates.verdicts["write_2"][1]
        assert found.measured == {"rows": 6, "accepted_rows": 8}


class TestRefused:
    def test_readers_see_none_of_its_datasets(self, home: Gated) -> None:
        accepted, before = home.run(), home.rows()
        home.write("a.txt", MANY)
        with pytest.raises(GateFailed) as error:
            home.run()
        run = home.journal().run
        assert str(error.value).splitlines() == [
            f"1 of 4 gates failed, so run {run} is not shown:",
            f"  {home.dataset('words')}: RowCount(max=20): 26 rows, 8 before; expected at most 20",
            f"Readers stay at run {accepted.run}.",
            f'  Read it:    Lance("{home.dataset("lines")}", version="run-{run}")',
            f"  Look at it: weft show {home.dataset('lines')} {run}",
            f"  Compare it: weft diff {home.dataset('lines')} latest run-{run}",
            f"  Show it:    weft promote {home.dataset('lines')} {run}",
            f"  Give it up: weft reject {home.dataset('lines')} {run}",
        ]
        assert error.value.exit_code == 3
        assert home.rows() == before
        assert home.rows(f"run-{run}") == home.truth() != before
        home.assert_goes_on_from(accepted.run)
        assert home.states() == ["gated"] * 3

    def test_commands_tell_of_it(self, home: Gated) -> None:
        home.run()
        run = home.refuse()
        for name in sinks.NAMES:
            newest = answer("runs", home.dataset(name))["runs"][0]
            assert (newest["run"], newest["state"]) == (run, "gated")
            version = lance.dataset(home.dataset(name), version=f"run-{run}").version
            assert newest["version"] == version
            shown = weft_("show", home.dataset(name), run)
            assert "gated" in shown
            assert "gate       RowCount(max=20) FAILED: 26 rows, 8 before; expected at" in shown
        tags = {
            v["version"]: v["tags"] for v in answer("history", home.dataset("words"))["versions"]
        }
        assert [f"run-{run}"] in tags.values()
        weft_("errors", home.dataset("lines"), "--run", run)
        assert "gated" in weft_("resume", home.dataset("lines"))

    def test_its_source_is_a_source(self, home: Gated) -> None:
        run = home.refuse()
        assert Lance(home.dataset("words"), version=f"run-{run}").count() == 26

    def test_the_next_run_goes_on_from_what_was_accepted(self, home: Gated) -> None:
        home.run()
        home.refuse()
        home.write("a.txt", "uno due")
        home.write("d.txt", "tre")
        after = home.run()
        assert after.increment == {
            "new": 1, "changed": 1, "deleted": 0, "retried": 0, "unchanged": 2,
        }  # fmt: skip
        assert home.rows() == home.truth()
        fresh = Gated(home.path / "fresh")
        for text in home.texts.iterdir():
            fresh.write(text.name, text.read_text())
        fresh.run()
        assert {n: [v for _, v in rows] for n, rows in fresh.rows().items()} == {
            n: [v for _, v in rows] for n, rows in home.rows().items()
        }
        assert home.run().in_sync

    def test_twice(self, home: Gated) -> None:
        accepted = home.run()
        first, second = home.refuse(), home.refuse("b.txt")
        home.assert_goes_on_from(accepted.run)
        assert first != second
        for run in (first, second):
            assert len(home.rows(f"run-{run}")["words"]) > gated.MOST_WORDS

    def test_the_first_version(self, home: Gated) -> None:
        home.write("a.txt", MANY)
        with pytest.raises(GateFailed, match="There is no version before it"):
            home.run()
        assert [tables.latest(home.dataset(name)) for name in sinks.NAMES] == [None] * 3
        run = home.journal().run
        assert home.rows(f"run-{run}") == home.truth()
        for name in sinks.NAMES:
            assert Lance(home.dataset(name)).count() == 0  # as there is no `latest`, of the newest
        home.write("a.txt", "uno")
        after = home.run()
        assert after.increment == {}
        assert after.rows == 3
        assert home.rows() == home.truth()

    def test_with_rows_that_failed(self, tmp_path: Path) -> None:
        """Failures of earlier runs that stay are counted, and the errors table is as it was."""
        texts, out = tmp_path / "texts", f"{tmp_path}/out.lance"
        texts.mkdir()

        @weft.operator(version="1")
        def number(content: weft.Encoded) -> int:
            return int(content)

        @weft.pipeline
        def numbers() -> Any:
            rows = weft.read(Files(f"{texts}/*", kind="text")).apply(number)
            return rows.select("number").write(Lance(out), gates=[FailedShare(max=0.25)])

        def run() -> Any:
            return numbers().run(engine="local")

        for i in range(8):
            (texts / f"{i}").write_text(str(i) if i > 1 else "no number")
        accepted = run()
        for i in (2, 3):
            (texts / f"{i}").write_text("no number either")
        with pytest.raises(GateFailed, match=r"4 failed of 8 read, 0\.5; expected at most 0\.25"):
            run()
        assert same_rows(errors_uri(f"{out}.weft"), f"run-{accepted.run}")
        assert answer("errors", out)["failed"] == 4
        (texts / "3").write_text("3")
        with pytest.raises(GateFailed, match=r"3 failed of 8 read"):
            run()
        (texts / "2").write_text("2")
        assert run().gates.verdicts["write"][0].measured["failed"] == 2

    def test_by_the_command_line(self, home: Gated) -> None:
        home.run()
        home.write("a.txt", MANY)
        given = [f"--set={k}={v}" for k, v in home.settings.items()]
        told = weft_("run", "--engine", "local", "gated:gated", *given, code=3)
        assert "error: 1 of 4 gates failed" in told
        assert "RowCount(max=20): 26 rows, 8 before; expected at most 20" in told

    def test_a_gate_that_cannot_be_computed(
        self, home: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accepted = home.run()
        home.write("a.txt", "uno")

        def broken(*_: object) -> None:
            raise np.linalg.LinAlgError("Eigenvalues did not converge")

        monkeypatch.setattr(NullShare, "measure", broken)
        with pytest.raises(GateFailed, match=r"word', max=0\): it cannot be measured: Eigenvalues"):
            home.run()
        home.assert_goes_on_from(accepted.run)
        assert home.states() == ["gated"] * 3

    def test_a_storage_that_fails_is_no_verdict(
        self, home: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home.run()
        home.write("a.txt", "uno")

        def failing(*_: object) -> None:
            raise OSError("the storage is away")

        with monkeypatch.context() as patch:
            patch.setattr(NullShare, "measure", failing)
            with pytest.raises(OSError, match="the storage is away"):
                home.run()
        assert home.states() == ["failed"] * 3
        assert home.run().run == home.journal().run  # it went on
        assert home.rows() == home.truth()


def test_vectors_that_drift(tmp_path: Path) -> None:
    """An embedding whose model was exchanged under the pipeline."""
    texts, out = tmp_path / "texts", f"{tmp_path}/out.lance"
    texts.mkdir()
    gates = [Drift("embed", "mmd", max=0.05), Drift("embed", "frechet", max=0.5),
             Unique("uri"), Between("size", 1, 100), Drift("size", "ks", max=0.5)]  # fmt: skip

    def write(*names: int, shift: float) -> None:
        for i in names:
            vector = np.random.default_rng(i).normal(size=4) + shift
            (texts / f"{i:03}").write_text(json.dumps(vector.tolist()))

    @weft.operator(version="1")
    def embed(content: weft.Encoded) -> weft.Embedding(4):  # type: ignore[valid-type]
        return np.array(json.loads(content), np.float32)

    @weft.pipeline
    def vectors() -> Any:
        rows = weft.read(Files(f"{texts}/*", kind="text")).apply(embed)
        return rows.select("uri", "size", "embed").write(Lance(out), gates=gates)

    write(*range(100), shift=0)
    accepted = vectors().run(engine="local")
    write(*range(100, 110), shift=0)
    found = vectors().run(engine="local").gates.verdicts["write"]
    assert found[0].measured["sampled"] == [100, 110]
    assert abs(found[0].measured["mmd"]) < 0.01
    write(*range(60), shift=3)
    with pytest.raises(GateFailed) as error:
        vectors().run(engine="local")
    assert [line.count("Drift(column='embed'") for line in str(error.value).splitlines()[1:3]] == [
        1,
        1,
    ]
    assert accepted.run < journals(f"{out}.weft")[0].run


def test_a_column_that_is_made_anew(tmp_path: Path) -> None:
    """Only that column is computed and judged; refused, it goes back to what it was."""
    texts, out = tmp_path / "texts", f"{tmp_path}/out.lance"
    texts.mkdir()
    for name in "abc":
        (texts / name).write_text(name * 3)

    def run(version: str, factor: int) -> Any:
        @weft.operator(version=version)
        def length(content: weft.Encoded) -> int:
            return len(content) * factor

        @weft.pipeline
        def lengths() -> Any:
            rows = weft.read(Files(f"{texts}/*", kind="text")).apply(length)
            return rows.select("uri", "length").write(Lance(out), gates=[Between("length", 1, 10)])

        return lengths().run(engine="local")

    def values(tag: str) -> list[int]:
        found: list[int] = (
            lance.dataset(out, version=tag).to_table(["length"])["length"].to_pylist()
        )
        return found

    run("1", 1)
    with pytest.raises(GateFailed, match=r"15 to 15; expected 1 to 10\. 3 outside: 15 in a, 15 in"):
        run("2", 5)
    refused = journals(f"{out}.weft")[0]
    assert values("latest") == [3, 3, 3]
    assert values(f"run-{refused.run}") == [15, 15, 15]
    assert same_rows(out, "latest")
    assert run("3", 2).increment["unchanged"] == 3
    assert values("latest") == [6, 6, 6]
    promote(refused, over_newer=True)
    assert values("latest") == [15, 15, 15]
    run("3", 2)
    assert values("latest") == [6, 6, 6]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    return Gated(tmp_path_factory.mktemp("refused"))


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Home, str], None]]:
    """Run `gated` in a process that SIGKILL meets right before a point."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import gated"
    with subprocess.Popen(
        [sys.executable, "-c", f"{start}; gated.main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def run(home: Home, point: str) -> None:
            print(json.dumps({**home.settings, "dies": point}), file=process.stdin)
            assert int(process.stdout.readline()) == -signal.SIGKILL  # type: ignore[union-attr]

        yield run
        process.stdin.close()


def shared(points: Sequence[Any], each: int) -> Sequence[Any]:
    """All of them, or the share that CI has."""
    return points if os.environ.get("WEFT_FAULTS") == "all" else points[::each]


@pytest.mark.parametrize("point", shared(gated.points(), 5))
def test_killed_at_each_durable_step(
    refused: Gated, killed: Callable[[Home, str], None], point: str
) -> None:
    home = refused
    home.write("a.txt", f"now {point}")
    accepted = home.run()
    assert accepted.increment == {} or accepted.increment["unchanged"] == 2
    before = home.rows()
    home.write("a.txt", f"{MANY} {point}")
    killed(home, point)
    run = home.journal().run
    assert home.latest() == [accepted.run] * 3
    assert home.rows() == before
    verdicts = judged(home.journal().path).verdicts  # nothing is there if it died before
    assert bool(verdicts) is not point.startswith("note gates.json")

    with pytest.raises(GateFailed, match=f"so run {run} is not shown"):
        home.run()
    assert home.states() == ["gated"] * 3
    home.assert_goes_on_from(accepted.run)
    assert home.rows() == before
    assert home.rows(f"run-{run}") == home.truth()
    for name in sinks.NAMES:
        for uri in home.three(name):
            assert f"run-{run}" in lance.dataset(uri).tags.list()


def test_a_verdict_stands(home: Gated, killed: Callable[[Home, str], None]) -> None:
    """Once it is written down, a run that goes on comes to the same end without its gates."""
    home.run()
    home.write("a.txt", MANY)
    killed(home, "restore dataset lines")
    with pytest.raises(GateFailed, match=r"RowCount\(max=20\)"):
        sinks.three(**home.settings).run(engine="local")
    assert home.states() == ["gated"] * 3


def test_a_verdict_that_is_damaged_is_found_again(
    home: Gated, killed: Callable[[Home, str], None]
) -> None:
    accepted = home.run()
    home.write("a.txt", MANY)
    killed(home, "restore dataset lines")
    notes = home.journal().path / "gates.json"
    found = judged(home.journal().path)
    notes.write_text(notes.read_text()[:-100])
    with pytest.raises(GateFailed, match=r"RowCount\(max=20\)"):
        home.run()
    assert judged(home.journal().path) == found
    home.assert_goes_on_from(accepted.run)


class TestPromote:
    def test_readers_see_it_and_runs_go_on_from_it(self, home: Gated) -> None:
        home.run()
        run = home.refuse()
        found = answer("promote", home.dataset("words"), run[:-2])
        assert found["run"] == run
        assert found["versions"] == {
            home.dataset(n): lance.dataset(home.dataset(n)).version for n in sinks.NAMES
        }
        assert home.rows() == home.truth()
        home.assert_goes_on_from(run)
        assert home.states() == ["published"] * 3
        assert home.run().in_sync
        home.write("b.txt", "uno")
        home.write("a.txt", "due tre")
        assert home.run().increment["unchanged"] == 1
        assert home.rows() == home.truth()

    def test_the_first_version(self, home: Gated) -> None:
        run = home.refuse()
        promote(home.journal())
        home.assert_goes_on_from(run)
        home.write("a.txt", "uno")
        assert home.run().increment["unchanged"] == 2
        assert home.rows() == home.truth()

    def test_tells_what_readers_see(self, home: Gated) -> None:
        run = home.refuse()  # the first one
        lines = weft_("promote", home.dataset("lines"), run).splitlines()
        assert lines[0] == f"Run {run} is what readers see now:"
        assert lines[1].startswith(f"  {home.dataset('lines')} version ")
        assert home.rows() == home.truth()
        assert home.run().in_sync

    def test_nothing_newer_is_lost_without_a_word(self, home: Gated) -> None:
        home.run()
        run = home.refuse()
        home.write("a.txt", "uno")
        newer = home.run()
        told = weft_("promote", home.dataset("lines"), run, code=3)
        assert f"Since run {run} was refused, another was accepted: run {newer.run}" in told
        assert home.latest() == [newer.run] * 3
        weft_("promote", home.dataset("lines"), run, "--yes")
        home.assert_goes_on_from(run)
        home.run()
        assert home.rows() == home.truth()

    def test_only_what_gates_refused(self, home: Gated) -> None:
        run = home.run().run
        with pytest.raises(Refused, match=rf"Run {run} is published\. Only a run that is gat"):
            promote(home.journal())
        assert "has no run 'xyz'" in weft_("promote", home.dataset("lines"), "xyz", code=2)

    def test_while_a_run_is_not_finished(
        self, home: Gated, killed: Callable[[Home, str], None]
    ) -> None:
        home.run()
        run = home.refuse()
        home.write("a.txt", "uno")
        killed(home, "note publishing lines")
        other = home.journal().run
        told = weft_("promote", home.dataset("lines"), run, code=3)
        assert f"Run {other} of {home.dataset('lines')} is not finished" in told

    def test_while_a_run_is_at_work(self, home: Gated) -> None:
        home.run()
        home.refuse()
        with hold(f"{home.dataset('sizes')}.weft", "another"), pytest.raises(Busy, match="another"):
            promote(home.journal())
        assert home.states() == ["gated"] * 3

    @pytest.mark.parametrize("at", shared(range(36), 12))
    def test_cut_short_and_done_again(
        self, home: Gated, at: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home.run()
        run = home.refuse()
        done = 0

        def mortal(act: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                nonlocal done
                done += 1
                if done == at + 1:
                    raise InterruptedError
                return act(*arguments)

            return call

        with monkeypatch.context() as patch:
            for owner, name in (
                (lance.LanceDataset, "restore"), (Tags, "update"),
                (Tags, "replace_metadata"), (journals_of, "write_whole"),
            ):  # fmt: skip
                patch.setattr(owner, name, mortal(getattr(owner, name)))
            with pytest.raises(InterruptedError):
                promote(home.journal())
        assert "gated" in home.states()
        promote(home.journal())
        home.assert_goes_on_from(run)
        assert home.states() == ["published"] * 3
        assert home.rows() == home.truth()


class TestReject:
    def test_nothing_names_it_any_more(self, home: Gated) -> None:
        accepted, before = home.run(), home.rows()
        run = home.refuse()
        assert answer("reject", home.dataset("sizes"), run) == {
            "run": run, "state": "rejected", "datasets": [home.dataset(n) for n in sinks.NAMES],
        }  # fmt: skip
        for name in sinks.NAMES:
            for uri in home.three(name):
                assert f"run-{run}" not in lance.dataset(uri).tags.list()
        assert home.states() == ["rejected"] * 3
        assert home.rows() == before
        assert answer("runs", home.dataset("lines"))["runs"][0]["state"] == "rejected"
        home.assert_goes_on_from(accepted.run)
        home.write("a.txt", "uno")
        assert home.run().increment["unchanged"] == 2
        assert home.rows() == home.truth()

    def test_what_was_rejected_stays_so(self, home: Gated) -> None:
        home.run()
        home.refuse()
        assert "is given up; readers never saw it" in weft_(
            "reject", home.dataset("lines"), home.journal().run
        )
        for act in (promote, reject):
            with pytest.raises(Refused, match=r"is rejected\. Only a run that is gated"):
                act(home.journal())

    def test_only_what_gates_refused(self, home: Gated) -> None:
        home.run()
        with pytest.raises(Refused, match=r"is published\. Only a run that is gated can be"):
            reject(home.journal())

    def test_what_was_promoted_in_part(self, home: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
        home.run()
        run = home.refuse()
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "set_state", None)
            with pytest.raises(TypeError):
                promote(home.journal())
        with pytest.raises(Refused, match=f"Run {run} was promoted in part"):
            reject(home.journal())

    def test_cut_short_and_done_again(self, home: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
        home.run()
        home.refuse()
        delete, left = Tags.delete, [4]

        def mortal(tags: Tags, name: str) -> None:
            left[0] -= 1
            if not left[0]:
                raise InterruptedError
            delete(tags, name)

        with monkeypatch.context() as patch:
            patch.setattr(Tags, "delete", mortal)
            with pytest.raises(InterruptedError):
                reject(home.journal())
        assert home.states() == ["gated"] * 3
        reject(home.journal())
        assert home.states() == ["rejected"] * 3
