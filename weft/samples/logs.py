"""A robot's log as MCAP: a camera, a motion sensor, and a time when the sensor is silent."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING

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

IMU_SCHEMA = {
    "type": "object",
    "properties": {
        "angular_velocity": {"type": "object", "properties": {"z": {"type": "number"}}},
        "linear_acceleration": {"type": "array", "items": {"type": "number"}},
    },
}


def make() -> Made:
    """The log, and its counts, rates and gap."""
    file = io.BytesIO()
    writer = Writer(file, chunk_size=64 * 1024, compression=CompressionType.ZSTD)
    writer.start(profile="", library="weft sample")
    camera = writer.register_channel("/camera", "jpeg", 0)  # the files as they are: no schema
    schema = writer.register_schema("Imu", "jsonschema", json.dumps(IMU_SCHEMA).encode())
    imu = writer.register_channel("/imu", "json", schema)
    messages = [*_images(camera), *_motion(imu)]
    for sequence, (time, channel, data) in enumerate(sorted(messages, key=lambda m: m[:2])):
        writer.add_message(channel, time, data, time, sequence)
    writer.finish()  # type: ignore[no-untyped-call]
    counts = {"/camera": 0, "/imu": 0}
    for _, channel, _ in messages:
        counts["/camera" if channel == camera else "/imu"] += 1
    known = {"messages": counts, "gap_seconds": GAP, "start_ns": START_NS}
    whole = file.getvalue()
    return {"robot.mcap": whole}, {"robot.mcap": known}


def _images(channel: int) -> list[tuple[int, int, bytes]]:
    photo = open_photograph("motorcycle_left.png").resize((320, 216))
    found = []
    for number in range(round(SECONDS * CAMERA_RATE)):
        picture = photo.crop((number, 0, 240 + number, 180))
        time = START_NS + round(1e9 * number / CAMERA_RATE)
        found.append((time, channel, encode(picture, "frame.jpg")))
    return found


def _motion(channel: int) -> list[tuple[int, int, bytes]]:
    found = []
    for number in range(round(SECONDS * IMU_RATE)):
        seconds = number / IMU_RATE + 0.003  # its clock is 3 ms behind the camera's
        if not GAP[0] <= seconds < GAP[1]:
            values = {
                "angular_velocity": {"z": math.sin(seconds)},
                "linear_acceleration": [0.1 * seconds, 0.0, 9.81],
            }
            time = START_NS + round(1e9 * seconds)
            found.append((time, channel, json.dumps(values).encode()))
    return found
