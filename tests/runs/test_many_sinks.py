"""Several datasets by one run: all of them move to it, or none, wherever the driver dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from click.testing import CliRunner

from weft.cli.main import cli
from weft.errors import Busy, CommitConflict
from weft.pipelines import tables
from weft.pipelines.engines.worker import Target
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.lease import identity, lease_path, put
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.publish import overtaken

sys.path.insert(0, str(Path(__file__).parent))

import sinks

Contents = dict[str, list[Any]]


class Home:
    """A folder of texts, and the datasets that `sinks.three` makes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts = path / "texts"
        self.texts.mkdir(parents=True)
        self._clock = iter(range(10**9, 2 * 10**9))
        self.write("a.txt", "one two\nthree")
        self.write("b.txt", "four")
        self.write("c.txt", "five six\nseven eight")

    def write(self, name: str, text: str) -> None:
        (self.texts / name).write_text(text)
        os.utime(self.texts / name, (0, next(self._clock)))

    @property
    def settings(self) -> dict[str, str]:
        return {"source": f"{self.texts}/*", "out": str(self.path)}

    def run(self, **more: Any) -> Any:
        return sinks.three(**self.settings).run(engine="local", **more)

    def dataset(self, name: str) -> str:
        return str(self.path / f"{name}.lance")

    def truth(self) -> Contents:
        """What the datasets are to hold, in plain Python."""
        texts = {p: p.read_text() for p in self.texts.iterdir()}
        return {
            "lines": sorted((str(p), line) for p, t in texts.items() for line in t.splitlines()),
            "words": sorted((str(p), word) for p, t in texts.items() for word in t.split()),
            "sizes": sorted((str(p), p.stat().st_size) for p in texts),
        }

    def rows(self, version: str = "latest") -> Contents:
        """What they hold, read with Lance alone."""
        found = {}
        for name in sinks.NAMES:
            table = lance.dataset(self.dataset(name), version=version).to_table()
            column = name.removesuffix("s")
            uris = table["uri"].to_pylist()
            found[name] = sorted(zip(uris, table[column].to_pylist(), strict=True))
        return found

    def latest(self) -> list[str]:
        """The run that readers see of each, by the way that docs/runs.md tells."""
        tags = [lance.dataset(self.dataset(name)).tags.list() for name in sinks.NAMES]
        return [t["latest"]["metadata"]["weft.run"] for t in tags]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_one_source_three_datasets_one_run(home: Home) -> None:
    result = home.run()
    assert result.kept == {"write": 5, "write_2": 8, "write_3": 3}
    assert result.books["read"].passed == result.books["text"].taken == 3  # for all of them
    assert home.rows() == home.rows(f"run-{result.run}") == home.truth()
    for write, name in zip(("write", "write_2", "write_3"), sinks.NAMES, strict=True):
        uri = home.dataset(name)
        for table in (uri, ledger_uri(f"{uri}.weft"), errors_uri(f"{uri}.weft")):
            tags = lance.dataset(table).tags.list()
            assert set(tags) == {"latest", f"run-{result.run}"}
            assert len({tag["version"] for tag in tags.values()}) == 1
        assert tables.latest(uri) is not None
        assert lance.dataset(uri, version="latest").version == result.versions[write]
        (run,) = answer("runs", uri)["runs"]
        assert (run["run"], run["state"]) == (result.run, "published")
        assert run["version"] == result.versions[write]
        assert answer("history", uri)["versions"][0]["run"] == result.run
    assert home.run().in_sync


