"""Good files whose headers lie, one word in each."""

from __future__ import annotations

import struct
import zlib

from .good import Files

_BIG = 2**31 - 1
_HUGE = 2**32 - 1


def files(good: dict[str, Files]) -> dict[str, bytes]:
    """All lies, by ``<family>/lie/<file>.lie-<what>``."""
    found = {}
    for family, maker in _MAKERS:
        for name, content in maker(good[family]).items():
            found[f"{family}/lie/{name}"] = content
    return found


def put(content: bytes, at: int, layout: str, *values: int) -> bytes:
    """`content` with numbers written over what is at byte `at`."""
    changed = bytearray(content)
    struct.pack_into(layout, changed, at, *values)
    return bytes(changed)


def after(content: bytes, mark: bytes, skip: int, layout: str, *values: int) -> bytes:
    """`put`, `skip` bytes behind the first `mark`."""
    return put(content, content.index(mark) + len(mark) + skip, layout, *values)


def _images(good: Files) -> Files:
    jpeg, png, gif, tiff = (good[n] for n in ("photo.jpg", "photo.png", "moving.gif", "photo.tif"))
    webp = good["photo.webp"]
    found = {
        "photo.jpg.lie-size-65535": after(jpeg, b"\xff\xc0", 3, ">HH", 65535, 65535),
        "photo.jpg.lie-height-0": after(jpeg, b"\xff\xc0", 3, ">HH", 0, 160),
        "photo.jpg.lie-taller": after(jpeg, b"\xff\xc0", 3, ">HH", 4000, 160),
        "photo.jpg.lie-components-4": after(jpeg, b"\xff\xc0", 7, ">B", 4),
        "photo.jpg.lie-bits-16": after(jpeg, b"\xff\xc0", 2, ">B", 16),
        "photo.jpg.lie-exif-length": after(jpeg, b"\xff\xe1", 0, ">H", 65535),
        "scans.jpg.lie-size-65535": after(good["scans.jpg"], b"\xff\xc2", 3, ">HH", 65535, 65535),
        "photo.png.lie-chunk-length": after(png, b"\r\n\x1a\n", 25, ">I", _BIG),
        "photo.bmp.lie-width": put(good["photo.bmp"], 18, "<i", _BIG),
        "photo.bmp.lie-height-negative": put(good["photo.bmp"], 22, "<i", -_BIG),
        "photo.bmp.lie-palette": put(good["photo.bmp"], 46, "<I", _HUGE),
        "photo.bmp.lie-offset": put(good["photo.bmp"], 10, "<I", _BIG),
        "photo.webp.lie-riff-size": put(webp, 4, "<I", _HUGE - 8),
        "photo.webp.lie-size-16383": after(webp, b"\x9d\x01\x2a", 0, "<HH", 16383, 16383),
        "moving.gif.lie-screen": put(gif, 6, "<HH", 65535, 65535),
        "photo.tif.lie-ifd-offset": put(tiff, 4, "<I", _BIG),
        "photo.tif.lie-ifd-entries": put(tiff, struct.unpack_from("<I", tiff, 4)[0], "<H", 65535),
        "photo.avif.lie-ispe": after(good["photo.avif"], b"ispe", 4, ">II", 65535, 65535),
    }  # fmt: skip
    for width, height in ((_BIG, _BIG), (0, 120), (30_000, 30_000), (160, 4000)):
        head = png[12:16] + struct.pack(">II", width, height) + png[24:29]
        lie = png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]
        found[f"photo.png.lie-{width}x{height}"] = lie
    for tag, name in ((256, "width"), (257, "height"), (273, "strips"), (277, "samples")):
        found[f"photo.tif.lie-{name}"] = _tiff_tag(tiff, tag, 60_000)
    return found


def _tiff_tag(content: bytes, tag: int, value: int) -> bytes:
    start = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        at = start + 2 + 12 * entry
        if struct.unpack_from("<H", content, at)[0] == tag:
            return put(content, at + 8, "<I", value)
    raise ValueError(tag)


def _media(good: Files) -> Files:
    return _mp4(good["clip.mp4"]) | _other_videos(good) | _sounds(good)


