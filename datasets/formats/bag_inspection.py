"""What stands in a recording: topics, rates, gaps and clocks; and a mapping drafted from it."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...spec import HotstartError
from .bag_storage import Message, Topic, list_recordings, open_file
from .message_types import Decoder, find_decoder, read_stamp_ns, short_type

NS = 1_000_000_000
SAMPLES = 200
"""Messages of a topic that are decoded."""
CLOCK_OFF_S = 0.2
"""Headers that differ from the recorder's clock by more are of another clock."""
MOST_FPS = 30
SPARSE_HZ = 2.0
"""Topics with fewer messages a second are taken for ones that are sent on a change."""
COMMAND = re.compile(r"command|cmd|target|desired|action|goal|leader|setpoint", re.IGNORECASE)
DROPPED = {"image", "image_raw", "image_rect", "compressed", "camera_info", "raw", "color", "rgb"}
WRENCH_NAMES = ["fx", "fy", "fz", "tx", "ty", "tz"]
TWIST_NAMES = ["vx", "vy", "vz", "wx", "wy", "wz"]


@dataclass
class TopicReport:
    """One topic of a recording."""

    topic: Topic
    log_ns: array[int] = field(default_factory=lambda: array("q"))
    late_ns: array[int] = field(default_factory=lambda: array("q"))
    """Log minus header time of some messages."""
    sample: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why it cannot be read."""

    @property
    def count(self) -> int:
        """Messages."""
        return len(self.log_ns)

    @property
    def rate_hz(self) -> float:
        """One over the median time between messages: those that were dropped do not count."""
        intervals = np.diff(np.sort(np.array(self.log_ns)))
        if not len(intervals) or np.median(intervals) <= 0:
            return 0.0
        return NS / float(np.median(intervals))

    @property
    def missing(self) -> float:
        """The share of messages that the rate makes expect and that are not there."""
        if self.count < 2:
            return 0.0
        length_s = (max(self.log_ns) - min(self.log_ns)) / NS
        return max(0.0, 1 - self.count / (length_s * self.rate_hz + 1))

    @property
    def longest_gap_s(self) -> float:
        """The longest time without a message."""
        return float(np.diff(np.sort(np.array(self.log_ns))).max(initial=0)) / NS

    @property
    def offset_s(self) -> float | None:
        """Median of log minus header time; None without headers."""
        if not self.late_ns:
            return None
        return float(np.median(np.array(self.late_ns))) / NS

    @property
    def is_command(self) -> bool:
        """Whether the name is that of something that is sent to a robot."""
        return bool(COMMAND.search(self.topic.name))


def inspect_recording(path: Path) -> list[TopicReport]:
    """Look through the first recording at a path; DataError where it is damaged."""
    _, files = list_recordings(path)[0]
    reports: dict[Topic, TopicReport] = {}
    decoders: dict[Topic, Decoder] = {}
    for place in files:
        bag = open_file(place)
        try:
            for message in bag.scan():
                topic = bag.topics[message.topic]
                report = reports.setdefault(topic, TopicReport(topic))
                report.log_ns.append(message.log_ns)
                if report.count <= SAMPLES and not report.problem:
                    _look_into(report, decoders, message)
        finally:
            bag.close()
    return sorted(reports.values(), key=lambda report: report.topic.name)


def _look_into(report: TopicReport, decoders: dict[Topic, Decoder], message: Message) -> None:
    """Decode a message for its header's time; what cannot be read is remembered."""
    topic = report.topic
    try:
        if topic not in decoders:
            decoders[topic] = find_decoder(topic)
        decoded = decoders[topic].decode(message.data)
    except HotstartError as error:
        report.problem = str(error)
        return
    if not report.sample:
        report.sample = decoded
    stamp = read_stamp_ns(decoded)
    if stamp is not None:
        report.late_ns.append(message.log_ns - stamp)


def list_rows(reports: Sequence[TopicReport]) -> list[tuple[str, ...]]:
    """A table of the topics; its first row is the head."""
    rows = [("topic", "type", "messages", "Hz", "missing", "longest gap", "log - header", "")]
    for report in reports:
        late = "no header"
        if report.offset_s is not None:
            late = f"{report.offset_s * 1000:.1f} ms"
        gap = f"{report.longest_gap_s:.3g} s"
        kind = short_type(report.topic)
        counts = f"{report.count:,}", f"{report.rate_hz:.1f}", f"{report.missing:.1%}"
        rows.append((report.topic.name, kind, *counts, gap, late, report.problem))
    return rows


