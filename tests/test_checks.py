"""The last gate before a robot: what does not fit is refused before it moves, and no plan but a
sound one is executed.
"""

import numpy as np
import pytest
from hotstart.checks import check_fit, check_plan
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.planners import DelayedPlanner, ImmediatePlanner, ThreadedPlanner, constant_latency
from hotstart.spec import ActionDim, ActionSpec, ConfigError, ObsKey, ObsSpec, PlanError, Planned

ROWS = np.arange(2)


def answer(**changes):
    """A sound plan for two rows, with changes."""
    fields = {
        "rows": ROWS,
        "actions": np.zeros((2, 3, 4), np.float32),
        "plan": None,
        "nfe": np.ones(2, int),
    }
    return Planned(**{**fields, **changes})


def with_value(value):
    actions = np.zeros((2, 3, 4), object if value is None else np.float64)
    actions[1, 2, 3] = value
    return actions


WRONG = {
    "nan": ({"actions": with_value(np.nan)}, "says nan for number 3 of step 2 in row 1"),
    "inf": ({"actions": with_value(-np.inf)}, "says -inf for number 3"),
    "beyond float32": ({"actions": with_value(1e300)}, r"says 1e\+300"),
    "none inside": ({"actions": with_value(None)}, "no array of real numbers"),
    "none": ({"actions": None}, "no array of real numbers"),
    "words": ({"actions": [["a"]]}, "no array of real numbers"),
    "complex": ({"actions": np.zeros((2, 3, 4), complex)}, "they are complex128"),
    "ragged": ({"actions": [[[1.0, 2.0]], [[1.0]]]}, "no array of real numbers"),
    "narrow": (
        {"actions": np.zeros((2, 3, 3))},
        r"shape \(2, 3, 3\); \(2 rows, 1 to 8 steps, 4 numbers\) were expected",
    ),
    "flat": ({"actions": np.zeros((2, 4))}, r"shape \(2, 4\)"),
    "no steps": ({"actions": np.zeros((2, 0, 4))}, r"shape \(2, 0, 4\)"),
    "too long": ({"actions": np.zeros((2, 9, 4))}, r"shape \(2, 9, 4\)"),
    "too few rows": ({"actions": np.zeros((1, 3, 4))}, r"shape \(1, 3, 4\)"),
    "other row": ({"rows": np.array([0, 2])}, "is for rows 0, 2; asked for were 0, 1"),
    "negative row": ({"rows": np.array([0, -1])}, "is for rows 0, -1"),
    "twice": ({"rows": np.array([0, 0])}, "is for rows 0, 0"),
    "float rows": ({"rows": np.zeros(2)}, "rows are float64"),
    "no rows": ({"rows": None}, "rows are object"),
    "no nfe": ({"nfe": None}, "nfe are object"),
    "short nfe": ({"nfe": np.ones(1, int)}, "evaluations of 1 rows; it holds 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_unsound_plan_is_refused(name):
    changes, message = WRONG[name]
    with pytest.raises(PlanError, match=message):
        check_plan(answer(**changes), ROWS, 4, 8)


@pytest.mark.parametrize("planned", [None, np.zeros((2, 3, 4)), {"actions": 0}])
def test_what_is_no_plan_is_refused(planned):
    with pytest.raises(PlanError, match=r"hotstart.spec.Planned was expected"):
        check_plan(planned, ROWS, 4, 8)


def test_a_sound_plan_passes_unchanged():
    actions = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    actions[0, 0, 0] = np.finfo(np.float32).max
    checked = check_plan(answer(actions=actions.tolist(), rows=[1, 0]), ROWS, 4, 8)
    np.testing.assert_array_equal(checked.actions, actions)
    assert (checked.actions.dtype, checked.rows.tolist()) == (np.float64, [1, 0])


class Foreign:
    """Asks nobody, and answers every question with what it was given."""

    def __init__(self, *answers):
        self.expected_s, self.answers = 0.0, answers

    def reset(self):
        self.left = []

    def submit(self, state, query):
        self.left = list(self.answers)

    def poll(self, now_s):
        given, self.left = self.left, []
        return given

    def due_s(self, row):
        return np.inf


@pytest.mark.parametrize("name", WRONG)
def test_no_planner_gets_an_unsound_plan_past_the_loop(name, scripted):
    changes, message = WRONG[name]
    robot, policy = scripted.Robot(2), scripted.Policy()
    with pytest.raises(PlanError, match=message):
        run(robot, policy, Foreign(answer(**changes)), VirtualClock(), [0, 1], LoopSettings(5))
    assert robot.commands == []
    assert robot.calls == ["reset", "stop"]


def test_a_second_answer_to_one_question_is_refused(scripted):
    robot, policy = scripted.Robot(2), scripted.Policy()
    one = answer(plan={"tick": np.zeros(2), "plans": np.zeros(2)})
    with pytest.raises(PlanError, match="asked for were none"):
        run(robot, policy, Foreign(one, one), VirtualClock(), [0, 1], LoopSettings(5))
    assert robot.calls == ["reset", "stop"]


PLANNERS = {
    "immediate": ImmediatePlanner,
    "delayed": lambda policy: DelayedPlanner(policy, constant_latency(0.1), 0.1),
    "threaded": ThreadedPlanner,
}


@pytest.mark.parametrize("kind", PLANNERS)
@pytest.mark.parametrize("fault", ["nan", "none", "width", "rows"])
def test_no_policy_gets_an_unsound_plan_past_a_planner(kind, fault, scripted):
    class Foolish(scripted.Policy):
        def plan(self, state, rows, executed, frozen=None):
            planned = super().plan(state, rows, executed, frozen)
            if fault == "none":
                return None
            if fault == "nan":
                planned.actions[0, 1, 2] = np.nan
            return Planned(
                rows[:1] if fault == "rows" else rows,
                planned.actions[
                    : 1 if fault == "rows" else None, :, : 3 if fault == "width" else None
                ],
                planned.plan,
                planned.nfe[: 1 if fault == "rows" else None],
            )

    robot, policy = scripted.Robot(2), Foolish()
    robot.rate_hz = 1000.0
    planner = PLANNERS[kind](policy)
    with pytest.raises(PlanError):
        run(robot, policy, planner, VirtualClock(), [0, 1], LoopSettings(10**6))
    assert robot.calls == ["reset", "stop"]
    assert not any(command.any() for command in robot.commands)
    if kind == "threaded":
        planner.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_hold_position_that_is_no_number_is_not_sent(value, scripted):
    class Lost(scripted.Robot):
        def hold_position(self):
            return np.full((self.rows, 4), value)

    robot, policy = Lost(1), scripted.Policy()
    with pytest.raises(PlanError, match="row 0 would be told"):
        run(robot, policy, scripted.late_planner(policy, 0.1), VirtualClock(), [0], LoopSettings(5))
    assert robot.commands == []


# --- before anything moves


def dims(*dims):
    return ActionSpec(dims)


X, Y = ActionDim("x", "m"), ActionDim("y", "m")
MISFITS = {
    "width": (
        {"action_spec": ActionSpec.plain(3)},
        "the policy plans 4 numbers an action .*, the robot takes 3",
    ),
    "key": (
        {"obs_spec": ObsSpec({"tock": ObsKey((1,))})},
        "the policy observes 'tick', the robot shows only tock",
    ),
    "shape": (
        {"obs_spec": ObsSpec({"tick": ObsKey((2,))})},
        r"shape \(1,\) for the policy and \(2,\) for the robot",
    ),
    "rate": ({"rate_hz": 20.0}, "data of 10 Hz, the robot runs at 20 Hz: .*rate=any"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_robot_that_does_not_fit_is_not_even_reset(name, scripted):
    changes, message = MISFITS[name]
    robot, policy = scripted.Robot(1), scripted.Policy()
    policy.rate_hz = 10.0
    for attribute, value in changes.items():
        setattr(robot, attribute, value)
    with pytest.raises(ConfigError, match=message):
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(5))
    assert robot.calls == []


def test_a_six_wide_robot_under_a_seven_wide_policy_is_told_both(scripted):
    robot, policy = scripted.Robot(1), scripted.Policy()
    robot.action_spec = dims(*(ActionDim(f"joint_{i}", "rad") for i in range(6)))
    policy.action_spec = dims(
        *(ActionDim(f"joint_{i}", "rad") for i in range(6)), ActionDim("gripper")
    )
    with pytest.raises(
        ConfigError, match=r"plans 7 numbers .*gripper\), the robot takes 6 \(joint_0, .*joint_5\)"
    ):
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(5))


def test_a_policy_that_does_not_describe_itself_is_told_what_is_missing(scripted):
    robot, policy = scripted.Robot(1), scripted.Policy()
    del policy.rate_hz, policy.obs_spec
    with pytest.raises(
        ConfigError, match="Policy has no obs_spec, rate_hz: a policy says what it observes"
    ):
        run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], LoopSettings(5))
    assert robot.calls == []


