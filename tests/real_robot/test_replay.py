"""A recorded episode is repeated at another speed, and how closely it is followed is measured."""

from pathlib import Path

import numpy as np
import pytest
from hotstart.commands import replay as replay_command
from hotstart.configs.recording import Replay
from hotstart.control import VirtualClock
from hotstart.real_robot.replaying import LONGEST_LAG, Tracking, approach, resample
from hotstart.spec import ActionDim, ActionSpec, ConfigError, ObsKey, ObsSpec, Part

from .bench_arm import Arm, make_tick

SPEC = ActionSpec(
    (
        ActionDim("shoulder", "rad"),
        ActionDim("grip", "", "discrete"),
        ActionDim("turn", "rad", absolute=False),
    )
)


def test_actions_are_resampled_by_their_own_times():
    times_s = np.array([5.0, 5.1, 5.3])  # one step came late
    actions = np.array([[0, 0, 0.2], [1, 1, 0.4], [3, 0, 0]])
    found = resample(actions, times_s, SPEC, speed=1.0, rate_hz=10.0)
    np.testing.assert_allclose(found[:, 0], [0, 1, 2, 3])
    assert found[:, 1].tolist() == [0, 1, 1, 0]
    assert found[:, 2].sum() == pytest.approx(0.6)
    slow = resample(actions, times_s, SPEC, speed=0.5, rate_hz=10.0)
    np.testing.assert_allclose(slow[:, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3])
    assert slow[:, 1].tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert slow[:, 2].sum() == pytest.approx(0.6)


def test_the_way_to_the_first_action_begins_and_ends_at_rest():
    path = approach(np.array([1.0, 0, 0]), np.array([2.0, 1, 5]), SPEC, 40)
    assert path[-1].tolist() == [2, 1, 0]
    steps = np.diff(path[:, 0], prepend=1.0)
    assert (steps > 0).all()
    assert steps[[0, -1]].max() < 0.1 * steps.max()


def test_a_replay_tells_the_robot_what_was_recorded(monkeypatch):
    monkeypatch.setattr(replay_command, "RealClock", lambda: arm.clock)
    arm = Arm(VirtualClock())
    recorded = np.stack([0.5 * np.sin(np.arange(30) / 8), 0.3 * np.ones(30), np.ones(30)], 1)
    options = Replay(data=Path("a.zarr"), robot=Part("bench"), speed=0.5, approach_s=1.0)
    error = replay_command.replay(options, arm, recorded, np.arange(30) / 10)
    told = np.array(arm.told)
    assert len(told) == 10 + 59 + 5
    np.testing.assert_allclose(told[10:69:2], recorded, atol=1e-9)
    assert np.abs(np.diff(told, axis=0)).max() < 0.1
    assert error is not None
    assert error.names == ("shoulder", "elbow", "gripper")
    assert error.lag_s == pytest.approx(0.1)  # it is where it was told, a control period later
    assert error.lagged_rms.max() < 1e-6
    assert 0.01 < error.rms[0] < error.largest[0] < 0.05
    assert "it follows 100 ms behind" in replay_command.describe(error)
    assert arm.stops == 1


def test_a_robot_that_shows_nothing_is_not_compared():
    blind = Tracking(Arm.action_spec, ObsSpec({"force": ObsKey((3,))}), 10.0)
    arm = Arm(VirtualClock())
    for number in range(2 * LONGEST_LAG):
        blind(make_tick(arm, number))
    assert blind.summarise() is None
    assert "nothing is compared" in replay_command.describe(None)


def test_what_cannot_be_replayed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="speed is 0"):
        replay_command.check(Replay(data=tmp_path, robot=Part("bench"), speed=0))
    options = Replay(data=tmp_path, robot=Part("bench"), speed=0.001)
    with pytest.raises(ConfigError, match="go faster"):
        replay_command.replay(options, Arm(VirtualClock()), np.zeros((99, 3)), np.arange(99) / 0.1)