def draft_mapping(reports: Sequence[TopicReport]) -> str:
    """A mapping as YAML text with comments: a first guess, made to be read and mended."""
    fps = _guess_fps(reports)
    observation: list[str] = []
    action: list[str] = []
    grippers: list[str] = []
    left_out: list[str] = []
    packed = {report.topic.name for report in reports if _is(report, "CompressedImage")}
    for report in reports:
        if report.problem or not report.count:
            left_out.append(f"{report.topic.name} ({short_type(report.topic)})")
        elif _is(report, "Image", "CompressedImage"):
            if f"{report.topic.name}/compressed" not in packed:
                name = _name_camera(report.topic.name)
                observation += [f"  {name}:", f"    {_write_source(report, kind='image')}"]
        else:
            lines = _draft_numbers(report)
            if not lines:
                left_out.append(f"{report.topic.name} ({short_type(report.topic)})")
            elif report.is_command and _is(report, "Bool"):
                grippers += lines
            elif report.is_command:
                action += lines
            else:
                observation.append(f"  {_name_key(report.topic.name)}:")
                observation += [f"    - {line}" for line in lines]
    text = [
        "# A first guess from the names and types of the topics: read it, mend it.",
        f"fps: {fps}  # steps per second of the data set",
        'task: ""  # what is demonstrated, as a sentence',
        "episodes: bag  # one per recording; or marker, with marker: {topic: ..., field: data}",
        "most_gap_s: 0.5",
        "gaps: report  # or refuse, or split: a new episode after each gap",
        "observation:",
        *(observation or ["  # no topic with numbers or pictures was found"]),
        "action:",
        *(_list_actions(action + grippers, reports, fps)),
    ]
    for name in left_out:
        text.append(f"# left out: {name}")
    return "\n".join(text) + "\n"


def _list_actions(action: Sequence[str], reports: Sequence[TopicReport], fps: int) -> list[str]:
    """The action's sources; without a command, the joints one step later."""
    if action:
        return [f"  - {line}" for line in action]
    for report in reports:
        if _is(report, "JointState") and not report.problem:
            lines = ["  # no topic of commands was found: the joints one step later"]
            for line in _draft_numbers(report, offset_s=-round(1 / fps, 6)):
                lines.append(f"  - {line}")
            return lines
    return ["  # no topic of commands was found: name one"]


def _draft_numbers(report: TopicReport, offset_s: float = 0.0) -> list[str]:
    """The sources of a topic of numbers; none where its type is not known."""
    if report.topic.encoding == "json":
        return []
    kind = short_type(report.topic).partition("/")[2]
    lines: list[str] = []
    for values in _list_fields(kind, report.sample):
        lines.append(_write_source(report, offset_s, **values))
    return lines


def _list_fields(kind: str, sample: dict[str, Any]) -> list[dict[str, Any]]:
    """What a mapping says of the numbers of a type, but the topic."""
    if kind == "JointState":
        return _list_joints(sample)
    if kind in ("PoseStamped", "Pose"):
        stem = ""
        if kind == "PoseStamped":
            stem = "pose."
        position = {"field": f"{stem}position", "names": ["x", "y", "z"], "unit": "m"}
        return [position, {"field": f"{stem}orientation", "kind": "rotation"}]
    if kind == "WrenchStamped":
        return [{"field": "wrench", "names": WRENCH_NAMES}]
    if kind == "TwistStamped":
        return [{"field": "twist", "names": TWIST_NAMES}]
    if kind == "Twist":
        names = {"linear": TWIST_NAMES[:3], "angular": TWIST_NAMES[3:]}
        return [{"field": part, "names": named} for part, named in names.items()]
    if kind in ("Float64MultiArray", "Float32MultiArray") and len(sample["data"]):
        return [{"field": f"data[0:{len(sample['data'])}]"}]
    if kind in ("Float64", "Float32"):
        return [{"field": "data"}]
    if kind == "Bool" or re.fullmatch(r"U?Int\d+", kind):
        return [{"field": "data", "kind": "discrete"}]
    return []


def _list_joints(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """Positions by the joints' names, where each has one."""
    count = len(sample["position"])
    if count == 0:
        return []
    names = list(sample["name"])
    if len(names) == count and len(set(names)) == count:
        return [{"field": "position", "joints": names, "unit": "rad"}]
    return [{"field": f"position[0:{count}]", "unit": "rad"}]


def _write_source(report: TopicReport, offset_s: float = 0.0, **values: Any) -> str:
    """A source on one line of YAML; JSON's lists and texts are YAML."""
    found = {"topic": report.topic.name, **values}
    late = report.offset_s
    if late is not None and abs(late) > CLOCK_OFF_S:
        offset_s += round(late, 4)
    if offset_s:
        found["offset_s"] = offset_s
    if found.get("kind") == "discrete" and report.rate_hz < SPARSE_HZ:
        found["sparse"] = True
    parts = [f"{key}: {json.dumps(value)}" for key, value in found.items()]
    return "{" + ", ".join(parts) + "}"


def _guess_fps(reports: Sequence[TopicReport]) -> int:
    """The rate of the slowest camera, else MOST_FPS; never above it."""
    rates = [float(MOST_FPS)]
    for report in reports:
        if _is(report, "Image", "CompressedImage") and report.rate_hz > SPARSE_HZ:
            rates.append(report.rate_hz)
    return max(1, round(min(rates)))


def _is(report: TopicReport, *names: str) -> bool:
    return short_type(report.topic).partition("/")[2] in names


def _name_camera(topic: str) -> str:
    """A key for a camera: its topic without the words that all cameras have."""
    words = [word for word in topic.split("/") if word and word not in DROPPED]
    return _name_key("/".join(words)) or "camera"


def _name_key(topic: str) -> str:
    return re.sub(r"\W+", "_", topic).strip("_")
