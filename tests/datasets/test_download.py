"""A real server on loopback that cuts connections, with and without ranges."""

import hashlib
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import zarr
from hotstart.datasets.download import SOURCES, Source, check_contents, download, fetch
from hotstart.datasets.formats.replay_buffer import read_replay_buffer
from hotstart.spec import ConfigError, DataError

CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Handler(BaseHTTPRequestHandler):
    """Sends the server's content; `cuts` says after how many bytes each of the next connections
    ends.
    """

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        current = self.headers.get("If-Range") in (None, server.tag)
        if asked and server.ranges and current:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        else:
            start = 0
        if server.status != 200 or (start and start >= len(server.content)):
            self.send_response(416 if server.status == 200 else server.status)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            )
        self.send_header("Content-Length", str(len(body)))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, format, *args):
        """Keep quiet."""


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content = CONTENT
    server.ranges = True
    server.tag = '"1"'
    server.status = 200
    server.cuts, server.asked = [], []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_port}/data.zip"
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_arrives_whole(server, tmp_path):
    fetch(server.address, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["data.zip"]


def test_cuts_are_mended_within_one_call(server, tmp_path):
    server.cuts = [400_000, 300_000]
    fetch(server.address, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-", "bytes=700000-"]


def test_what_arrived_is_kept_for_the_next_call(server, tmp_path):
    server.cuts = [400_000, 0]
    with pytest.raises(
        DataError, match=r"cut after 400,000 of 1,000,000 bytes.*400,000 bytes are kept.*data\.zip"
    ):
        fetch(server.address, tmp_path / "data.zip")
    assert not (tmp_path / "data.zip").exists()
    fetch(server.address, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=400000-"


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges, server.cuts = False, [400_000]
    fetch(server.address, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_joined_to_the_old_part(server, tmp_path):
    server.cuts = [400_000, 0]
    with pytest.raises(DataError):
        fetch(server.address, tmp_path / "data.zip")
    server.content, server.tag = CONTENT[::-1], '"2"'
    fetch(server.address, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("extra", [b"", b"from elsewhere"])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, extra):
    (tmp_path / "data.zip.part").write_bytes(CONTENT + extra)
    fetch(server.address, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_without_a_network_the_message_says_what_to_do_by_hand(server, tmp_path):
    server.status = 404
    with pytest.raises(
        DataError, match=rf"answered 404.*put it at {tmp_path}/data\.zip; the next call takes it up"
    ):
        fetch(server.address, tmp_path / "data.zip")
    server.shutdown()
    server.server_close()
    with pytest.raises(
        DataError, match=rf"could not be fetched .*refused.*put it at {tmp_path}/data\.zip"
    ):
        fetch(server.address, tmp_path / "data.zip")
    with pytest.raises(ConfigError, match="must begin with https"):
        fetch("file:///etc/hostname", tmp_path / "data.zip")


@pytest.fixture
def published(tmp_path):
    """A small published data set: its zip and its entry in the table."""
    folder, values = (
        tmp_path / "made" / "small.zarr",
        np.arange(20, dtype=np.float32).reshape(10, 2),
    )
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    for name, array in {
        "data/action": values,
        "data/obs": values + 1,
        "meta/episode_ends": np.array([4, 10]),
    }.items():
        group.create_array(name, shape=array.shape, dtype=array.dtype)[:] = array
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as packed:
        for file in folder.rglob("*"):
            packed.write(file, f"outer/small.zarr/{file.relative_to(folder)}")
        packed.writestr("outer/note.txt", "not part of it")
    source = Source(
        "http://127.0.0.1:9/none",
        "small.zarr",
        2,
        10,
        sha256={"action": hashlib.sha256(values.tobytes()).hexdigest()},
    )
    return tmp_path / "made.zip", source


def test_download_fetches_checks_and_unpacks_once(server, published, tmp_path):
    server.content, server.cuts = published[0].read_bytes(), [700]
    found = download(
        "small", tmp_path / "data", address=server.address, sources={"small": published[1]}
    )
    assert found == tmp_path / "data" / "small.zarr"
    np.testing.assert_array_equal(read_replay_buffer(found).array("obs")[3], [7, 8])
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == [
        "small.zarr",
        "small.zip",
    ]
    asked = len(server.asked)
    assert (
        download(
            "small", tmp_path / "data", address=server.address, sources={"small": published[1]}
        )
        == found
    )
    assert len(server.asked) == asked


def test_a_zip_put_there_by_hand_is_taken_up(published, tmp_path):
    sources = {"small": published[1]}
    with pytest.raises(DataError, match=r"small\.zip; the next call takes it up"):
        download("small", tmp_path / "data", sources=sources)
    (tmp_path / "data" / "small.zip").write_bytes(published[0].read_bytes())
    assert (
        len(
            read_replay_buffer(download("small", tmp_path / "data", sources=sources)).array(
                "action"
            )
        )
        == 10
    )


@pytest.mark.parametrize("damage", ["other numbers", "other counts", "truncated"])
def test_what_is_not_the_published_data_is_refused_and_put_aside(
    server, published, tmp_path, damage
):
    content, source = published[0].read_bytes(), published[1]
    if damage == "truncated":
        server.content = content[:-200]
    else:
        server.content = content
    if damage == "other numbers":
        source = replace(source, sha256={"action": "0" * 64})
    if damage == "other counts":
        source = replace(source, steps=11)
    with pytest.raises(DataError, match="put aside"):
        download("small", tmp_path / "data", address=server.address, sources={"small": source})
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["small.refused"]
    server.content = content
    assert download(
        "small", tmp_path / "data", address=server.address, sources={"small": published[1]}
    ).is_dir()


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'push'.*\['pusht'\]"):
        download("push", tmp_path)


def test_the_table_knows_the_published_pusht_data(pusht_data):
    check_contents(
        read_replay_buffer(pusht_data / "pusht_cchi_v7_replay.zarr.zip"), SOURCES["pusht"]
    )
    check_contents(
        read_replay_buffer(pusht_data / "pusht_cchi_v7_replay_lowdim.npz"), SOURCES["pusht"]
    )
