"""A scene's cameras over HTTP: the times of their pictures, delays, faults, refusals."""

import time
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from hotstart.arms import make_scene
from hotstart.arms.rendering import choose_gl
from hotstart.real_robot.cameras.network import NetworkSource
from hotstart.real_robot.shared_memory import Ring
from hotstart.real_robot.sim.camera_server import (
    CameraServer,
    CameraSettings,
    Studio,
    _record_type,
)
from hotstart.real_robot.sim.faults import Faults
from hotstart.real_robot.sim.world import World
from hotstart.spec import ConfigError, HotstartError

pytestmark = pytest.mark.skipif(choose_gl() is None, reason="nothing draws here")
SETTINGS = CameraSettings(fps=25, height=96, width=128, delay_s=0.1)


@pytest.fixture(scope="module")
def server():
    with (
        World(make_scene("so101_lift")) as world,
        CameraServer(world, Faults(), SETTINGS) as server,
    ):
        yield server


@pytest.fixture
def source(server):
    source = NetworkSource(server.address("front"))
    source.open(96, 128, 25)
    yield source
    source.close()


def test_pictures_come_late_by_the_delay_with_the_time_of_the_scene(server, source):
    source.grab()
    times, ages = [], []
    for _ in range(6):
        picture, made_s = source.grab()
        times.append(made_s)
        ages.append(time.monotonic() - made_s)
    assert picture.shape == (96, 128, 3)
    assert np.diff(times).min() > 0
    assert min(ages) > 0.1
    assert np.median(ages) < 0.25


def test_a_picture_shows_the_scene_of_its_time(server, source):
    before, _ = source.grab()
    with server._world._lock:
        server._world.scene.put_object([0.0, 0.0, -1.0], 0.0)
    moved_s = time.monotonic()
    made_s = 0.0
    while made_s < moved_s + 0.1:
        after, made_s = source.grab()
    server._world.reset(0)
    changed = np.abs(after.astype(int) - before).max(-1) > 40
    assert 30 < changed.sum() < 2500


def test_stale_cameras_repeat_a_picture_with_its_time_and_hanging_ones_send_nothing(server, source):
    faults = server._faults
    faults.schedule("camera_stale", for_s=0.4)
    time.sleep(0.2)  # what was on its way has come
    stamps = set()
    while faults.active("camera_stale"):
        stamps.add(source.grab()[1])
    assert len(stamps) <= 6  # buffered parts, then one stamp again and again
    faults.clear()
    source.grab()
    faults.schedule("camera_hang", for_s=0.4)
    gaps = []
    last_s = time.monotonic()
    for _ in range(10):
        source.grab()
        gaps.append(time.monotonic() - last_s)
        last_s = time.monotonic()
    assert 0.2 < max(gaps) < 1.5


def test_a_camera_that_nobody_reads_is_not_drawn():
    scene = make_scene("so101_lift")
    ring = Ring.create(_record_type(scene), slots=2)
    record = ring.blank()
    record["made_s"], record["state"] = time.monotonic(), scene.visible_state
    ring.write(record)
    studio = Studio(scene, ring, CameraSettings(height=8, width=8))
    with studio.reading("front"):
        studio.work()
        seen = studio.wait(0, 1.0)
    studio.work()
    alone = studio.wait(1, 1.0)
    ring.close()
    scene.close()
    assert seen is not None
    assert alone is not None
    assert (list(seen.pictures), list(alone.pictures)) == (["front"], [])


def test_an_unknown_camera_is_answered_with_the_known_ones(server):
    with pytest.raises(HTTPError, match="front, wrist"):
        urlopen(server.address("back"), timeout=5)


def test_what_cannot_start_says_why(server):
    with pytest.raises(HotstartError, match="in use"):
        CameraServer(server._world, Faults(), SETTINGS, port=server.port)
    with pytest.raises(ConfigError, match="200"):
        CameraSettings(fps=1000)
