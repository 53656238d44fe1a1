"""Replay buffers that hotstart writes, UMI's, and pictures packed by JPEG XL and JPEG 2000."""

import contextlib
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.formats.codecs import decode_chunk, make_stages
from hotstart.datasets.formats.diffusion_policy_writer import write_replay_buffer
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.registry import find_writer, open_foreign
from hotstart.spec import DataError
from scipy.spatial.transform import Rotation


def ignore(done, count):
    pass


@pytest.fixture
def dataset(episodes, specs):
    return Arrays(episodes, fps=15, **specs)


@pytest.mark.parametrize("name", ["out.zarr", "out.zarr.zip"])
@pytest.mark.parametrize("pictures", ["zstd", "jpegxl"])
def test_every_number_is_read_back_by_zarr_and_by_us(tmp_path, dataset, name, pictures):
    if pictures == "jpegxl":
        pytest.importorskip("imagecodecs.numcodecs").register_codecs(verbose=False)
    target = tmp_path / name
    write_replay_buffer(dataset, target, "stack", ignore, pictures)
    assert list(tmp_path.iterdir()) == [target]
    store = zarr.storage.ZipStore(target) if name.endswith("zip") else str(target)
    group: Any = zarr.open_group(store, mode="r", zarr_format=2)
    np.testing.assert_array_equal(group["meta/episode_ends"], dataset.episode_ends)
    assert group["data/image"].chunks == (1, 6, 5, 3)
    found = open_foreign(target)
    assert (found.fps, found.task) == (15, "stack")
    assert found.obs_spec == dataset.obs_spec and found.action_spec == dataset.action_spec
    for key in dataset.keys:
        np.testing.assert_array_equal(group[f"data/{key}"], dataset.array(key))
        assert found.array(key).dtype == dataset.array(key).dtype
        np.testing.assert_array_equal(found.array(key), dataset.array(key))
    with pytest.raises(DataError, match="is there already"):
        find_writer("dp-zarr")(dataset, target, "", ignore)


def test_a_stopped_writing_goes_on_and_other_data_begin_anew(
    tmp_path, dataset, episodes, specs, monkeypatch
):
    monkeypatch.setattr("hotstart.datasets.formats.diffusion_policy_writer.BATCH_BYTES", 1)
    said = []

    def stop(done, count):
        said.append(done)
        if done == 2:
            raise KeyboardInterrupt

    target = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        write_replay_buffer(dataset, target, "", stop)
    assert not target.exists()
    write_replay_buffer(dataset, target, "", lambda done, count: said.append(done))
    assert said == [0, 1, 2, 2, 3, 4]
    np.testing.assert_array_equal(open_foreign(target).array("image"), dataset.array("image"))
    target.rename(tmp_path / "out.zarr.converting")
    other = Arrays(episodes[1:], fps=15, **specs)
    write_replay_buffer(other, target, "", ignore)
    np.testing.assert_array_equal(open_foreign(target).array("state"), other.array("state"))


def write_umi(path, codec, arms=1, steps=12):
    """A replay buffer as UMI's, written by zarr and imagecodecs alone."""
    rng = np.random.default_rng(0)
    group: Any = zarr.open_group(str(path), mode="w", zarr_format=2)
    data = {}
    for arm in range(arms):
        for name, width in (("eef_pos", 3), ("eef_rot_axis_angle", 3), ("gripper_width", 1)):
            data[f"robot{arm}_{name}"] = rng.normal(size=(steps, width)).astype(np.float32)
        for name in ("demo_start_pose", "demo_end_pose"):
            data[f"robot{arm}_{name}"] = rng.normal(size=(steps, 6))
        data[f"camera{arm}_rgb"] = rng.integers(0, 256, (steps, 16, 16, 3), np.uint8)
    for key, values in data.items():
        chunks: tuple[int, ...] = (7, *values.shape[1:])
        packed: Any = numcodecs.Blosc("lz4")
        if key.startswith("camera"):
            chunks, packed = (1, 16, 16, 3), numcodecs.get_codec(codec)
        group.create_array(
            f"data/{key}", shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=packed
        )[:] = values
    ends = np.array([5, steps])
    group.create_array("meta/episode_ends", shape=(2,), dtype="int64", compressors=None)[:] = ends
    return data


@pytest.mark.parametrize(
    ("arms", "codec"),
    [
        (1, {"id": "imagecodecs_jpegxl", "lossless": True, "effort": 3, "numthreads": 1}),
        (2, {"id": "imagecodecs_jpeg2k", "level": 0, "reversible": True}),
    ],
)
def test_umi_is_recognised_and_its_actions_are_joined(tmp_path, arms, codec):
    pytest.importorskip("imagecodecs.numcodecs").register_codecs(verbose=False)
    data = write_umi(tmp_path / "umi.zarr", codec, arms)
    found = open_foreign(tmp_path / "umi.zarr")
    assert found.fps == 59.94
    parts = []
    for arm in range(arms):
        robot = f"robot{arm}"
        parts += [data[f"{robot}_eef_pos"], data[f"{robot}_eef_rot_axis_angle"]]
        parts.append(data[f"{robot}_gripper_width"])
        np.testing.assert_array_equal(found.array(f"camera{arm}_rgb"), data[f"camera{arm}_rgb"])
        quaternions = Rotation.from_quat(found.array(f"{robot}_eef_quat"))
        vectors = Rotation.from_rotvec(data[f"{robot}_eef_rot_axis_angle"])
        assert (quaternions * vectors.inv()).magnitude().max() < 1e-6
    np.testing.assert_array_equal(found.rows("action", 3, 9), np.concatenate(parts, axis=1)[3:9])
    assert [dim.kind for dim in found.action_spec.dims[3:6]] == ["rotation"] * 3
    assert not any("end_pose" in key for key in found.keys)
    assert "robot0_demo_end_pose" in found.notes[-1]
    plain = open_foreign(tmp_path / "umi.zarr", ReadOptions(images=False))
    assert "camera0_rgb" not in plain.keys


@pytest.mark.parametrize("name", ["jpegxl", "jpeg2k", "png"])
def test_damaged_pictures_are_refused_and_larger_ones_not_decoded(name):
    imagecodecs = pytest.importorskip("imagecodecs")
    rng = np.random.default_rng(0)
    stages = make_stages([{"id": f"imagecodecs_{name}"}], "here")
    encode = getattr(imagecodecs, f"{name}_encode")
    picture = rng.integers(0, 256, (16, 12, 3), np.uint8)
    raw = encode(picture)
    assert decode_chunk(stages, encode(picture, level=0), picture.nbytes)[:1]
    for other in (picture[:15], np.repeat(picture, 40, axis=0), picture.astype(np.uint16)):
        with pytest.raises(ValueError, match=name):
            decode_chunk(stages, encode(other), picture.nbytes)
    if name == "jpeg2k":  # declares 2^31 x 2^31 numbers
        place = raw.index(b"\xff\x4f\xff\x51") + 8
        bomb = raw[:place] + b"\x7f\xff\xff\xff" * 2 + raw[place + 8 :]
        with pytest.raises(ValueError, match="declares 2147483647 x"):
            decode_chunk(stages, bomb, picture.nbytes)
    for _ in range(12):
        damaged = bytearray(raw[: rng.integers(1, len(raw) + 1)])
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        with contextlib.suppress(ValueError):
            assert len(decode_chunk(stages, bytes(damaged), picture.nbytes)) == picture.nbytes
