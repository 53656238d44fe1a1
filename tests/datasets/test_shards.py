"""Sharded data sets: written, read, kept in a cache, streamed, damaged."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.formats import remote, shard_cache
from hotstart.datasets.formats.conversion import export
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.remote import Place, find_url
from hotstart.datasets.formats.shards import INDEX, ShardData, open_shards
from hotstart.datasets.formats.shards_writer import UNFINISHED, write_shards
from hotstart.datasets.opening import open_dataset
from hotstart.datasets.statistics import dataset_statistics
from hotstart.datasets.writing import write_store
from hotstart.spec import ConfigError, DataError

SHARD = 8 * 8 * 3 * 16
"""16 pictures of 8 x 8."""
ADDRESS = Path("memory://bucket/set")


@pytest.fixture(scope="module")
def data() -> Arrays:
    generator = np.random.default_rng(0)
    episodes: list[dict[str, Any]] = []
    for steps in (30, 50, 21, 2):
        episodes.append(
            {
                "state": generator.normal(size=(steps, 3)).astype(np.float32),
                "image": generator.integers(0, 256, (steps, 8, 8, 3), dtype=np.uint8),
                "action": generator.normal(size=(steps, 2)).astype(np.float32),
                "reward": generator.normal(size=steps).astype(np.float32),
            }
        )
    return Arrays(episodes, fps=10)


@pytest.fixture(scope="module")
def written(data: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "set"
    put(data, path)
    return path


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "WAIT_S", 0.0)
    yield
    MemoryFileSystem.store.clear()


def put(data: Any, path: Path) -> None:
    write_shards(data, path, "lift it", lambda done, count: None, SHARD)


def fetch(cache: Path, most: float = 1.0) -> ShardData:
    return open_shards(ADDRESS, ReadOptions(cache=cache, cache_gb=most))


def assert_equal(found: Any, data: Arrays) -> None:
    assert found.keys == data.keys
    assert np.array_equal(found.episode_ends, data.episode_ends)
    for key in data.keys:
        assert found.array(key).dtype == data.array(key).dtype
        assert np.array_equal(found.array(key), data.array(key)), key
        assert np.array_equal(found.rows(key, 13, 59), data.rows(key, 13, 59)), key


def test_addresses_survive_being_paths():
    for address in ("s3://bucket/folder", "memory://a", "https://host/b", "file:///tmp/x"):
        assert find_url(Path(address)) == address
    for path in ("a.zarr", "/tmp/s3/x", "s3", "c:/x", "simplecache::s3://a"):
        assert find_url(path) is None


def test_a_folder_an_address_of_files_and_one_of_memory_hold_the_same(
    data: Arrays, written: Path, tmp_path: Path
):
    put(data, ADDRESS)
    for place in (str(written), f"file://{written}", str(ADDRESS)):
        found = open_dataset(place, ReadOptions(cache=tmp_path))
        assert isinstance(found, ShardData)
        assert_equal(found, data)
        assert (found.task, found.fps, found.obs_spec) == ("lift it", 10, data.obs_spec)
        assert found.action_spec == data.action_spec
        assert found.content_hash() == open_dataset(written).content_hash()
    wanted = dataset_statistics(data)
    assert found.statistics["state"]["mean"] == wanted["state"]["mean"].tolist()
    assert found.pictures is not None
    assert len(found.pictures.shards) == 7
    with pytest.raises(DataError, match="is there already"):
        put(data, ADDRESS)


def test_a_target_is_an_address_only_as_shards(data: Arrays):
    with pytest.raises(ConfigError, match="to=shards"):
        export(data, ADDRESS, "dp-zarr")
    with pytest.raises(DataError, match="to=shards"):
        write_store(data, ADDRESS)
    with pytest.raises(DataError, match=r"memory://bucket/set/index.json.*no such file"):
        open_dataset(ADDRESS)


def test_a_writing_that_was_stopped_goes_on(
    data: Arrays, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = Place.write
    names: list[str] = []

    def stop(self: Place, name: str, raw: bytes) -> None:
        if len(names) == 5:
            raise KeyboardInterrupt
        names.append(name)
        write(self, name, raw)

    monkeypatch.setattr(Place, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        put(data, ADDRESS)
    with pytest.raises(DataError, match="no such file"):
        fetch(tmp_path)
    again: list[str] = []

    def count(self: Place, name: str, raw: bytes) -> None:
        again.append(name)
        write(self, name, raw)

    monkeypatch.setattr(Place, "write", count)
    put(data, ADDRESS)
    assert not set(again) & set(names)
    files = {path.name: path.read_bytes() for path in written.iterdir()}
    assert {name.rpartition("/")[2]: file.getvalue() for name, file in list_memory()} == files


def list_memory() -> list[tuple[str, Any]]:
    return sorted(MemoryFileSystem.store.items())


def test_unfinished_shards_of_other_data_are_kept_and_refused(data: Arrays):
    put(data, ADDRESS)
    MemoryFileSystem().mv(f"{ADDRESS}/{INDEX}".replace(":/", ":///"), "/bucket/away")
    place = Place(ADDRESS)
    place.write(UNFINISHED, b"{}")
    with pytest.raises(DataError, match="unfinished shards of other data"):
        put(data, ADDRESS)
    place.remove(UNFINISHED)
    changed = data.array("image").copy()
    changed[-1] ^= 1
    other = Arrays(
        [{"state": data.array("state"), "image": changed, "action": data.array("action")}], fps=10
    )
    with pytest.raises(DataError, match="unfinished shards of other data"):
        put(other, ADDRESS)


def test_the_cache_stays_within_its_size_and_mends_damage(data: Arrays, tmp_path: Path):
    put(data, ADDRESS)
    most = 8000 / 1e9
    (tmp_path / "mine.zip").write_bytes(bytes(9000))
    assert_equal(fetch(tmp_path, most), data)
    kept = sorted(tmp_path.glob("?" * 64 + ".zip"))
    assert 1 <= len(kept) < 8
    assert sum(path.stat().st_size for path in kept) <= 8000
    for path in kept:
        path.write_bytes(bytes(path.stat().st_size))
    assert_equal(fetch(tmp_path, most), data)
    assert (tmp_path / "mine.zip").exists()


def test_what_is_kept_is_not_fetched_again(
    data: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(data, ADDRESS)
    assert_equal(fetch(tmp_path), data)
    index = Place(ADDRESS).read(INDEX, 1 << 20)
    MemoryFileSystem.store.clear()
    Place(ADDRESS).write(INDEX, index)
    found = fetch(tmp_path)
    assert_equal(found, data)
    for path in tmp_path.iterdir():  # as another process does that needs the room
        path.unlink()
    assert_equal(found, data)
    found.close()
    with pytest.raises(DataError, match=r"memory://bucket/set/.*no such file"):
        found.array("image")


def test_reading_is_tried_again(data: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(data, ADDRESS)
    read = MemoryFileSystem.cat_file
    calls: list[str] = []

    def fail(self: Any, path: str, **options: Any) -> bytes:
        calls.append(path)
        if len(calls) % 3:
            raise TimeoutError("slow line")
        return read(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    assert_equal(fetch(tmp_path), data)
    calls.clear()
    monkeypatch.setattr(remote, "TRIES", 2)
    with pytest.raises(
        DataError, match=r"memory://bucket/set/index.json.*slow line.*tried 2 times"
    ):
        fetch(tmp_path)

    def refuse(self: Any, path: str, **options: Any) -> bytes:
        calls.append(path)
        raise PermissionError("Access Denied")

    calls.clear()
    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    with pytest.raises(DataError, match=r"memory://bucket/set/index.json.*Access Denied"):
        fetch(tmp_path)
    assert len(calls) == 1


def test_a_damaged_shard_is_refused(data: Arrays, written: Path, tmp_path: Path):
    copy = shutil.copytree(written, tmp_path / "copy")
    shard = next(copy.glob("pictures-000002-*"))
    raw = bytearray(shard.read_bytes())
    raw[200] ^= 1
    shard.write_bytes(raw)
    found = open_dataset(copy)
    found.array("state")
    with pytest.raises(DataError, match=r"pictures-000002-.* is missing or damaged"):
        found.array("image")
    put(data, ADDRESS)
    for name, file in list_memory():
        if "pictures-000002" in name:
            file.seek(0)
            file.write(bytes(raw))
    with pytest.raises(DataError, match=r"memory://bucket/set/pictures-000002-.*sha256"):
        fetch(tmp_path).array("image")
    assert shard_cache.TRIES == 4


WRONG: dict[str, Any] = {
    "version": 2,
    "fps": "10",
    "episode_lengths": [103, 0],
    "extras": ["../reward"],
    "obs_spec": {"../image": {"shape": [8], "dtype": "float32", "kind": "state"}},
    "action_spec": None,
    "groups": {},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_index_is_refused(written: Path, tmp_path: Path, name: str):
    index = json.loads((written / INDEX).read_text())
    refuse_index({**index, name: WRONG[name]}, tmp_path)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("rows", 0),
        ("rows", 17),
        ("rows", 1 << 50),
        ("chunk", True),
        ("lead", -8),
        ("shards", []),
        ("shards", [["../../etc/passwd", 10]] * 7),
        ("shards", [["0" * 64, 1 << 40]] * 7),
        ("shards", [[1, 2, 3]] * 7),
    ],
)
def test_wrong_shards_are_refused(written: Path, tmp_path: Path, word: str, value: Any):
    index = json.loads((written / INDEX).read_text())
    index["groups"]["pictures"][word] = value
    refuse_index(index, tmp_path)


def test_an_index_that_promises_too_much_is_refused(written: Path, tmp_path: Path):
    index = json.loads((written / INDEX).read_text())
    index["obs_spec"]["image"]["shape"] = [1 << 20, 1 << 20, 3]
    refuse_index(index, tmp_path)


def refuse_index(index: Any, folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"format": index.pop("format"), **index}))
    with pytest.raises(DataError, match=r"index\.json"):
        open_dataset(folder)
