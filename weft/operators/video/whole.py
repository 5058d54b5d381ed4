"""Refuse files that end too early, where their container says how long they are.

FFmpeg reads what is there and says nothing, so that a download that broke off would be a shorter
clip. MP4 has an index of its packets, AVI, Matroska and WebM say how long they are, a GIF has a
last byte. MPEG-TS, MPEG-PS and FLV say nothing: there a part is a whole.
"""

from __future__ import annotations

from typing import Any

from weft.errors import RowError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def check_whole(content: bytes, stream: Any, what: str) -> None:
    """Refuse a file that is shorter than it says.

    Raises:
        RowError: it ends before its end.
    """
    end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    end = max(end, _segment_end(content), _riff_end(content), _gif_end(content))
    if end > len(content):
        raise RowError(
            f"{what}: the file is cut short. Given {len(content)} bytes; it says that it has at "
            f"least {end}. Fetch it again, or drop the row."
        )


def _segment_end(content: bytes) -> int:
    """Where the segment of a Matroska file ends, as it says itself (RFC 8794); 0: it does not."""
    if content[:4] != _EBML:
        return 0
    position, length = _size(content, 4)
    position += length or 0
    if content[position : position + 4] != _SEGMENT:
        return 0
    position, length = _size(content, position + 4)
    return 0 if length is None else position + length


def _riff_end(content: bytes) -> int:
    """Where the first chunk of an AVI file ends, which is all of it up to 1 GiB."""
    return 8 + int.from_bytes(content[4:8], "little") if content[:4] == b"RIFF" else 0


def _gif_end(content: bytes) -> int:
    """One byte more than there are, if the trailer is missing (GIF89a, section 27)."""
    if content[:3] != b"GIF" or content.rstrip(b"\0").endswith(b"\0;"):
        return 0  # the end of a block, the trailer, and the padding that is common
    return len(content) + 1


def _size(content: bytes, position: int) -> tuple[int, int | None]:
    """Where the data of an element begins, and how long it is; all ones: unknown, it is live."""
    if position >= len(content) or not content[position]:
        return position, None
    width = 9 - content[position].bit_length()
    value = int.from_bytes(content[position : position + width], "big") & ((1 << 7 * width) - 1)
    return position + width, None if value == (1 << 7 * width) - 1 else value
