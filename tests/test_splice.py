"""Splicing chunks, holding, clocks: the parts of the control loop."""

import time

import numpy as np
from hotstart.control import RealClock, VirtualClock, splice, zero_order_hold
from hotstart.spec import ActionDim, ActionSpec, TimedActions

RATE_HZ = 10.0
ACTION_SPEC = ActionSpec(
    (
        ActionDim("x"),
        ActionDim("y"),
        ActionDim("vx", absolute=False),
        ActionDim("grip", "", "discrete", False),
    )
)


# --- splice


def timed(times_s, mark: float) -> TimedActions:
    times_s = np.asarray(times_s, float)
    return TimedActions(times_s, np.stack((times_s, np.full(len(times_s), mark)), -1))


def test_splicing_at_random():
    """Late ones are dropped and counted, usable ones kept; pending ones only bridge the gap."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        start, now = rng.integers(0, 20, 2)
        pending = timed(np.sort(rng.choice(40, rng.integers(0, 8), replace=False)) / RATE_HZ, 0.0)
        chunk = timed((start + np.arange(rng.integers(0, 9))) / RATE_HZ, 1.0)
        now_s = now / RATE_HZ
        spliced, late = splice(pending, chunk, now_s)
        assert late == sum(t < now_s - 1e-6 for t in chunk.times_s)
        assert (np.diff(spliced.times_s) > 0).all()
        assert len(spliced) == len(spliced.actions)
        np.testing.assert_array_equal(
            spliced.actions[:, 0], spliced.times_s
        )  # every action kept its time
        of_chunk = spliced.actions[:, 1] == 1
        if late == len(chunk):
            assert spliced is pending  # nothing usable came
            continue
        np.testing.assert_array_equal(spliced.times_s[of_chunk], chunk.times_s[late:])
        first_s = chunk.times_s[late]
        bridge = [t for t in pending.times_s if now_s - 1e-6 <= t < first_s - 1e-6]
        np.testing.assert_array_equal(spliced.times_s[~of_chunk], bridge)
        assert not (np.diff(of_chunk.astype(int)) < 0).any()  # the bridge, then the chunk


def test_splicing_nothing():
    pending = timed([1.0, 1.1], 0.0)
    for chunk in (TimedActions.none(2), timed([0.0, 0.1], 1.0)):
        spliced, late = splice(pending, chunk, 1.0)
        assert spliced is pending
        assert late == len(chunk)
    spliced, late = splice(TimedActions.none(2), timed([1.0, 1.1], 1.0), 1.0)
    assert (len(spliced), late) == (2, 0)


def test_an_action_meant_for_this_very_tick_is_not_late():
    """Ticks are multiples of a period that no float holds exactly."""
    for tick in range(1, 2000, 37):
        chunk = timed(tick * 0.1 + np.arange(3) * 0.1, 1.0)
        assert splice(TimedActions.none(2), chunk, (tick / 10) + 1e-9)[1] == 0
        assert splice(TimedActions.none(2), chunk, (tick + 1) / 10)[1] == 1


def test_what_comes_less_than_half_a_step_before_the_chunk_is_no_bridge():
    """Plans of two observations may be some milliseconds apart: a servo would jump between them."""
    pending = timed([0.95, 1.04], 0.0)
    spliced, late = splice(pending, timed(1.045 + 0.1 * np.arange(3), 1.0), 0.94)
    np.testing.assert_allclose(spliced.times_s, [0.95, 1.045, 1.145, 1.245])
    assert late == 0


# --- hold


def test_a_starved_robot_stays_where_it_is_and_stops_moving():
    last = np.array([1.0, 2.0, 3.0, -1.0])
    resting = np.array([7.0, 8.0, 0.0, 0.0])
    np.testing.assert_array_equal(
        zero_order_hold(ACTION_SPEC, last, resting), [1, 2, 0, -1]
    )  # positions, no velocity, the grip as it was
    np.testing.assert_array_equal(
        zero_order_hold(ACTION_SPEC, np.full(4, np.nan), resting), resting
    )  # before the first action: where it is


# --- clocks


def test_virtual_seconds_pass_only_in_sleep_and_never_go_back():
    clock = VirtualClock()
    assert clock.now_s() == 0
    clock.sleep_until(0.5)
    time.sleep(0.01)
    assert clock.now_s() == 0.5
    clock.sleep_until(0.2)
    assert clock.now_s() == 0.5


def test_real_seconds_pass_by_themselves():
    clock = RealClock()
    began = clock.now_s()
    clock.sleep_until(began + 0.03)
    assert clock.now_s() - began >= 0.03
    before = clock.now_s()
    clock.sleep_until(before - 1.0)  # late: at once
    assert clock.now_s() - before < 0.5
