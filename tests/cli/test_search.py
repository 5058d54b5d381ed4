"""`weft search`. Truth: the operators called on the same files, and NumPy."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from weft.cli.search import _cell
from weft.connectors import Lance
from weft.errors import DefinitionError
from weft.operators import image, queries
from weft.operators.torchaudio_import import torchaudio
from weft.operators.weights import find_weights
from weft.pipelines import indexes, origins, tables

torchaudio()  # see the module: sentence-transformers imports it

from sentence_transformers import SentenceTransformer  # noqa: E402

PIPELINES = """\
import polars as pl

import weft
from weft.connectors import Arrow, Files, Lance
from weft.operators import image, text


@weft.operator(version="1")
def mean(image: weft.Image) -> weft.Embedding(3):
    return image.reshape(-1, 3).mean(0).astype("float32") / 255


@weft.pipeline
def looks(source: str = "photos/*.jpg", out: str = "looks.lance"):
    rows = weft.read(Files(source)).apply(image.Probe())
    rows = rows.apply(image.Decode()).apply(image.Resize(18)).apply(image.Descriptor())
    rows = rows.with_columns(pl.col("descriptor").alias("look"))
    return rows.select("uri", "width", "look").write(Lance(out, index="look"))


SENTENCES = {
    "cat": "A cat sleeps on the sofa.",
    "kitten": "Two kittens play with wool.",
    "car": "A red sports car on a mountain road.",
    "truck": "The lorry is parked in front of the depot.",
    "soup": "Boil the carrots for ten minutes, then add salt.",
}


@weft.pipeline
def said(out: str = "said.lance"):
    rows = weft.read(Arrow({"name": list(SENTENCES), "text": list(SENTENCES.values())}, key="name"))
    rows = rows.apply(text.Embed("all-MiniLM-L6-v2"))
    return rows.select("text", "embedding").write(Lance(out, index="embedding"))


@weft.pipeline
def some(source: str = "looks.lance", out: str = "some.lance"):
    rows = weft.read(Lance(source)).where(pl.col("width") > 24)
    rows = rows.with_columns(pl.col("look").alias("seen"))
    return rows.select("width", "seen").write(Lance(out))


@weft.pipeline
def two(source: str = "photos/*.jpg", out: str = "two.lance"):
    rows = weft.read(Files(source)).apply(image.Decode()).apply(mean).apply(image.Descriptor())
    return rows.select("uri", "mean", "descriptor").write(Lance(out))
