"""Paths through timed actions, and targets that follow them within the limits."""

import numpy as np
import pytest
from hotstart.real_robot.driver import Limits
from hotstart.real_robot.interpolation import (
    Follower,
    Path,
    Reference,
    find_velocities,
    nearest_rotation,
)
from hotstart.spec import ActionDim, ActionSpec, ConfigError, TimedActions

JOINT = ActionSpec((ActionDim("elbow", "rad"),))
PERIOD_S = 0.1
"""Of the policies here."""


def make_limits(width: int, **values: float) -> Limits:
    named = {"lower": -3.0, "upper": 3.0, "velocity": 2.0, "acceleration": 10.0, "jerk": 200.0}
    named |= values
    return Limits(**{name: np.full(width, value) for name, value in named.items()})


def make_chunk(start_s: float, values, step_s: float = PERIOD_S) -> TimedActions:
    actions = np.reshape(np.asarray(values, float), (len(values), -1))
    return TimedActions(start_s + step_s * np.arange(len(actions)), actions)


def trace(follower: Follower, reference: Reference, seconds: float, start_s: float = 0.0):
    """Time, and position, velocity and acceleration of the first number, after every period."""
    rows = []
    for number in range(round(seconds / follower.period_s)):
        now_s = start_s + number * follower.period_s
        target = follower.follow(reference, now_s)
        after_s = now_s + follower.period_s
        rows.append((after_s, target[0], follower.velocity[0], follower.acceleration[0]))
    return np.array(rows)


def test_a_path_goes_through_its_actions_at_their_times():
    reference = Reference(JOINT, np.zeros(1), 0.0)
    reference.hand_over(make_chunk(0.1, [1.0, 2.0, 4.0]), 0.0)
    found = [reference.at(time_s)[0][0] for time_s in (0.0, 0.1, 0.2, 0.3, 9.0)]
    np.testing.assert_allclose(found, [0, 1, 2, 4, 4])
    position, velocity = reference.at(0.17)
    step = (reference.at(0.17 + 1e-6)[0] - position) / 1e-6
    np.testing.assert_allclose(velocity, step, rtol=1e-4)
    assert reference.left(0.15) == 2


def test_velocities_are_exact_on_a_parabola_of_uneven_times():
    times_s = np.array([0.0, 0.1, 0.25, 0.3, 0.5])
    found = find_velocities(times_s, np.square(times_s)[:, None])
    np.testing.assert_allclose(found[1:-1, 0], 2 * times_s[1:-1])
    assert found[-1] == 0


def test_the_same_plan_handed_over_again_changes_nothing():
    reference = Reference(JOINT, np.zeros(1), 0.0)
    chunk = make_chunk(0.1, [0.3, 0.1, 0.4, 0.2])
    reference.hand_over(chunk, 0.0)
    path = reference.path
    rest = TimedActions(chunk.times_s[1:], chunk.actions[1:])
    assert reference.hand_over(rest, 0.22) == 0  # the action at 0.2 was not late: it was known
    assert reference.path is path


def test_late_actions_are_dropped_counted_and_never_followed():
    reference, follower = Reference(JOINT, np.zeros(1), 0.0), Follower(JOINT, make_limits(1), 0.008)
    late = reference.hand_over(make_chunk(0.0, [2.5, 2.5, 2.5, 0.0, 0.0]), 0.25)
    assert late == 3
    assert np.abs(trace(follower, reference, 1.0, 0.25)[:, 1]).max() < 1e-9


def test_discrete_numbers_keep_an_action_until_the_next_one():
    spec = ActionSpec((ActionDim("grip", kind="discrete"),))
    reference, follower = Reference(spec, np.zeros(1), 0.0), Follower(spec, make_limits(1), 0.008)
    reference.hand_over(make_chunk(0.1, [1.0, 1.0, 0.0]), 0.0)
    seen = trace(follower, reference, 0.5)
    inside = (seen[:, 0] > 0.1) & (seen[:, 0] < 0.3)
    assert (seen[inside, 1] == 1).all()
    assert (seen[~inside, 1] == 0).all()


