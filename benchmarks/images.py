"""How fast photographs become rows: weft beside plain threads, Ray Data by hand, and Daft.

    python -m benchmarks.images --folder /tmp/photos --json images.json

What is measured, and how to read it, is in README.md.
"""

from __future__ import annotations

import sys

from benchmarks import contest
from benchmarks.photos import make_photos

BY_HAND = ("ray_data_scaled", "ray_data_read_images")

CONTEST = contest.Contest(
    name="images",
    counted="images",
    make=make_photos,
    count=2400,
    names=("limit", "local", "ray", *BY_HAND, "ray_data_tuned", "daft"),
    pairs={
        "local/limit": ("local", ("limit",)),
        "ray/limit": ("ray", ("limit",)),
        "local/daft": ("local", ("daft",)),
        "ray/best hand-written Ray Data": ("ray", BY_HAND),
        "ray/ray_data_tuned": ("ray", ("ray_data_tuned",)),
    },
    targets={
        "store": {
            "local/limit": 0.85,
            "ray/limit": 0.75,
            "local/daft": 3.0,
            "ray/best hand-written Ray Data": 1.3,
        },
        "describe": {
            "local/limit": 0.85,
            "ray/limit": 0.75,
            "local/daft": 2.0,
            "ray/best hand-written Ray Data": 1.15,
        },
    },
    tolerances={
        "vector": 2.0,  # levels of 255, on average over the row
        "sharpness": 0.02,
        "brightness": 0.01,
        "contrast": 0.01,
        "clipped": 0.01,
        "entropy": 0.2,
        "descriptor": 0.01,  # on average over the row; its values are 0 to 1
    },
    exact=("local", "ray"),
    needs={"daft": "daft"},
)

if __name__ == "__main__":
    sys.exit(contest.main(CONTEST, __doc__))
