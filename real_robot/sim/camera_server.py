"""A scene's cameras as network cameras: MJPEG over HTTP on this machine, from a process of its own.

`http://127.0.0.1:PORT/front` sends one JPEG after the other (multipart/x-mixed-replace). A part's
X-Timestamp is the time, by `time.monotonic`, at which the scene was as its picture shows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import numpy as np

from ...arms import make_scene
from ...arms.scene import Scene
from ...spec import ConfigError, HotstartError
from ...system.lifelines import end_with, without_terminal_signals
from ..cameras.pictures import encode_jpeg
from ..shared_memory import Ring
from .faults import Faults
from .world import World

SHARE_S = 0.005
"""The world's state is shared every so often: 200 Hz."""
START_S = 60.0
SILENT_S = 5.0
"""A reader that takes nothing for so long is let go."""
MOST_READERS = 16
BOUNDARY = "frame"


@dataclass(frozen=True)
class CameraSettings:
    """How pictures are made and sent."""

    fps: float = 30.0
    height: int = 240
    width: int = 320
    delay_s: float = 0.0
    """A picture is sent so long after its time [s]."""
    quality: int = 95
    """Of the JPEGs, 1 to 100."""

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 200 or not 0 <= self.delay_s <= 10:
            raise ConfigError(
                f"cameras with {self.fps} pictures a second, {self.delay_s} s late: "
                "above 0 to 200, and 0 to 10 s, are possible"
            )
        if not (8 <= self.height <= 2160 and 8 <= self.width <= 4096):
            raise ConfigError(
                f"pictures of {self.width} x {self.height}: 8 x 8 to 4096 x 2160 are possible"
            )


class CameraServer:
    """Serves the cameras of a world until it is closed."""

    def __init__(
        self, world: World, faults: Faults, settings: CameraSettings | None = None, port: int = 0
    ) -> None:
        """Start the process and wait for its first word; port 0: a free one, see `port`.

        Raises HotstartError where it does not start: the port is taken, or nothing draws.
        """
        self._world, self._faults = world, faults
        self._ring = Ring.create(_record_type(world.scene), slots=8)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera states", daemon=True)
        self._share()
        self._thread.start()
        job = {"scene": world.scene.name, "ring": self._ring.name, "port": port}
        job["settings"] = asdict(settings or CameraSettings())
        self._process = _start(job)
        try:
            self.port = self._read_port()
        except HotstartError:
            self.close()
            raise

    def address(self, camera: str) -> str:
        """Where the pictures of a camera are."""
        return f"http://127.0.0.1:{self.port}/{camera}"

    def close(self) -> None:
        """End the process; may be called twice."""
        self._ended.set()
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()
        self._thread.join()
        self._ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read_port(self) -> int:
        """The port that the process says; raises HotstartError with its words where it cannot."""
        assert self._process.stdout is not None, "it has a pipe"
        timer = threading.Timer(START_S, self._process.kill)
        timer.start()
        line = self._process.stdout.readline().decode()
        timer.cancel()
        if not line:
            raise HotstartError(f"the cameras did not start within {START_S:.0f} s")
        said = json.loads(line)
        if "error" in said:
            raise HotstartError(f"the cameras did not start: {said['error']}")
        return int(said["port"])

    def _run(self) -> None:
        while not self._ended.wait(SHARE_S):
            self._share()

    def _share(self) -> None:
        """Write down the world's state, and what is wrong with the cameras."""
        record = self._ring.blank()
        record["made_s"], record["state"] = self._world.see()
        record["stale"] = self._faults.active("camera_stale") is not None
        record["hang"] = self._faults.active("camera_hang") is not None
        self._ring.write(record)


def _record_type(scene: Scene) -> np.dtype[Any]:
    """What is shared of a world."""
    size = len(scene.visible_state)
    return np.dtype([("made_s", "f8"), ("stale", "?"), ("hang", "?"), ("state", "f8", size)])


