"""Hundreds of hostile files through pipelines: no crash, no hang, nothing fetched, named errors.

Every operator that decodes bytes is given them by the local engine, in child processes with
limited memory that are watched; a file at which one dies or stays is named. ``-v`` shows how
many of each class were kept and failed. ``WEFT_HOSTILE_SEED`` makes other files.
"""

from __future__ import annotations

import collections
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import make, references, watch

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the watch reads /proc and inotify, which Linux has"
)

SEED = int(os.environ.get("WEFT_HOSTILE_SEED", "0"))

ENDLESS = (
    "papers/bomb/form-in-itself.pdf",  # drawn 2^n times
    "papers/bomb/forms-in-forms.pdf",  # 2^30 times
    "papers/bomb/draws-2000000.pdf",  # a page as long as its drawing is
)
"""What PDFium draws without an end, as it has no limit for it: only a process of its own, which
operators have unless they are watched here, can be stopped. These files are run apart."""

FAMILIES = {
    # children -> the folder of their files; longest first
    "media": "media", "papers": "papers", "sounds": "media", "messages": "logs", "logs": "logs",
    "images": "images",
}  # fmt: skip

BYTES = 2**30
"""What the files of a family may cost in memory, all together and two at a time."""


@dataclass(frozen=True)
class Run:
    """All files, and what became of them."""

    files: dict[str, bytes]
    folder: Path
    outcomes: dict[str, watch.Outcome]
    connections: int
    opened: set[str]
    canaries: Path
    out: Path

    def steps(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for family, outcome in self.outcomes.items():
            for step, found in outcome.found.get("steps", {}).items():
                yield family, step, found

    def failures(self) -> Iterator[tuple[str, str, str, str]]:
        """File, operator, error and message of each row that failed."""
        for family, _, found in self.steps():
            for key, *rest in found["failed"]:
                yield f"{FAMILIES[family]}/{key}", *rest


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("hostile")
    canaries, out = folder / "canaries", folder / "out"
    canaries.mkdir()
    for name, content in references.canaries().items():
        (canaries / name).write_bytes(content)
    host = watch.Host()
    files = make.make(SEED, canaries, host.port)
    for name, content in files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def run(name: str) -> watch.Outcome:
        chosen = [
            folder / "files" / file
            for file in sorted(files)
            if file.startswith(f"{FAMILIES[name]}/") and file not in ENDLESS
        ]
        return watch.run(watch.Family(name, tuple(chosen), canaries, out / name))

    with watch.opened(canaries) as opened, ThreadPoolExecutor(2) as pool:
        outcomes = dict(zip(FAMILIES, pool.map(run, FAMILIES), strict=True))
    host.close()
    return Run(files, folder / "files", outcomes, host.connections, opened, canaries, out)


def test_there_are_many_files_of_every_class(ran: Run) -> None:
    assert len(set(ran.files.values())) >= 500
    counts = collections.Counter(tuple(name.split("/")[:2]) for name in ran.files)
    for kind in make.CLASSES:
        families = [family for family in make.FAMILIES if counts[family, kind]]
        assert len(families) >= 3, kind
    assert set(ENDLESS) <= set(ran.files)


def test_a_seed_makes_the_same_damage_again() -> None:
    files = {f"{n}.bin": random.Random(n).randbytes(4096) for n in range(3)}
    for damage in (make.truncate, make.flip, make.splice):
        first, again, other = (damage(files, random.Random(seed)) for seed in (1, 1, 2))
        assert first == again != other


@pytest.mark.parametrize("family", FAMILIES)
def test_no_file_ends_or_stops_a_process(ran: Run, family: str) -> None:
    outcome = ran.outcomes[family]
    assert not outcome.culprits
    assert not outcome.broken


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_is_bounded(ran: Run, family: str) -> None:
    found = ran.outcomes[family].found
    assert found["bytes"] < BYTES, found["large"]


def test_every_file_is_kept_or_a_named_error(ran: Run) -> None:
    """The books balance, or nothing would be published; and each file has an end of its own."""
    for family, step, found in ran.steps():
        if family == "messages":
            continue  # its rows are messages
        names = {
            file.removeprefix(f"{FAMILIES[family]}/")
            for file in ran.files
            if file.startswith(f"{FAMILIES[family]}/") and file not in ENDLESS
        }
        failed = [key for key, *_ in found["failed"]]
        ended = {_file(key, names) for key in (*found["kept"], *failed)}
        assert ended <= names
        missing = names - ended
        assert missing <= NO_CHILDREN.get(step, set()), step
        assert ran.outcomes[family].found["rows"] == len(names)


NO_CHILDREN = {"pages": {"hollow/no-pages.pdf", "hollow/portfolio.pdf"}, "align": set()}
"""Files of which an expand may make no row at all."""


def _file(key: str, names: set[str]) -> str:
    """The file of a row or of a child of it."""
    return key if key in names else key.rpartition("#")[0]


def test_errors_say_who_and_why(ran: Run) -> None:
    wrong = [
        failure
        for failure in ran.failures()
        if failure[2] != "RowError" or len(failure[3]) < 40 or not failure[1]
    ]
    assert not wrong
    for file, operator, _, message in ran.failures():
        assert operator in message or operator == "MCAP", (file, operator, message)


def test_what_is_kept_is_sane(ran: Run) -> None:
    assert not [(f, s, wrong) for f, s, found in ran.steps() for wrong in found["wrong"]]


def test_logs_that_are_none_are_refused(ran: Run) -> None:
    """Without MCAP's first bytes a file is none, which the source says before anything starts."""
    for file, message in ran.outcomes["messages"].found["refused"].items():
        none = not Path(file).read_bytes().startswith(b"\x89MCAP0\r\n")
        assert "is no MCAP file" in message if none else "there is no message in" in message


def test_nothing_is_fetched(ran: Run) -> None:
    assert ran.connections == 0
    assert ran.opened == set()


def test_playlists_are_refused_by_all(ran: Run) -> None:
    refused = collections.Counter(file for file, *_ in ran.failures())
    lists = [
        name
        for name in ran.files
        if name.startswith("media/reference/")
        and not name.endswith((".mov", ".mkv", ".mp4", ".avi"))
    ]
    assert len(lists) >= 25
    for name in lists:
        assert refused[name] == 7, name  # five operators of video, two of audio


def test_the_watch_sees_what_is_opened_and_who_calls(tmp_path: Path) -> None:
    """So that nothing fetched means something."""
    import socket

    host = watch.Host()
    (tmp_path / "canary").write_bytes(b"tweet")
    with watch.opened(tmp_path) as opened:
        (tmp_path / "canary").read_bytes()
    assert opened == {"canary"}
    with socket.create_connection(("127.0.0.1", host.port)) as connection:
        assert connection.recv(1) == b""
    host.close()
    assert host.connections == 1


def test_what_has_no_end_is_stopped(ran: Run) -> None:
    """Of each file the page that is drawn for ever fails by itself, after the time for a row."""
    files = tuple(ran.folder / name for name in ENDLESS)
    family = watch.Family("papers", files, ran.canaries, ran.out / "endless", row_seconds=4.0)
    outcome = watch.run(family)
    assert not outcome.culprits
    assert not outcome.broken
    pages = outcome.found["steps"]["pages"]
    assert [(k, o, e) for k, o, e, _ in sorted(pages["failed"])] == [
        (f"{Path(name).name}#0", "document.PDF", "RowTimeout") for name in sorted(ENDLESS)
    ]
    assert "no answer within 4 s, the limit for a row" in pages["failed"][0][3]
    assert not pages["kept"]
    assert len(outcome.found["steps"]["probe"]["kept"]) == len(ENDLESS)


def test_summary(ran: Run, request: pytest.FixtureRequest, capsys: Any) -> None:
    """How many files of each class every operator kept and refused."""
    failed: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for family, step, found in ran.steps():
        for key, *_ in found["failed"]:
            failed[family, step].add("/".join(key.split("/")[:2]).partition("#")[0])
    lines = [f"\n{len(ran.files)} hostile files, seed {SEED}; files with a failed row of all"]
    lines.append(f"{'':18}" + "".join(f"{kind:>11}" for kind in make.CLASSES))
    for (family, step), files in failed.items():
        cells = []
        for kind in make.CLASSES:
            of = [
                n
                for n in ran.files
                if n.startswith(f"{FAMILIES[family]}/{kind}/") and n not in ENDLESS
            ]
            refused = sum(file.startswith(f"{kind}/") for file in files)
            cells.append(f"{refused:>7}/{len(of):<3}")
        lines.append(f"{family + '.' + step:18}" + "".join(cells))
    assert len(lines) >= 13
    if request.config.get_verbosity() >= 0:  # pyproject says -q
        with capsys.disabled():
            print("\n".join(lines))
