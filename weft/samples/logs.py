"""A robot's log as MCAP: a camera, a motion sensor, and a time when the sensor is silent."""

from __future__ import annotations

import base64
import io
import json
import math
from typing import TYPE_CHECKING, Any

from mcap.writer import CompressionType, Writer

from weft.samples.photos import encode, open_photograph

if TYPE_CHECKING:
    from weft.samples import Made

START_NS = 1_700_000_000_000_000_000
SECONDS = 4.0
CAMERA_RATE, IMU_RATE = 10, 100
"""Messages a second."""

GAP = (1.5, 2.0)
"""Seconds from the start between which the motion sensor is silent."""

IMAGE_SCHEMA = {
    "type": "object",
    "properties": {
        "timestamp": {"type": "object"},
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}
IMU_SCHEMA = {
    "type": "object",
    "properties": {"turn": {"type": "number"}, "acceleration": {"type": "number"}},
}


def make() -> Made:
    """The log, and its counts, rates and gap."""
    file = io.BytesIO()
    writer = Writer(file, chunk_size=64 * 1024, compression=CompressionType.ZSTD)
    writer.start(profile="", library="weft sample")
    camera = _channel(writer, "/camera/image", "foxglove.CompressedImage", IMAGE_SCHEMA)
    imu = _channel(writer, "/imu", "Imu", IMU_SCHEMA)
    messages = [*_images(camera), *_motion(imu)]
    for sequence, (time, channel, data) in enumerate(sorted(messages, key=lambda m: m[:2])):
        writer.add_message(channel, time, json.dumps(data).encode(), time, sequence)
    writer.finish()  # type: ignore[no-untyped-call]
    counts = {"/camera/image": 0, "/imu": 0}
    for _, channel, _ in messages:
        counts["/camera/image" if channel == camera else "/imu"] += 1
    known = {"messages": counts, "gap_seconds": GAP, "start_ns": START_NS}
    whole = file.getvalue()
    return {"robot.mcap": whole}, {"robot.mcap": known}


def _channel(writer: Writer, topic: str, name: str, schema: dict[str, Any]) -> int:
    known = writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
    return writer.register_channel(topic, "json", known)


def _images(channel: int) -> list[tuple[int, int, dict[str, Any]]]:
    photo = open_photograph("motorcycle_left.png").resize((320, 216))
    found = []
    for number in range(round(SECONDS * CAMERA_RATE)):
        time = START_NS + round(1e9 * number / CAMERA_RATE)
        picture = photo.crop((number, 0, 240 + number, 180))
        data = base64.b64encode(encode(picture, "frame.jpg")).decode()
        stamp = {"sec": time // 10**9, "nsec": time % 10**9}
        image = {"timestamp": stamp, "frame_id": "camera", "data": data, "format": "jpeg"}
        found.append((time, channel, image))
    return found


def _motion(channel: int) -> list[tuple[int, int, dict[str, Any]]]:
    found = []
    for number in range(round(SECONDS * IMU_RATE)):
        seconds = number / IMU_RATE + 0.003  # its clock is 3 ms behind the camera's
        if not GAP[0] <= seconds < GAP[1]:
            values = {"turn": math.sin(seconds), "acceleration": 0.1 * seconds}
            found.append((START_NS + round(1e9 * seconds), channel, values))
    return found
