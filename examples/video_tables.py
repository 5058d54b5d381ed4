"""One folder of videos, read once: clips, frames and sounds, three datasets that belong together.

    weft sample media
    python examples/video_tables.py 'media/clips/*.mp4' tables

One run publishes all three, and every row knows its video by `uri`. The second command runs the
pipeline, as ``weft run examples/video_tables.py --set source=… --set folder=tables`` would, and
puts the three together: the loudest second of each video, its frame and its clip.
"""

import argparse
from collections.abc import Iterator

import lance
import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import audio, image, video

NAMES = ("clips", "frames", "sounds")


@weft.operator(version="1")
def each_shot(
    content: weft.Encoded("video"), size: int = 224
) -> Iterator[weft.fields(start_seconds=float, end_seconds=float, image=weft.Image())]:
    """A row for each shot, with the frame in the middle of it."""
    for shot in video.Shots()(content):
        start, stop = shot["start_seconds"], shot["end_seconds"]
        middle = video.Sample(count=1, size=size, start=start, stop=stop)
        yield {**shot, "image": middle(content)["frames"][0]}


@weft.operator(version="1")
def each_second(
    waveform: weft.Waveform(), sample_rate: weft.Int32
) -> Iterator[weft.fields(start_seconds=float, end_seconds=float, waveform=weft.Waveform())]:
    """A row for each second of a sound; the last one may be shorter."""
    samples = waveform.shape[1]
    for start in range(0, samples, sample_rate):
        stop = min(start + sample_rate, samples)
        times = {"start_seconds": start / sample_rate, "end_seconds": stop / sample_rate}
        yield {**times, "waveform": waveform[:, start:stop]}


@weft.pipeline
def video_tables(source: str = "clips/**/*.mp4", folder: str = ".", size: int = 224):
    """A picture of each shot, a frame every second, and how loud each second is."""
    rows = weft.read(Files(source, kind="video")).where(pl.col("size") > 0)
    rows = rows.apply(video.Probe())
    rows = rows.select("uri", "content", "duration_seconds", "has_audio")

    clips = rows.apply(each_shot.replace(size=size))
    clips = clips.apply(image.Encode("jpeg", quality=85), encoded="picture")
    clips = clips.select("uri", "duration_seconds", "start_seconds", "end_seconds", "picture")

    frames = rows.apply(video.Frames(every=1.0, size=size)).apply(image.Sharpness())
    frames = frames.apply(image.Encode("jpeg", quality=85), encoded="picture")
    frames = frames.select("uri", "index", "time_seconds", "sharpness", "picture")

    sounds = rows.where(pl.col("has_audio")).apply(video.AudioTrack())
    sounds = sounds.apply(audio.Decode(channels=1), content="audio").apply(each_second)
    sounds = sounds.apply(audio.Loudness())
    sounds = sounds.select("uri", "start_seconds", "end_seconds", "loudness_lufs", "true_peak_dbtp")

    tables = zip(NAMES, (clips, frames, sounds), strict=True)
    return tuple(rows.write(Lance(f"{folder}/{name}.lance")) for name, rows in tables)


def together(folder: str) -> tuple[str, dict[str, pl.DataFrame]]:
    """The newest run that all three datasets have, and their rows at it, without the pictures."""
    paths = {name: f"{folder}/{name}.lance" for name in NAMES}
    latest = [lance.dataset(path).tags.list()["latest"] for path in paths.values()]
    run = min(tag["metadata"]["weft.run"] for tag in latest)  # one may be a moment ahead
    found = {}
    for name, path in paths.items():
        dataset = lance.dataset(path, version=f"run-{run}")
        columns = [column for column in dataset.schema.names if column != "picture"]
        found[name] = pl.DataFrame(dataset.to_table(columns))
    return run, found


def loudest(clips: pl.DataFrame, frames: pl.DataFrame, sounds: pl.DataFrame) -> pl.DataFrame:
    """The loudest second of each video, with the frame and the clip on the screen when it begins.

    `frame` is a key of `frames`, `clip` one of `clips`: there are the pictures.
    """
    heard = sounds.drop_nulls("loudness_lufs").sort("loudness_lufs", "start_seconds")
    heard = heard.group_by("uri").last().select("uri", "start_seconds", "loudness_lufs")
    seen = frames.select("uri", "time_seconds", "sharpness", frame="_key")
    cuts = clips.select("uri", time_seconds="start_seconds", clip="_key")
    return _before(_before(heard, seen), cuts).sort("uri").drop("uri")


def _before(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """The last row of `right` of the same video that is not later, for each of `left`."""
    left, right = left.sort("start_seconds"), right.sort("time_seconds")
    keys = {"left_on": "start_seconds", "right_on": "time_seconds", "by": "uri"}
    return left.join_asof(right, **keys, check_sortedness=False).drop("time_seconds")


def main() -> None:
    """Run the pipeline and show what there is."""
    parser = argparse.ArgumentParser(description=video_tables.__doc__)
    parser.add_argument("source", help="a pattern of videos, in quotes")
    parser.add_argument("folder", help="where the datasets are")
    parser.add_argument("--engine", default="local", choices=("local", "ray"))
    given = parser.parse_args()
    result = video_tables(source=given.source, folder=given.folder).run(engine=given.engine)
    print(f"{result.state}: {result.rows} videos read, {result.failed} failed")
    run, found = together(given.folder)
    for name, rows in found.items():
        columns = ", ".join(column for column in rows.columns if not column.startswith("_"))
        print(f"{given.folder}/{name}.lance at run-{run}: {len(rows)} rows of {columns}")
    print("The loudest second of each video:", loudest(**found))


if __name__ == "__main__":
    main()
