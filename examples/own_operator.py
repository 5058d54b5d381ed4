"""Operators of one's own: a function for one row, a class for a batch.

Run it:  weft run examples/own_operator.py --set source='photos/**/*.jpg' --set out=tones.lance

Both stay callable on plain values, so a test of them needs no engine: ``warmth(pixels)``.
"""

from dataclasses import dataclass

import numpy as np

import weft
from weft.connectors import Files, Lance
from weft.operators import image


@weft.operator(version="1")
def warmth(image: weft.Image) -> weft.Float32:
    """How much more red than blue a picture is, -1 to 1."""
    return float(image[:, :, 0].mean() - image[:, :, 2].mean()) / 255


@dataclass(frozen=True)
class Tone(weft.Map):
    """Name the brightness of pictures: the palette is loaded once per worker."""

    names: tuple[str, ...] = ("dark", "middle", "light")
    version = "1"
    reads = weft.fields(image=weft.Image())
    writes = weft.fields(tone=weft.Text())

    def setup(self, device):
        return np.array(self.names)

    def map(self, batch, loaded):
        means = np.array([pixels.mean() / 256 for pixels in batch["image"]])
        return {"tone": loaded[(means * len(loaded)).astype(int)].tolist()}


@weft.pipeline
def tones(source: str = "photos/**/*.jpg", out: str = "tones.lance"):
    """The warmth and the tone of photographs."""
    rows = weft.read(Files(source))
    rows = rows.apply(image.Decode(size=256)).apply(warmth).apply(Tone())
    return rows.select("uri", "warmth", "tone").write(Lance(out))
