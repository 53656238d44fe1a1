"""Recordings as the formats' own libraries write them: cameras, joints, a gripper, other clocks."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

NS = 10**9
START = 1_700_000_000 * NS
CAMERA_CLOCK_S = -3


def find_types():
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    custom = "float32[4] turn # wxyz\nfloat64[3] at\nint8 MODE=1\nuint8[] rest"
    store.register(get_types_from_msg(custom, "my_msgs/msg/Hand"))
    return store


def make_events(types, seconds=1.0, drop=0.1, seed=0, raw=False):
    """(log time [ns], topic, type, message) in the order of time; joints are ramps."""
    rng = np.random.default_rng(seed)
    made = types.types

    def stamp(ns):
        time = made["builtin_interfaces/msg/Time"](sec=ns // NS, nanosec=ns % NS)
        return made["std_msgs/msg/Header"](stamp=time, frame_id="f")

    found = []
    for tick in range(int(seconds * 100)):
        ns = START + tick * NS // 100 + int(rng.uniform(0, 2e6))
        if tick and rng.random() < drop:
            continue
        t = (ns - START) / NS
        order = rng.permutation(2)
        state = made["sensor_msgs/msg/JointState"](
            header=stamp(ns),
            name=[f"j{number}" for number in order],
            position=np.array([t, -2 * t])[order],
            velocity=np.zeros(0),
            effort=np.zeros(0),
        )
        layout = made["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
        command = made["std_msgs/msg/Float64MultiArray"](layout=layout, data=np.array([t, 1 - t]))
        turn = np.array([np.cos(t / 2), 0, 0, np.sin(t / 2)], np.float32)
        hand = made["my_msgs/msg/Hand"](
            turn=turn, at=np.array([t, 0, 0]), rest=np.zeros(tick % 3, np.uint8)
        )
        found.append((ns, "/joint_states", "sensor_msgs/msg/JointState", state))
        found.append((ns, "/hand", "my_msgs/msg/Hand", hand))
        found.append((ns, "/joint_command", "std_msgs/msg/Float64MultiArray", command))
    for frame in range(int(seconds * 30)):
        if frame and rng.random() < drop:
            continue
        ns = START + frame * NS // 30
        picture = np.full((8, 10, 3), (frame, 100, 200), np.uint8)
        header = stamp(ns + CAMERA_CLOCK_S * NS)
        if raw:
            kind = "sensor_msgs/msg/Image"
            data = np.pad(picture[..., ::-1].reshape(8, 30), ((0, 0), (0, 2))).reshape(-1)
            message = made[kind](
                header=header,
                height=8,
                width=10,
                encoding="bgr8",
                is_bigendian=0,
                step=32,
                data=data,
            )
        else:
            kind = "sensor_msgs/msg/CompressedImage"
            packed = io.BytesIO()
            Image.fromarray(picture).save(packed, "PNG")
            data = np.frombuffer(packed.getvalue(), np.uint8)
            message = made[kind](header=header, format="png", data=data)
        found.append((ns + NS // 50, "/top/image_raw/compressed", kind, message))
    for tick in range(int(seconds * 2)):
        shut = made["std_msgs/msg/Bool"](data=bool(tick % 2))
        found.append((START + tick * NS // 2, "/gripper/command", "std_msgs/msg/Bool", shut))
    return sorted(found, key=lambda event: event[0])


def write_rosbag2(path: Path, events, types, storage="sqlite3"):
    from rosbags.rosbag2 import StoragePlugin, Writer

    plugins = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}
    with Writer(path, version=9, storage_plugin=plugins[storage]) as writer:
        topics = {}
        for ns, topic, kind, message in events:
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(topics[topic], ns, types.serialize_cdr(message, kind))
    return path


def write_mcap(path: Path, events, types, packing="ZSTD", chunk=4096):
    from mcap.writer import CompressionType, Writer

    with path.open("wb") as file:
        writer = Writer(
            file, chunk_size=chunk, compression=CompressionType[packing], enable_data_crcs=True
        )
        writer.start(profile="ros2", library="test")
        schemas, channels = {}, {}
        for ns, topic, kind, message in events:
            if kind not in schemas:
                text = types.generate_msgdef(kind)[0].encode()
                schemas[kind] = writer.register_schema(kind, "ros2msg", text)
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "cdr", schemas[kind])
            data = bytes(types.serialize_cdr(message, kind))
            writer.add_message(channels[topic], ns, data, ns)
        writer.finish()
    return path
