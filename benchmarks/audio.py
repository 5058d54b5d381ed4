"""How fast recordings become features: weft beside a bare loop, Ray Data and Daft.

    python -m benchmarks.audio --folder /tmp/recordings --json audio.json

FLAC of 48 kHz to 16 kHz to Whisper's log-mel of 80 x frames. What is measured, and how to read
it, is in README.md.
"""

from __future__ import annotations

import sys

from benchmarks import contest
from benchmarks.recordings import make_recordings

CONTEST = contest.Contest(
    name="audio",
    counted="clips",
    make=make_recordings,
    count=400,
    names=("limit", "local", "ray", "ray_data", "ray_data_published", "daft"),
    pairs={
        "local/limit": ("local", ("limit",)),
        "ray/limit": ("ray", ("limit",)),
        "ray/ray_data": ("ray", ("ray_data",)),
        "ray/ray_data_published": ("ray", ("ray_data_published",)),
        "local/daft": ("local", ("daft",)),
    },
    targets={"mel": {"local/limit": 0.8, "ray/ray_data_published": 3.0, "local/daft": 3.0}},
    tolerances={"mel": 0.01},  # of a log-mel of about -1 to 1.5, where another resampler made it
    needs={"daft": "daft"},
    packages=(
        "weft", "av", "librosa", "numpy", "pyarrow", "pylance", "ray", "soundfile", "torch",
        "torchaudio",
    ),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(contest.main(CONTEST, __doc__))
