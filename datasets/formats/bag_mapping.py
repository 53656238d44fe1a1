"""The YAML file that says which topics of a recording become which keys of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ...spec import ConfigError, DataError, shorten, unknown
from ...system.untrusted import read_yaml
from ..episodes import ACTION

Kind = Literal["number", "discrete", "rotation", "image", "text"]
RotationName = Literal[
    "quaternion_xyzw", "quaternion_wxyz", "rotation_vector", "rotation_6d", "angle"
]
Time = Literal["auto", "header", "log"]
Episodes = Literal["bag", "marker"]
Gaps = Literal["report", "refuse", "split"]
Mark = bool | float | str
NUMBER_KINDS = ("number", "discrete", "rotation")


@dataclass(frozen=True)
class Source:
    """Numbers, a picture or a text of one topic.

    Args:
        topic: its name
        field: where the values stand in a message, as in position[0:6] or pose.orientation
        joints: entries of `field` by the names that stand in the message's `name`
        kind: number (interpolated), discrete (the newest), rotation, image or text
        rotation: what the numbers of a rotation are
        names: of the numbers
        unit: of the numbers
        time: header or log; auto takes the header where it is set
        offset_s: added to the times, for a clock that is off [s]
        hold: take the newest number instead of interpolating
        sparse: sent when something changes only; neither bounds an episode nor has gaps
    """

    topic: str
    field: str = ""
    joints: tuple[str, ...] = ()
    kind: Kind = "number"
    rotation: RotationName = "quaternion_xyzw"
    names: tuple[str, ...] = ()
    unit: str = ""
    time: Time = "auto"
    offset_s: float = 0.0
    hold: bool = False
    sparse: bool = False


@dataclass(frozen=True)
class Marker:
    """A topic that says when an episode starts and stops."""

    topic: str
    field: str = "data"
    start: Mark = True
    stop: Mark = False


@dataclass(frozen=True)
class Mapping:
    """What a data set takes from recordings.

    Args:
        fps: steps per second of the data set [Hz]
        task: what is demonstrated
        episodes: bag (one per recording) or marker
        marker: the topic that marks episodes
        most_gap_s: a longer time without a message of a topic is a gap [s]
        gaps: report them, refuse them, or split the episode there
        observation: the sources of every observation, their numbers joined
        action: the sources of the action, their numbers joined
    """

    fps: float
    observation: dict[str, tuple[Source, ...]]
    action: tuple[Source, ...]
    task: str = ""
    episodes: Episodes = "bag"
    marker: Marker | None = None
    most_gap_s: float = 0.5
    gaps: Gaps = "report"
    text: str = field(default="", compare=False)

    def keys(self) -> dict[str, tuple[Source, ...]]:
        """The sources of every key, `action` last."""
        return {**self.observation, ACTION: self.action}


def read_mapping(path: Path) -> Mapping:
    """Read a mapping; ConfigError where something in it is wrong, with its place."""
    plain = read_yaml(path, ConfigError)
    return parse_mapping(plain, str(path))


def parse_mapping(plain: Any, where: str) -> Mapping:
    """A mapping of plain values; ConfigError where something is wrong."""
    plain = _check_keys(plain, Mapping, where)
    for key in ("fps", "observation", "action"):
        if not plain.get(key):
            raise ConfigError(f"{where}: {key} is missing")
    observation = plain["observation"]
    if not isinstance(observation, dict):
        raise ConfigError(f"{where}: observation is {shorten(observation)}; key: sources is wanted")
    read: dict[str, tuple[Source, ...]] = {}
    for key, sources in observation.items():
        read[key] = _read_sources(sources, f"{where}: observation.{key}")
    values = {**plain, "observation": read}
    values["action"] = _read_sources(plain["action"], f"{where}: action")
    if plain.get("marker") is not None:
        marker = _check_keys(plain["marker"], Marker, f"{where}: marker")
        values["marker"] = Marker(**marker)
    found = Mapping(**values)
    _check_mapping(found, where)
    return found


def _read_sources(plain: Any, where: str) -> tuple[Source, ...]:
    """One source, or a list of them."""
    if isinstance(plain, dict):
        plain = [plain]
    if not isinstance(plain, list) or not plain:
        raise ConfigError(f"{where} is {shorten(plain)}; a source or a list of them is wanted")
    found: list[Source] = []
    for number, item in enumerate(plain):
        here = f"{where}[{number}]"
        values = _check_keys(item, Source, here)
        for name in ("joints", "names"):
            values[name] = _read_names(values.get(name, ()), f"{here}.{name}")
        source = Source(**values)
        _check_source(source, here)
        found.append(source)
    return tuple(found)


def _read_names(plain: Any, where: str) -> tuple[str, ...]:
    if not isinstance(plain, list | tuple) or not all(isinstance(name, str) for name in plain):
        raise ConfigError(f"{where} is {shorten(plain)}; a list of names is wanted")
    return tuple(plain)


def _check_keys(plain: Any, type: Any, where: str) -> dict[str, Any]:
    """The values for a dataclass; ConfigError for unknown keys and values of a wrong type."""
    if not isinstance(plain, dict):
        raise ConfigError(f"{where} is {shorten(plain)}; name: value is wanted")
    names = [part.name for part in fields(type) if part.name != "text"]
    hints = get_type_hints(type)
    for key, value in plain.items():
        if key not in names:
            raise ConfigError(f"{where}: {unknown('key', str(key), names)}")
        _check_value(value, hints[key], f"{where}: {key}")
    if "topic" in names and not plain.get("topic"):
        raise ConfigError(f"{where}: topic is missing")
    return dict(plain)


def _check_value(value: Any, hint: Any, where: str) -> None:
    """Check texts, numbers, truth values and choices; others are read by their own functions."""
    choices = get_args(hint)
    if hint is float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ConfigError(f"{where} is {shorten(value)}; a number is wanted")
    elif hint in (str, bool):
        if not isinstance(value, hint):
            raise ConfigError(f"{where} is {shorten(value)}; {hint.__name__} is wanted")
    elif choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
        raise ConfigError(f"{where}: {unknown('choice', str(value), choices)}")


def _check_source(source: Source, where: str) -> None:
    if source.kind in NUMBER_KINDS and not source.field:
        raise ConfigError(f"{where}: field is missing, as in position[0:6]")
    if source.kind == "image" and (source.field or source.joints):
        raise ConfigError(f"{where}: an image has no field")


def _check_mapping(found: Mapping, where: str) -> None:
    if found.fps <= 0 or found.most_gap_s <= 0:
        raise ConfigError(f"{where}: fps and most_gap_s must be above 0")
    if found.episodes == "marker" and found.marker is None:
        raise ConfigError(f"{where}: episodes: marker needs a marker with its topic")
    for key, sources in found.keys().items():
        for source in sources:
            alone = source.kind in ("image", "text")
            if alone and (len(sources) > 1 or key == ACTION):
                raise ConfigError(f"{where}: {key}: a picture or text is an observation by itself")


def list_sources(mapping: Mapping) -> list[Source]:
    """Every source once."""
    found: list[Source] = []
    for sources in mapping.keys().values():
        for source in sources:
            if source not in found:
                found.append(source)
    return found


def check_topics(mapping: Mapping, topics: Sequence[str], where: str) -> None:
    """Raise DataError where a recording lacks a topic of the mapping."""
    wanted = [source.topic for source in list_sources(mapping)]
    if mapping.marker is not None:
        wanted.append(mapping.marker.topic)
    for topic in wanted:
        if topic not in topics:
            raise DataError(f"{where}: {unknown('topic', topic, sorted(topics))}")