@pytest.mark.parametrize(
    ("policy_spec", "robot_spec", "message"),
    [
        (
            dims(X, Y),
            dims(Y, X),
            "number 0 of an action is 'x' for the policy and 'y' for the robot",
        ),
        (
            dims(X),
            dims(ActionDim("x", "mm")),
            r"'x' is in \[m\] for the policy and in \[mm\] for the robot",
        ),
        (
            dims(X),
            dims(ActionDim("x", "m", absolute=False)),
            "'x' is absolute for the policy and a change for the robot",
        ),
        (dims(X), dims(ActionDim("x")), None),  # a unit that is left open
        (dims(X, Y), ActionSpec.plain(2), None),
        (ActionSpec.plain(2), dims(X, ActionDim("y", "m", absolute=False)), None),
        (dims(X, Y), dims(ActionDim("left", "m"), ActionDim("up", "m")), None),
    ],
)
def test_units_and_order_of_actions_are_compared(policy_spec, robot_spec, message, scripted):
    robot, policy = scripted.Robot(1), scripted.Policy()
    robot.action_spec, policy.action_spec = robot_spec, policy_spec
    if message is None:
        check_fit(robot, policy)
    else:
        with pytest.raises(ConfigError, match=message):
            check_fit(robot, policy)


@pytest.mark.parametrize(
    ("shown", "wanted", "fits"), [("float64", "float32", True), ("float32", "uint8", False)]
)
def test_observations_must_be_of_a_kind(shown, wanted, fits, scripted):
    robot, policy = scripted.Robot(1), scripted.Policy()
    robot.obs_spec, policy.obs_spec = (
        ObsSpec({"tick": ObsKey((1,), dtype)}) for dtype in (shown, wanted)
    )
    if fits:
        check_fit(robot, policy)
    else:
        with pytest.raises(
            ConfigError, match="'tick' is uint8 for the policy and float32 for the robot"
        ):
            check_fit(robot, policy)


@pytest.mark.parametrize(
    ("data_hz", "fits"), [(None, True), (10.0, True), (10.09, True), (10.2, False), (9.8, False)]
)
def test_rates_within_a_hundredth_fit(data_hz, fits, scripted):
    robot, policy = scripted.Robot(1), scripted.Policy()
    policy.rate_hz = data_hz
    settings = LoopSettings(3)
    if not fits:
        with pytest.raises(ConfigError, match="Hz, the robot runs at 10 Hz"):
            run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], settings)
        settings = LoopSettings(3, any_rate=True)
    (log,) = run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [0], settings)
    assert log.steps == 3