def _start(job: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A process that serves cameras; it ends when its standard input does."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    program = f"from {__name__} import main; main()"
    with without_terminal_signals():
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
    assert process.stdin is not None, "it has a pipe"
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    return process


def main() -> None:
    """Entry of the process: its job is a line of JSON on standard input."""
    job = json.loads(sys.stdin.buffer.readline())
    end_with(sys.stdin.fileno(), grace_s=0.0)
    try:
        server = _Server(("127.0.0.1", job["port"]), _Reader)
        scene = make_scene(job["scene"])
        ring = Ring.attach(job["ring"], _record_type(scene))
        studio = Studio(scene, ring, CameraSettings(**job["settings"]))
        studio.warm_up()
    except (HotstartError, OSError, RuntimeError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    server.studio = studio
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    while True:
        studio.work()
        time.sleep(studio.find_pause())


@dataclass(frozen=True)
class Shot:
    """The JPEGs of one moment, of the cameras that somebody reads."""

    number: int
    made_s: float
    pictures: dict[str, bytes]


class Studio:
    """Draws a scene as often as its cameras do, and hands the pictures to whoever reads."""

    def __init__(self, scene: Scene, ring: Ring, settings: CameraSettings) -> None:
        self.cameras = scene.cameras
        self._scene, self._ring = scene, ring
        self._settings = settings
        self._news = threading.Condition()
        self._readers: Counter[str] = Counter()
        self._waiting: deque[Shot] = deque()
        self._due: Shot | None = None
        self._shot = Shot(0, 0.0, {})  # the last that was handed out
        self._next_s = time.monotonic()

    def find_pause(self) -> float:
        """How long there is nothing to do [s]."""
        return max(0.0, self._next_s - time.monotonic())

    def warm_up(self) -> None:
        """Draw a picture that nobody gets: the first one takes seconds."""
        record = self._ring.newest()
        if record is not None:
            self._draw(record, self.cameras)
        self._next_s = time.monotonic()

    @contextmanager
    def reading(self, camera: str) -> Iterator[None]:
        """Somebody reads a camera meanwhile; those that nobody reads are not drawn."""
        with self._news:
            self._readers[camera] += 1
        try:
            yield
        finally:
            with self._news:
                self._readers[camera] -= 1

    def work(self) -> None:
        """Draw the newest state, and hand out the picture whose time has come."""
        now_s = time.monotonic()
        self._next_s = max(self._next_s + 1 / self._settings.fps, now_s)
        record = self._ring.newest()
        if record is None:
            return
        if not record["stale"]:
            self._waiting.append(self._draw(record, self._list_read()))
        while self._waiting and self._waiting[0].made_s + self._settings.delay_s <= now_s:
            self._due = self._waiting.popleft()
        if record["hang"] or self._due is None:
            return
        with self._news:
            self._shot = replace(self._due, number=self._shot.number + 1)
            self._news.notify_all()

    def wait(self, after: int, timeout_s: float) -> Shot | None:
        """The newest pictures once their number is above `after`; None: there were none in time."""
        with self._news:
            if self._news.wait_for(lambda: self._shot.number > after, timeout_s):
                return self._shot
        return None

    def _list_read(self) -> list[str]:
        with self._news:
            return [camera for camera in self.cameras if self._readers[camera]]

    def _draw(self, record: Any, cameras: Sequence[str]) -> Shot:
        settings = self._settings
        self._scene.show(record["state"])
        pictures = {}
        for camera in cameras:
            picture = self._scene.render(camera, settings.width, settings.height)
            pictures[camera] = encode_jpeg(picture, settings.quality)
        return Shot(0, float(record["made_s"]), pictures)


class _Server(ThreadingHTTPServer):
    """A thread per reader, so many at most."""

    daemon_threads = True
    block_on_close = False
    studio: Studio

    def __init__(self, address: tuple[str, int], handler: type[_Reader]) -> None:
        super().__init__(address, handler)
        self.free = threading.BoundedSemaphore(MOST_READERS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is nobody's concern."""


class _Reader(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = SILENT_S

    def do_GET(self) -> None:
        """Send the pictures of the camera that the path names, until the reader goes away."""
        camera = self.path.strip("/").partition("?")[0]
        if camera not in self.server.studio.cameras:
            known = ", ".join(self.server.studio.cameras)
            self.send_error(HTTPStatus.NOT_FOUND, f"the cameras are {known}")
            return
        if not self.server.free.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "too many readers")
            return
        try:
            with self.server.studio.reading(camera):
                self._send_pictures(camera)
        finally:
            self.server.free.release()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _send_pictures(self, camera: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = 0
        while True:
            shot = self.server.studio.wait(number, 1.0)
            if shot is None:
                continue
            number = shot.number
            if camera not in shot.pictures:  # drawn before this reader came
                continue
            data = shot.pictures[camera]
            head = (
                f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n"
                f"X-Timestamp: {shot.made_s:.6f}\r\n\r\n"
            )
            self.wfile.write(head.encode() + data + b"\r\n")
