"""The safety filter and the watchdogs: what is clamped, what is refused, what is too old."""

import numpy as np
import pytest
from hotstart.real_robot.driver import Limits
from hotstart.real_robot.safety import (
    Counts,
    Plane,
    SafetyError,
    SafetyFilter,
    SafetyOptions,
    Sphere,
    Workspace,
    check_range,
    find_tool,
)
from hotstart.real_robot.watchdogs import (
    Stage,
    Thresholds,
    is_stale,
    judge_policy,
    judge_state,
)
from hotstart.spec import ActionDim, ActionSpec, ConfigError, TimedActions

ARM = ActionSpec((ActionDim("elbow", "rad"), ActionDim("wrist", "rad"), ActionDim("gripper")))
TOOL = ActionSpec(tuple(ActionDim(name, "m") for name in "xyz"))
LIMITS = Limits(
    lower=np.array([-2.0, -1.0, 0.0]),
    upper=np.array([2.0, 1.0, 1.0]),
    velocity=np.array([1.0, 2.0, 3.0]),
    acceleration=np.array([5.0, 10.0, 50.0]),
    jerk=np.full(3, 100.0),
)
PERIOD_S = 0.008


def make_filter(spec: ActionSpec = ARM, **options) -> SafetyFilter:
    built = SafetyFilter(spec, LIMITS, PERIOD_S, SafetyOptions(**options))
    built.start(np.zeros(3))
    return built


def make_plan(*actions) -> TimedActions:
    return TimedActions(0.1 * np.arange(len(actions)), np.array(actions, float))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_in_what_goes_out_is_within_every_limit(seed):
    generator = np.random.default_rng(seed)
    step = np.array([0.004, 1.0, 1.0])
    tried = make_filter(step=step)
    before, speed = np.zeros(3), np.zeros(3)
    push = np.zeros(3)
    for turn in range(400):
        if turn % 80 == 0:
            push = generator.choice([-1.0, 0.0, 1.0], 3)
        size = generator.choice([1e-4, 1e-2, 1.0, 1e6])
        sent = tried.check(before + push + size * abs(push - 1) * generator.standard_normal(3))
        assert (LIMITS.lower <= sent).all() and (sent <= LIMITS.upper).all()
        move = sent - before
        assert (np.abs(move) <= np.minimum(LIMITS.velocity * PERIOD_S, step) * 1.00001).all()
        bend = np.abs(move / PERIOD_S - speed) / PERIOD_S
        inside = (sent > LIMITS.lower + 1e-9) & (sent < LIMITS.upper - 1e-9)
        slow = np.abs(move) < np.minimum(LIMITS.velocity * PERIOD_S, step) * 0.999
        assert (bend[inside & slow] <= (LIMITS.acceleration * 1.01)[inside & slow]).all()
        before, speed = sent, move / PERIOD_S
    assert tried.counts.total > 0


def test_every_clamp_is_counted_by_reason_and_number():
    tried = make_filter()
    tried.admit(make_plan([0, 0, 0], [0.1, 1.5, 1.2], [2.5, -3, 0.5]))
    assert tried.counts.clamps == {"position": {"elbow": 1, "wrist": 2, "gripper": 1}}
    tried.check(np.array([1.0, 0.0, 0.0]))
    assert tried.counts.clamps["acceleration"] == {"elbow": 1}
    assert tried.counts.total == 5


def test_what_is_within_the_limits_goes_through_as_it_is_and_counts_nothing():
    tried = make_filter()
    plan = make_plan([0.1, 0.1, 0.5], [0.2, 0.2, 1.0])
    np.testing.assert_array_equal(tried.admit(plan).actions, plan.actions)
    target = np.array([1e-4, -2e-4, 1e-3])
    np.testing.assert_array_equal(tried.check(target), target)
    assert tried.counts == Counts(["elbow", "wrist", "gripper"])


def test_a_discrete_number_may_jump():
    spec = ActionSpec((*ARM.dims[:2], ActionDim("gripper", kind="discrete")))
    assert make_filter(spec).check(np.array([0.0, 0, 1]))[2] == 1.0


def test_a_fault_stays_until_it_is_reset():
    tried = make_filter()
    with pytest.raises(SafetyError, match="action 1 of a plan says 'wrist' is not finite"):
        tried.admit(make_plan([0, 0, 0], [0, np.nan, 0]))
    for call in (lambda: tried.admit(make_plan([0, 0, 0])), lambda: tried.check(np.zeros(3))):
        with pytest.raises(SafetyError, match="nothing moves until it is reset"):
            call()
    tried.reset()
    with pytest.raises(SafetyError, match="times of a plan"):
        tried.admit(TimedActions(np.array([np.nan]), np.zeros((1, 3))))
    tried.reset()
    tried.check(np.zeros(3))
    with pytest.raises(SafetyError, match="the target of 'gripper' is inf"):
        tried.check(np.array([0, 0, np.inf]))


def test_a_first_action_far_from_the_arm_is_refused_and_a_later_one_is_not():
    tried = make_filter()
    with pytest.raises(SafetyError, match=r"'wrist' at 0.6 rad, where 0 rad is measured"):
        tried.admit(make_plan([0.1, 0.6, 1.0]))
    tried.reset()
    tried.admit(make_plan([0.1, 0.2, 1.0]))
    tried.admit(make_plan([0.1, 0.6, 1.0]))
    tried.start(np.zeros(3))
    with pytest.raises(SafetyError, match="bring the arm near"):
        tried.admit(make_plan([0.1, 0.6, 1.0]))
    assert make_filter(jump=np.full(3, 9.0)).admit(make_plan([0.1, 0.6, 1.0]))
    with pytest.raises(ConfigError, match="jump has shape"):
        make_filter(jump=np.zeros(2))


