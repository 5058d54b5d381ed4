"""Files that are small and ask for much: memory, time or depth."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import zstandard

from .good import Files, log, video

_MIB = 2**20


def files(good: dict[str, Files]) -> dict[str, bytes]:
    """All bombs, by ``<family>/bomb/<what>``."""
    found = {}
    for family, made in (
        ("images", _images(good["images"])),
        ("media", _media(good["media"])),
        ("papers", _papers()),
        ("logs", _logs()),
    ):
        found |= {f"{family}/bomb/{name}": content for name, content in made.items()}
    return found


# --- images ----------------------------------------------------------------------------------


def _images(good: Files) -> Files:
    zeros = zlib.compress(bytes(50 * _MIB), 9)
    gif = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff"
    frame = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    small = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    text = b"Comment\0\0" + zeros
    return {
        "pixels.png": png(("IHDR", head), ("IDAT", zeros)),
        "more-pixels-than-said.png": png(("IHDR", small), ("IDAT", zeros)),
        "text.png": png(("IHDR", small), ("zTXt", text), ("IDAT", zlib.compress(bytes(72)))),
        "profile.png": png(("IHDR", small), ("iCCP", text), ("IDAT", zlib.compress(bytes(72)))),
        "animation-claims-2-to-31.png": png(
            ("IHDR", small), ("acTL", struct.pack(">II", 2**31 - 1, 0)),
            ("IDAT", zlib.compress(bytes(72))),
        ),
        "frames-20000.gif": gif + frame * 20_000 + b";",
        "frame-65535-wide.gif": gif.replace(b"\1\0\1\0", b"\xff\xff\xff\xff", 1)
        + b",\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
        "canvas-16-million.webp": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff" * 6,
        "pixels.tif": _tiff({256: 20_000, 257: 20_000, 258: 1, 259: 8, 262: 1, 278: 20_000}, zeros),
        "strip-larger-than-said.tif": _tiff({256: 8, 257: 8, 258: 8, 259: 8, 262: 1}, zeros),
        "pages-in-a-circle.tif": _pages(2, last=8),
        "pages-20000.tif": _pages(20_000),
        "scans-20000.jpg": _scans(good["scans.jpg"], 20_000),
        "two-billion-rows.bmp": _bmp(1, 2**31 - 1, bits=1) + bytes(8),
        "runs.bmp": _bmp(9000, 9000, bits=8, compression=1) + b"\xff\1" * 11,
    }  # fmt: skip


def png(*chunks: tuple[str, bytes]) -> bytes:
    """A PNG of these chunks, checksums right."""
    found = b"\x89PNG\r\n\x1a\n"
    for kind, data in (*chunks, ("IEND", b"")):
        body = kind.encode() + data
        found += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return found


def _tiff(tags: dict[int, int], strip: bytes) -> bytes:
    tags = {**tags, 273: 8, 277: 1, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    head = b"II*\0" + struct.pack("<I", 8 + len(strip))
    return head + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def _pages(count: int, last: int = 0) -> bytes:
    """A TIFF of pages of one black pixel; behind the last one is the page at byte `last`."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: 1}
    page = struct.pack("<H", len(tags))
    page += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    size = len(page) + 4
    behind = (8 + size * (number + 1) if number < count - 1 else last for number in range(count))
    return b"II*\0\x08\0\0\0" + b"".join(page + struct.pack("<I", place) for place in behind)


def _bmp(width: int, height: int, *, bits: int, compression: int = 0) -> bytes:
    """The headers and the palette of a bitmap."""
    palette = bytes(4 << bits)
    start = 54 + len(palette)
    file = struct.pack("<IIIIiiHH", 0, 0, start, 40, width, height, 1, bits)
    return b"BM" + file + struct.pack("<IIiiII", compression, 22, 0, 0, 0, 0) + palette


def _scans(jpeg: bytes, count: int) -> bytes:
    """A JPEG of 64 million pixels that are gone over again and again, for 14 bytes each."""
    size = jpeg.index(b"\xff\xc2") + 5
    large = jpeg[:size] + struct.pack(">HH", 8000, 8000) + jpeg[size + 4 :]
    start = large.index(b"\xff\xda")
    scan = large[start : start + 2 + struct.unpack_from(">H", large, start + 2)[0]]
    return large[:start] + scan * count + b"\xff\xd9"


# --- video and sound -------------------------------------------------------------------------


