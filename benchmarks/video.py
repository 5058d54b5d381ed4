"""How fast videos become frames: weft beside a bare PyAV loop, Ray Data and Daft.

    python -m benchmarks.video --folder /tmp/clips --json video.json

A frame a second of 1080p H.264, 224 x 224 pixels. What is measured, and how to read it, is in
README.md.
"""

from __future__ import annotations

import sys

from benchmarks import contest
from benchmarks.clips import make_clips

CONTEST = contest.Contest(
    name="video",
    counted="frames",
    make=make_clips,
    count=8,
    names=("limit", "limit_skips", "local", "ray", "ray_data", "ray_data_read_videos", "daft"),
    pairs={
        "local/limit": ("local", ("limit",)),
        "ray/limit": ("ray", ("limit",)),
        "local/limit_skips": ("local", ("limit_skips",)),
        "ray/ray_data": ("ray", ("ray_data",)),
        "ray/ray_data_read_videos": ("ray", ("ray_data_read_videos",)),
        "local/daft": ("local", ("daft",)),
    },
    targets={
        "sample": {"local/limit": 0.85, "ray/ray_data_read_videos": 5.0, "local/daft": 3.0},
    },
    tolerances={"image": 3.0},  # levels of 255 on average, where swscale resized
    exact=("limit_skips", "local", "ray", "ray_data"),
    needs={"ray_data_read_videos": "decord", "daft": "daft"},
    packages=("weft", "av", "numpy", "pillow", "pyarrow", "pylance", "ray"),
)

if __name__ == "__main__":
    sys.exit(contest.main(CONTEST, __doc__))
