"""MCAP and rosbag2, as written by the formats' own libraries, read as data sets."""

import shutil
import sqlite3

import numpy as np
import pytest
from hotstart.datasets.formats.bag_episodes import cut_spans
from hotstart.datasets.formats.bag_inspection import draft_mapping, inspect_recording, list_rows
from hotstart.datasets.formats.bag_mapping import parse_mapping, read_mapping
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import open_foreign, recognise
from hotstart.datasets.formats.ros_messages import MessageType
from hotstart.datasets.resampling import Gap
from hotstart.spec import ConfigError, DataError
from scipy.spatial.transform import Rotation

from .bag_maker import find_types, make_events, write_mcap, write_rosbag2

pytest.importorskip("rosbags")
pytest.importorskip("mcap")
MAPPING = """
fps: 20
task: turn the hand
observation:
  joints: {topic: /joint_states, field: position, joints: [j0, j1], unit: rad}
  top: {topic: /top/image_raw/compressed, kind: image, offset_s: 3}
  hand:
    - {topic: /hand, field: at, names: [x, y, z], unit: m}
    - {topic: /hand, field: turn, kind: rotation, rotation: quaternion_wxyz}
action:
  - {topic: /hand, field: "at[0:2]"}
  - {topic: /hand, field: turn, kind: rotation, rotation: quaternion_wxyz}
  - {topic: /gripper/command, field: data, kind: discrete, sparse: true}
"""


@pytest.fixture(scope="module")
def types():
    return find_types()


@pytest.fixture(scope="module")
def bags(types, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    events = make_events(types)
    (folder / "map.yaml").write_text(MAPPING)
    write_rosbag2(folder / "database", events, types)
    write_rosbag2(folder / "packed", events, types, "mcap")
    for packing in ("ZSTD", "LZ4", "NONE"):
        write_mcap(folder / f"{packing}.mcap", events, types, packing)
    return folder


def _open(bags, name, text=MAPPING, **options):
    place = bags / "map.yaml"
    if text != MAPPING:
        place = bags / "other.yaml"
        place.write_text(text)
    return open_foreign(bags / name, ReadOptions(mapping=place, **options))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("database", "rosbag2"),
        ("packed", "rosbag2"),
        ("ZSTD.mcap", "mcap"),
        ("LZ4.mcap", "mcap"),
        ("NONE.mcap", "mcap"),
    ],
)
def test_recordings_become_the_ramps_that_were_recorded(bags, name, format):
    assert recognise(bags / name) == format
    data = _open(bags, name)
    times = data.array("timestamp")
    np.testing.assert_allclose(np.diff(times), 1 / 20)
    joints = data.array("joints").astype(float)
    start = joints[0, 0]  # the ramps begin at the recording's first message
    np.testing.assert_allclose(joints[:, 0], start + times, atol=1e-5)
    np.testing.assert_allclose(joints[:, 1], -2 * (start + times), atol=1e-5)
    np.testing.assert_allclose(data.array("hand")[:, 0], start + times, atol=1e-5)
    turned = Rotation.from_quat(data.array("hand")[:, 3:]).as_rotvec()
    np.testing.assert_allclose(turned[:, 2], start + times, atol=1e-4)
    action = data.array("action")
    np.testing.assert_allclose(action[:, 4], start + times, atol=1e-4)
    np.testing.assert_array_equal(action[:, 5], start + times >= 0.5)
    assert [dim.kind for dim in data.action_spec.dims][2:] == ["rotation"] * 3 + ["discrete"]
    made = start + times + data.rows("made_s.top", 0, len(times)) - times
    np.testing.assert_array_equal(data.array("top")[:, 0, 0, 0], np.rint(made * 30))
    assert (data.array("made_s.top") <= times + 1e-4).all()
    np.testing.assert_array_equal(data.rows("top", 3, 5), data.array("top")[3:5])
    data.close()


def test_a_folder_of_recordings_holds_an_episode_each(bags, types, tmp_path):
    for number in range(2):
        write_rosbag2(tmp_path / f"take_{number}", make_events(types, 0.6, seed=number), types)
    assert recognise(tmp_path) == "rosbag2"
    data = open_foreign(tmp_path, ReadOptions(mapping=bags / "map.yaml", images=False, fps=10))
    assert len(data.episode_ends) == 2
    assert "top" not in data.keys
    assert data.fps == 10
    assert data.task == "turn the hand"


