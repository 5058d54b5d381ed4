"""Truth: ffprobe, and the samples that FFmpeg's command line decodes."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile

import pytest

from weft.errors import RowError
from weft.operators.audio import Probe
from weft.pipelines.fields import fields
from weft.pipelines.types import Encoded, Int64

from .conftest import FORMATS, encoded, ffmpeg_decoded, file_of, music, needs_ffmpeg

needs_ffprobe = pytest.mark.skipif(
    shutil.which("ffprobe") is None, reason="needs ffprobe (apt-get install ffmpeg)"
)


def ffprobe(content: bytes) -> dict[str, str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format"]
        found = json.loads(subprocess.check_output([*command, file.name]))
    return found["format"] | found["streams"][0]


@needs_ffprobe
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("kind", FORMATS)
def test_ffprobe(kind: str, channels: int) -> None:
    if kind == "mp3" and channels == 6:
        pytest.skip("MP3 has two channels at most")
    content = encoded(kind, 1.0, channels)
    ours, truth = Probe()(content), ffprobe(content)
    assert ours["codec"] == truth["codec_name"]
    assert ours["sample_rate"] == int(truth["sample_rate"])
    assert ours["channels"] == truth["channels"] == channels
    if ours["channel_layout"] is not None:
        assert ours["channel_layout"] == truth["channel_layout"]
    # Estimates of raw AAC, and of MP3's padding, differ from one version of FFmpeg to the next.
    if kind != "adts":
        near = 0.05 if kind == "mp3" else 0.002
        assert ours["duration_seconds"] == pytest.approx(float(truth["duration"]), abs=near)
        assert ours["bit_rate"] == pytest.approx(int(truth["bit_rate"]), rel=0.15)


@needs_ffmpeg
@pytest.mark.parametrize("kind", FORMATS)
def test_count(kind: str) -> None:
    counted = Probe(count=True)(encoded(kind))
    assert counted["samples_decoded"] == ffmpeg_decoded(encoded(kind), 2).shape[1]
    assert Probe()(encoded(kind)).keys() == counted.keys() - {"samples_decoded"}


def test_the_header_is_a_claim() -> None:
    """A FLAC that says it has 4,800 samples, and has 48,000."""
    content = bytearray(file_of(music(1.0), file_format="FLAC"))
    content[21:26] = bytes([content[21] & 0xF0]) + (4_800).to_bytes(4, "big")
    probed = Probe(count=True)(bytes(content))
    assert (probed["duration_seconds"], probed["samples_decoded"]) == (0.1, 48_000)


def test_ports() -> None:
    given = fields(content=Encoded("audio"))
    assert "samples_decoded" not in Probe().infer(given)
    assert list(Probe().writes) == list(Probe().infer(given))
    assert Probe(count=True).infer(given)["samples_decoded"] == Int64()
    assert list(Probe(count=True).writes) == list(Probe(count=True).infer(given))


def test_errors() -> None:
    with pytest.raises(RowError, match=r"audio\.Probe: no video or audio in a known container"):
        Probe()(b"nothing at all")
    broken = bytearray(file_of(music(1.0), file_format="FLAC"))
    broken[60_000:61_000] = bytes(1000)
    assert Probe()(bytes(broken))["codec"] == "flac"
    with pytest.raises(RowError, match="damaged or cut short"):
        Probe(count=True)(bytes(broken))