"""

RUN = ("run", "--engine", "local")


@pytest.fixture
def looks(weft, photos: Path, work: Path) -> Path:
    """Ten noisy pictures, searchable."""
    (work / "seen.py").write_text(PIPELINES)
    weft(*RUN, "seen.py:looks")
    return work / "looks.lance"


def vector(path: Path) -> np.ndarray:
    pixels = image.Resize(18)(image.Decode()(path.read_bytes()))
    return np.asarray(image.Descriptor()(pixels), np.float64)


def by_hand(photos: Path, query: np.ndarray) -> list[tuple[str, float]]:
    """Keys and cosines of all pictures, the nearest first."""
    found = [(p.name, float(vector(p) @ query)) for p in photos.glob("p*.jpg")]
    return sorted(found, key=lambda pair: -pair[1])


def test_a_picture_of_the_dataset_is_found_at_once(answer, looks: Path, photos: Path) -> None:
    found = answer("search", looks, "--image", photos / "p004.jpg", "-k", 3)
    assert (found["column"], found["version"], found["exact"]) == ("look", 2, True)
    assert found["rows"][0] == {"similarity": 1.0, "key": "p004.jpg", "width": 24} | {
        "uri": str(photos / "p004.jpg")
    }
    expected = by_hand(photos, vector(photos / "p004.jpg"))[:3]
    assert [r["key"] for r in found["rows"]] == [key for key, _ in expected]
    np.testing.assert_allclose(
        [r["similarity"] for r in found["rows"]], [cosine for _, cosine in expected], atol=1e-5
    )


def test_like_leaves_out_the_row_itself(answer, looks: Path, photos: Path) -> None:
    found = answer("search", looks, "--like", "p004.jpg", "--where", "width > 22 OR width = 20")
    allowed = {f"p{i:03}.jpg" for i in (0, 3, 5, 6, 7, 8, 9)}
    expected = [k for k, _ in by_hand(photos, vector(photos / "p004.jpg")) if k in allowed]
    assert [r["key"] for r in found["rows"]] == expected


def test_text_output(weft, looks: Path, photos: Path) -> None:
    lines = weft("search", looks, "--image", photos / "p001.jpg", "-k", 2).stdout.splitlines()
    assert lines[0] == f"{looks} version 2, nearest by look: exact, all 10 rows compared"
    assert lines[1].split() == ["similarity", "key", "uri", "width"]
    assert lines[2].split()[:2] == ["1", "p001.jpg"]
    assert len(lines) == 4
    none = weft("search", looks, "--like", "p001.jpg", "--where", "width > 99").stdout
    assert none.endswith("compared\nno rows\n")


def test_versions_and_tags(weft, answer, looks: Path, photos: Path) -> None:
    (photos / "p004.jpg").unlink()
    run = answer(*RUN, "seen.py:looks")["run"]
    query = ("search", looks, "--like", "p000.jpg")
    assert len(answer(*query)["rows"]) == 8
    assert len(answer(*query, "--version", "2")["rows"]) == 9
    assert answer(*query, "--version", f"run-{run}")["version"] == 3
    assert "has no tag 'lates'" in weft(*query, "--version", "lates", code=2).stderr


def test_the_index_is_shown_with_the_rows(
    weft, answer, looks: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "INDEX_FROM_ROWS", 5)
    run = answer(*RUN, "--fresh", "seen.py:looks")
    assert run["writes"][0]["version"] == 4  # 3 has the rows, 4 the index on them
    found = answer("search", looks, "--image", photos / "p004.jpg")
    assert (found["version"], found["exact"], found["rows"][0]["key"]) == (4, False, "p004.jpg")
    by_number = answer("search", looks, "--image", photos / "p004.jpg", "--version", "3")
    assert (by_number["exact"], by_number["rows"][0]["key"]) == (True, "p004.jpg")
    assert answer(*RUN, "seen.py:looks")["state"] == "in sync"
    assert answer("runs", looks)["runs"][0]["version"] == 4


def test_a_dataset_made_of_another(weft, answer, looks: Path, photos: Path) -> None:
    weft(*RUN, "seen.py:some")
    found = answer("search", "some.lance", "--image", photos / "p007.jpg")
    assert found["rows"][0]["width"] == 27
    assert len(found["rows"]) == 5
    weft(*RUN, "tiny.py:small", "--set", "out=plain.lance")
    lance.dataset("plain.lance").tags.delete("latest")
    source = Lance(str(looks.parent / "plain.lance"))
    assert origins._of_source(source) == {}


def test_an_index_that_fails_is_made_by_resume(
    weft, answer, looks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "INDEX_FROM_ROWS", 5)
    with monkeypatch.context() as patch:
        patch.setattr(lance.LanceDataset, "create_index", _full)
        assert "the disk is full" in weft(*RUN, "--fresh", "seen.py:looks", code=1).stderr
    query = ("search", looks, "--like", "p000.jpg")
    assert answer(*query)["version"] == 2  # what was shown before
    weft("resume", looks)
    found = answer(*query)
    assert (found["version"], found["exact"], len(found["rows"])) == (4, False, 9)


def test_an_increment_extends_the_index(
    weft, answer, looks: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "INDEX_FROM_ROWS", 5)
    weft(*RUN, "--fresh", "seen.py:looks")
    (photos / "p003.jpg").unlink()
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(photos / "q.jpg")
    assert answer(*RUN, "seen.py:looks")["rows"] == 1  # the new one
    found = answer("search", looks, "--image", photos / "q.jpg", "-k", 20)
    keys = [row["key"] for row in found["rows"]]
    assert (found["version"], keys[0]) == (6, "q.jpg")
    assert sorted(keys) == sorted(p.name for p in photos.glob("[pq]*.jpg"))
    covered = indexes.coverage(str(looks), "latest", "look")
    assert (covered.indexed, covered.rows) == (10, 10)


def test_words(weft, answer, looks: Path) -> None:
    weft(*RUN, "seen.py:said")
    seen = importlib.import_module("seen")
    model = SentenceTransformer(str(find_weights("all-MiniLM-L6-v2", None, "test").folder))
    query = "a fast vehicle"
    cosines = model.encode(list(seen.SENTENCES.values()), normalize_embeddings=True) @ model.encode(
        query, normalize_embeddings=True
    )
    order = np.argsort(-cosines)
    found = answer("search", "said.lance", "--text", query)["rows"]
    assert [row["key"] for row in found] == [list(seen.SENTENCES)[i] for i in order]
    assert found[0]["key"] in ("car", "truck")
    np.testing.assert_allclose([row["similarity"] for row in found], cosines[order], atol=1e-5)
    assert "text.Embed embeds no pictures" in (
        weft("search", "said.lance", "--image", "photos/p000.jpg", code=2).stderr
    )


def _full(*given: Any, **named: Any) -> None:
    raise OSError("the disk is full")


def test_several_columns_and_an_operator_of_the_user_s(weft, answer, looks: Path) -> None:
    weft(*RUN, "seen.py:two")
    assert "has 2 columns of vectors: mean, descriptor. Name one." in (
        weft("search", "two.lance", "--like", "p000.jpg", code=2).stderr
    )
    mean = ("search", "two.lance", "--column", "mean")
    assert len(answer(*mean, "--like", "p000.jpg")["rows"]) == 9
    assert "made by mean, which is not an operator of weft's" in (
        weft(*mean, "--image", "photos/p000.jpg", code=2).stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give one of --text WORDS, --image FILE and --like KEY."),
        (("--text", "a", "--like", "b"), "Give one of"),
        (("--like", "p99.jpg"), "looks.lance version 2 has no row of key 'p99.jpg'"),
        (("--like", "it's"), 'has no row of key "it\'s"'),
        (("--like", "p000.jpg", "--column", "lok"), "Did you mean 'look'?"),
        (("--like", "p000.jpg", "--where", "depth > 3"), "No field named depth"),
        (("--text", "a red car"), "image.Descriptor embeds no words"),
        (("--image", "none.jpg"), "Cannot read none.jpg: No such file or directory."),
        (("--image", "seen.py"), "seen.py: image.Decode"),
    ],
)
def test_what_cannot_be_searched(weft, looks: Path, arguments: Any, message: str) -> None:
    assert message in weft("search", looks, *arguments, code=2).stderr


def test_a_dataset_without_vectors_or_notes(weft, looks: Path, work: Path) -> None:
    weft(*RUN, "tiny.py:small")
    assert "has no vectors to search" in weft("search", "small.lance", "--like", "a", code=2).stderr
    rows = tables.read(str(looks))
    token = tables.ensure("bare.lance", rows.schema)
    version = tables.commit(token, tables.stage(token, rows), "r1", {})
    tables.tag("bare.lance", version, "r1", {})
    assert "does not say how column 'look' was made" in (
        weft("search", "bare.lance", "--image", "photos/p000.jpg", code=2).stderr
    )


def test_a_dataset_that_weft_did_not_write(weft, work: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 3)
    long = ["a/" * 50 + "end.jpg", "Once upon a time " * 9, "c"]
    lance.write_dataset(pa.table({"name": long, "v": column}), "plain.lance")
    like = weft("search", "plain.lance", "--like", "0", code=2).stderr
    assert like.endswith("plain.lance have no keys: weft did not write it.\n")
    image = weft("search", "plain.lance", "--image", "tiny.py", code=2).stderr
    assert "does not say how column 'v' was made" in image
    assert _cell(long[0]) == "…" + long[0][-59:]
    assert _cell(long[1]) == long[1][:59] + "…"


def test_the_note_names_the_whole_chain(looks: Path) -> None:
    """Decode and resize are one step of the plan; the answer is that of the picture's own way."""
    (origin,) = origins.recorded(str(looks), "latest").values()
    assert [given["operator"] for given in origin] == ["image.Decode", "image.Descriptor"]
    assert origin[0]["params"]["then"][0]["operator"] == "image.Resize"
    assert (origin[0]["of"]["type"], origin[0]["of"]["kind"]) == ("Encoded", "image")
    assert queries.Space(origin).has_images
    assert not queries.Space(origin).has_text


