"""Decode some frames of a clip, in the order of presentation, and as little else as possible."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from weft.errors import RowError
from weft.operators.containers import reading
from weft.operators.video.clip import Clip

_PASSES = 4
"""How often each packet may be decoded, on average. A clip whose frames come in the order of
their times needs one pass, and two if its keyframes are not clean."""


class Cursor:
    """Stands somewhere in a clip and goes to the frame that is asked for.

    It jumps when a keyframe lies between where it stands and the frame, or when the frame is
    behind it; otherwise it decodes on. Frames that are passed over and that no other frame
    refers to are not decoded at all. What comes is known by the packet it came from, never by
    counting, so it is the frame that was asked for or an error; how the cursor got there makes
    no difference to its pixels. A clip has one decoder, so one cursor at a time.
    """

    def __init__(self, clip: Clip, what: str) -> None:
        self._clip = clip
        self._what = what
        self._ready: deque[Any] = deque()
        self._held: tuple[int, Any] = (-1, None)
        self._lost: list[int] = []  # packets of frames that were wanted and did not decode
        self._jump(0)
        self.decoded = 0
        """Packets that were given to the decoder so far."""

    def frame(self, index: int) -> Any:
        """Frame number `index` in the order of presentation, as PyAV has it.

        Raises:
            RowError: it does not decode, or not without fault.
        """
        if self._held[0] != index:
            self._refuse_after_fault(index)
            try:
                self._held = index, self._find(index)
            except RowError:
                self._lost.append(int(self._clip.shown[index]))
                raise
        return self._held[1]

    def _refuse_after_fault(self, index: int) -> None:
        """Refuse what may refer to a frame that did not decode: decoders do not always say so."""
        clip = self._clip
        first, last = self._key(index), int(clip.shown[index])
        for lost in self._lost:
            if first <= lost <= last:
                raise RowError(
                    f"{self._what}: frame {index} at {clip.seconds(clip.ticks[index]):.3f} s "
                    f"refers to frame {clip.place[lost]}, which does not decode: the file is "
                    "damaged. Fetch it again, or drop the row."
                )

    def _find(self, index: int) -> Any:
        with reading(self._clip.content, self._what):
            self._approach(index)
            frame = self._until(index)
            if frame is None and self._start > 0:
                # The keyframe was not clean: a recording refreshed bit by bit has such.
                self._jump(0)
                frame = self._until(index)
        if frame is None or frame.is_corrupt:
            clip = self._clip
            raise RowError(
                f"{self._what}: frame {index} at {clip.seconds(clip.ticks[index]):.3f} s does not "
                f"decode: the file is damaged. Given a video of {len(clip.shown)} frames. Fetch "
                "it again, or drop the row."
            )
        return frame

    def _approach(self, index: int) -> None:
        """Jump, if that is shorter than going on or if the frame is behind."""
        key = self._key(index)
        ended = self._next > len(self._clip.packets) and not self._ready
        if key > self._next or index <= self._passed or ended:
            self._jump(key)

    def _key(self, index: int) -> int:
        """The packet to begin with: the last keyframe that is not shown after the frame.

        A frame that leads a keyframe, decoded after it and shown before, needs the one before.
        """
        clip = self._clip
        last = int(np.searchsorted(clip.keys, clip.shown[index], side="right"))
        for key in clip.keys[max(last - 2, 0) : last][::-1]:
            if clip.place[key] <= index:
                return int(key)
        return 0

    def _jump(self, packet: int) -> None:
        if self._clip.context.is_open:
            self._clip.context.flush_buffers()
        self._ready.clear()
        self._next = packet  # the packet to decode next
        self._start = packet  # where this stretch of decoding began
        self._passed = -1  # the last frame that came out of the decoder

    def _until(self, index: int) -> Any:
        """Decode on until the frame comes; ``None``: it did not."""
        packet = int(self._clip.shown[index])
        while True:
            while self._ready:
                frame = self._ready.popleft()
                if frame.pts is None:
                    continue  # made up by the decoder to conceal a loss
                self._passed = max(self._passed, int(self._clip.place[frame.pts]))
                if frame.pts == packet:
                    return frame
            if self._next > len(self._clip.packets):
                return None
            self._ready.extend(self._decode(index))

    def _decode(self, index: int) -> Any:
        """What the next packet brings, or the end."""
        clip, number = self._clip, self._next
        self._next += 1
        if number == len(clip.packets):
            return clip.context.decode(None)
        if clip.place[number] < clip.place[self._start]:
            return []  # it refers to frames before the keyframe that the cursor jumped to
        self.decoded += 1
        if self.decoded > _PASSES * len(clip.packets):
            raise RowError(
                f"{self._what}: the frames do not come in the order of their times: the file is "
                f"damaged. Given {len(clip.shown)} frames; decoded {self.decoded}. Fetch it "
                "again, or drop the row."
            )
        clip.context.skip_frame = "NONREF" if clip.place[number] < index else "DEFAULT"
        return clip.context.decode(clip.packets[number])