def test_two_sources_two_datasets_one_run(home: Home) -> None:
    (home.path / "right").mkdir()
    for name, text in (("x", "large enough"), ("y", "no"), ("z", "large, too")):
        (home.path / "right" / name).write_text(text)
    made = sinks.apart(left=f"{home.texts}/*", right=f"{home.path}/right/*", out=str(home.path))
    result = made.run(engine="local")
    assert result.rows == 6
    for name, keys in (("left", 5), ("right", 2)):
        uri = home.dataset(name)
        dataset = lance.dataset(uri, version="latest")
        assert set(dataset.tags.list()) == {"latest", f"run-{result.run}"}
        assert dataset.count_rows() == keys
        (run,) = answer("runs", uri)["runs"]
        assert (run["run"], run["state"]) == (result.run, "published")
    ledgers = [tables.read(ledger_uri(f"{home.dataset(n)}.weft")) for n in ("left", "right")]
    roots = [
        {k for k, p in zip(t["_key"].to_pylist(), t["_parent"].to_pylist(), strict=True) if not p}
        for t in ledgers
    ]
    assert roots == [{"a.txt", "b.txt", "c.txt"}, {"x", "y", "z"}]
    (home.path / "right" / "y").write_text("large, now")
    second = made.run(engine="local")
    assert second.increment == {"new": 0, "changed": 1, "deleted": 0, "retried": 0, "unchanged": 5}
    tags = [lance.dataset(home.dataset(n)).tags.list()["latest"] for n in ("left", "right")]
    assert [tag["metadata"]["weft.run"] for tag in tags] == [second.run] * 2
    assert made.run(engine="local").in_sync


def answer(*arguments: object) -> Any:
    """The document that a command of weft leaves with ``--json``."""
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, (result.stdout, result.stderr)
    return json.loads(result.stdout)


