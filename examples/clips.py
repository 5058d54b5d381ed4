"""Look into a folder of video clips: a frame every second, with what is known of its clip.

Run it:  weft run examples/clips.py --set source='clips/**/*.mp4' --set out=frames.lance
"""

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import image, video


@weft.pipeline
def clips(source: str = "clips/**/*.mp4", out: str = "frames.lance", every: float = 1.0):
    """A frame every so many seconds, as a thumbnail, with the shots of its clip."""
    rows = weft.read(Files(source, kind="video"))
    rows = rows.where(pl.col("size") > 0)
    rows = rows.apply(video.Probe())
    rows = rows.where(pl.col("duration_seconds") > 0)
    rows = rows.apply(video.Shots())
    rows = rows.apply(video.Frames(every=every)).apply(image.Resize(224))
    rows = rows.apply(image.Sharpness()).apply(image.PerceptualHash())
    rows = rows.apply(image.Encode("jpeg", quality=85), encoded="thumbnail")
    return rows.select(
        "uri", "duration_seconds", "frame_rate", "video_codec", "has_audio", "shots",
        "index", "time_seconds", "sharpness", "pdq", "thumbnail",
    ).write(Lance(out))  # fmt: skip
