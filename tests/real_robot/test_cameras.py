"""Cameras in processes of their own: times, faults, and what is left when somebody is killed."""

import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hotstart.real_robot.cameras import CameraError, make, read_camera
from hotstart.real_robot.cameras.frame_ring import FrameRing
from hotstart.real_robot.cameras.network import read_stamp
from hotstart.real_robot.cameras.opencv import OpenCVSource
from hotstart.real_robot.cameras.pictures import decode_jpeg, encode_jpeg, fit_picture
from hotstart.real_robot.cameras.realsense import RealSenseSource
from hotstart.spec import ConfigError

from .bench_arm import wait_for

SIZE: dict[str, Any] = {"height": 24, "width": 32}
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


class Server(threading.Thread):
    """A network camera: gray pictures that grow brighter, with times; `mode` says what it does."""

    def __init__(self, stamps=True, lengths=True) -> None:
        super().__init__(daemon=True)
        self.stamps, self.lengths, self.mode = stamps, lengths, "send"
        self.sent: dict[int, float] = {}
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}/front"
        self.connections = 0
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                try:
                    self.serve(connection)
                except OSError:
                    continue

    def serve(self, connection):
        connection.recv(1000)
        connection.sendall(HEAD)
        while self.mode != "drop":
            if self.mode == "send":
                connection.sendall(self.make_part())
            time.sleep(0.01)
        self.mode = "send"

    def make_part(self):
        gray = 10 * (len(self.sent) % 25)
        data = encode_jpeg(np.full((24, 32, 3), gray, np.uint8))
        made_s = time.monotonic() - 0.003
        self.sent[gray] = made_s
        head = b"--frame\r\nContent-Type: image/jpeg\r\n"
        if self.lengths:
            head += b"Content-Length: %d\r\n" % len(data)
        if self.stamps:
            head += b"X-Timestamp: %.6f\r\n" % made_s
        return head + b"\r\n" + data + b"\r\n"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Ten frames at 50 per second; frame i has the gray 20 i."""
    path = tmp_path_factory.mktemp("video") / "take.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=50)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for number in range(10):
            picture = np.full((24, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def is_fresh(camera):
    try:
        camera.read()
    except CameraError:
        return False
    return True


@pytest.fixture
def server():
    found = Server()
    yield found
    found.socket.close()


def test_a_network_cameras_pictures_have_the_times_of_its_headers(server):
    camera = read_camera("front", server.address, **SIZE)
    camera.start()
    try:
        for _ in range(20):
            picture, made_s = camera.read()
            assert (picture.shape, picture.dtype) == ((24, 32, 3), np.uint8)
            gray = 10 * round(picture.mean() / 10)
            assert server.sent[gray] == pytest.approx(made_s, abs=1e-5)
            time.sleep(0.005)
    finally:
        camera.close()


def test_a_camera_that_hangs_is_an_error_within_its_time_and_never_blocks(server):
    camera = make("network", "front", **SIZE, stale_s=0.1, place=server.address)
    camera.start()
    try:
        server.mode = "hang"
        hung_s = time.monotonic()
        wait_for(lambda: not is_fresh(camera))
        assert time.monotonic() - hung_s < 0.5
        began_s = time.monotonic()
        with pytest.raises(CameraError, match=r"camera front .* s old, stale_s allows 0\.1"):
            camera.read()
        assert time.monotonic() - began_s < 0.05
        server.mode = "drop"  # a connection that ends is made anew
        wait_for(lambda: is_fresh(camera))
        assert server.connections == 2
        assert camera.restarts == 0
    finally:
        camera.close()


def test_a_process_that_is_killed_or_silent_is_replaced(video):
    camera = make("video", **SIZE, place=str(video))
    camera.silent_s = 0.6
    camera.start()
    try:
        assert camera._process is not None
        camera._process.kill()
        wait_for(lambda: camera.restarts == 1 and is_fresh(camera))
        camera._process.send_signal(signal.SIGSTOP)
        wait_for(lambda: camera.restarts == 2 and is_fresh(camera))
    finally:
        camera.close()
        camera.close()
    with pytest.raises(CameraError, match="not started"):
        camera.read()


def test_a_video_plays_at_its_own_pace(video):
    camera = read_camera("file", f"video:{video}", **SIZE)
    camera.start()
    seen: dict[int, float] = {}
    try:
        began_s = time.monotonic()
        while time.monotonic() - began_s < 0.3:
            picture, made_s = camera.read()
            seen.setdefault(round(picture.mean() / 20), made_s)
            time.sleep(0.002)
    finally:
        camera.close()
    assert len(seen) >= 8
    pairs = sorted((made_s, number) for number, made_s in seen.items())
    for (before_s, before), (after_s, after) in itertools.pairwise(pairs):
        if after == before + 1:
            assert after_s - before_s == pytest.approx(0.02, abs=1e-6)


PARENT = """
import sys, time
from hotstart.real_robot.cameras import read_camera
camera = read_camera("file", "video:" + sys.argv[1], height=24, width=32)
camera.start()
print(camera._process.pid, flush=True)
time.sleep(60)
"""


def test_a_parent_that_is_killed_leaves_no_process_and_no_shared_memory(video):
    command = [sys.executable, "-c", PARENT, str(video)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    maps = Path(f"/proc/{child}/maps").read_text()
    blocks = [line for line in maps.splitlines() if "/hotstart-" in line]
    assert blocks
    assert all(line.endswith("(deleted)") for line in blocks)  # they go with their processes
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(child))


def is_running(process):
    try:
        text = Path(f"/proc/{process}/stat").read_text()
        return text.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_camera_that_is_not_there_says_so_at_the_start():
    camera = read_camera("front", "opencv:97", **SIZE)
    said = r"camera front \(opencv 97\): .* \(there is no /dev/video97; cameras here: "
    with pytest.raises(CameraError, match=said):
        camera.start()
    camera.close()


def test_opencv_reads_pictures_in_red_green_blue(tmp_path):
    path = tmp_path / "red.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        picture = np.zeros((24, 32, 3), np.uint8)
        picture[..., 0] = 200
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    source = OpenCVSource(str(path), codec="", backend="any")
    source.open(24, 32, 10)
    picture, made_s = source.grab()
    assert picture[0, 0].tolist() == [200, 0, 0]
    assert made_s == pytest.approx(time.monotonic(), abs=0.5)
    with pytest.raises(CameraError, match="gives no picture"):
        source.grab()
    source.close()
    with pytest.raises(CameraError, match="there is no /dev/video98"):
        OpenCVSource("98").open(24, 32, 10)


def test_unknown_kinds_and_options_are_refused_where_they_are_written():
    with pytest.raises(ConfigError, match="opencv:0"):
        read_camera("front", "webcam:0")
    with pytest.raises(ConfigError, match="'plaze'"):
        make("video", plaze="a.mp4")
    with pytest.raises(ConfigError, match="above 0"):
        make("video", place="a.mp4", fps=0)


def test_stamps_of_known_clocks_are_taken_and_others_are_not():
    assert read_stamp("99.9", 100.0, 5000.0) == pytest.approx(99.9)
    assert read_stamp("4999.8", 100.0, 5000.0) == pytest.approx(99.8)
    assert read_stamp("100.3", 100.0, 5000.0) == 100.0  # nothing is made in the future
    assert read_stamp("12.0", 100.0, 5000.0) == 100.0
    assert read_stamp("noon", 100.0, 5000.0) == 100.0


def test_a_camera_that_says_no_length_and_no_time(server):
    server.lengths, server.stamps = False, False
    camera = read_camera("front", server.address, **SIZE)
    camera.start()
    try:
        picture, made_s = camera.read()
        sent_s = server.sent[10 * round(picture.mean() / 10)]
        assert 0 < made_s - sent_s < 0.2
    finally:
        camera.close()


def test_pictures_are_cut_to_the_wanted_proportions():
    wide = np.zeros((48, 96, 3), np.uint8)
    wide[:, 16:80] = 200
    assert (fit_picture(wide, 24, 32) == 200).all()
    assert fit_picture(np.zeros((10, 10, 3), np.uint8), 24, 32).shape == (24, 32, 3)


def test_a_jpeg_keeps_the_edges_of_small_coloured_things():
    picture = np.full((64, 64, 3), 230, np.uint8)
    picture[21:30, 21:30] = (50, 90, 200)
    off = np.abs(decode_jpeg(encode_jpeg(picture, 95)).astype(int) - picture)
    assert off.max() < 20


def test_pictures_and_words_cross_by_inherited_files():
    ring = FrameRing.create((2, 2, 3))
    other = FrameRing.attach((2, 2, 3), *ring.files)
    assert (ring.read(), ring.hear(), ring.count) == (None, "", 0)
    for gray in (7, 8):
        other.write(np.full((2, 2, 3), gray, np.uint8), gray + 0.5)
    newest = ring.read()
    assert newest is not None
    assert (newest[0] == 8).all()
    assert (newest[1], ring.count) == (8.5, 2)
    other.say("ä" * 600)
    assert ring.hear().startswith("ää")
    ring.close()


def test_a_realsense_camera_by_its_documented_interface(monkeypatch):
    with pytest.raises(ConfigError, match=r"hotstart\[realsense\]"):
        RealSenseSource().open(24, 32, 30)
    asked = []
    picture = np.full((24, 32, 3), 5, np.uint8)
    frame = SimpleNamespace(
        get_frame_timestamp_domain=lambda: "timestamp_domain.global_time",
        get_timestamp=lambda: (time.time() - 0.05) * 1000,
        get_data=lambda: picture,
    )
    frames = SimpleNamespace(get_color_frame=lambda: frame)
    config = SimpleNamespace(
        enable_device=asked.append, enable_stream=lambda *words: asked.append(words)
    )
    pipeline = SimpleNamespace(
        start=asked.append,
        wait_for_frames=lambda wait_ms: frames,
        stop=lambda: asked.append("stop"),
    )
    sdk = SimpleNamespace(
        config=lambda: config,
        pipeline=lambda: pipeline,
        stream=SimpleNamespace(color="color"),
        format=SimpleNamespace(rgb8="rgb8"),
    )
    monkeypatch.setitem(sys.modules, "pyrealsense2", sdk)
    source = RealSenseSource("823112")
    source.open(24, 32, 30.0)
    found, made_s = source.grab()
    source.close()
    assert asked == ["823112", ("color", 32, 24, "rgb8", 30), config, "stop"]
    assert (found == picture).all()
    assert time.monotonic() - made_s == pytest.approx(0.05, abs=0.03)
