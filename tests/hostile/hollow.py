"""Files with nothing in them, or not what is asked for."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np

from .bombs import written
from .good import Files, log

_NOTHING = {
    "empty": b"",
    "one-byte": b"\0",
    "zeros": bytes(100_000),
    "ones": b"\xff" * 100_000,
    "text": b"Nothing to see here.\n" * 50,
}


def files(good: dict[str, Files]) -> dict[str, bytes]:
    """All of them, by ``<family>/hollow/<what>``."""
    found = {}
    for family, made in (
        ("images", _images(good["images"])),
        ("media", _media(good["media"])),
        ("papers", _papers()),
        ("logs", _logs()),
    ):
        found |= {f"{family}/hollow/{name}": content for name, content in (_NOTHING | made).items()}
    return found


def _images(good: Files) -> Files:
    return {
        "magic.jpg": b"\xff\xd8\xff",
        "no-scan.jpg": good["photo.jpg"][: good["photo.jpg"].index(b"\xff\xda")] + b"\xff\xd9",
        "no-pixels.png": good["photo.png"][:33] + good["photo.png"][-12:],
        "no-frame.gif": b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff;",
        "no-directory.tif": b"II*\0\0\0\0\0",
        "no-entry.tif": b"II*\0\x08\0\0\0\0\0\0\0\0\0",
        "no-image.webp": b"RIFF\x04\0\0\0WEBP",
        "no-header.bmp": b"BM" + bytes(12),
        "no-item.avif": b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0\0\0\x0cmeta\0\0\0\0",
    }


def _media(good: Files) -> Files:
    ftyp = b"\0\0\0\x18ftypisom\0\0\2\0isommp41"
    clip = good["clip.mp4"]
    header = clip[clip.index(b"mvhd") - 4 :][:108]
    flac = good["tone.flac"]
    picture = good["tone.mp3"]
    return {
        "file-type-only.mp4": ftyp,
        "empty-header.mp4": ftyp + _box(b"moov", b""),
        "no-track.mp4": ftyp + _box(b"moov", header),
        "empty-track.mp4": ftyp + _box(b"moov", header + _box(b"trak", b"")),
        "no-media.mp4": ftyp + _box(b"moov", header + _box(b"trak", _box(b"mdia", b""))),
        "no-frames.mp4": clip[: clip.index(b"mdat") - 4] + clip[clip.index(b"moov") - 4 :],
        "header-only.mkv": _mkv(b""),
        "no-track.mkv": _mkv(_element("1654ae6b", b"")),
        "subtitles.mkv": _mkv(_tracks(17, b"S_TEXT/UTF8")),
        "buttons.mkv": _mkv(_tracks(18, b"B_VOBBTN")),
        "no-codec.mkv": _mkv(_tracks(1, b"V_WEFT")),
        "attachments.mkv": _mkv(_attachment(good["tone.wav"])),
        "cover.mkv": _mkv(_attachment(b"\xff\xd8\xff" + bytes(100), b"cover.jpg", b"image/jpeg")),
        "cover.mp3": _cover(b""),
        "cover-and-sound.mp3": _cover(picture),
        "cover.m4a": _cover_m4a(good["tone.m4a"]),
        "no-sound.flac": flac[:4] + bytes([flac[4] | 0x80]) + flac[5:42],
        "no-sound.wav": good["tone.wav"][:40] + bytes(4),
        "no-chunks.wav": b"RIFF\x04\0\0\0WAVE",
        "no-format.wav": b"RIFF\x0c\0\0\0WAVEdata\0\0\0\0",
        "no-data.wav": good["tone.wav"][:36],
        "no-sound.aiff": b"FORM\0\0\0\4AIFF",
        "no-packets.ogg": good["tone.opus"][: good["tone.opus"].index(b"OggS", 4)],
        "headers-only.opus": b"OggS".join(good["tone.opus"].split(b"OggS")[:3]),
        "no-list.avi": b"RIFF\x04\0\0\0AVI ",
        "no-frames.avi": good["clip.avi"][: good["clip.avi"].index(b"movi") + 4],
        "null-packets.ts": (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 50,
        "no-frame.gif": good["clip.gif"][:13] + b";",
        "header-only.flv": b"FLV\1\5\0\0\0\x09\0\0\0\0",
        "sound-without-end.webm": _silent_track(),
    }


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _element(kind: str, content: bytes) -> bytes:
    return bytes.fromhex(kind) + struct.pack(">Q", 1 << 56 | len(content)) + content


def _mkv(segment: bytes) -> bytes:
    head = _element("1a45dfa3", _element("4282", b"matroska"))
    return head + _element("18538067", segment)


def _tracks(kind: int, codec: bytes) -> bytes:
    entry = _element("d7", b"\1") + _element("73c5", b"\1") + _element("83", bytes([kind]))
    return _element("1654ae6b", _element("ae", entry + _element("86", codec)))


def _attachment(content: bytes, name: bytes = b"a.wav", kind: bytes = b"audio/wav") -> bytes:
    about = _element("466e", name) + _element("4660", kind) + _element("46ae", b"\1")
    return _element("1941a469", _element("61a7", about + _element("465c", content)))


def _cover(sound: bytes) -> bytes:
    """ID3 with a picture, and what is behind it."""
    picture = b"\0image/jpeg\0\3\0\xff\xd8\xff\xe0" + bytes(60)
    frame = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    return b"ID3\3\0\0\0\0" + bytes([len(frame) >> 7, len(frame) & 127]) + frame + sound


def _cover_m4a(content: bytes) -> bytes:
    """A picture among the tags, and no track."""
    data = _box(b"data", struct.pack(">II", 13, 0) + b"\xff\xd8\xff\xe0" + bytes(60))
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    meta = _box(b"meta", bytes(4) + handler + _box(b"ilst", _box(b"covr", data)))
    header = content[content.index(b"mvhd") - 4 :][:108]
    return b"\0\0\0\x18ftypM4A \0\0\2\0M4A isom" + _box(b"moov", header + _box(b"udta", meta))


def _silent_track() -> bytes:
    """A track of sound without a packet."""
    file = io.BytesIO()
    with av.logging.Capture(), av.open(file, "w", format="webm") as output:
        track: Any = output.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), "s16", "mono")
        frame.sample_rate = 48_000
        output.mux(track.encode(frame))
    made = file.getvalue()
    return made[: made.index(b"\x1f\x43\xb6\x75")]


def _papers() -> Files:
    catalog = b"<</Type/Catalog/Pages 2 0 R>>"
    return {
        "header-only.pdf": b"%PDF-1.7\n%%EOF\n",
        "no-catalog.pdf": written([b"null"]),
        "no-pages.pdf": written([catalog, b"<</Type/Pages/Kids[]/Count 0>>"]),
        "page-is-null.pdf": written([catalog, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", b"null"]),
        "no-box.pdf": written(
            [catalog, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", b"<</Type/Page/Parent 2 0 R>>"]
        ),
        "portfolio.pdf": written(
            [b"<</Type/Catalog/Pages 2 0 R/Collection<<>>>>", b"<</Type/Pages/Kids[]/Count 0>>"]
        ),
    }


def _logs() -> Files:
    magic = b"\x89MCAP0\r\n"
    end = b"\x0f" + struct.pack("<QI", 4, 0) + b"\x02" + struct.pack("<Q", 20) + bytes(20)
    header = b"\1" + struct.pack("<Q", 8) + bytes(8)
    return {
        "magic.mcap": magic,
        "no-records.mcap": magic + magic,
        "header-only.mcap": magic + header,
        "no-messages.mcap": magic + header + end + magic,
        "no-message-on-a-topic.mcap": log([b"{}"]).replace(b"/imu", b"/imo"),
    }