def _media(good: Files) -> Files:
    black = [np.zeros((8192, 8192, 3), np.uint8)]
    fast = {"preset": "ultrafast", "x264-params": "threads=1"}
    tiny = [np.full((16, 16, 3), i % 2 * 255, np.uint8) for i in range(4000)]
    nested = b""
    for _ in range(5000):
        nested = struct.pack(">I4s", 8 + len(nested), b"moov") + nested
    empty = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
    clip = good["clip.mp4"]
    moov = clip[clip.index(b"moov") - 4 :]
    return {
        "8192x8192-black.mp4": video(
            "mp4", "libx264", fast, size=(8192, 8192), pictures=black, rate=1
        ),
        "4000-tiny-frames.avi": video("avi", "mpeg4", {}, size=(16, 16), pictures=tiny),
        "4000-tiny-frames.gif": video(
            "gif", "gif", {}, size=(16, 16), pictures=tiny, pixels="rgb8"
        ),
        "boxes-5000-deep.mp4": clip[: clip.index(b"ftyp") + 28] + nested,
        "header-of-4-gib.mov": _packed_moov(2**32 - 9, bytes(10 * _MIB)),
        "header-in-itself.mov": _packed_moov(len(moov), moov),
        "elements-deep.mkv": empty + b"\x11\x4d\x9b\x74\x01\0\0\0\0\xff\xff\xff" * 5000,
        "clusters-100000.mkv": empty + b"\x1f\x43\xb6\x75\x80" * 100_000,
        "streams-1000.ts": _programs(1000),
        "chunks-100000.wav": b"RIFF\4\x35\x0c\0WAVE" + b"junk\0\0\0\0" * 100_000,
        "boxes-100000.mp4": b"\0\0\0\x18ftypisom\0\0\2\0isommp41" + b"\0\0\0\x08free" * 100_000,
        "tags-of-8-mib.mp3": b"ID3\x04\0\0\x04\0\0\0" + bytes(8 * _MIB) + good["tone.mp3"],
        "picture-of-16-mib.flac": b"fLaC\0\0\0\x22"
        + good["tone.flac"][8:42] + b"\x86\xff\xff\xff" + bytes(_MIB),
    }  # fmt: skip


def _packed_moov(claimed: int, moov: bytes) -> bytes:
    """QuickTime's compressed header: it says what it unpacks to."""
    packed = struct.pack(">I", claimed) + zlib.compress(moov, 9)
    cmov = _box(b"dcom", b"zlib") + _box(b"cmvd", packed)
    return _box(b"ftyp", b"qt  \0\0\2\0qt  ") + _box(b"moov", _box(b"cmov", cmov))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _programs(count: int) -> bytes:
    """A transport stream whose table names many programs, each in a packet of its own."""
    packets = []
    for number in range(count):
        table = b"\0\0\xb0\x0d\0\1\xc1\0\0" + struct.pack(">HH", number + 1, 0xE000 | number + 32)
        crc = struct.pack(">I", _mpeg_crc(table[1:]))
        packets.append((b"\x47\x40\0\x10" + table + crc).ljust(188, b"\xff"))
    return b"".join(packets)


def _mpeg_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


# --- documents -------------------------------------------------------------------------------

Objects = Sequence[bytes]


def pdf(objects: Objects, *, page: bytes = b"") -> bytes:
    """A PDF; object 1 is the catalog, 2 the page tree, 3 a page, then `objects` from 4 on."""
    head = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]" + page + b">>",
    )
    return written((*head, *objects))


def written(objects: Iterable[bytes]) -> bytes:
    """A PDF of objects that are numbered from 1, the first the catalog."""
    found, places = io.BytesIO(), []
    found.write(b"%PDF-1.7\n")
    for number, content in enumerate(objects, 1):
        places.append(found.tell())
        found.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = found.tell()
    found.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1))
    found.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    tail = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return found.getvalue() + tail % (len(places) + 1, table)


def stream(content: bytes, about: bytes = b"") -> bytes:
    """A stream object."""
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (about, len(content), content)


