"""A small clip for examples in docstrings: drawn, not filmed."""

from __future__ import annotations

import io

import av
import numpy as np


def drawn_clip(seconds: float = 1.0, rate: int = 10, cut: float | None = None) -> bytes:
    """An MP4 file of a bar that moves over 160x120 pixels; after `cut` seconds it is red.

    >>> len(drawn_clip()) < 20_000
    True
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(round(seconds * rate)):
            image = np.full((120, 160, 3), 40, np.uint8)
            if cut is not None and number >= cut * rate:
                image[:] = (200, 30, 30)
            image[:, number * 5 % 150 : number * 5 % 150 + 10] = 220
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()
