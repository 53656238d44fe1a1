"""Shards on S3: against moto's server, which speaks Amazon's protocol."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotstart.datasets.arrays import Arrays
from hotstart.datasets.formats import remote
from hotstart.datasets.formats.foreign_data import ReadOptions
from hotstart.datasets.formats.shards_writer import write_shards
from hotstart.datasets.opening import open_dataset
from hotstart.spec import DataError

moto = pytest.importorskip("moto.server", reason="moto, a server of S3's protocol, is missing")
s3fs = pytest.importorskip("s3fs", reason="s3fs is missing: pip install hotstart[cloud]")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    set_endpoint(monkeypatch, f"http://{host}:{port}")
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket/sets/one"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def set_endpoint(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3fs.S3FileSystem.clear_instance_cache()


def make_data() -> Arrays:
    generator = np.random.default_rng(0)
    episodes: list[dict[str, Any]] = []
    for steps in (30, 21):
        episode: dict[str, Any] = {}
        episode["image"] = generator.integers(0, 256, (steps, 8, 8, 3), dtype=np.uint8)
        for key in ("state", "action"):
            episode[key] = generator.normal(size=(steps, 2)).astype(np.float32)
        episodes.append(episode)
    return Arrays(episodes, fps=10)


def test_a_data_set_goes_to_s3_and_comes_back(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = make_data()
    write_shards(data, Path(bucket), "lift", lambda done, count: None, 8 * 8 * 3 * 16)
    options = ReadOptions(cache=tmp_path)
    found = open_dataset(bucket, options)
    for key in data.keys:
        assert np.array_equal(found.array(key), data.array(key)), key
    with pytest.raises(DataError, match=r"s3://bucket/other/index\.json cannot be read"):
        open_dataset("s3://bucket/other", options)
    with pytest.raises(DataError, match=r"s3://nowhere/index\.json cannot be read"):
        open_dataset("s3://nowhere", options)
    monkeypatch.setattr(remote, "WAIT_S", 0.0)
    monkeypatch.setattr(remote, "TRIES", 2)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        set_endpoint(monkeypatch, f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(DataError, match=r"s3://bucket/sets/one/index\.json.*tried 2 times"):
            open_dataset(bucket, options)