def test_raw_pictures_are_read_row_by_row(bags, types, tmp_path):
    write_mcap(tmp_path / "raw.mcap", make_events(types, 0.6, raw=True), types)
    data = open_foreign(tmp_path / "raw.mcap", ReadOptions(mapping=bags / "map.yaml"))
    np.testing.assert_array_equal(data.rows("top", 0, 1)[0], np.full((8, 10, 3), (0, 100, 200)))


def test_gaps_are_reported_refused_or_split(bags, types, tmp_path):
    events = make_events(types)
    hole = [e for e in events if e[1] != "/hand" or not 0.3 < (e[0] - events[0][0]) / 1e9 < 0.7]
    write_mcap(bags / "gap.mcap", hole, types)
    text = MAPPING.replace("fps: 20", "fps: 20\nmost_gap_s: 0.2")
    data = _open(bags, "gap.mcap", text)
    assert any("/hand has 1 gaps above 0.2 s" in note for note in data.notes)
    with pytest.raises(DataError, match="/hand has 1 gaps"):
        _open(bags, "gap.mcap", f"{text}gaps: refuse")
    assert len(_open(bags, "gap.mcap", f"{text}gaps: split").episode_ends) == 2
    assert cut_spans((0, 10), [Gap(4, 2), Gap(2, 3), Gap(9, 5)]) == [(0, 2), (6, 9)]


def test_a_marker_says_where_episodes_are(bags):
    text = f"{MAPPING}episodes: marker\nmarker: {{topic: /gripper/command}}"
    data = _open(bags, "ZSTD.mcap", text)
    (end,) = data.episode_ends
    assert end == 10  # the gripper is shut in the second half
    assert (data.array("action")[:, 5] == 1).all()


def test_inspect_drafts_a_mapping_that_reads(bags, tmp_path):
    reports = inspect_recording(bags / "database")
    table = {row[0]: row for row in list_rows(reports)}
    assert table["/joint_states"][1] == "sensor_msgs/JointState"
    assert table["/joint_states"][5] != "0.0%"
    assert table["/top/image_raw/compressed"][6] == "3020.0 ms"
    (tmp_path / "draft.yaml").write_text(draft_mapping(reports))
    mapping = read_mapping(tmp_path / "draft.yaml")
    assert mapping.fps == 30
    assert mapping.observation["top"][0].offset_s == 3.02
    assert [source.topic for source in mapping.action] == ["/joint_command", "/gripper/command"]
    data = open_foreign(bags / "database", ReadOptions(mapping=tmp_path / "draft.yaml"))
    assert data.array("joint_states").shape[1] == 2
    only_joints = [report for report in reports if report.topic.name == "/joint_states"]
    assert "offset_s: -0.033333" in draft_mapping(only_joints)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("fps: 20", "fps: fast"), "fps is 'fast'"),
        (("fps: 20", "speed: 20"), "unknown key 'speed'"),
        (("/hand, field: at,", "/hand, field: atoms,"), "there is no field 'atoms'"),
        (("topic: /joint_states", "topic: /joint_state"), "did you mean '/joint_states'"),
        (("[j0, j1]", "[j0, j7]"), r"joints \['j7'\] are missing"),
        (("kind: discrete", "kind: whole"), "unknown choice 'whole'"),
        (('"at[0:2]"', '"at[0:9]"'), "there are 3 entries"),
        (("kind: image", "kind: image, field: data"), "an image has no field"),
        (("/top/image_raw/compressed", "/hand"), "pictures are read from"),
    ],
)
def test_a_wrong_mapping_says_where(bags, change, message):
    with pytest.raises((ConfigError, DataError), match=message):
        _open(bags, "ZSTD.mcap", MAPPING.replace(*change))


def test_a_mapping_is_asked_for(bags):
    with pytest.raises(ConfigError, match="hotstart data inspect"):
        open_foreign(bags / "ZSTD.mcap")
    with pytest.raises(ConfigError, match="observation is missing"):
        parse_mapping({"fps": 3, "action": {"topic": "/a", "field": "b"}}, "here")