def state(home: Home, name: str) -> str:
    return f"{home.dataset(name)}.weft"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Home, str], None]]:
    """Run `three` in a process that SIGKILL meets right before a point."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import sinks"
    with subprocess.Popen(
        [sys.executable, "-c", f"{start}; sinks.main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def run(home: Home, point: str) -> None:
            print(json.dumps({**home.settings, "dies": point}), file=process.stdin)
            assert int(process.stdout.readline()) == -signal.SIGKILL  # type: ignore[union-attr]

        yield run
        process.stdin.close()


POINTS = sinks.points()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_durable_step(
    published: Home, killed: Callable[[Home, str], None], point: str
) -> None:
    home = published
    home.run()  # in sync, but for the first
    old, before = home.latest(), home.rows()
    assert len(set(old)) == 1
    home.write("a.txt", f"now {point}\n{POINTS.index(point)}")
    home.write("new.txt", point)
    killed(home, point)

    def done(step: str) -> int:
        return sum(POINTS.index(f"{step} dataset {n}") < POINTS.index(point) for n in sinks.NAMES)

    new, after = journals(state(home, "lines"))[0].run, home.truth()
    seen = home.rows()
    for number, name in enumerate(sinks.NAMES):  # each is whole
        assert seen[name] == (after if number < done("latest") else before)[name]
    assert home.latest() == [new] * done("metadata") + old[done("metadata") :]
    oldest = min(home.latest())  # and all of them are, at this run
    assert home.rows(f"run-{oldest}") == (after if oldest == new else before)

    if point.startswith("note published"):
        home.run()
    else:
        name = sinks.NAMES[POINTS.index(point) % len(sinks.NAMES)]
        resumed = answer("resume", home.dataset(name))
        assert (resumed["run"], resumed["state"]) == (new, "published")
        assert home.latest() == [new] * len(old)
    assert len(set(home.latest())) == 1
    assert home.rows() == home.rows(f"run-{new}") == after
    assert home.run().in_sync


def test_killed_in_the_first_run(home: Home, killed: Callable[[Home, str], None]) -> None:
    killed(home, "tag dataset words")
    latest = [tables.latest(home.dataset(name)) for name in sinks.NAMES]
    assert [found is not None for found in latest] == [True, False, False]
    run = answer("resume", home.dataset("sizes"))["run"]
    assert home.latest() == [run] * 3
    assert home.rows() == home.truth()


def test_somebody_else_commits_to_the_second(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = home.run()
    before = home.rows()
    home.write("a.txt", "uno")
    commit, meddled = tables.commit, list[str]()

    def meddling(token: Any, *arguments: Any, **more: Any) -> int:
        if token["uri"] == home.dataset("words"):  # the first dataset is committed by now
            table = pa.table({"_key": ["x"], "_source": [""], "uri": ["x"], "word": ["theirs"]})
            lance.write_dataset(table, token["uri"], mode="append")
            meddled.append(token["uri"])
        return commit(token, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "commit", meddling)
        with pytest.raises(CommitConflict, match=r"words\.lance: run .* the rows have changed"):
            home.run()
    assert len(meddled) == 1
    assert home.latest() == [first.run] * 3
    assert home.rows() == before
    new = tables.version_of(home.dataset("lines"), journals(state(home, "lines"))[0].run)
    assert new > first.versions["write"]  # committed, and no reader sees it

    again = home.run()
    assert home.latest() == [again.run] * 3
    assert home.rows() == home.truth()
    home.write("b.txt", "quattro")
    assert home.run().increment["unchanged"] == 2  # and from here on as ever
    assert home.rows() == home.truth()


def test_a_run_that_can_never_commit_is_told_from_one_that_can_go_on(
    home: Home, killed: Callable[[Home, str], None]
) -> None:
    home.run()
    home.write("b.txt", "quattro")
    killed(home, "commit dataset sizes")
    run = journals(state(home, "lines"))[0]
    targets = {name: Target(**tokens) for name, tokens in run.about()["targets"].items()}
    assert overtaken(targets, run.run) is None  # two datasets have its commit, one has not
    assert overtaken(targets, "another") == ledger_uri(state(home, "lines"))
    sizes = home.dataset("sizes")
    lance.dataset(sizes).delete("size > 10")
    assert overtaken(targets, run.run) == sizes
    shutil.rmtree(home.dataset("words"))
    assert overtaken(targets, run.run) == home.dataset("words")


def test_a_lease_that_is_lost_while_the_last_is_committed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = home.run()
    home.write("b.txt", "quattro")
    lease, commit = lease_path(state(home, "lines"), 99), tables.commit

    def losing(token: Any, *arguments: Any, **more: Any) -> int:
        version = commit(token, *arguments, **more)
        if token["uri"] == home.dataset("sizes"):
            put(lease, {"run": "theirs", "epoch": 99, **identity()})
        return version

    with monkeypatch.context() as patch:
        patch.setattr(tables, "commit", losing)
        with pytest.raises(Busy, match="lost the lease"):
            home.run()
    assert home.latest() == [first.run] * 3
    lease.unlink()
    put(lease, {"run": "theirs", "epoch": 99, "released": True})
    home.run()
    assert home.rows() == home.truth()


def test_a_changed_row_changes_all(home: Home) -> None:
    first = home.run()
    home.write("a.txt", "uno due tre")
    second = home.run()
    assert second.increment == {"new": 0, "changed": 1, "deleted": 0, "retried": 0, "unchanged": 2}
    assert second.books["text"].taken == 1
    assert home.latest() == [second.run] * 3
    assert home.rows() == home.truth() != home.rows(f"run-{first.run}")


@pytest.mark.parametrize("name", sinks.NAMES)
@pytest.mark.parametrize("ends", [(".lance",), (".lance", ".lance.weft"), (".lance.weft",)])
def test_a_dataset_that_was_deleted_by_hand(home: Home, name: str, ends: tuple[str, ...]) -> None:
    first = home.run()
    for end in ends:
        shutil.rmtree(home.path / f"{name}{end}")
    home.write("a.txt", "uno due")
    second = home.run()
    assert second.rows == 3  # all of them, as its rows must be made again
    assert second.increment == {}
    assert home.latest() == [second.run] * 3
    assert home.rows() == home.truth()
    others = [n for n in sinks.NAMES if n != name]
    for other in others:
        assert lance.dataset(home.dataset(other), version=f"run-{first.run}").count_rows()
    assert home.run().in_sync


@pytest.mark.parametrize("what", ["words.lance", "words.lance.weft"])
def test_a_dataset_deleted_while_its_run_waits_to_go_on(
    home: Home, killed: Callable[[Home, str], None], what: str
) -> None:
    home.run()
    home.write("b.txt", "other")
    killed(home, "commit dataset words")
    shutil.rmtree(home.path / what)
    home.run()
    assert home.rows() == home.truth()
    assert len(set(home.latest())) == 1
    assert home.run().in_sync