def _mp4(clip: bytes) -> Files:
    return {
        "clip.mp4.lie-mvhd-duration": after(clip, b"mvhd", 16, ">I", _HUGE),
        "clip.mp4.lie-mvhd-timescale-0": after(clip, b"mvhd", 12, ">I", 0),
        "clip.mp4.lie-mdhd-duration": after(clip, b"mdhd", 16, ">I", _BIG),
        "clip.mp4.lie-mdhd-timescale-0": after(clip, b"mdhd", 12, ">I", 0),
        "clip.mp4.lie-mdhd-timescale-huge": after(clip, b"mdhd", 12, ">I", _HUGE),
        "clip.mp4.lie-stts-entries": after(clip, b"stts", 4, ">I", _BIG),
        "clip.mp4.lie-stts-600000-frames": after(clip, b"stts", 8, ">I", 600_000),
        "clip.mp4.lie-stts-month-a-frame": after(clip, b"stts", 12, ">I", _BIG),
        "clip.mp4.lie-stts-negative": after(clip, b"stts", 12, ">i", -_BIG),
        "clip.mp4.lie-stsz-600000-frames": after(clip, b"stsz", 4, ">II", 1, 600_000),
        "clip.mp4.lie-stsz-4-billion": after(clip, b"stsz", 4, ">II", 1, _HUGE),
        "clip.mp4.lie-stsz-large": after(clip, b"stsz", 12, ">I", _BIG),
        "clip.mp4.lie-stsc": after(clip, b"stsc", 8, ">III", 1, _BIG, 1),
        "clip.mp4.lie-stco": after(clip, b"stco", 4, ">I", _BIG),
        "clip.mp4.lie-stco-behind-end": after(clip, b"stco", 8, ">I", _HUGE),
        "clip.mp4.lie-ctts": after(clip, b"ctts", 12, ">i", _BIG),
        "clip.mp4.lie-edit-list-media-time": after(clip, b"elst", 12, ">i", _BIG),
        "clip.mp4.lie-edit-list-entries": after(clip, b"elst", 4, ">I", _HUGE),
        "clip.mp4.lie-edit-list-duration": after(clip, b"elst", 8, ">I", _HUGE),
        "clip.mp4.lie-edit-list-rate": after(clip, b"elst", 16, ">i", -1),
        "clip.mp4.lie-tkhd-size": after(clip, b"tkhd", 76, ">II", _HUGE, _HUGE),
        "clip.mp4.lie-tkhd-matrix": after(clip, b"tkhd", 40, ">9i", *[_BIG] * 9),
        "clip.mp4.lie-avc1-8192": after(clip, b"avc1", 24, ">HH", 65535, 65535),
        "clip.mp4.lie-avcc-length": after(clip, b"avcC", 6, ">H", 65535),
        "clip.mp4.lie-moov-size": put(clip, clip.index(b"moov") - 4, ">I", _BIG),
        "clip.mp4.lie-moov-size-0": put(clip, clip.index(b"moov") - 4, ">I", 0),
        "clip.mp4.lie-trak-size-8": put(clip, clip.index(b"trak") - 4, ">I", 8),
        "clip.mp4.lie-mdat-size-64": put(clip, clip.index(b"mdat") - 4, ">I", 1),
        "clip.mp4.lie-stsd-entries": after(clip, b"stsd", 4, ">I", _HUGE),
    }


