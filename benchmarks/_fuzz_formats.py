"""Good data sets of other programs for `hotstart bench fuzz`, as those programs lay them out."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..datasets.formats.conversion import convert
from ..datasets.formats.foreign_data import ReadOptions
from ..datasets.formats.tfrecord import mask_crc

NS = 10**9
ENDS = (4, 9, 15)
MAPPING = """
fps: 10
observation:
  state: {topic: /state, field: data}
  top: {topic: /top, kind: image}
action:
  - {topic: /action, field: data}
"""
ARRAY_TYPE = "std_msgs/msg/Float64MultiArray"
IMAGE_TYPE = "sensor_msgs/msg/Image"
TENSOR = {"dtype": "float32", "encoding": "none"}


def list_episodes() -> list[dict[str, NDArray[Any]]]:
    """Three short episodes of states, actions and pictures, the same each time."""
    rng = np.random.default_rng(0)
    episodes: list[dict[str, NDArray[Any]]] = []
    for length in np.diff(ENDS, prepend=0).tolist():
        episodes.append(
            {
                "action": rng.normal(size=(length, 2)).astype(np.float32),
                "state": rng.normal(size=(length, 3)).astype(np.float32),
                "top": rng.integers(0, 256, (length, 8, 9, 3), dtype=np.uint8),
            }
        )
    return episodes


def pack_picture(picture: NDArray[np.uint8], kind: str) -> bytes:
    """(H, W, 3) as PNG or JPEG."""
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, kind)
    return packed.getvalue()


def make_aloha(path: Path) -> None:
    """A folder with a file for each episode, JPEGs filled up with zeros."""
    path.mkdir()
    for number, episode in enumerate(list_episodes()):
        with h5py.File(path / f"episode_{number}.hdf5", "w") as file:
            file.attrs["sim"] = True
            file["action"] = episode["action"]
            file["observations/qpos"] = episode["state"]
            packed = [pack_picture(picture, "JPEG") for picture in episode["top"]]
            rows = np.zeros((len(packed), max(map(len, packed)) + 9), np.uint8)
            for row, raw in zip(rows, packed, strict=True):
                row[: len(raw)] = np.frombuffer(raw, np.uint8)
            file["observations/images/top"] = rows


def make_libero(path: Path) -> None:
    """One file of one task."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "close the drawer"})
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        for number, episode in enumerate(list_episodes()):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(episode["action"])
            demo["actions"] = episode["action"]
            demo["obs/ee_pos"] = episode["state"]
            demo["obs/agentview_rgb"] = episode["top"]


def make_robomimic(path: Path) -> None:
    """As robomimic's own tools write it: one piece, or gzip for pictures, without checksums."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}
        )
        data.attrs["total"] = ENDS[-1]
        for number, episode in enumerate(list_episodes()):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(episode["action"])
            demo["actions"] = episode["action"]
            demo["rewards"] = np.zeros(len(episode["action"]))
            demo["obs/object"] = episode["state"]
            demo.create_dataset("obs/top", data=episode["top"], compression="gzip")


def make_minari(path: Path) -> None:
    """A folder with metadata and one file; observations have one step more."""
    place = path / "data"
    place.mkdir(parents=True)
    spec = json.dumps({"id": "Push-v0"})
    counts = {"total_episodes": len(ENDS), "total_steps": ENDS[-1], "env_spec": spec}
    (place / "metadata.json").write_text(json.dumps(counts))
    with h5py.File(place / "main_data.hdf5", "w", track_order=True) as file:
        for number, episode in enumerate(list_episodes()):
            group = file.create_group(f"episode_{number}")
            n = len(episode["action"])
            state = np.concatenate([episode["state"], episode["state"][-1:]])
            held = {"actions": episode["action"], "rewards": np.zeros(n), "observations/s": state}
            for name, values in held.items():
                shape = (None, *values.shape[1:])
                group.create_dataset(name, data=values, chunks=True, maxshape=shape)
            kind = h5py.vlen_dtype(np.dtype(np.uint8))
            rows = group.create_dataset("observations/top", (n + 1,), kind, chunks=True)
            for step in range(n + 1):
                packed = pack_picture(episode["top"][min(step, n - 1)], "JPEG")
                rows[step] = np.frombuffer(packed, np.uint8)


def make_plain_hdf5(path: Path) -> None:
    """Nobody's layout: a group for each episode."""
    with h5py.File(path, "w") as file:
        for number, episode in enumerate(list_episodes()):
            for name, values in episode.items():
                file[f"runs/{number}/{name}"] = values


def make_rlds(path: Path) -> None:
    """A folder with two shards."""
    path.mkdir()
    inner = {
        "observation": _group(
            top={"image": {"dtype": "uint8", "shape": {"dimensions": ["8", "9", "3"]}}},
            state={"tensor": {**TENSOR, "shape": {"dimensions": ["3"]}}},
        ),
        "action": {"tensor": {**TENSOR, "shape": {"dimensions": ["2"]}}},
        "language_instruction": {"text": {}},
    }
    steps = {"sequence": {"feature": _group(**inner)}}
    (path / "features.json").write_text(json.dumps(_group(steps=steps)))
    splits = {"splits": [{"name": "train", "shardLengths": ["2", "1"]}]}
    (path / "dataset_info.json").write_text(json.dumps(splits))
    records: list[bytes] = []
    for episode in list_episodes():
        packed = [pack_picture(picture, "PNG") for picture in episode["top"]]
        features = {
            "steps/observation/top": packed,
            "steps/observation/state": episode["state"],
            "steps/action": episode["action"],
            "steps/language_instruction": [b"push it"] * len(packed),
        }
        records.append(write_example(features))
    write_records(path / "tiny-train.tfrecord-00000-of-00002", records[:2])
    write_records(path / "tiny-train.tfrecord-00001-of-00002", records[2:])


