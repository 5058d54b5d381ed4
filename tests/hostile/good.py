"""Good files of every kind, small, from which hostile ones are made."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from mcap.writer import CompressionType, Writer
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from weft.samples.photos import open_photograph
from weft.samples.sounds import flac, tone, wav

WIDTH, HEIGHT, RATE, FRAMES = 128, 96, 12, 24
SOUND_RATE = 48_000

Files = dict[str, bytes]


def files() -> dict[str, Files]:
    """Good files by family."""
    return {"images": images(), "media": videos() | sounds(), "papers": papers(), "logs": logs()}


def images() -> Files:
    photo = open_photograph("china.jpg").convert("RGB").resize((160, 120))
    frames = [photo.rotate(15 * i).convert("P") for i in range(4)]
    saved: dict[str, tuple[str, dict[str, Any]]] = {
        "photo.jpg": ("JPEG", {"quality": 85, "exif": _exif()}),
        "scans.jpg": ("JPEG", {"quality": 85, "progressive": True}),
        "photo.png": ("PNG", {}),
        "photo.webp": ("WEBP", {"quality": 80}),
        "photo.tif": ("TIFF", {"compression": "tiff_lzw"}),
        "photo.bmp": ("BMP", {}),
        "photo.avif": ("AVIF", {"quality": 60}),
    }
    made = {}
    for name, (kind, options) in saved.items():
        photo.save(file := io.BytesIO(), kind, **options)
        made[name] = file.getvalue()
    frames[0].save(file := io.BytesIO(), "GIF", save_all=True, append_images=frames[1:])
    return made | {"moving.gif": file.getvalue()}


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def videos() -> Files:
    h264 = {"preset": "veryfast", "bf": "2", "g": "12", "x264-params": "threads=1"}
    quick = {"deadline": "realtime", "cpu-used": "8", "g": "12"}
    return {
        "clip.mp4": video("mp4", "libx264", h264, sound="aac"),
        "clip.mov": video("mov", "mpeg4", {}, sound="pcm_s16le"),
        "clip.mkv": video("matroska", "libx264", h264, sound="flac"),
        "clip.webm": video("webm", "libvpx-vp9", quick, sound="libopus"),
        "clip.avi": video("avi", "mpeg4", {"bf": "2"}, sound="mp3"),
        "clip.ts": video("mpegts", "libx264", h264, sound="mp2"),
        "clip.mpg": video("mpeg", "mpeg2video", {}, rate=25),
        "clip.flv": video("flv", "flv1", {}),
        "clip.gif": video("gif", "gif", {}, pixels="rgb8"),
    }


def video(
    container: str,
    codec: str,
    options: dict[str, str],
    *,
    sound: str | None = None,
    rate: int = RATE,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pictures: list[np.ndarray[Any, Any]] | None = None,
) -> bytes:
    """Two seconds of a photograph that moves, with a tone."""
    pictures = pictures or _moving()
    file = io.BytesIO()
    with av.logging.Capture(), av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.thread_count = 1
        track = output.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track is not None:
            _sound(output, track, len(pictures) / rate)
    return file.getvalue()


def _moving() -> list[np.ndarray[Any, Any]]:
    photo = np.asarray(open_photograph("china.jpg").convert("RGB").resize((200, 150)))
    return [
        np.ascontiguousarray(photo[i : i + HEIGHT, 2 * i : 2 * i + WIDTH]) for i in range(FRAMES)
    ]


def _sound(output: Any, track: Any, seconds: float) -> None:
    pcm = (tone(440, seconds, SOUND_RATE) * 32767).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = SOUND_RATE, Fraction(1, SOUND_RATE), 0
    context = track.codec_context
    resampler = av.AudioResampler(
        context.format, context.layout, context.sample_rate, frame_size=context.frame_size or 1024
    )
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(track.encode(part))
    output.mux(track.encode(None))


def sounds() -> Files:
    wave = tone(440, 0.5, 16_000)
    return {
        "tone.wav": wav(wave, 16_000),
        "tone.flac": flac(wave, 16_000),
        "tone.mp3": sound("mp3", "mp3"),
        "tone.ogg": sound("ogg", "flac"),
        "tone.opus": sound("ogg", "libopus"),
        "tone.m4a": sound("ipod", "aac"),
        "tone.aiff": sound("aiff", "pcm_s16be"),
        "tone.aac": sound("adts", "aac"),
    }


def sound(container: str, codec: str) -> bytes:
    """Half a second of a tone."""
    file = io.BytesIO()
    with av.logging.Capture(), av.open(file, "w", format=container) as output:
        _sound(output, output.add_stream(codec, rate=SOUND_RATE, layout="mono"), 0.5)
    return file.getvalue()


def papers() -> Files:
    file = io.BytesIO()
    canvas = Canvas(file, (300, 200), invariant=1)
    picture = ImageReader(open_photograph("china.jpg").resize((60, 40)))
    for number in range(3):
        canvas.drawString(20, 170, f"A paper that means no harm, page {number + 1}")
        canvas.drawImage(picture, 20, 60, 120, 80)
        canvas.showPage()
    canvas.save()
    Image.new("L", (60, 40), 200).save(scan := io.BytesIO(), "PDF", title="A scan")
    return {"paper.pdf": file.getvalue(), "scan.pdf": scan.getvalue()}


def logs() -> Files:
    return {
        "zstd.mcap": log(compression=CompressionType.ZSTD),
        "lz4.mcap": log(compression=CompressionType.LZ4),
        "plain.mcap": log(compression=CompressionType.NONE, use_chunking=False),
    }


def log(messages: list[bytes] | None = None, **options: Any) -> bytes:
    """A log of a camera and a motion sensor; `messages` stand for what the sensor said."""
    file = io.BytesIO()
    writer = Writer(file, chunk_size=2048, **options)
    writer.start(library="hostile")
    camera = writer.register_channel("/camera", "jpeg", schema_id=0)
    imu = writer.register_channel("/imu", "json", schema_id=0)
    said = messages or [b'{"turn": %d, "note": "turning"}' % i for i in range(60)]
    for number, data in enumerate(said):
        at = 10**9 + number * 10**7
        if number % 10 == 0:
            writer.add_message(camera, at, b"picture %d" % number, at, number)
        writer.add_message(imu, at, data, at, number)
    writer.finish()  # type: ignore[no-untyped-call]
    return file.getvalue()