def _other_videos(good: Files) -> Files:
    mkv, webm, avi, flv = (good[f"clip.{kind}"] for kind in ("mkv", "webm", "avi", "flv"))
    segment = mkv.index(b"\x18\x53\x80\x67") + 4
    return {
        "clip.mkv.lie-segment-size": put(mkv, segment, ">Q", (1 << 56) + 2**50),
        "clip.mkv.lie-ebml-size": put(mkv, 4, ">B", 0x0F),
        "clip.mkv.lie-height-0": after(mkv, b"\xb0\x81\x80\xba\x81", 0, ">B", 0),
        "clip.mkv.lie-timestamp-scale": after(mkv, b"\x2a\xd7\xb1", 1, ">BBB", 255, 255, 255),
        "clip.mkv.lie-cluster-size": after(mkv, b"\x1f\x43\xb6\x75", 0, ">B", 0x08),
        "clip.avi.lie-riff-size": put(avi, 4, "<I", _HUGE),
        "clip.avi.lie-frames": after(avi, b"avih", 20, "<I", 600_000),
        "clip.avi.lie-rate": after(avi, b"strh", 24, "<II", 0, 0),
        "clip.avi.lie-rate-huge": after(avi, b"strh", 24, "<II", 1, _HUGE),
        "clip.avi.lie-size": after(avi, b"strf", 8, "<ii", 65535, 65535),
        "clip.avi.lie-streams": after(avi, b"avih", 28, "<I", 1000),
        "clip.avi.lie-index": after(avi, b"idx1", 12, "<II", _HUGE, _HUGE),
        "clip.flv.lie-tag-size": put(flv, 14, ">I", 0xFFFFFF),
        "clip.flv.lie-duration": after(flv, b"duration", 1, ">Q", 0x7FEFFFFFFFFFFFFF),
        "clip.gif.lie-screen": put(good["clip.gif"], 6, "<HH", 65535, 65535),
        "clip.webm.lie-duration": after(webm, b"\x44\x89\x88", 0, ">Q", 0x7FEFFFFFFFFFFFFF),
    }  # fmt: skip


def _sounds(good: Files) -> Files:
    wav, flac, aiff = good["tone.wav"], good["tone.flac"], good["tone.aiff"]
    info = int.from_bytes(flac[18:26], "big")  # rate 20, channels 3, bits 5, samples 36 bits
    rest = info & ((1 << 44) - 1)
    return {
        "tone.wav.lie-rate-0": put(wav, 24, "<I", 0),
        "tone.wav.lie-rate-1": put(wav, 24, "<I", 1),
        "tone.wav.lie-rate-2-to-31": put(wav, 24, "<I", 2**31),
        "tone.wav.lie-rate-below-2-to-31": put(wav, 24, "<I", _BIG),
        "tone.wav.lie-channels-0": put(wav, 22, "<H", 0),
        "tone.wav.lie-channels-255": put(wav, 22, "<H", 255),
        "tone.wav.lie-channels-65535": put(wav, 22, "<H", 65535),
        "tone.wav.lie-bits-0": put(wav, 34, "<H", 0),
        "tone.wav.lie-bits-255": put(wav, 34, "<H", 255),
        "tone.wav.lie-align-0": put(wav, 32, "<H", 0),
        "tone.wav.lie-align-65535": put(wav, 32, "<H", 65535),
        "tone.wav.lie-data-size": put(wav, 40, "<I", _HUGE),
        "tone.wav.lie-riff-size": put(wav, 4, "<I", 0x7FFE_0000),
        "tone.wav.lie-codec": put(wav, 20, "<H", 0x0161),
        "tone.flac.lie-samples": put(flac, 18, ">Q", info | ((1 << 36) - 1)),
        "tone.flac.lie-rate-0": put(flac, 18, ">Q", rest),
        "tone.flac.lie-rate-655350": put(flac, 18, ">Q", rest | 0xFFFFF << 44),
        "tone.flac.lie-channels-8": put(flac, 18, ">Q", info | 7 << 41),
        "tone.flac.lie-blocks-0": put(flac, 8, ">HH", 0, 0),
        "tone.flac.lie-metadata-length": put(flac, 5, ">BH", 255, 65535),
        "tone.aiff.lie-frames": after(aiff, b"COMM", 6, ">I", _HUGE),
        "tone.aiff.lie-rate": after(aiff, b"COMM", 12, ">Q", 0x7FFEFFFFFFFFFFFF),
        "tone.mp3.lie-id3-length": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + good["tone.mp3"],
        "tone.mp3.lie-xing-frames": after(good["tone.mp3"], b"Info", 4, ">I", _HUGE),
        "tone.ogg.lie-granule": _ogg(good["tone.ogg"], 6, 2**62),
        "tone.opus.lie-granule": _ogg(good["tone.opus"], 6, 2**63 - 1),
        "tone.opus.lie-channels": after(good["tone.opus"], b"OpusHead", 1, ">B", 255),
        "tone.opus.lie-pre-skip": after(good["tone.opus"], b"OpusHead", 2, "<H", 65535),
        "tone.m4a.lie-channels": after(good["tone.m4a"], b"mp4a", 20, ">HH", 65535, 16),
        "tone.m4a.lie-rate": after(good["tone.m4a"], b"mp4a", 28, ">I", _HUGE),
        "tone.m4a.lie-stsz": after(good["tone.m4a"], b"stsz", 4, ">II", 1, 600_000),
    }


