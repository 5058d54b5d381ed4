"""What decoders take over, on real media: the plan says it, and the rows are the same without.

Size, sampling, time range, rate, channels and pages, each as a user would write it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import weft
from weft.connectors import Files, Memory
from weft.operators import audio, document, image, video
from weft.pipelines.compile import PASSES, compile_plan
from weft.pipelines.engines import local
from weft.pipelines.engines.worker import Context, Target, dataset_schema, units_of
from weft.pipelines.passes.push_into_decode import push_into_decode
from weft.pipelines.resources import Cluster, Machine
from weft.samples import clips, papers, photos, sounds

CLUSTER = Cluster((Machine(cpus=2),))
WITHOUT = tuple(p for p in PASSES if p is not push_into_decode)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for made in (clips.make()[0], papers.make()[0], sounds.make()[0]):
        for name, content in made.items():
            (folder / name).write_bytes(content)
    for name in ("coffee.jpg", "made-astronaut-sideways.jpg", "chelsea.webp"):
        (folder / name).write_bytes(photos.make()[0][name])
    return folder


def rows(pipeline: Any, passes: Any) -> tuple[list[dict[str, Any]], Any]:
    """What a pipeline writes when it is planned with `passes`, and its plan."""
    plan = compile_plan(pipeline.graph, CLUSTER, passes)
    [write] = plan.writes()
    sink: Any = write.action.sink  # type: ignore[union-attr]
    targets = {write.id: Target(sink.prepare(dataset_schema(plan, write)))}
    receipts = list(local.execute(plan, units_of(plan, 4), Context("r", None, targets), CLUSTER))
    staged = [part for r in receipts for part in r["writes"][write.id]["staged"]]
    table = sink.table(sink.commit(targets[write.id].token, staged, "r", {}))
    sink.clear()
    return sorted(table.to_pylist(), key=lambda row: row["_key"]), plan


Verbs = Callable[[Any], Any]

CASES: dict[str, tuple[str, Verbs, str]] = {
    # the files, what is done to them, and what the plan says of the decoder
    "size of an image": (
        "*.webp",
        lambda r: r.apply(image.Decode()).apply(image.Resize(64)).select("key", "image"),
        "image.Decode(then=[image.Resize(size=64)])",
    ),
    "size of frames that are rows": (
        "*.mp4",
        lambda r: r.apply(video.Frames(every=1)).apply(image.Resize(48)).select("index", "image"),
        "image.Resize(size=48)",
    ),
    "size of frames of a sample": (
        "*.mp4",
        lambda r: (
            r.apply(video.Sample(count=4)).apply(video.Resize(48)).select("frames", "times_seconds")
        ),
        "video.Resize(size=48)",
    ),
    "sampling": (
        "*.mp4",
        lambda r: r.apply(video.Frames()).where(pl.col("index") % 40 == 3).select("index", "image"),
        'only (col("index") % 40) == 3  [where]',
    ),
    "time range of a video": (
        "*.mp4",
        lambda r: (
            r.apply(video.Frames())
            .where(pl.col("time_seconds").is_between(2.5, 2.7))
            .select("time_seconds", "image")
        ),
        "[where]",
    ),
    "time range of a sound": (
        "*.flac",
        lambda r: r.apply(audio.Decode()).apply(audio.Trim(0.5, 1.25)).select("waveform"),
        "audio.Trim(start=0.5, stop=1.25)",
    ),
    "rate and channels": (
        "tone*.wav",
        lambda r: (
            r.apply(audio.Decode())
            .apply(audio.Channels(2))
            .apply(audio.Resample(16_000))
            .select("waveform", "sample_rate")
        ),
        "audio.Decode(then=[audio.Channels(channels=2), audio.Resample(sample_rate=16000)])",
    ),
    "pages": (
        "*.pdf",
        lambda r: (
            r.apply(document.PDF(dpi=36)).where(pl.col("page") == 2).select("page", "text", "image")
        ),
        'only col("page") == 2  [where]',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_plan_says_it_and_the_rows_are_the_same(name: str, media: Path) -> None:
    pattern, verbs, told = CASES[name]

    @weft.pipeline
    def pushed() -> Any:
        return verbs(weft.read(Files(media / pattern))).write(Memory("pushdown"))

    with_it, plan = rows(pushed(), PASSES)
    without, plain = rows(pushed(), WITHOUT)
    assert told in str(plan)
    assert len(plan.steps) < len(plain.steps)
    assert with_it == without
    assert with_it
