"""Topics of a log brought to the clock of one of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.operators.sensor.log import Series, Times, read_topics
from weft.operators.sensor.paths import checked, column_name, value_at
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Expand, Later, Row
from weft.pipelines.types import Encoded, Float64, Int32, Int64, Type

DIRECTIONS = ("backward", "forward", "nearest")
TIMES = ("log", "publish")


@dataclass(frozen=True)
class Align(Expand):
    """Make a row of each message of topic `clock`, with what other topics said at that time.

    Reads `content`: the bytes of an MCAP log.
    Writes, for each tick of the clock in the order of time:

    * `time_ns`: when it was, in nanoseconds: log time, or with ``time="publish"`` publish time;
    * `gaps`: how many of the other topics have no message within `tolerance_seconds`;
    * for each topic but the clock ``<topic>_offset_seconds``: time of its message minus that of
      the tick; null where there is none within the tolerance, which is a gap;
    * for each path in `topics` ``<topic>_<path>``: the field of that message, null in a gap.
      Topic and path become words: "/imu/data" and "angular_velocity.z" are
      ``imu_data_angular_velocity_z``.

    `topics` is topic -> path -> type. A path is names between dots, numbers count in lists; the
    path ``""`` is the whole message as bytes, whatever its encoding. Fields are read from JSON,
    in which bytes are base64, and from CDR with a ros2msg schema (mcap-ros2-support). A field
    that a message leaves out is null.

    The message of a topic is the last at or before the tick (``"backward"``), the first at or
    after it (``"forward"``), or of these two the nearer, the earlier if they are equally near
    (``"nearest"``); at most `tolerance_seconds` away, itself included. Of messages of one time
    it is the last of the log, with "forward" the first. It is `merge_asof` of pandas;
    `join_asof` of Polars takes the later of two that are equally near.

    Times are compared before a message is decoded, so a ``where`` on `time_ns`, `gaps` or an
    offset that follows saves decoding the rest. The log is held in memory; it goes on whole or
    not at all. A tick whose messages do not decode fails alone.

    >>> import io; from mcap.writer import Writer
    >>> log = Writer(file := io.BytesIO()); log.start()
    >>> camera = log.register_channel("/camera", "jpeg", schema_id=0)
    >>> imu = log.register_channel("/imu", "json", schema_id=0)
    >>> for second in 1, 2, 3:
    ...     at = second * 10**9
    ...     log.add_message(camera, log_time=at, publish_time=at, data=b"jpeg %d" % second)
    ...     if second != 3:
    ...         log.add_message(imu, at - 10**7, b'{"gyro": {"z": %d}}' % second, at)
    >>> log.finish()
    >>> align = Align("/camera", {"/camera": {"": Encoded("image")},
    ...                           "/imu": {"gyro.z": Float64()}}, tolerance_seconds=0.05)
    >>> for row in align(file.getvalue()):
    ...     print(*row.values())
    1000000000 0 -0.01 b'jpeg 1' 1.0
    2000000000 0 -0.01 b'jpeg 2' 2.0
    3000000000 1 None b'jpeg 3' None

    Raises:
        DefinitionError: a parameter has no such value; two columns have one name.
        RowError: no MCAP log, damaged or cut short; without one of the topics; unpacks to more
            than `max_bytes`. Of a tick: a message that does not decode, or a field of another
            type.
    """

    clock: str
    topics: Mapping[str, Mapping[str, Any]]
    tolerance_seconds: float = 0.05
    direction: str = "backward"
    time: str = "log"
    max_bytes: int = 2**31

    version = "1"
    reads = fields(content=Encoded("mcap"))
    writes = fields(time_ns=Int64(), gaps=Int32())  # and what `topics` says

    def __post_init__(self) -> None:
        if not isinstance(self.clock, str) or not self.clock:
            raise DefinitionError(
                f"{self.name}: clock={self.clock!r}: expected the name of a topic."
            )
        if not isinstance(self.topics, Mapping) or not self.topics:
            raise DefinitionError(
                f"{self.name}: topics={self.topics!r}: expected topic -> path -> type, like "
                "{'/imu': {'angular_velocity.z': weft.Float64()}}."
            )
        declared = {t: checked(f, f"{self.name}: topics[{t!r}]") for t, f in self.topics.items()}
        object.__setattr__(self, "topics", declared)
        self._check_numbers()
        writes, early = self._columns()
        object.__setattr__(self, "writes", writes)
        object.__setattr__(self, "early", early)

    def _check_numbers(self) -> None:
        seconds = self.tolerance_seconds
        if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
            raise DefinitionError(
                f"{self.name}: tolerance_seconds={seconds!r}: expected seconds, 0 or more."
            )
        for name, allowed in (("direction", DIRECTIONS), ("time", TIMES)):
            if getattr(self, name) not in allowed:
                raise DefinitionError(
                    f"{self.name}: {name}={getattr(self, name)!r}: expected one of "
                    f"{', '.join(allowed)}."
                )
        if not isinstance(self.max_bytes, int) or self.max_bytes < 1:
            raise DefinitionError(
                f"{self.name}: max_bytes={self.max_bytes!r}: expected at least 1."
            )

    def _columns(self) -> tuple[Fields, tuple[str, ...]]:
        """All columns, and those that are known from times alone."""
        early: list[tuple[str, Type]] = [("time_ns", Int64()), ("gaps", Int32())]
        early += [(_offset(topic), Float64() | None) for topic in self._others]
        late = [
            (column_name(topic, path), kind)
            for topic, paths in self.topics.items()
            for path, kind in paths.items()
        ]
        names = [name for name, _ in (*early, *late)]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(
                    f"{self.name}: two columns would be named {name!r}. Align one of the topics in "
                    "a step of its own, or leave one out."
                )
        return Fields(dict((*early, *late))), tuple(name for name, _ in early)

    @property
    def _others(self) -> list[str]:
        return [topic for topic in self.topics if topic != self.clock]

    def expand_row(self, row: Row, loaded: Any) -> Iterator[dict[str, Any]]:
        """The ticks of one log."""
        wanted = {self.clock, *self.topics}
        log = read_topics(row["content"], wanted, self.time, self.max_bytes, self.name)
        ticks = log[self.clock].times_ns
        tolerance = round(self.tolerance_seconds * 1e9)
        matched = {
            topic: as_of(ticks, log[topic].times_ns, tolerance, self.direction)
            for topic in self._others
        }
        decoders = {topic: _decoder(series) for topic, series in log.items()}
        for tick, at in enumerate(ticks.tolist()):
            places = {topic: int(found[tick]) for topic, found in matched.items()}
            offsets = {
                _offset(topic): (int(log[topic].times_ns[place]) - at) / 1e9 if place >= 0 else None
                for topic, place in places.items()
            }
            gaps = sum(place < 0 for place in places.values())
            places[self.clock] = tick
            yield {"time_ns": at, "gaps": gaps} | offsets | self._values(log, decoders, places)

    def _values(
        self,
        log: Mapping[str, Series],
        decoders: Mapping[str, Callable[[int], Any]],
        places: Mapping[str, int],
    ) -> dict[str, Later | None]:
        """The fields of one tick."""
        values: dict[str, Later | None] = {}
        for topic, paths in self.topics.items():
            place = places[topic]
            for path, kind in paths.items():
                make = functools.partial(
                    self._value, log[topic], decoders[topic], place, path, kind
                )
                values[column_name(topic, path)] = Later(make) if place >= 0 else None
        return values

    def _value(
        self, series: Series, decode: Callable[[int], Any], place: int, path: str, kind: Type
    ) -> Any:
        if not path:
            return series.messages[place]
        return value_at(decode(place), path, kind, self.name)


def as_of(ticks: Times, times: Times, tolerance: int, direction: str) -> npt.NDArray[np.int64]:
    """For each tick the place of its message in `times`, -1 where none is near enough.

    Both ascend. All in nanoseconds.

    >>> as_of(np.array([10, 20, 30]), np.array([8, 21]), 5, "nearest").tolist()
    [0, 1, -1]
    """
    if not len(times):
        return np.full(len(ticks), -1)
    before = np.searchsorted(times, ticks, "right") - 1
    after = np.searchsorted(times, ticks, "left")
    far = np.iinfo(np.int64).max
    back = np.where(before >= 0, ticks - times[np.maximum(before, 0)], far)
    ahead = np.where(after < len(times), times[np.minimum(after, len(times) - 1)] - ticks, far)
    if direction == "backward":
        place, distance = before, back
    elif direction == "forward":
        place, distance = after, ahead
    else:
        place, distance = np.where(back <= ahead, before, after), np.minimum(back, ahead)
    return np.where(distance <= tolerance, place, -1).astype(np.int64)


def _offset(topic: str) -> str:
    return f"{column_name(topic)}_offset_seconds"


def _decoder(series: Series) -> Callable[[int], Any]:
    """A message by its place; the last ones are kept, as several columns and ticks share them."""
    return functools.lru_cache(maxsize=8)(lambda place: series.decode(series.messages[place]))