def _papers() -> Files:
    flate = b"/Filter/FlateDecode"
    twice = b"/Filter[/FlateDecode/FlateDecode]"
    spaces = zlib.compress(b" " * (200 * _MIB), 9)
    image = b"/Type/XObject/Subtype/Image/ColorSpace/DeviceRGB/BitsPerComponent 8"
    huge = b"/Width 20000/Height 20000" + image
    uses = b"/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>"
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 200 100]/Resources<</XObject<</X 5 0 R>>>>"
    draw = b"q 200 0 0 100 0 0 cm /X Do Q "
    deep = [b"<</Type/Catalog/Pages 2 0 R>>"]
    deep += [b"<</Type/Pages/Count 1/Kids[%d 0 R]>>" % (n + 3) for n in range(5000)]
    deep += [b"<</Type/Page/MediaBox[0 0 9 9]>>"]
    circle = [
        deep[0],
        b"<</Type/Pages/Count 9/Kids[3 0 R 2 0 R 3 0 R]>>",
        b"<</Type/Pages/Kids[2 0 R]>>",
    ]
    kids = b" ".join([b"3 0 R"] * 20_000)
    return {
        "spaces.pdf": pdf([stream(spaces, flate)], page=b"/Contents 4 0 R"),
        "spaces-twice.pdf": pdf([stream(zlib.compress(spaces, 9), twice)], page=b"/Contents 4 0 R"),
        "image-of-400-million.pdf": pdf(
            [stream(draw), stream(zlib.compress(bytes(100 * _MIB), 9), huge + flate)], page=uses
        ),
        "image-many-times.pdf": pdf(
            [stream(draw * 200), stream(bytes(300), b"/Width 10/Height 10" + image)], page=uses
        ),
        "form-in-itself.pdf": pdf([stream(b"/X Do"), stream(b"/X Do /X Do", form)], page=uses),
        "forms-in-forms.pdf": pdf([stream(b"/X Do"), *_doubling(30)], page=uses),
        "draws-2000000.pdf": pdf(
            [
                stream(zlib.compress(draw * 2_000_000, 9), flate),
                stream(bytes(300), b"/Width 10/Height 10" + image),
            ],
            page=uses,
        ),
        "pages-5000-deep.pdf": written(deep),
        "pages-in-a-circle.pdf": written(circle),
        "page-20000-times.pdf": written(
            [
                deep[0], b"<</Type/Pages/Count 20000/Kids[" + kids + b"]>>",
                b"<</Type/Page/MediaBox[0 0 9 9]/Parent 2 0 R>>",
            ]
        ),
        "page-of-1000-km.pdf": pdf([], page=b"/UserUnit 1000000"),
        "arrays-deep.pdf": pdf([b"[" * 100_000 + b"]" * 100_000], page=b"/Contents 4 0 R"),
        "states-deep.pdf": pdf([stream(b"q " * 500_000)], page=b"/Contents 4 0 R"),
        "xref-in-a-circle.pdf": _circle(),
        "objects-2-billion.pdf": pdf([]).replace(b"xref\n0 ", b"xref\n0 2147483647 \n0 "),
        "packed-objects.pdf": pdf([stream(spaces, b"/Type/ObjStm/N 1000000/First 10" + flate)]),
        "not-a-pdf-but-gzip.pdf": gzip.compress(bytes(10 * _MIB), mtime=0),
    }  # fmt: skip


def _doubling(depth: int) -> list[bytes]:
    """Forms from object 5 on, each of which draws the next one twice."""
    about = b"/Type/XObject/Subtype/Form/BBox[0 0 200 100]"
    return [
        stream(b"/X Do /X Do", about + b"/Resources<</XObject<</X %d 0 R>>>>" % (number + 1))
        for number in range(5, 5 + depth)
    ] + [stream(b"0 0 1 1 re f", about)]


def _circle() -> bytes:
    """The previous cross reference table is this one."""
    plain = pdf([])
    table = int(plain.split(b"startxref\n")[1].split()[0])
    return plain.replace(b"/Root 1 0 R", b"/Root 1 0 R/Prev %d" % table)


# --- logs ------------------------------------------------------------------------------------


def _logs() -> Files:
    zeros = zstandard.compress(bytes(128 * _MIB), 19)
    said = {
        "deep.mcap": [b"[" * 100_000 + b"]" * 100_000],
        "numbers.mcap": [
            b'{"turn": %s}' % n for n in (b"9" * 400, b"9" * 5000, b"1e999", b"-1e999", b"NaN")
        ],
        "texts.mcap": [b'{"note": "\\ud800"}', b'{"note": "\xff\xfe"}', b'{"note": "\\u0000"}'],
        "types.mcap": [b'{"turn": {}}', b'{"turn": "1"}', b'{"turn": true}', b'{"turn": []}', b"3"],
        "none.mcap": [b"", b"\0", b"null", b"{}", b"[]", b'""'],
    }
    found = {f"messages-{name}": log(messages) for name, messages in said.items()}
    return found | {
        "chunk-of-128-mib.mcap": _chunk(zeros, 128 * _MIB),
        "chunk-of-more-than-said.mcap": _chunk(zeros, 1000),
        "chunk-of-less-than-said.mcap": _chunk(zeros, 2**31),
        "chunk-of-terabytes.mcap": _chunk(zeros, 2**42),
        "chunk-in-a-chunk.mcap": _chunk(zstandard.compress(_chunk(zeros, 9)[8:]), 12_000),
        "attachment-of-terabytes.mcap": b"\x89MCAP0\r\n\x09" + struct.pack("<Q", 2**42) + bytes(64),
    }


def _chunk(packed: bytes, claimed: int) -> bytes:
    """A log of one chunk, compressed by zstd."""
    body = struct.pack("<QQQI", 0, 10**9, claimed, 0) + struct.pack("<I", 4) + b"zstd"
    body += struct.pack("<Q", len(packed)) + packed
    header = b"\1" + struct.pack("<Q", 8) + bytes(8)
    end = b"\x0f" + struct.pack("<QI", 4, 0) + b"\x02" + struct.pack("<Q", 20) + bytes(20)
    magic = b"\x89MCAP0\r\n"
    return magic + header + b"\6" + struct.pack("<Q", len(body)) + body + end + magic
