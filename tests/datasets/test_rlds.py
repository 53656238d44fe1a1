"""RLDS: shards as the public format describes them, written here without TensorFlow."""

import io
import json

import numpy as np
import pytest
from hotstart.benchmarks._fuzz_formats import (
    write_example,
    write_feature,
    write_field,
    write_records,
    write_varint,
)
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import open_foreign, recognise
from hotstart.datasets.formats.tfrecord import decode_varints, parse_example
from hotstart.spec import ConfigError, DataError, bytes_to_text
from PIL import Image


def _tensor(dtype, *shape):
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {"tensor": {"dtype": dtype, "shape": dimensions, "encoding": "none"}}


def _group(**features):
    return {"featuresDict": {"features": features}}


FEATURES = _group(
    steps={
        "sequence": {
            "feature": _group(
                observation=_group(
                    image={"image": {"dtype": "uint8", "shape": {"dimensions": ["4", "6", "3"]}}},
                    depth={"image": {"dtype": "uint16", "shape": {}}},
                    state=_tensor("float32", 2, 3),
                ),
                action=_group(move=_tensor("float32", 3), stop=_tensor("int32")),
                reward=_tensor("float32"),
                is_first=_tensor("bool"),
                language_instruction={"text": {}},
            )
        }
    }
)


def _make_episode(number):
    rng = np.random.default_rng(number)
    count = 3 + number
    pictures = rng.integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    packed = []
    for picture in pictures:
        out = io.BytesIO()
        Image.fromarray(picture).save(out, "PNG")
        packed.append(out.getvalue())
    arrays = {
        "state": rng.normal(size=(count, 2, 3)).astype(np.float32),
        "action/move": rng.normal(size=(count, 3)).astype(np.float32),
        "action/stop": np.arange(count) - 1,
        "reward": np.ones(count, np.float32),
    }
    features = {
        "steps/observation/image": packed,
        "steps/observation/state": arrays["state"],
        "steps/is_first": np.arange(count) == 0,
        "steps/language_instruction": [f"put {number}".encode()] * count,
    }
    for name in ("action/move", "action/stop", "reward"):
        features[f"steps/{name}"] = arrays[name]
    return arrays | {"image": pictures}, write_example(features)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds") / "tiny" / "1.0.0"
    folder.mkdir(parents=True)
    arrays, records = zip(*map(_make_episode, range(3)), strict=True)
    (folder / "features.json").write_text(json.dumps(FEATURES))
    info = {"splits": [{"name": "train", "shardLengths": ["2", "1"]}]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    write_records(folder / "tiny-train.tfrecord-00000-of-00002", records[:2])
    write_records(folder / "tiny-train.tfrecord-00001-of-00002", records[2:])
    write_records(folder / "tiny-val.tfrecord-00000-of-00001", records[:1])
    return folder, arrays


def test_steps_are_those_that_were_written(made):
    folder, arrays = made
    assert recognise(folder) == recognise(folder.parent) == "rlds"
    data = open_foreign(folder.parent, ReadOptions(fps=5))
    np.testing.assert_array_equal(data.episode_ends, [3, 7, 12])
    assert "the splits val" in data.notes[-1]
    assert any("pictures of uint16" in note for note in data.notes)
    for key in ("state", "image", "reward"):
        wanted = np.concatenate([episode[key] for episode in arrays])
        np.testing.assert_array_equal(data.array(key), wanted)
        np.testing.assert_array_equal(data.rows(key, 5, 9), wanted[5:9])
    for part, columns in (("move", slice(0, 3)), ("stop", slice(3, 4))):
        wanted = np.concatenate([episode[f"action/{part}"] for episode in arrays])
        np.testing.assert_array_equal(data.array("action")[:, columns], wanted.reshape(12, -1))
    assert [dim.kind for dim in data.action_spec.dims] == ["continuous"] * 3 + ["discrete"]
    assert bytes_to_text(data.array("instruction")[7]) == "put 2"
    chosen = open_foreign(folder, ReadOptions(fps=5, keys={"action": "action", "eef": "state"}))
    assert chosen.keys == ("eef", "instruction", "action", "reward")
    with pytest.raises(ConfigError, match="fps=5"):
        open_foreign(folder)
    with pytest.raises(ConfigError, match="no 'gripper' to read"):
        open_foreign(folder, ReadOptions(fps=5, keys={"a": "gripper"}))


def test_a_missing_shard_and_damage_are_found(made, tmp_path):
    folder, _ = made
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = copy / "tiny-train.tfrecord-00001-of-00002"
    raw = shard.read_bytes()
    rng = np.random.default_rng(1)
    for trial in range(10):
        damaged = bytearray(raw)
        if trial % 2:
            del damaged[int(rng.integers(1, len(raw))) :]
        else:
            damaged[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=shard.name):
            open_foreign(copy, ReadOptions(fps=5))
    write_records(shard, [])
    with pytest.raises(DataError, match=r"2 episodes are there, dataset_info.json says 3"):
        open_foreign(copy, ReadOptions(fps=5))
    shard.unlink()
    with pytest.raises(DataError, match="1 of 2 shards of train"):
        open_foreign(copy, ReadOptions(fps=5))


def test_wire_format():
    numbers = [0, 1, -1, 127, 128, 2**62, -(2**63)]
    np.testing.assert_array_equal(decode_varints(b"".join(map(write_varint, numbers))), numbers)
    step = write_field(1, write_feature(np.array([0.5], np.float32)))
    sequence = write_field(
        2, write_field(1, write_field(1, b"steps/x") + write_field(2, step + step))
    )
    assert list(parse_example(sequence, "here")["steps/x"]) == [0.5, 0.5]
    whole = write_example({"a": [b"xyz"], "b": np.arange(300)})
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        try:
            parse_example(bytes(damaged[: int(rng.integers(1, len(whole) + 1))]), "here")
        except DataError as error:
            assert "here is no tf.train.Example" in str(error)