def _ogg(content: bytes, at: int, granule: int) -> bytes:
    """The last page claims to end at `granule`."""
    return put(content, content.rindex(b"OggS") + at, "<Q", granule)


def _papers(good: Files) -> Files:
    paper = good["paper.pdf"]

    def other(old: bytes, new: bytes) -> bytes:
        assert old in paper
        return paper.replace(old, new)

    start = paper.rindex(b"startxref")
    return {
        "paper.pdf.lie-count-2-billion": other(b"/Count 3", b"/Count %d" % _BIG),
        "paper.pdf.lie-count-negative": other(b"/Count 3", b"/Count -3"),
        "paper.pdf.lie-page-huge": other(b"[ 0 0 300 200 ]", b"[ 0 0 1e9 1e9 ]"),
        "paper.pdf.lie-page-empty": other(b"[ 0 0 300 200 ]", b"[ 0 0 0 0 ]"),
        "paper.pdf.lie-page-thin": other(b"[ 0 0 300 200 ]", b"[ 0 0 1e9 1e-9 ]"),
        "paper.pdf.lie-page-backwards": other(b"[ 0 0 300 200 ]", b"[ 300 200 -1e30 -5 ]"),
        "paper.pdf.lie-image-60000": other(b"/Width 60", b"/Width 60000"),
        "paper.pdf.lie-image-2-to-31": other(b"/Height 40", b"/Height %d" % _BIG),
        "paper.pdf.lie-image-bits": other(b"/BitsPerComponent 8", b"/BitsPerComponent 64"),
        "paper.pdf.lie-stream-length": other(b"/Length ", b"/Length 9999999"),
        "paper.pdf.lie-startxref": paper[:start] + b"startxref\n999999999\n%%EOF\n",
        "paper.pdf.lie-startxref-0": paper[:start] + b"startxref\n0\n%%EOF\n",
        "paper.pdf.lie-trailer-size": other(b"/Size ", b"/Size 99999999"),
        "paper.pdf.lie-page-is-itself": other(b"/Type /Pages", b"/Type /Page "),
    }


def _logs(good: Files) -> Files:
    found = {}
    for name, content in good.items():
        opcode = {"plain.mcap": 5}.get(name, 6)  # a message, a chunk
        at = _record(content, opcode)
        found[f"{name}.lie-length-2-to-63"] = put(content, at + 1, "<Q", 2**63)
        found[f"{name}.lie-length-short"] = put(content, at + 1, "<Q", 3)
        footer = len(content) - 8 - 20
        found[f"{name}.lie-summary-start"] = put(content, footer, "<Q", 2**60)
        found[f"{name}.lie-summary-is-the-data"] = put(content, footer, "<Q", 8)
        if opcode == 6:
            size = at + 9 + 16
            found[f"{name}.lie-chunk-of-terabytes"] = put(content, size, "<Q", 2**42)
            found[f"{name}.lie-chunk-of-64-mib"] = put(content, size, "<Q", 2**26)
            found[f"{name}.lie-chunk-of-1-byte"] = put(content, size, "<Q", 1)
    return found


def _record(content: bytes, opcode: int) -> int:
    """Where the first record of a kind begins."""
    at = 8
    while content[at] != opcode:
        at += 9 + struct.unpack_from("<Q", content, at + 1)[0]
    return at


_MAKERS = (("images", _images), ("media", _media), ("papers", _papers), ("logs", _logs))