def _group(**features: Any) -> dict[str, Any]:
    return {"featuresDict": {"features": features}}


def write_varint(value: int) -> bytes:
    """A whole number as protobuf writes it, 7 bits a byte."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def write_field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds bytes or a message."""
    return write_varint(number << 3 | 2) + write_varint(len(content)) + content


def write_feature(values: Sequence[bytes] | NDArray[Any]) -> bytes:
    """tf.train.Feature of bytes, floats or whole numbers."""
    if not isinstance(values, np.ndarray):
        return write_field(1, b"".join(write_field(1, value) for value in values))
    if values.dtype.kind == "f":
        return write_field(2, write_field(1, values.astype("<f4").tobytes()))
    return write_field(
        3, write_field(1, b"".join(write_varint(int(value)) for value in values.ravel()))
    )


def write_example(features: Mapping[str, Sequence[bytes] | NDArray[Any]]) -> bytes:
    """tf.train.Example of bytes, floats (n, ...) or whole numbers (n, ...), as protobuf."""
    entries = b""
    for name, values in features.items():
        entries += write_field(
            1, write_field(1, name.encode()) + write_field(2, write_feature(values))
        )
    return write_field(1, entries)


def write_records(path: Path, records: Sequence[bytes]) -> None:
    """A TFRecord file: each record with the checksums of its length and of itself."""
    with path.open("wb") as file:
        for raw in records:
            head = struct.pack("<Q", len(raw))
            file.write(head + struct.pack("<I", mask_crc(head)))
            file.write(raw + struct.pack("<I", mask_crc(raw)))


def _list_messages(types: Any) -> list[tuple[int, str, str, Any]]:
    """(time [ns], topic, type, message) of two seconds in order."""
    made = types.types
    layout = made["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    found: list[tuple[int, str, str, Any]] = []
    for tick in range(20):
        ns = 1_700_000_000 * NS + tick * NS // 10
        time = made["builtin_interfaces/msg/Time"](sec=ns // NS, nanosec=ns % NS)
        header = made["std_msgs/msg/Header"](stamp=time, frame_id="f")
        values = np.array([tick / 10, 1 - tick / 7])
        found.append((ns, "/state", ARRAY_TYPE, made[ARRAY_TYPE](layout=layout, data=values)))
        found.append((ns, "/action", ARRAY_TYPE, made[ARRAY_TYPE](layout=layout, data=-values)))
        picture = made[IMAGE_TYPE](
            header=header,
            height=4,
            width=5,
            encoding="rgb8",
            is_bigendian=0,
            step=15,
            data=np.arange(60, dtype=np.uint8) + tick,
        )
        found.append((ns, "/top", IMAGE_TYPE, picture))
    return found


def make_mcap(path: Path, packing: str, checksums: bool) -> None:
    """MCAP as its own library writes it."""
    from mcap.writer import CompressionType, Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    with path.open("wb") as file:
        writer = Writer(
            file,
            chunk_size=1024,
            compression=CompressionType[packing],
            enable_crcs=checksums,
            enable_data_crcs=checksums,
        )
        writer.start(profile="ros2", library="test")
        channels: dict[str, int] = {}
        for ns, topic, kind, message in _list_messages(types):
            if topic not in channels:
                text = types.generate_msgdef(kind)[0].encode()
                schema = writer.register_schema(kind, "ros2msg", text)
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], ns, bytes(types.serialize_cdr(message, kind)), ns)
        writer.finish()


def make_rosbag2(path: Path, storage: str) -> None:
    """A folder as rosbags writes it: a database or MCAP, and metadata."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage]) as writer:
        topics: dict[str, Any] = {}
        for ns, topic, kind, message in _list_messages(types):
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(topics[topic], ns, types.serialize_cdr(message, kind))


HDF5_KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "aloha": ("aloha", make_aloha),
    "libero": ("libero.hdf5", make_libero),
    "robomimic-plain": ("robomimic-plain.hdf5", make_robomimic),
    "minari": ("minari", make_minari),
    "hdf5": ("hdf5.h5", make_plain_hdf5),
    "rlds": ("rlds", make_rlds),
}
BAG_KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mcap": ("mcap.mcap", lambda path: make_mcap(path, "ZSTD", True)),
    "mcap-unchecked": ("mcap-unchecked.mcap", lambda path: make_mcap(path, "NONE", False)),
    "rosbag2-sqlite3": ("rosbag2-sqlite3", lambda path: make_rosbag2(path, "SQLITE3")),
    "rosbag2-mcap": ("rosbag2-mcap", lambda path: make_rosbag2(path, "MCAP")),
}
VALID = dict(HDF5_KINDS)
"""Kind -> name of its file or folder, and the function that makes it.

Bags are made only where the libraries that write them are installed.
"""
if importlib.util.find_spec("mcap") and importlib.util.find_spec("rosbags"):
    VALID.update(BAG_KINDS)


def read_foreign(kind: str, path: Path) -> str:
    """Convert, as `hotstart data convert` does; the hash of the numbers, and one of the notes."""
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        options = ReadOptions(fps=10, images=True)
        if kind == "hdf5":
            options.keys = {"action": "action", "state": "state", "top": "top"}
        if kind in BAG_KINDS:
            options.mapping = Path(folder) / "map.yaml"
            options.mapping.write_text(MAPPING)
        store = convert(path, Path(folder) / "made", options, say=notes.append)
        digest = store.content_hash()
    said = hashlib.sha256("\n".join(notes).replace(str(path), "").encode()).hexdigest()
    return f"{digest} {said}"