def test_degrees_for_a_policy_that_knows_radians_are_refused():
    range_of = (np.array([-1.6, -1.6, 0]), np.array([1.6, 1.6, 1]))
    with pytest.raises(SafetyError, match=r"action 1 .* 'elbow' is 90 rad; .* -1.6 to 1.6 rad"):
        make_filter(trained=range_of).admit(make_plan([0, 0, 0], [90, 0, 0]))
    with pytest.raises(SafetyError, match=r"looks like degrees, which would be 1.571 rad"):
        check_range(np.array([90.0]), np.array([-1.6]), np.array([1.6]), ["elbow"], "rad")
    with pytest.raises(SafetyError, match="looks like millimetres"):
        check_range(np.array([420.0]), np.array([0.3]), np.array([0.6]), ["x"], "m")
    with pytest.raises(SafetyError, match="look at its unit"):
        check_range(np.array([np.nan]), np.array([0.3]), np.array([0.6]), ["x"], "m")
    check_range(np.array([2.0]), np.array([-1.6]), np.array([1.6]), ["elbow"], "rad")


BOX = Workspace(
    (-0.5, -0.5, 0.0),
    (0.5, 0.5, 0.6),
    (Plane((0, 0, 0.05), (0, 0, 2)), Sphere((0.2, 0, 0.2), 0.1)),
)


def test_points_are_brought_into_the_workspace_by_the_shortest_way():
    np.testing.assert_allclose(BOX.project(np.array([0.9, 0, 0.3])), [0.5, 0, 0.3])
    np.testing.assert_allclose(BOX.project(np.array([-0.3, 0, -0.2])), [-0.3, 0, 0.05])
    np.testing.assert_allclose(BOX.project(np.array([0.25, 0, 0.2])), [0.3, 0, 0.2])
    inside = np.array([-0.1, 0.2, 0.3])
    np.testing.assert_array_equal(BOX.project(inside), inside)
    assert BOX.depth(inside) == 0
    assert BOX.depth(np.array([0.2, 0, 0.2])) == pytest.approx(0.1)
    assert BOX.depth(np.array([0.9, 0, 0.3])) == pytest.approx(0.4)
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    assert max(BOX.depth(BOX.project(point)) for point in points) < 1e-5


def test_a_workspace_without_room_is_said():
    full = Workspace((-0.1, -0.1, -0.1), (0.1, 0.1, 0.1), (Sphere((0, 0, 0), 1.0),))
    with pytest.raises(SafetyError, match="leave no room"):
        full.project(np.zeros(3))


def test_tool_positions_are_brought_into_the_workspace_and_counted():
    tried = make_filter(TOOL, workspace=Workspace(upper=(0.05, 1, 1)))
    kept = tried.admit(make_plan([0.02, 0, 0], [0.3, 0, 0]))
    np.testing.assert_allclose(kept.actions, [[0.02, 0, 0], [0.05, 0, 0]])
    assert tried.counts.clamps == {"workspace": {"tool": 1}}


def test_joint_plans_end_before_the_tool_would_leave_the_workspace():
    def find_place(action):
        return np.array([action[0], 0.0, 0.0])

    tried = make_filter(tool_of=find_place, workspace=Workspace(upper=(0.1, 1, 1)))
    kept = tried.admit(make_plan([0.05, 0, 0], [0.08, 0, 0], [0.3, 0, 0], [0.0, 0, 0]))
    np.testing.assert_array_equal(kept.actions[:, 0], [0.05, 0.08])
    tried.start(np.array([0.5, 0.0, 0.0]))
    with pytest.raises(SafetyError, match="mm outside its workspace"):
        tried.check(np.array([0.5, 0, 0]))


def test_a_measured_tool_outside_its_workspace_is_a_fault():
    tried = make_filter(workspace=BOX)
    tried.watch(np.array([0.51, 0, 0.3]))  # within the tolerance
    with pytest.raises(SafetyError, match="50 mm outside"):
        tried.watch(np.array([0.55, 0, 0.3]))
    assert tried.fault


def test_the_tool_is_found_by_names_and_units():
    assert find_tool(TOOL) == [0, 1, 2]
    named = ActionSpec(tuple(ActionDim(f"tool_{axis}", "m") for axis in "xyz"))
    assert find_tool(named) == [0, 1, 2]
    assert find_tool(ARM) is None


def test_a_silent_policy_is_held_for_slowed_down_for_and_stopped_for():
    limits = Thresholds(policy_slow_s=0.5, policy_stop_s=2.0)
    assert judge_policy(10.0, 9.8, 3, limits) == Stage.FOLLOW
    assert judge_policy(10.0, 9.8, 0, limits) == Stage.HOLD
    assert judge_policy(10.0, 9.4, 3, limits) == Stage.SLOW_DOWN
    assert judge_policy(10.0, 7.9, 3, limits) == Stage.STOP


def test_an_old_state_slows_down_and_then_stops():
    limits = Thresholds(state_slow_s=0.1, state_stop_s=0.5, camera_s=0.3)
    stages = [judge_state(1.0, made_s, limits) for made_s in (0.95, 0.8, 0.4)]
    assert stages == [Stage.FOLLOW, Stage.SLOW_DOWN, Stage.STOP]
    assert [is_stale(1.0, made_s, limits) for made_s in (0.8, 0.6)] == [False, True]


def test_thresholds_must_make_sense():
    with pytest.raises(ConfigError, match="camera_s is 0"):
        Thresholds(camera_s=0)
    with pytest.raises(ConfigError, match="slows down before"):
        Thresholds(policy_slow_s=20)
