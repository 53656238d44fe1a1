"""Finds out how the messages of a topic are read, and takes numbers, text and times from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...spec import ConfigError, DataError, cut, shorten
from ...system.untrusted import parse_json
from .bag_storage import Topic
from .ros_messages import MessageType

STEP = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:\[(?P<first>\d+)(?P<range>:(?P<stop>\d+))?\])?")
IMAGE_TYPES = ("sensor_msgs/Image", "sensor_msgs/CompressedImage")


class Decoder(Protocol):
    """Reads the messages of one topic."""

    def decode(self, data: bytes | memoryview) -> dict[str, Any]:
        """The fields of a message; DataError where it is damaged."""
        ...


class JsonType:
    """Messages that are JSON objects."""

    def __init__(self, name: str) -> None:
        self.name = name

    def decode(self, data: bytes | memoryview) -> dict[str, Any]:
        """The fields of a message."""
        found = parse_json(bytes(data), f"a message of {self.name}", DataError)
        if not isinstance(found, dict):
            raise DataError(f"a message of {self.name} is no JSON object")
        return found


def short_type(topic: Topic) -> str:
    """package/Type, as ROS 1 and ROS 2 both call it in short."""
    return topic.type.replace("/msg/", "/")


def find_decoder(topic: Topic) -> Decoder:
    """How the messages of a topic are read.

    Definitions come from the recording; for the standard types of older recordings, which have
    none, from the rosbag extra. Raises DataError for encodings that are not read.
    """
    if topic.encoding == "json":
        return JsonType(topic.name)
    if topic.encoding not in ("cdr", "ros1"):
        raise DataError(
            f"{topic.name} is written as {shorten(topic.encoding)} ({shorten(topic.type)}); read "
            "are ROS messages (cdr, ros1) and json: convert it to ROS messages first"
        )
    ros1 = topic.encoding == "ros1"
    if topic.schema in ("ros2msg", "ros1msg") and topic.definition:
        return MessageType(topic.type, topic.definition, ros1)
    return MessageType(topic.type, _find_standard(topic, ros1), ros1)


def _find_standard(topic: Topic, ros1: bool) -> str:
    """The definition of a standard type by its name."""
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError as missing:
        raise ConfigError(
            f"the recording holds no definition of {topic.type}; those of standard types come "
            "with the rosbag extra: pip install 'hotstart[rosbag]'"
        ) from missing
    if ros1:
        store, version = get_typestore(Stores.ROS1_NOETIC), 1
    else:
        store, version = get_typestore(Stores.ROS2_HUMBLE), 2
    name = short_type(topic).replace("/", "/msg/")
    if name not in store.fielddefs:
        raise DataError(
            f"{topic.name}: the recording holds no definition of {shorten(topic.type)} that is "
            f"read (it has {shorten(topic.schema or 'none')}; ros2msg is read)"
        )
    return store.generate_msgdef(name, ros_version=version)[0]


def read_stamp_ns(message: dict[str, Any]) -> int | None:
    """The time in a message's header [ns]; None without one, and where it was never set."""
    header = message.get("header")
    if not isinstance(header, dict):
        return None
    stamp = header.get("stamp")
    if not isinstance(stamp, dict):
        return None
    seconds = stamp.get("sec", stamp.get("secs"))
    rest = stamp.get("nanosec", stamp.get("nsec", stamp.get("nsecs", 0)))
    if not isinstance(seconds, int) or not isinstance(rest, int) or not (seconds or rest):
        return None
    return seconds * 1_000_000_000 + rest


def take_field(message: dict[str, Any], path: str) -> Any:
    """What stands at a path such as `position[0:6]` or `pose.position`.

    Raises DataError where the message has no such field.
    """
    found: Any = message
    for part in path.split("."):
        step = STEP.fullmatch(part)
        if step is None:
            raise ConfigError(f"field {shorten(path)}: write it as in pose.position or data[0:6]")
        if not isinstance(found, dict) or step["name"] not in found:
            raise DataError(f"there is no field {shorten(path)}; there are {_list_fields(found)}")
        found = found[step["name"]]
        if step["first"]:
            found = _take_entries(found, step, path)
    return found


def _take_entries(values: Any, step: re.Match[str], path: str) -> Any:
    first = int(step["first"])
    if isinstance(values, dict | str) or not hasattr(values, "__len__"):
        raise DataError(f"field {shorten(path)}: that is no list")
    stop = first + 1
    if step["range"]:
        stop = int(step["stop"])
    if not first < stop <= len(values):
        raise DataError(f"field {shorten(path)}: there are {len(values)} entries")
    if step["range"]:
        return values[first:stop]
    return values[first]


def take_numbers(message: dict[str, Any], path: str) -> NDArray[np.float64]:
    """Every number at a path in a row, (n,); of a dict those of all its fields, in order."""
    numbers: list[NDArray[np.float64]] = []
    _collect(take_field(message, path), path, numbers)
    return np.concatenate(numbers)


def _collect(value: Any, path: str, into: list[NDArray[np.float64]]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _collect(inner, f"{path}.{name}", into)
    elif isinstance(value, np.ndarray):
        into.append(value.astype(np.float64))
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, path, into)
    elif isinstance(value, bool | int | float):
        into.append(np.array([value], np.float64))
    else:
        raise DataError(f"field {shorten(path)} is {shorten(value)}, no number")


def take_joints(message: dict[str, Any], path: str, joints: Sequence[str]) -> NDArray[np.float64]:
    """The numbers of some joints by their names in the message, in the order of `joints`."""
    names = list(take_field(message, "name"))
    values = take_numbers(message, path)
    missing = [joint for joint in joints if joint not in names]
    if missing or len(values) != len(names):
        raise DataError(
            f"joints {cut(str(missing))} are missing: the message names {cut(str(names))} and "
            f"{path} has {len(values)} numbers"
        )
    return values[[names.index(joint) for joint in joints]]


def _list_fields(value: Any) -> str:
    if isinstance(value, dict):
        return cut(", ".join(value))
    return "none below it"
