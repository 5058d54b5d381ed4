"""Turn logs of a robot into training rows: each camera frame with what the IMU felt then.

A frame for which the IMU has nothing within the tolerance is dropped before it is decoded; the
books say how many there were. In the logs the camera publishes JPEG files as they are
(encoding "jpeg") and the IMU JSON; of a log of ROS 2 the path of the frame is "data".

Run it:  weft run examples/robot_log.py --set source='logs/*.mcap' --set out=robot_log.lance
"""

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import image, sensor


@weft.pipeline
def robot_log(
    source: str = "logs/*.mcap",
    out: str = "robot_log.lance",
    tolerance_seconds: float = 0.02,
    size: int = 224,
):
    """Frames at one size, their sharpness, and turn rate and acceleration at that moment."""
    align = sensor.Align(
        clock="/camera",
        topics={
            "/camera": {"": weft.Encoded("image")},
            "/imu": {
                "angular_velocity.z": weft.Float64(),
                "linear_acceleration": weft.Tensor("float64", (3,)),
            },
        },
        tolerance_seconds=tolerance_seconds,
        direction="nearest",
    )
    rows = weft.read(Files(source, kind="mcap"))
    rows = rows.apply(align)
    rows = rows.where(pl.col("gaps") == 0)
    rows = rows.apply(image.Decode(size=size, fit="cover"), content="camera")
    rows = rows.apply(image.Sharpness())
    return rows.select(
        "uri", "time_ns", "imu_offset_seconds", "imu_angular_velocity_z",
        "imu_linear_acceleration", "sharpness", "image",
    ).write(Lance(out))  # fmt: skip
