"""A scene by the wall clock: its times, its commands, and what it does when it is held up."""

import time

import numpy as np
import pytest
from hotstart.arms import make_scene
from hotstart.real_robot.sim.world import CATCH_UP_S, World
from hotstart.spec import HotstartError


@pytest.fixture(scope="module")
def scene():
    return make_scene("ur5e_push")


def test_it_moves_to_its_target_by_the_wall_clock(scene):
    way = np.array([0.05, -0.05, 0.05, 0.05, 0.05, 0.05])
    with World(scene) as world:
        start = world.read()
        world.command(start.positions + way)
        time.sleep(0.3)
        state = world.read()
        late = time.monotonic() - state.made_s
    assert state.positions == pytest.approx(start.positions + way, abs=2e-3)
    assert 0 <= late < 0.1
    assert state.made_s - start.made_s + world.skipped_s == pytest.approx(0.3, abs=0.1)


def test_time_that_was_lost_is_caught_up_in_bounds(scene):
    world = World(scene)
    began = world.read().made_s
    world._catch_up(began + 0.05)
    assert world.read().made_s == pytest.approx(began + 0.05, abs=0.003)
    assert world.skipped_s == 0
    simulated_s = scene.data.time
    world._catch_up(began + 10.0)
    assert scene.data.time - simulated_s == pytest.approx(CATCH_UP_S, abs=0.003)
    assert world.read().made_s == pytest.approx(began + 10.0, abs=0.003)
    assert world.skipped_s == pytest.approx(9.95 - CATCH_UP_S, abs=0.003)


def test_a_state_that_was_read_does_not_change_and_a_seed_begins_anew(scene):
    world = World(scene, seed=4)
    first = world.read()
    kept = first.positions.copy()
    world.command(kept + 0.1)
    world._catch_up(first.made_s + 0.1)
    assert np.array_equal(first.positions, kept)
    assert world.look()["max_speed"] > 0.5
    world.reset(4)
    assert np.array_equal(world.read().positions, kept)
    assert world.look()["max_speed"] == 0


@pytest.mark.parametrize("target", [[0.0] * 5, [np.nan] * 6])
def test_targets_that_cannot_be_are_refused(scene, target):
    with pytest.raises(HotstartError, match="6 finite"):
        World(scene).command(np.array(target))


def test_a_failed_simulation_says_so_to_whoever_reads(scene, monkeypatch):
    world = World(scene)

    def fail():
        raise RuntimeError("the spring broke")

    monkeypatch.setattr(scene, "step", fail)
    with world:
        time.sleep(0.05)
        with pytest.raises(HotstartError, match="the spring broke"):
            world.read()