def test_rotation_vectors_take_the_nearest_equivalent():
    dims = tuple(ActionDim(f"r{axis}", "rad", "rotation") for axis in "xyz")
    spec = ActionSpec((ActionDim("x", "m"), *dims))
    reference = Reference(spec, np.array([0.5, 0, 0, 3.1]), 0.0)
    reference.hand_over(make_chunk(0.1, [[0.5, 0, 0, -3.1], [0.5, 0, 0, -3.0]]), 0.0)
    np.testing.assert_allclose(reference.at(0.1)[0], [0.5, 0, 0, 2 * np.pi - 3.1])
    np.testing.assert_allclose(reference.at(0.2)[0][3], 2 * np.pi - 3.0)
    np.testing.assert_allclose(
        nearest_rotation(np.zeros(3), np.array([0, 6.2, 0])), [0, 6.283185, 0]
    )


def test_a_single_angle_takes_the_nearest_equivalent():
    spec = ActionSpec((ActionDim("yaw", "rad", "rotation"), ActionDim("x", "m")))
    reference = Reference(spec, np.array([3.0, 0]), 0.0)
    reference.hand_over(make_chunk(0.1, [[-3.0, -3.0]]), 0.0)
    np.testing.assert_allclose(reference.at(0.1)[0], [2 * np.pi - 3.0, -3.0])


def splice_at_random(generator: np.random.Generator, servo_hz: float):
    """A run of 2 s with plans of random size, noise, latency and gaps; the limits, and a trace."""
    limits = make_limits(
        1,
        lower=-generator.uniform(0.5, 3),
        upper=generator.uniform(0.5, 3),
        velocity=generator.uniform(0.5, 3),
        acceleration=generator.uniform(2, 30),
        jerk=generator.uniform(20, 2000),
    )
    reference, follower = Reference(JOINT, np.zeros(1), 0.0), Follower(JOINT, limits, 1 / servo_hz)
    step_s, size = generator.choice([1 / 30, 0.1, 0.2]), generator.choice([0.02, 0.3, 2.0])
    rows, arrivals = [], []
    next_s, value = 0.0, 0.0
    for number in range(int(2 * servo_hz)):
        now_s = number / servo_hz
        if now_s >= next_s:
            walk = value + generator.normal(0, size, 12).cumsum() / 4
            chunk = make_chunk(now_s, walk, step_s)
            arrivals.append((now_s + generator.uniform(0, 0.3), chunk))
            value, next_s = walk[3], now_s + step_s * generator.integers(2, 12)
        for arrival in [each for each in arrivals if each[0] <= now_s]:
            arrivals.remove(arrival)
            reference.hand_over(arrival[1], now_s)
            follower.restart()
            assert (reference.pending.times_s >= now_s - 2e-6).all()
        target = follower.follow(reference, now_s)
        rows.append((target[0], follower.velocity[0], follower.acceleration[0]))
    return limits, np.array(rows)


@pytest.mark.parametrize("servo_hz", [125.0, 500.0])
@pytest.mark.parametrize("seed", [*range(12), 359, 374])
def test_random_splices_stay_within_every_limit(seed, servo_hz):
    limits, rows = splice_at_random(np.random.default_rng(seed), servo_hz)
    position, velocity, acceleration = rows.T
    assert position.min() >= limits.lower[0] - 1e-6
    assert position.max() <= limits.upper[0] + 1e-6
    assert np.abs(velocity).max() <= limits.velocity[0] * (1 + 1e-9)
    assert np.abs(acceleration).max() <= limits.acceleration[0] * (1 + 1e-9)
    jerk = np.abs(np.diff(acceleration)) * servo_hz
    assert jerk.max() <= limits.jerk[0] * (1 + 1e-6)
    np.testing.assert_allclose(  # what is reported is what the targets do
        np.diff(position) * servo_hz,
        (velocity[1:] + velocity[:-1]) / 2,
        atol=limits.jerk[0] / servo_hz**2,
    )
    assert np.ptp(position) > 0.005


