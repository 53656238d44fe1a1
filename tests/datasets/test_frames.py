"""Frames by step: every cache gives the same pictures, within the memory asked for."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hotstart.datasets import frames
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.frames import ChunkFrames, choose_cache, count_decoded_bytes, open_frames
from hotstart.datasets.store import Store
from hotstart.spec import ActionSpec, ConfigError, DataError, ObsKey, ObsSpec

SPEC = ObsSpec(
    {
        "camera": ObsKey((6, 5, 3), "uint8", "image"),
        "wrist": ObsKey((4, 4, 3), "uint8", "image"),
        "q": ObsKey((2,)),
    }
)


@pytest.fixture
def store(tmp_path):
    """45 steps: five whole chunks of frames and a part of one."""
    rng = np.random.default_rng(0)
    made = Store.create(
        tmp_path / "seen.zarr", fps=10, action_spec=ActionSpec.plain(1), obs_spec=SPEC
    )
    for length in (20, 25):
        pictures = {}
        for name, key in SPEC.keys.items():
            pictures[name] = rng.integers(0, 256, (length, *key.shape)).astype(np.uint8)
        made.append(
            {**pictures, "q": rng.normal(size=(length, 2)), "action": rng.normal(size=(length, 1))}
        )
    return made


@pytest.mark.parametrize("cache", ["ram", "disk", "none", "auto"])
def test_every_cache_gives_the_same_pictures(store, cache):
    found = open_frames(store, ["camera", "wrist"], cache, 10**9)
    steps = np.random.default_rng(1).integers(0, 45, (7, 3))
    for name in ("camera", "wrist"):
        assert np.array_equal(found[name].take(steps), store.array(name)[steps])
        assert np.array_equal(found[name].take(np.arange(45)), store.array(name))


def test_few_chunks_are_kept_and_several_threads_may_ask(store, monkeypatch):
    monkeypatch.setattr(frames, "LEAST_CHUNKS", 2)
    lazy, whole = ChunkFrames(store, "camera", most_bytes=1), store.array("camera")
    windows = [np.random.default_rng(seed).integers(0, 45, (4, 2)) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for steps, taken in zip(windows, pool.map(lazy.take, windows), strict=True):
            assert np.array_equal(taken, whole[steps])
    assert len(lazy._kept) <= 2


def test_only_the_chunks_that_are_asked_for_are_decoded(store, monkeypatch):
    decoded, lazy = [], ChunkFrames(store, "camera", 10**9)
    plain = store.chunk
    monkeypatch.setattr(
        store, "chunk", lambda key, number: decoded.append(number) or plain(key, number)
    )
    lazy.take(np.array([8, 9, 23]))
    lazy.take(np.array([9, 16]))
    assert decoded == [1, 2]


def test_memory_is_estimated_before_anything_is_read(store):
    needed = count_decoded_bytes(store, ["camera", "wrist"])
    assert needed == 45 * (90 + 48)
    assert choose_cache(store, ["camera", "wrist"], "auto", needed) == "ram"
    assert choose_cache(store, ["camera", "wrist"], "auto", needed - 1) == "none"
    with pytest.raises(
        ConfigError, match=r"training.cache=ram needs .* or choose training.cache=disk or none"
    ):
        open_frames(store, ["camera", "wrist"], "ram", needed - 1)
    with pytest.raises(ConfigError, match="valid: auto, ram, disk, none"):
        open_frames(store, ["camera"], "swap", 10**9)


def test_the_decoded_file_is_used_again_and_made_anew_for_other_content(store):
    open_frames(store, ["camera"], "disk", 10**9)
    folder = store.path.with_name("seen.zarr.decoded")
    (first,) = folder.iterdir()
    changed = first.stat().st_mtime_ns
    open_frames(store, ["camera"], "disk", 10**9)
    assert first.stat().st_mtime_ns == changed
    store.append(
        {name: np.zeros((3, *key.shape), key.dtype) for name, key in SPEC.keys.items()}
        | {"action": np.zeros((3, 1))}
    )
    assert open_frames(store, ["camera"], "disk", 10**9)["camera"].take(np.array([47])).max() == 0
    assert len(list(folder.iterdir())) == 2


def test_a_disk_without_room_and_a_damaged_chunk_are_said(store, monkeypatch):
    full = type("Status", (), {"f_bavail": 1, "f_frsize": 100})
    monkeypatch.setattr(frames.os, "statvfs", lambda _: full)
    with pytest.raises(DataError, match="has room for"):
        open_frames(store, ["camera"], "disk", 10**9)
    place = store.path / "data" / "camera" / "c" / "2" / "0" / "0" / "0"
    place.write_bytes(place.read_bytes()[:-9])
    with pytest.raises(DataError, match="damaged"):
        ChunkFrames(store, "camera", 10**9).take(np.array([17]))


def test_ones_own_arrays_are_held_as_they_are():
    pictures = np.random.default_rng(0).integers(0, 256, (9, 6, 5, 3)).astype(np.uint8)
    data = Arrays([{"camera": pictures, "action": np.zeros((9, 1))}], fps=5)
    assert np.array_equal(
        open_frames(data, ["camera"], "none", 1)["camera"].take(np.array([[1, 8]])),
        pictures[[[1, 8]]],
    )