NOTE = {**image.Descriptor().identity(), "of": {"type": "Image"}, "out": "descriptor"}


class TestNotes:
    """A note is data, perhaps a stranger's."""

    def test_pictures_as_pixels(self) -> None:
        file = io.BytesIO()
        Image.fromarray(np.full((9, 9, 3), 77, np.uint8)).save(file, "PNG")
        expected = image.Descriptor()(np.full((9, 9, 3), 77, np.uint8))
        np.testing.assert_array_equal(queries.Space([NOTE]).image(file.getvalue()), expected)

    @pytest.mark.parametrize("name", ["os.system", "system", "image.os", "audio", "..image.Decode"])
    def test_only_weft_s_operators_are_made(self, name: str) -> None:
        given = {"operator": name, "version": "1", "params": {}, "of": {"type": "Image"}}
        with pytest.raises(DefinitionError, match="not an operator of weft's"):
            queries.Space([given]).text("a red car")

    def test_another_version_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="with version '0', and here it is '1'"):
            queries.Space([{**NOTE, "version": "0"}]).text("a red car")

    def test_several_columns(self) -> None:
        with pytest.raises(DefinitionError, match=r"image\.Descriptor embeds no pictures"):
            queries.Space([{**NOTE, "of": None}]).image(b"")

    def test_words_go_in_where_the_text_begins(self) -> None:
        """A text that was itself made of something else is searched by words."""
        chain = [("audio.Transcribe", "Waveform"), ("text.Chunk", "Text"), ("text.Embed", "Text")]
        given = [{"operator": name, "of": {"type": kind}} for name, kind in chain]
        assert [g["operator"] for g in queries.Space(given)._part(("Text",))] == [
            "text.Chunk", "text.Embed",
        ]  # fmt: skip

    def test_parameters_come_back_as_they_were(self) -> None:
        then = (image.Crop(box=(0, 0, 5, 5)), image.Resize((4, 3)))
        decode = image.Decode(size=(20, 10), fit="cover", then=then)
        stored = json.loads(json.dumps(decode.identity()))
        assert queries._operator(stored) == decode