def _read_all(path, bags):
    """Every number and picture of a damaged recording, or the error that says so."""
    try:
        data = open_foreign(path, ReadOptions(mapping=bags / "map.yaml"))
        return [data.array(key) for key in data.keys]
    except DataError as error:
        assert str(path) in str(error)
        return None


@pytest.mark.parametrize("name", ["ZSTD.mcap", "NONE.mcap", "database.db3"])
def test_damaged_files_are_refused_or_read_right(bags, tmp_path, name):
    source = bags / name
    if name == "database.db3":
        source = bags / "database" / name
    raw = source.read_bytes()
    whole = _read_all(source, bags)
    rng = np.random.default_rng(5)
    for trial in range(9):
        damaged = bytearray(raw)
        if trial % 3 == 0:
            del damaged[int(rng.integers(100, len(raw))) :]
        else:
            damaged[int(rng.integers(8, len(raw)))] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{trial}{source.suffix}"
        path.write_bytes(damaged)
        found = _read_all(path, bags)
        # A database has no checksums: a wrong number passes there.
        if found and whole and trial % 3 and source.suffix == ".mcap":
            for one, other in zip(found, whole, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_killed_recorder_leaves_what_is_whole(bags, tmp_path):
    raw = (bags / "ZSTD.mcap").read_bytes()
    path = tmp_path / "killed.mcap"
    path.write_bytes(raw[: len(raw) // 2])
    data = open_foreign(path, ReadOptions(mapping=bags / "map.yaml"))
    assert "ends early" in data.notes[0]
    whole = _open(bags, "ZSTD.mcap")
    count = int(data.episode_ends[-1])
    np.testing.assert_array_equal(data.array("joints"), whole.rows("joints", 0, count))


def test_hostile_recordings_are_refused(bags, tmp_path):
    import zstandard

    place = tmp_path / "computed.db3"
    shutil.copy(bags / "database" / "database.db3", place)
    with sqlite3.connect(place) as base:
        base.execute("ALTER TABLE messages RENAME TO stored")
        base.execute("CREATE VIEW messages AS SELECT * FROM stored")
    with pytest.raises(DataError, match="messages is no ordinary table"):
        open_foreign(place, ReadOptions(mapping=bags / "map.yaml"))
    packed = zstandard.compress(bytes(1 << 20))
    for declared in (1 << 20, 1 << 12, 1 << 40):
        head = np.array([0, 0, declared], "<u8").tobytes() + bytes(4) + b"\4\0\0\0zstd"
        body = head + len(packed).to_bytes(8, "little") + packed
        path = tmp_path / "bomb.mcap"
        path.write_bytes(b"\x89MCAP0\r\n\6" + len(body).to_bytes(8, "little") + body)
        with pytest.raises(DataError):
            open_foreign(path, ReadOptions(mapping=bags / "map.yaml"))


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("Inner a\n===\nMSG: p/Inner\np/Outer b", "holds itself"),
        ("Missing a", "lacks the type 'Missing'"),
        ("import os; os.system('x')", "holds the line"),
    ],
)
def test_definitions_that_are_none_are_refused(definition, message):
    with pytest.raises(DataError, match=message):
        MessageType("p/Outer", definition)


def test_messages_with_more_entries_than_bytes_are_refused():
    kind = MessageType("p/T", "Empty[] many\nuint8[4] few\n===\nMSG: p/Empty\n", ros1=True)
    assert list(kind.decode(b"\1\0\0\0abcd")["many"]) == [{}]
    with pytest.raises(DataError, match="damaged"):
        kind.decode(b"\xff\xff\xff\xffabcd")
    with pytest.raises(DataError, match="few has 4 entries in 6 bytes"):
        kind.decode(b"\0\0\0\0ab")


def test_a_message_without_a_number_is_damage(bags, tmp_path):
    place = tmp_path / "torn.db3"
    shutil.copy(bags / "database" / "database.db3", place)
    with sqlite3.connect(place) as base:
        base.execute("ALTER TABLE messages RENAME TO stored")
        columns = "NULL AS id, topic_id, timestamp, data"
        base.execute(f"CREATE TABLE messages AS SELECT {columns} FROM stored")
    with pytest.raises(DataError, match="no time or no number"):
        open_foreign(place, ReadOptions(mapping=bags / "map.yaml"))
