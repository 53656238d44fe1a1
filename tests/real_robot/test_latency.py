"""Lags are found to 2 ms, and unrelated signals are told from lagging ones."""

import json
from typing import Any

import numpy as np
import pytest
from hotstart.real_robot.driver import ArmState
from hotstart.real_robot.latency import Lag, find_lag, make_chirp, record_motion, save_latencies
from hotstart.spec import ConfigError


def record(lag_s, rng, noise=0.001, rate_hz=100.0, seen_hz=60.0):
    """What a device shows of a chirp, at its own times, with noise and a lag."""
    sent = make_chirp(rate_hz)
    sent_s = 50.0 + np.arange(len(sent)) / rate_hz
    seen_s = np.sort(50.0 + rng.uniform(0, 8.4, int(8.4 * seen_hz)))
    seen = np.interp(seen_s - lag_s, sent_s, sent) + rng.normal(0, noise, len(seen_s))
    return sent_s, sent, seen_s, 0.3 + 1.7 * seen


@pytest.mark.parametrize("lag_ms", [5, 20, 50, 100, 137.3, 200, 250])
@pytest.mark.parametrize("seed", [0, 1])
def test_lags_are_found_to_two_milliseconds(lag_ms, seed):
    found = find_lag(*record(lag_ms / 1000, np.random.default_rng(seed)))
    assert found.seconds * 1000 == pytest.approx(lag_ms, abs=2)
    assert found.is_sure


@pytest.mark.parametrize("seed", range(5))
def test_a_signal_that_has_nothing_to_do_with_it_has_low_confidence(seed):
    rng = np.random.default_rng(seed)
    sent_s, sent, seen_s, _ = record(0.1, rng)
    walk = np.cumsum(rng.normal(0, 1, len(seen_s)))
    found = find_lag(sent_s, sent, seen_s, walk)
    assert found.confidence < 0.5
    assert not found.is_sure


def test_a_slow_drift_does_not_pull_the_lag_down():
    """A common slow motion correlates best without a lag; velocities do not see it."""
    rng = np.random.default_rng(3)
    sent_s, sent, seen_s, seen = record(0.2, rng)
    drift = 0.05 * (sent_s - sent_s[0])
    later = seen + 1.7 * 0.05 * (seen_s - sent_s[0])
    assert find_lag(sent_s, sent + drift, seen_s, later).seconds == pytest.approx(0.2, abs=0.002)


def test_a_chirp_begins_and_ends_gently():
    chirp = make_chirp(500.0, amplitude=0.2)
    assert chirp[0] == 0
    assert abs(chirp[-1]) < 1e-6
    assert np.abs(np.diff(chirp)).max() * 500 <= 2 * np.pi * 2.5 * 0.2 * 1.01
    assert np.abs(chirp).max() > 0.19


class LateArm:
    """An arm that is where it was sent 80 ms ago; its time passes where it is waited for."""

    servo_hz = 50.0

    def __init__(self):
        self.now = 100.0
        self.goals = [(0.0, np.array([0.3, 0.5]))]

    def command(self, target):
        self.goals.append((self.now, target))

    def read(self):
        place = [goal for sent_s, goal in self.goals if sent_s <= self.now - 0.08][-1]
        return ArmState(self.now, place, np.zeros(2), {})

    def wait(self, seconds):
        self.now += seconds


def test_the_motion_of_one_joint_is_recorded():
    arm: Any = LateArm()
    motion = record_motion(arm, 1, make_chirp(50.0), lambda: arm.now, arm.wait)
    assert np.diff(motion.sent_s) == pytest.approx(0.02)
    assert {goal[0] for _, goal in arm.goals} == {0.3}
    found = find_lag(motion.sent_s, motion.sent, motion.seen_s, motion.seen)
    assert found.seconds == pytest.approx(0.08, abs=0.002)


def test_too_short_and_still_signals_are_refused():
    sent_s, sent, seen_s, seen = record(0.1, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="in common"):
        find_lag(sent_s[:100], sent[:100], seen_s, seen)
    with pytest.raises(ConfigError, match="stands still"):
        find_lag(sent_s, sent, seen_s, np.zeros_like(seen))


def test_sure_lags_are_written_and_unsure_ones_are_not(tmp_path):
    path = tmp_path / "latency.json"
    save_latencies(path, {"arm": Lag(0.05, 0.97)}, "/dev/ttyACM0")
    plain = json.loads(path.read_text())
    assert plain["latencies"]["arm"] == {"seconds": 0.05, "confidence": 0.97}
    assert plain["measured_on"] == "/dev/ttyACM0"
    with pytest.raises(ConfigError, match=r"wrist \(0\.40\)"):
        save_latencies(path, {"wrist": Lag(0.1, 0.4)}, "a camera")
