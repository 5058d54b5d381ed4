import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.connectors import readahead
from weft.connectors.files import Files
from weft.errors import DefinitionError
from weft.pipelines.types import Encoded

ALL = ["key", "uri", "size", "modified", "content"]

SMALL = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def folder(tmp_path):
    """Twenty files of growing size in three folders."""
    for i in range(20):
        path = tmp_path / "media" / ("", "a", "a-b")[i % 3] / f"{i:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]) * i)
        os.utime(path, ns=(0, 1_600_000_000_123_456_789 + i))
    return tmp_path / "media"


def chunks_of(source, columns=ALL, predicates=(), split_rows=1000, batch_rows=1000):
    for split in source.splits(split_rows):
        yield from source.read(split, columns, list(predicates), batch_rows)


def rows_of(source, columns=ALL, **how):
    """Rows as dicts with their envelope, dropped as (predicate, key, source), failed rows."""
    rows, dropped, failed = [], [], []
    for chunk in chunks_of(source, columns, **how):
        batch = chunk.batch
        names = [*batch.envelope, *batch.columns]
        values = [list((batch.envelope | batch.columns)[name].array.to_pylist()) for name in names]
        assert list(batch.columns) == list(columns)
        assert all(len(column) == batch.rows for column in values)
        rows += [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        dropped += [
            (d.predicate, *pair)
            for d in chunk.dropped
            for pair in zip(d.keys, d.sources, strict=True)
        ]
        failed += chunk.failed
    return rows, dropped, failed


def keys_of(source, **how):
    return [row["_key"] for row in rows_of(source, ["key"], **how)[0]]


class TestListing:
    def test_count_is_what_is_on_disk(self, folder):
        source = Files(folder / "**" / "*.jpg")
        assert source.count() == sum(1 for _ in folder.rglob("*.jpg")) == 20
        assert source.only(pa.array(["00.jpg", "03.jpg", "gone"])).count() == 2
        with pytest.raises(DefinitionError, match="no file matches"):
            Files(folder / "*.png").count()

    def test_rows_are_what_is_on_disk(self, folder):
        rows, dropped, failed = rows_of(Files(folder))
        assert [r["_key"] for r in rows] == sorted(
            str(p.relative_to(folder)) for p in folder.rglob("*.jpg")
        )
        for row in rows:
            path = folder / row["key"]
            found = path.stat()
            assert row["uri"] == str(path)
            assert row["content"] == path.read_bytes()
            assert row["size"] == found.st_size
            assert row["modified"].timestamp() == pytest.approx(found.st_mtime, abs=1e-6)
            assert row["_source"] == f"{found.st_size}-{found.st_mtime_ns}"
        assert (dropped, failed) == ([], [])

    @pytest.mark.parametrize(
        ("pattern", "keys"),
        [
            ("*.jpg", ["x.jpg"]),
            ("*", ["x.jpg", "y.png"]),
            ("**", ["a/b/w.jpg", "a/z.jpg", "x.jpg", "y.png"]),
            ("**/*.jpg", ["a/b/w.jpg", "a/z.jpg", "x.jpg"]),
            ("*/*.jpg", ["a/z.jpg"]),
            ("a/**/w.jpg", ["b/w.jpg"]),
            ("**/b/*", ["a/b/w.jpg"]),
            ("**/**/[wx].*", ["a/b/w.jpg", "x.jpg"]),
            ("a/z.jpg", ["z.jpg"]),
            ("?.[!j]*", ["y.png"]),
            (".*", [".hidden.jpg"]),
            (".git/*", ["h.jpg"]),
            ("**/.git/*", [".git/h.jpg"]),
        ],
    )
    def test_pattern(self, tmp_path, pattern, keys):
        for name in "x.jpg", "y.png", "a/z.jpg", "a/b/w.jpg", ".hidden.jpg", ".git/h.jpg":
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert keys_of(Files(f"{tmp_path}/{pattern}")) == keys

    @SMALL
    @given(
        st.sets(
            st.lists(st.sampled_from(["a", "b", "a-b", "ab.c"]), min_size=1, max_size=4).map(
                lambda parts: "/".join([*parts, "f.x"])
            ),
            min_size=1,
        )
    )
    def test_order_is_that_of_keys_at_any_depth(self, tmp_path_factory, names):
        root = tmp_path_factory.mktemp("order")
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        assert keys_of(Files(root)) == sorted(names)
        assert keys_of(Files(root / "**" / "*.x")) == sorted(names)

    def test_existing_name_is_not_a_pattern(self, tmp_path):
        (tmp_path / "a[1].jpg").touch()
        (tmp_path / "a1.jpg").touch()
        assert keys_of(Files(tmp_path / "a[1].jpg")) == ["a[1].jpg"]

    def test_several_paths_share_one_root_and_each_file_is_one_row(self, folder):
        source = Files([folder / "a" / "*.jpg", folder / "a-b", folder / "a" / "01.jpg"])
        assert keys_of(source) == sorted(
            str(p.relative_to(folder)) for p in folder.rglob("*.jpg") if p.parent != folder
        )

    def test_links_are_followed_and_loops_end(self, tmp_path):
        (tmp_path / "in" / "deep").mkdir(parents=True)
        (tmp_path / "in" / "f.jpg").touch()
        (tmp_path / "in" / "deep" / "up").symlink_to(tmp_path)
        (tmp_path / "self").symlink_to("self")
        (tmp_path / "other").symlink_to(tmp_path / "in")
        assert keys_of(Files(tmp_path / "**" / "*.jpg")) == ["in/f.jpg", "other/f.jpg"]

    def test_pipes_are_no_files(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "f").touch()
        assert keys_of(Files(tmp_path)) == ["f"]

    def test_same_keys_and_splits_after_the_folder_moved(self, folder, tmp_path):
        before = [split.id for split in Files(folder).splits(7)]
        folder.rename(tmp_path / "moved")
        assert [split.id for split in Files(tmp_path / "moved").splits(7)] == before

    def test_split_id_follows_content(self, folder):
        before = [split.id for split in Files(folder).splits(10)]
        (folder / "00.jpg").write_bytes(b"more")
        after = [split.id for split in Files(folder).splits(10)]
        assert (before[0] == after[0], before[1] == after[1]) == (False, True)

    def test_split_sizes(self, folder):
        splits = list(Files(folder).splits(8))
        assert [split.rows for split in splits] == [8, 8, 4]
        assert sum(split.content_bytes for split in splits) == sum(range(20))
        assert Files(folder).row_bytes() == {"content": sum(range(20)) // 20}


class TestHostileNames:
    def test_unicode_spaces_newlines(self, tmp_path):
        names = ["ü ö.jpg", "new\nline.jpg", "日本.jpg", "'\"$.jpg", "\\xff.jpg"]
        for name in names:
            (tmp_path / name).write_text(name)
        rows, _, failed = rows_of(Files(tmp_path / "*.jpg"))
        assert {row["_key"]: row["content"].decode() for row in rows} == {n: n for n in names}
        assert failed == []

    def test_name_that_is_no_utf8_is_escaped_and_read(self, tmp_path):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
        [row], _, failed = rows_of(Files(tmp_path))
        assert (row["_key"], row["content"]) == ("caf\\xe9.jpg", b"x")
        assert row["uri"] == f"{tmp_path}/caf\\xe9.jpg"
        assert failed == []

    def test_names_that_would_be_escaped_alike_are_refused(self, tmp_path):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
        (tmp_path / "\\xff").touch()
        with pytest.raises(DefinitionError) as error:
            list(Files(tmp_path).splits(1))
        assert str(error.value) == (
            "Files: two files have the key '\\\\xff': one has bytes in its name that are no "
            "UTF-8, the other a name that spells them out. Rename one."
        )


class TestRead:
    @SMALL
    @given(split_rows=st.integers(1, 25), batch_rows=st.integers(1, 25), limit=st.integers(0, 20))
    def test_every_row_once_in_order_whatever_the_cut(self, folder, split_rows, batch_rows, limit):
        cut = {"split_rows": split_rows, "batch_rows": batch_rows}
        source = Files(folder)
        predicates = [pl.col("size") < limit, pl.col("key").str.contains("/")]
        everything, _, _ = rows_of(source)
        rows, dropped, failed = rows_of(source, predicates=predicates, **cut)
        small = [row for row in everything if row["size"] < limit]
        assert rows == [row for row in small if "/" in row["key"]]
        assert sorted(dropped) == sorted(
            [(0, r["_key"], r["_source"]) for r in everything if r["size"] >= limit]
            + [(1, r["_key"], r["_source"]) for r in small if "/" not in r["key"]]
        )
        assert failed == []
        assert rows_of(source, **cut)[0] == everything
        for chunk in chunks_of(source, ["key"], predicates, **cut):
            assert chunk.batch.rows <= batch_rows

    def test_dropped_files_are_not_opened(self, folder, monkeypatch):
        opened = []
        monkeypatch.setattr(
            readahead, "_read_file", lambda path, *_: opened.append(os.fsdecode(path)) or b""
        )
        rows_of(Files(folder), predicates=[pl.col("size") == 3])
        assert opened == [str(folder / "03.jpg")]
        rows_of(Files(folder), ["uri", "size"])
        assert len(opened) == 1

    def test_null_predicate_drops(self, folder):
        rows, dropped, _ = rows_of(Files(folder), predicates=[pl.lit(None, pl.Boolean)])
        assert (len(rows), len(dropped)) == (0, 20)

    def test_row_that_cannot_be_judged_fails_alone(self, tmp_path):
        for name in "1", "2", "x", "30":
            (tmp_path / name).touch()
        rows, dropped, failed = rows_of(
            Files(tmp_path), predicates=[pl.col("key").cast(pl.Int64) < 10]
        )
        assert [row["_key"] for row in rows] == ["1", "2"]
        assert [key for _, key, _ in dropped] == ["30"]
        assert [row.key for row in failed] == ["x"]
        assert "cannot be judged" in str(failed[0].error)

    @pytest.mark.parametrize(
        ("predicate", "accepted"),
        [
            (pl.col("size") > 3, True),
            (pl.col("key").str.ends_with(".jpg") & (pl.col("modified").dt.year() > 2000), True),
            (pl.lit(value=True), True),
            (pl.col("content").bin.size() > 3, False),
            (pl.col("size") > pl.col("size").mean(), False),
            (pl.col("size").cum_sum() > 3, False),
            (pl.col("size").filter(pl.col("size") > 3) > 1, False),
            (pl.all() > 1, False),
            (pl.col("size").map_batches(lambda s: s > 1) > 0, False),
            (pl.col("other") > 3, False),
        ],
    )
    def test_accepts_predicate(self, folder, predicate, accepted):
        assert Files(folder).accepts_predicate(predicate) is accepted

    def test_file_that_is_gone_or_changed_or_unreadable_fails_alone(self, folder):
        source = Files(folder / "*.jpg")
        splits = list(source.splits(100))
        (folder / "00.jpg").unlink()
        (folder / "03.jpg").write_bytes(b"longer than before")
        os.utime(folder / "06.jpg", ns=(0, 5))
        (folder / "09.jpg").unlink()
        (folder / "09.jpg").mkdir()
        (folder / "12.jpg").unlink()
        os.mkfifo(folder / "12.jpg")
        [chunk] = source.read(splits[0], ["content"], [], 100)
        assert chunk.batch.keys == ["15.jpg", "18.jpg"]
        assert chunk.batch.columns["content"].values == [bytes([15]) * 15, bytes([18]) * 18]
        errors = {row.key: str(row.error) for row in chunk.failed}
        assert list(errors) == ["00.jpg", "03.jpg", "06.jpg", "09.jpg", "12.jpg"]
        assert errors["00.jpg"] == f"{folder}/00.jpg is gone since it was listed. Run again."
        assert errors["03.jpg"].startswith(
            f"{folder}/03.jpg changed since it was listed: 3 B of 2020-09-13 12:26:40.123456 then, "
            "18 B of "
        )
        assert errors["06.jpg"] == (
            f"{folder}/06.jpg changed since it was listed: 6 B of 2020-09-13 12:26:40.123456 then, "
            "6 B of 1970-01-01 00:00:00.000000 now. Run again when nobody writes it."
        )
        assert errors["09.jpg"] == (
            f"{folder}/09.jpg cannot be read: Is a directory. Check the file and who may read it."
        )
        assert "12.jpg" in errors["12.jpg"]
        assert chunk.failed[0].source == f"0-{1_600_000_000_123_456_789}"

    def test_dangling_link_is_a_failed_row(self, tmp_path):
        (tmp_path / "a.jpg").symlink_to("nowhere")
        rows, _, [failed] = rows_of(Files(tmp_path))
        assert (rows, failed.key) == ([], "a.jpg")

    def test_stopping_early_leaves_no_thread(self, folder):
        before = threading.active_count()
        source = Files(folder)
        [split] = source.splits(100)
        chunks = source.read(split, ["content"], [], 2)
        next(chunks)
        assert threading.active_count() > before
        chunks.close()
        assert threading.active_count() == before

    def test_reads_one_batch_ahead_and_no_more(self, folder, monkeypatch):
        read = []
        monkeypatch.setattr(readahead, "_read_file", lambda path, *_: read.append(path) or b"")
        source = Files(folder)
        [split] = source.splits(100)
        chunks = source.read(split, ["content"], [], 3)
        for consumed in range(1, 5):
            next(chunks)
            assert len(read) <= 3 * (consumed + 1)
        chunks.close()
        assert len(read) <= 15


class TestValue:
    def test_equal_by_absolute_path_wherever_it_stands(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        here = Files("a/*.jpg")
        monkeypatch.chdir(folder / "a")
        assert here == Files("*.jpg") == Files(folder / "a" / "*.jpg")
        assert here != Files("../a-b/*.jpg")
        assert here.identity() == {
            "source": "Files", "paths": [f"{folder}/a/*.jpg"], "kind": "image"
        }  # fmt: skip
        assert len(keys_of(here)) == 7  # it still reads where it was made

    def test_pickle_leaves_the_listing_behind(self, folder):
        source = Files([folder / "a", folder / "a-b"])
        small = len(pickle.dumps(source))
        keys = keys_of(source)
        other = pickle.loads(pickle.dumps(source))
        assert (other, hash(other), keys_of(other)) == (source, hash(source), keys)
        assert len(pickle.dumps(source)) == small

    @pytest.mark.parametrize(
        ("paths", "kind"),
        [
            ("*.jpg", "image"), ("**/*.AVIF", "image"), ("a.mp4", "video"), ("*.flac", "audio"),
            ("*.pdf", "pdf"), (["*.jpg", "x/*.png"], "image"), (["*.jpg", "*.mp4"], None),
            ("folder", None), ("*", None),
        ],
    )  # fmt: skip
    def test_kind_by_extension(self, paths, kind):
        assert Files(paths).columns["content"] == Encoded(kind)

    def test_same_everywhere(self, folder):
        code = (
            "import sys; from weft.connectors.files import Files;"
            "print([s.id for s in Files(sys.argv[1]).splits(6)])"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert shown.stdout.strip() == str([s.id for s in Files(folder).splits(6)])


def message(*args, **kwargs):
    with pytest.raises(DefinitionError) as error:
        list(Files(*args, **kwargs).splits(10))
    return str(error.value)


class TestMessages:
    def test_no_folder(self, tmp_path):
        (tmp_path / "photos").mkdir()
        assert message(tmp_path / "photo/x/*.jpg") == (
            f"Files: no file matches {tmp_path}/photo/x/*.jpg: the folder {tmp_path}/photo does "
            f"not exist. Did you mean 'photos'? It is in {tmp_path}."
        )

    def test_no_file(self, tmp_path):
        (tmp_path / "zebra.png").touch()
        assert message(tmp_path / "a.jpg") == (
            f"Files: there is no file or folder {tmp_path}/a.jpg. In {tmp_path} there are: "
            "zebra.png."
        )

    def test_nothing_matches(self, tmp_path):
        for name in "a.png", "b.png", "c.gif", ".hidden", "Makefile":
            (tmp_path / name).touch()
        assert message(tmp_path / "*.jpg") == (
            f"Files: no file matches {tmp_path}/*.jpg. The folder {tmp_path} exists and has 4 "
            "files (hidden and skipped: 1): 2 .png, 1 .gif, 1 no extension. Ask for one of "
            "these, or check the folder."
        )

    def test_empty_folder(self, tmp_path):
        assert message(tmp_path) == (
            f"Files: the folder {tmp_path} has no files. The folder {tmp_path} exists and has no "
            "files."
        )

    def test_matches_are_deeper(self, tmp_path):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "a.jpg").touch()
        assert message(tmp_path / "*.jpg") == (
            f"Files: no file matches {tmp_path}/*.jpg. The folder {tmp_path} exists and has 1 "
            f"file: 1 .jpg. 1 of them match in folders below: {tmp_path}/**/*.jpg"
        )

    def test_upper_case(self, tmp_path):
        (tmp_path / "a.JPG").touch()
        assert message(tmp_path / "*.jpg").endswith(
            "1 file: 1 .JPG. 1 of them match but for upper and lower case."
        )

    def test_braces(self, tmp_path):
        (tmp_path / "a.jpg").touch()
        assert message(f"{tmp_path}/*.{{jpg,png}}").endswith(
            "1 file: 1 .jpg. Braces are not expanded: give a list of patterns instead."
        )

    def test_file_in_place_of_a_folder(self, tmp_path):
        (tmp_path / "a.zip").touch()
        assert message(tmp_path / "a.zip" / "*.jpg") == (
            f"Files: no file matches {tmp_path}/a.zip/*.jpg: {tmp_path}/a.zip is a file, not a "
            "folder."
        )

    def test_one_of_several_is_missing(self, folder):
        assert message([folder, folder / "b"]).startswith(
            f"Files: there is no file or folder {folder}/b. "
        )

    def test_folder_that_may_not_be_listed(self, folder, monkeypatch):
        real = os.scandir

        def scandir(path):
            if str(path).endswith("/a"):
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
        assert message(folder) == (
            f"Files: the folder {folder}/a cannot be listed: Permission denied. Give read "
            "permission, or a pattern that does not lead there."
        )

    def test_not_a_path(self):
        assert message(3) == (
            "Files: 3 is no path. Expected a glob like 'photos/**/*.jpg', a folder, a file, or a "
            "list of these."
        )
        assert message(["a", ""]) == "Files: '' is no path. Expected text like 'photos'."
        assert message("s3://bucket/*.jpg") == (
            "Files: s3://bucket/*.jpg is not on a local file system. Mount it, and give its path."
        )
        assert message("x", kind=3) == (
            "Files: kind=3 is no kind of file. Expected text like 'image', or leave it out to go "
            "by the extension."
        )