@pytest.mark.parametrize("servo_hz", [125.0, 500.0])
@pytest.mark.parametrize("latency_s", [0.0, 0.3])
def test_a_sine_within_the_limits_is_followed_without_delay(servo_hz, latency_s):
    reference = Reference(JOINT, np.zeros(1), 0.0)
    follower = Follower(JOINT, make_limits(1), 1 / servo_hz)
    seen, wanted = [], 0.3 * np.sin(2 * np.pi * 0.5 * np.arange(0, 4, PERIOD_S))
    for number in range(5):
        begin_s = 0.4 * number + latency_s
        reference.hand_over(make_chunk(0.4 * number, wanted[4 * number :][:14]), begin_s)
        seen.append(trace(follower, reference, 0.4, begin_s))
    times_s, position = np.concatenate(seen)[:, :2].T
    settled = times_s > 1.0
    delays_s = np.linspace(-0.02, 0.02, 401)
    errors = []
    for delay_s in delays_s:
        there = 0.3 * np.sin(2 * np.pi * 0.5 * (times_s - delay_s))
        errors.append(np.abs(position - there)[settled].mean())
    assert abs(delays_s[np.argmin(errors)]) < 1e-3
    assert min(errors) < 1e-3


def test_a_far_step_is_reached_at_rest_without_overshoot():
    reference, follower = Reference(JOINT, np.zeros(1), 0.0), Follower(JOINT, make_limits(1), 0.008)
    reference.hand_over(make_chunk(0.0, [2.0]), 0.0)
    seen = trace(follower, reference, 3.0)
    assert seen[:, 1].max() <= 2.0 + 1e-3
    np.testing.assert_allclose(seen[-1, 1:3], [2.0, 0.0], atol=1e-4)
    reached_s = seen[np.argmax(seen[:, 1] > 1.99), 0]
    assert reached_s < 2.0  # 1.25 s is the least that the limits allow


def test_slowing_down_comes_to_rest_within_the_limits():
    reference, follower = Reference(JOINT, np.zeros(1), 0.0), Follower(JOINT, make_limits(1), 0.008)
    reference.hand_over(make_chunk(0.0, np.linspace(0, 1.8, 10)), 0.0)
    trace(follower, reference, 0.5)
    assert follower.velocity[0] > 1.5
    accelerations = [follower.acceleration[0]]
    while not follower.at_rest():
        follower.slow_down()
        accelerations.append(follower.acceleration[0])
    assert len(accelerations) * 0.008 < 0.3
    assert np.abs(accelerations).max() <= 10 + 1e-9
    assert np.abs(np.diff(accelerations)).max() <= 200 * 0.008 + 1e-9
    assert follower.position[0] < 1.5


def test_a_soft_start_uses_a_share_of_the_limits():
    reference, follower = Reference(JOINT, np.zeros(1), 0.0), Follower(JOINT, make_limits(1), 0.008)
    follower.scale(0.1)
    reference.hand_over(make_chunk(0.0, [2.0]), 0.0)
    seen = trace(follower, reference, 0.5)
    assert np.abs(seen[:, 2]).max() <= 0.2 + 1e-9
    assert seen[-1, 1] > 0.05


def test_an_arm_that_begins_outside_its_range_can_come_back():
    reference = Reference(JOINT, np.array([3.1]), 0.0)
    follower = Follower(JOINT, make_limits(1), 0.008)
    follower.put(np.array([3.1]))
    seen = trace(follower, reference, 1.0)
    assert seen[-1, 1] == pytest.approx(3.0, abs=1e-3)
    assert seen[:, 1].max() <= 3.1 + 1e-6


@pytest.mark.parametrize("name", ["velocity", "acceleration", "jerk"])
def test_limits_must_be_finite_and_above_zero(name):
    with pytest.raises(ConfigError, match=rf"limits\.{name} of 'elbow' is inf"):
        Follower(JOINT, make_limits(1, **{name: np.inf}), 0.008)
    with pytest.raises(ConfigError, match=r"limits.lower is above limits.upper"):
        Follower(JOINT, make_limits(1, lower=4.0), 0.008)
    with pytest.raises(ConfigError, match="has shape"):
        Follower(JOINT, make_limits(2), 0.008)


def test_a_path_of_one_knot_rests():
    path = Path([1.0], [[0.5]], [[0.0]], [False])
    assert path.at(0, 0.0) == path.at(0, 2.0) == (0.5, 0.0, 0.0)
